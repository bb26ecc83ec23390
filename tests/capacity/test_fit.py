"""Costs come out of phases as they went in, and say when they do not fit."""

import pytest
from headrace_capacity.fit import Costs, fit, touched_by
from headrace_capacity.measurement import (
    COMMANDS,
    POSTGRES,
    ROWS,
    WRITES,
    Measurement,
    Service,
    Work,
    cpu_of,
)
from headrace_capacity.proof import Compared, compare, failures, table


def test_costs_come_out_as_they_went_in(round_costs: Costs) -> None:
    of = round_costs.of_work
    assert of[cpu_of(Service.INGEST)][Work.UPLOAD] == pytest.approx(0.02)
    assert of[cpu_of(Service.INGEST)][Work.UPLOAD_MIB] == pytest.approx(0.004)
    assert of[cpu_of(Service.DISPATCHER)][Work.JOB_SQS] == pytest.approx(0.01)
    assert of[cpu_of(Service.DISPATCHER)][Work.FIRING] == pytest.approx(0.005)
    assert of[cpu_of(Service.PREPROCESSOR)][Work.CAMERA_JOB] == pytest.approx(1.0)
    assert of[cpu_of(Service.PREPROCESSOR)][Work.CAMERA_SECOND] == pytest.approx(0.05)
    assert of[cpu_of(POSTGRES)][Work.UPLOAD] == pytest.approx(0.005)
    assert of[f"{ROWS}job_events"][Work.UPLOAD] == pytest.approx(3.0)
    assert max(round_costs.residual.values()) < 1e-9


def test_idleness_is_told_from_work_and_by_service(round_costs: Costs) -> None:
    assert round_costs.of_pod[cpu_of(Service.RESULTS)] == {Service.RESULTS: pytest.approx(0.05)}
    assert round_costs.of_pod[WRITES][Service.DISPATCHER] == pytest.approx(2.0)
    assert Service.RESULTS not in round_costs.of_pod[COMMANDS]
    assert round_costs.of_installation[WRITES] == pytest.approx(1.0)
    three = {Service.DISPATCHER: 3.0}
    assert round_costs.idle(WRITES, three) == pytest.approx(7.0)


def test_noise_between_idle_phases_is_no_step(round_figures: Measurement) -> None:
    rates = [10.0, 12.0, 10.0, 12.0, 10.0, 12.0]
    idle = [
        phase.model_copy(update={"used": {**phase.used, WRITES: rate * phase.seconds}})
        for phase, rate in zip(round_figures.idle, rates, strict=True)
    ]
    costs = fit(round_figures.model_copy(update={"idle": idle}))
    assert 10 <= costs.idle(WRITES, idle[-1].pods) <= 12.5


def test_a_cost_is_never_negative_and_a_misfit_is_told(round_figures: Measurement) -> None:
    first, *others = round_figures.work
    name = cpu_of(Service.INGEST)
    odd = first.model_copy(update={"used": {**first.used, name: first.used[name] * 2}})
    costs = fit(round_figures.model_copy(update={"work": [odd, *others]}))
    assert min(costs.of_work[name].values()) >= 0
    assert costs.residual[name] > 0.1


def test_a_service_has_no_part_in_the_work_of_another() -> None:
    assert Work.UPLOAD not in touched_by(cpu_of(Service.RESULTS))
    assert Work.CAMERA_SECOND not in touched_by(cpu_of(POSTGRES))
    assert touched_by("sqs.ReceiveMessage") == ()


def test_a_mix_that_is_linear_is_predicted(round_figures: Measurement) -> None:
    by_name = {each.name: each for each in compare(round_figures)}
    for name in (cpu_of(Service.INGEST), cpu_of(Service.PREPROCESSOR), WRITES, "swift"):
        assert by_name[name].error == pytest.approx(0.0, abs=1e-9)
    assert by_name["Redis bytes of a waiting job"].error == pytest.approx(500 / 510 - 1)


def test_a_prediction_beyond_its_bound_fails() -> None:
    good = Compared("good", predicted=90, measured=100, bound=0.2)
    bad = Compared("bad", predicted=130, measured=100, bound=0.2)
    assert failures([good, bad]) == ["bad: +30%, at most 20%"]
    assert "| bad | 130 | 100 | +30% | 20% |" in table([good, bad])


def test_what_was_measured_last_was_predicted_within_its_bounds(committed: Measurement) -> None:
    assert failures(compare(committed)) == []
