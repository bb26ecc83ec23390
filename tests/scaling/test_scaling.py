"""A short run of what `make scaling` does for every Deployment, and what its judgement sees."""

from dataclasses import replace
from pathlib import Path

import pytest
from headrace_scaling.doings import Doing, fairness, rate, shares, twice
from headrace_scaling.fleet import SCHEDULER
from headrace_scaling.outcomes import (
    Batch,
    Firings,
    HandOver,
    Outcome,
    Row,
    Schedulers,
    TakeOver,
)
from headrace_scaling.run import SERVICES, Options, run
from headrace_scaling.table import PAGE, render, write
from headrace_scaling.works.analyses import Analyses
from headrace_scaling.works.cameras import CameraJobs
from headrace_scaling.works.dispatching import DispatchOverHttp, DispatchOverSqs
from headrace_scaling.works.reports import Reports
from headrace_scaling.works.streams import EventStreams
from headrace_scaling.works.uploads import Uploads

from headrace_local.services import RESULTS

_ONE = Batch(1, 100, 10.0, (1.0,), 1.0, 0, 0)
_TWO = Batch(2, 200, 19.0, (0.5, 0.5), 1.0, 0, 0)
_FOUR = Batch(4, 400, 30.0, (0.25,) * 4, 1.0, 0, 0)
_KILLED = HandOver(
    killed=True, replicas=2, handed=5, seconds=6.0, gone_seconds=0.1, twice=0, lost=0
)
_STOPPED = HandOver(
    killed=False, replicas=4, handed=0, seconds=0.0, gone_seconds=3.0, twice=0, lost=0
)
_ROW = Row(
    deployment="dispatcher",
    what="jobs to SQS",
    cores=0.15,
    settled_by="SOME_SECONDS",
    is_once=True,
    batches=(_ONE, _TWO, _FOUR),
    hand_overs=(_KILLED, _STOPPED),
)
_SCHEDULERS = Schedulers((Firings(1, 50, 0, 0),), (TakeOver(True, 1.2, 50, 0, 0),))


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(600)
def test_replicas_of_results_share_reports_and_streams(tmp_path: Path) -> None:
    """All services, and how fast they get by it: `make scaling`."""
    tmp_path.chmod(0o711)
    options = Options(tmp_path / "stack", [RESULTS], counts=(1, 2), size=0.4, kills=[True])
    outcome = run(options, say=print)

    reports, streams = outcome.rows
    for row in (reports, streams):
        assert [(batch.twice, batch.lost) for batch in row.batches] == [(0, 0)] * 2
        # How fast it is depends on what else runs here; that none has all of it does not.
        assert min(row.batches[1].shares) > 0
        assert [(end.twice, end.lost) for end in row.hand_overs] == [(0, 0)]


def test_what_is_not_as_it_must_be_is_found() -> None:
    assert Outcome((_ROW,), _SCHEDULERS).faults() == []
    wrong = {
        "too slow": replace(_ROW, batches=(_ONE, replace(_TWO, rate=15.9))),
        "too slow with four": replace(_ROW, batches=(_ONE, replace(_FOUR, rate=25.9))),
        "unfair": replace(_ROW, batches=(_ONE, replace(_TWO, fairness=0.8))),
        "lost": replace(_ROW, batches=(replace(_ONE, lost=1),)),
        "twice": replace(_ROW, batches=(replace(_ONE, twice=1),)),
        "lost by a kill": replace(_ROW, hand_overs=(replace(_KILLED, lost=1),)),
        "twice by a kill": replace(_ROW, hand_overs=(replace(_KILLED, twice=1),)),
        "twice by a stop": replace(_ROW, is_once=False, hand_overs=(replace(_STOPPED, twice=1),)),
        "more than in hand": replace(_ROW, is_once=False, hand_overs=(replace(_KILLED, twice=6),)),
    }
    found = {name: len(list(row.faults())) for name, row in wrong.items()}
    assert found == dict.fromkeys(wrong, 1)
    # What was in hand may be sent again, where its receiver tells it apart.
    again = replace(_ROW, is_once=False, hand_overs=(replace(_KILLED, twice=5),))
    assert list(again.faults()) == []
    fired = replace(_SCHEDULERS, firings=(Firings(2, 50, 1, 1),))
    assert len(Outcome((), fired).faults()) == 2
    ended = replace(_SCHEDULERS, take_overs=(TakeOver(True, 1.2, 50, 1, 1),))
    assert len(Outcome((), ended).faults()) == 2


def test_every_deployment_is_tried() -> None:
    works = (
        Analyses,
        CameraJobs,
        DispatchOverHttp,
        DispatchOverSqs,
        EventStreams,
        Reports,
        Uploads,
    )
    base = Path(__file__).parents[2] / "k8s" / "base"
    deployed = {path.parent.name for path in base.glob("*/deployment.yaml")}
    assert deployed == {work.deployment for work in works} | {SCHEDULER}
    assert {work.service for work in works} | {SCHEDULER} == set(SERVICES)


def test_who_did_what_is_counted() -> None:
    doings = [Doing(str(number), "ab"[number % 2], 10 + 0.1 * number) for number in range(100)]
    assert rate(doings) == pytest.approx(10)
    assert rate(doings, since=9.9) == pytest.approx(10)
    assert shares(doings, ["a", "b", "c"]) == {"a": 0.5, "b": 0.5, "c": 0}
    assert fairness([0.5, 0.5, 0]) == pytest.approx(2 / 3)
    assert fairness([0.25] * 4) == pytest.approx(1)
    assert twice(doings) == []
    assert twice([*doings, replace(doings[7], replica="c")]) == ["7"]
    assert rate(doings[:1]) == rate([]) == 0


def test_the_tables_of_the_page_are_replaced(tmp_path: Path) -> None:
    tables = render(Outcome((_ROW,), _SCHEDULERS), why_no_share=None)
    assert (
        "| `dispatcher` | jobs to SQS | 0.15 | 10.0/s | 19.0/s = **1.9** | 30.0/s = **3.0** "
        "| 1.00, 1.00 | 0 | 0 | one of 2: 5 elsewhere within 6.0 s, by `SOME_SECONDS`; 0 lost "
        "| one of 4: gone after 3.0 s, ended its own; 0 twice, 0 lost |\n"
    ) in tables
    assert "| 2, the leader killed | 50 | 0 | 0 | 1.2 s |\n" in tables
    assert "could be held" not in tables
    assert "(no such file)" in render(Outcome((_ROW,), None), why_no_share="no such file")

    page = tmp_path / "scale.md"
    page.write_text(PAGE.read_text())
    write(tables, page)
    once = page.read_text()
    write(tables, page)
    assert page.read_text() == once
    assert once.count("jobs to SQS | 0.15 | 10.0/s") == 1
    assert once.partition("\n## The table")[0] == PAGE.read_text().partition("\n## The table")[0]
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no place"):
        write(tables, page)
