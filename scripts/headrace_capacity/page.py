"""The page docs/how-to/capacity.md: its tables, each between two comments, are the model's."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from headrace_capacity.fit import fit
from headrace_capacity.load import Load, Plan, Prices
from headrace_capacity.measurement import Measurement, Service, load
from headrace_capacity.model import Capacity, plan_for
from headrace_capacity.proof import compare
from headrace_capacity.proof import table as proof_table
from headrace_capacity.tables import (
    carries_table,
    costs_table,
    figure,
    kept_table,
    markdown,
    parts_table,
    pods_table,
    servers_table,
)

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "capacity.md"
MILLION_JOBS: Final = Load(jobs_per_day=1_000_000)
TEN_THOUSAND_CAMERAS: Final = Load(cameras=10_000)
#: A slot for a live clip waits: a pod has room for many.
CAMERA_PLAN: Final = Plan(camera_slots_per_pod=8)
_BLOCK: Final = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


class UnknownTableError(Exception):
    """The page asks for a table that there is not, or not for one that there is."""


def tables(measured: Measurement) -> Mapping[str, str]:
    """Return every table of the page, by name."""
    jobs = plan_for(MILLION_JOBS, measured)
    cameras = plan_for(TEN_THOUSAND_CAMERAS, measured, plan=CAMERA_PLAN)
    return {
        "conditions": _conditions(measured),
        "carries": carries_table(measured),
        "costs": costs_table(measured),
        "kept": kept_table(measured),
        "proof": proof_table(compare(measured)),
        "jobs-pods": pods_table(jobs),
        "jobs-servers": servers_table(jobs, Prices()),
        "jobs-parts": parts_table(jobs, most=8),
        "jobs-vary": _jobs_vary(measured),
        "cameras-pods": pods_table(cameras),
        "cameras-servers": servers_table(cameras, Prices()),
        "cameras-parts": parts_table(cameras, most=8),
        "cameras-vary": _cameras_vary(measured),
    }


def filled(text: str, measured: Measurement) -> str:
    """Return the page with the tables as they are.

    Raises:
        UnknownTableError: its comments name other tables than there are.
    """
    made = tables(measured)
    names = [name for _, name, _ in _BLOCK.findall(text)]
    if sorted(names) != sorted(made):
        raise UnknownTableError(f"{PAGE.name}: {sorted({*names} ^ {*made}) or 'a table twice'}")
    return _BLOCK.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n\n{found[3]}", text)


def write() -> None:
    """Write the tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(), load()))


def is_true() -> bool:
    """Whether the page says what the model says."""
    text = PAGE.read_text()
    return text == filled(text, load())


def _conditions(measured: Measurement) -> str:
    told = measured.conditions
    return (
        f"Measured {told.date} at {told.commit}: {told.cores} cores of {told.cpu}, "
        f"Python {told.python}, PostgreSQL {told.postgres}, {told.redis}. This Postgres committed "
        f"{measured.commits_per_second:,.0f} small writes a second at most. Right after a "
        f"checkpoint WAL was {measured.full_page_factor:g} times as much, which is counted."
    )


def _jobs_vary(measured: Measurement) -> str:
    costs = fit(measured)
    rows = []
    for words, load_of, plan in (
        ("as above", MILLION_JOBS, Plan()),
        ("5 s of CPU an analysis", _jobs(analysis_cpu_seconds=5, analysis_seconds=6), Plan()),
        ("peak 6 times the mean", _jobs(audio_peak_to_mean=6), Plan()),
        ("20 MiB a recording", _jobs(audio_mib=20), Plan()),
        ("over HTTP", _jobs(sqs_share=0), Plan()),
        ("one SQS queue for all lanes", MILLION_JOBS, Plan(lane_queues=1)),
        ("10 million a day", _jobs(jobs_per_day=10_000_000), Plan()),
    ):
        capacity = plan_for(load_of, measured, plan=plan, costs=costs)
        sqs = f"${figure(capacity.need.cloud.sqs_dollars(Prices())) or '0'}"
        rows.append([words, *_counts(capacity), sqs, _first(capacity)])
    head = ["", *Service, "Postgres writes/s", "Redis, MiB", "SQS a month", "first to go"]
    return markdown([each for each in head if each != Service.PREPROCESSOR], rows)


def _jobs(**changes: float) -> Load:
    return Load.model_validate({**MILLION_JOBS.model_dump(), **changes})


def _counts(capacity: Capacity) -> list[str]:
    need = capacity.need
    return [
        *(str(pods.peak) for pods in need.pods.values()),
        figure(need.postgres.writes),
        figure(need.redis.memory_mib),
    ]


def _first(capacity: Capacity) -> str:
    first = capacity.parts[0]
    return f"{first.usage.name}, at {figure(first.times)} times"


def _cameras_vary(measured: Measurement) -> str:
    costs = fit(measured)
    rows = []
    for words, changes, slots in (
        ("20 s every 10 minutes, 8 slots a pod", {}, 8),
        ("2 slots a pod (`MAX_CONCURRENCY` unset)", {}, 2),
        ("16 slots a pod", {}, 16),
        ("20 s every hour", {"clip_every_seconds": 3_600}, 8),
        ("20 s every minute", {"clip_every_seconds": 60}, 8),
        ("5 s every 10 minutes", {"clip_seconds": 5}, 8),
    ):
        load_of = Load.model_validate({**TEN_THOUSAND_CAMERAS.model_dump(), **changes})
        plan = Plan(camera_slots_per_pod=slots)
        capacity = plan_for(load_of, measured, plan=plan, costs=costs)
        pods = capacity.need.pods[Service.PREPROCESSOR]
        rows.append(
            [
                words,
                figure(load_of.clips_per_second),
                str(pods.peak),
                pods.because,
                figure(pods.cores),
                figure(pods.memory_mib / 1024),
                figure(capacity.need.flows.films),
                _first(capacity),
            ]
        )
    head = [
        *("", "clips/s", "gpu-preprocessor pods", "decided by", "cores used", "GiB used"),
        *("films, Mbit/s", "first to go"),
    ]
    return markdown(head, rows)
