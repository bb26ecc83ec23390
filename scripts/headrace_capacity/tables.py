"""The model's answers as tables in Markdown: for the command line and for the page."""

from collections.abc import Iterable, Sequence
from math import isinf

from headrace_capacity.fit import Costs, fit
from headrace_capacity.load import Prices
from headrace_capacity.measurement import (
    COMMANDS,
    COMMITS,
    POSTGRES,
    REDIS,
    WAL_BYTES,
    WRITES,
    Measurement,
    Service,
    Work,
    cpu_of,
)
from headrace_capacity.model import Capacity
from headrace_capacity.pods import CORES, REQUESTS

_WORK = {
    Work.UPLOAD: "an upload",
    Work.UPLOAD_MIB: "a MiB of it",
    Work.JOB_SQS: "a job over SQS",
    Work.JOB_HTTP: "a job over HTTP",
    Work.PROGRESS: "a report of progress",
    Work.HEARTBEAT: "a sign of life",
    Work.STREAM: "an event stream, opened",
    Work.WATCHED_SECOND: "a second of one",
    Work.STREAM_EVENT: "an event on one",
    Work.FIRING: "a firing",
    Work.CAMERA_JOB: "a camera job",
    Work.CAMERA_SECOND: "a second of its clip",
    Work.PURGE: "removal of a job",
}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: float) -> str:
    """Return a number with two or three digits that mean something; nothing for none."""
    if value == 0:
        return ""
    if isinf(value):
        return "> 100"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2g}"


def costs_table(measured: Measurement) -> str:
    """Return what a piece of work costs."""
    costs = fit(measured)
    columns = [
        *((cpu_of(service), 1e3) for service in Service),
        *((cpu_of(POSTGRES), 1e3), (cpu_of(REDIS), 1e3)),
        *((COMMITS, 1), (WRITES, 1), (WAL_BYTES, 1e-3), (COMMANDS, 1)),
    ]
    head = ["", *Service, "Postgres", "Redis", "transactions", "that write", "WAL, kB", "commands"]
    rows = [
        [words, *(figure(costs.of_work.get(name, {}).get(work, 0) * per) for name, per in columns)]
        for work, words in _WORK.items()
    ]
    rows += [_idle_row(service, costs, columns) for service in Service]
    own = [figure(costs.of_installation.get(name, 0) * per) for name, per in columns]
    rows.append(["the installation, idle, a second", *own])
    residuals = [f"{costs.residual.get(name, 0):.0%}" for name, _ in columns]
    rows.append(["residual of the fit", *residuals])
    return markdown(head, rows)


def _idle_row(service: Service, costs: Costs, columns: Sequence[tuple[str, float]]) -> list[str]:
    idle = [figure(costs.of_pod.get(name, {}).get(service, 0) * per) for name, per in columns]
    return [f"a pod of {service}, idle, a second", *idle]


def carries_table(measured: Measurement) -> str:
    """Return what one pod carries at the most, without any margin."""
    costs = fit(measured)
    rows = []
    for service, work, words in (
        (Service.INGEST, {Work.UPLOAD: 1.0, Work.UPLOAD_MIB: 2.0}, "uploads of 2 MiB"),
        (Service.INGEST, {Work.PURGE: 1.0}, "removals"),
        (Service.DISPATCHER, {Work.JOB_SQS: 1.0}, "jobs over SQS, one by one"),
        (Service.DISPATCHER, {Work.JOB_HTTP: 1.0}, "jobs over HTTP"),
        (Service.DISPATCHER, {Work.FIRING: 1.0}, "firings"),
        (Service.RESULTS, {Work.JOB_SQS: 1.0}, "final reports"),
        (Service.RESULTS, {Work.PROGRESS: 1.0}, "reports of progress"),
        (Service.RESULTS, {Work.STREAM_EVENT: 1.0}, "events to open streams"),
        (Service.RESULTS, {Work.CAMERA_JOB: 1.0}, "camera jobs"),
        (
            Service.PREPROCESSOR,
            {Work.CAMERA_JOB: 1.0, Work.CAMERA_SECOND: 20.0},
            "clips of 20 s, without a GPU",
        ),
    ):
        resource = cpu_of(service)
        free = CORES[service] - costs.of_pod[resource].get(service, 0.0)
        each = costs.work(resource, work)
        memory = measured.held.memory_mib[service]
        told = f"{figure(free / each)} /s" if each else ""
        rows.append([str(service), words, figure(each * 1e3), told, f"{memory:.0f}"])
    burst = measured.burst_cpu_seconds_per_dispatch
    rows.append(
        [
            str(Service.DISPATCHER),
            "jobs over SQS, in full batches",
            figure(burst * 1e3),
            f"{figure(CORES[Service.DISPATCHER] / burst)} /s",
            f"{measured.held.memory_mib[Service.DISPATCHER]:.0f}",
        ]
    )
    head = ["a pod of", "works off", "ms of CPU each", "at most", "memory, MiB"]
    return markdown(head, rows)


def kept_table(measured: Measurement) -> str:
    """Return what waits and what stays, a piece."""
    held = measured.held
    rows = [
        ("Redis, a job that waits in its lane", held.redis_bytes_per_waiting_job),
        ("Redis, an entry of a camera job, until a minute after its end",
         held.redis_bytes_per_camera_entry),
        *((f"Postgres, a row of `{table}` with its indices", size)
          for table, size in held.postgres_bytes_per_row.items()),
        ("Swift, the artefacts of a clip of 1280x720", held.swift_bytes_per_camera_job),
        ("results, an open event stream, in memory", held.memory_mib_per_stream * 2**20),
    ]  # fmt: skip
    return markdown(["", "bytes"], [[words, f"{size:,.0f}"] for words, size in rows])


def pods_table(capacity: Capacity) -> str:
    """Return replicas, and what they take."""
    rows = []
    total = [0.0, 0.0, 0.0, 0.0]
    for service, pods in capacity.need.pods.items():
        cores, mib = REQUESTS[service]
        asked = (pods.peak * cores, pods.peak * mib / 1024)
        uses = (pods.cores, pods.memory_mib / 1024)
        total = [a + b for a, b in zip(total, (*asked, *uses), strict=True)]
        rows.append(
            [
                str(service),
                str(pods.mean),
                f"**{pods.peak}**",
                pods.because,
                figure(pods.wait_p99_seconds * 1e3),
                *map(figure, (*uses, *asked)),
            ]
        )
    rows.append(
        ["all", "", "", "", "", figure(total[2]), figure(total[3]), *map(figure, total[:2])]
    )
    head = [
        *("service", "pods, mean", "peak", "decided by", "wait p99, ms"),
        *("cores used", "GiB used", "cores requested", "GiB requested"),
    ]
    return markdown(head, rows)


def servers_table(capacity: Capacity, prices: Prices) -> str:
    """Return what the servers bear."""
    need = capacity.need
    base, queue, bought, flow = need.postgres, need.redis, need.cloud, need.flows
    rows = [
        ("Postgres", "transactions/s, of which write",
         f"{figure(base.commits)}, {figure(base.writes)}"),
        ("", "WAL, MB/s", figure(base.wal_bytes / 1e6)),
        ("", "cores", figure(base.cores)),
        ("", f"kept after {capacity.plan.retention_days:g} days, GB", figure(base.kept_gb)),
        ("", "connections at most; open, as measured",
         f"{base.connections}; {base.connections_seen}"),
        ("Redis", "commands/s", figure(queue.commands)),
        ("", "cores", figure(queue.cores)),
        ("", f"memory, MiB, of which {capacity.plan.backlog_minutes:g} minutes of backlog",
         f"{figure(queue.memory_mib)}, {figure(queue.backlog_mib)}"),
    ]  # fmt: skip
    if bought.sqs_requests:
        each = ", ".join(
            f"{name} {figure(count / 1e6)}" for name, count in bought.sqs_requests.items()
        )
        rows += [
            ("SQS, a month", "million requests", f"{figure(bought.sqs_millions())}: {each}"),
            ("", "dollars", figure(bought.sqs_dollars(prices))),
            ("", "messages in flight at the peak", figure(bought.sqs_in_flight_at_peak)),
            ("S3, a month", "million writes, reads",
             f"{figure(bought.s3_writes / 1e6)}, {figure(bought.s3_reads / 1e6)}"),
            ("", "GB kept", figure(bought.s3_gb)),
            ("", "dollars", figure(bought.s3_dollars(prices))),
            ("network, Mbit/s", "uploads; once more to S3, and to the analysis servers",
             figure(flow.uploads)),
        ]  # fmt: skip
    if flow.films:
        rows += [
            ("network, Mbit/s", "films", figure(flow.films)),
            ("Swift", "Mbit/s, requests/s",
             f"{figure(flow.swift)}, {figure(flow.swift_requests_per_second)}"),
            ("", "GB a month", figure(flow.swift_gb_a_month)),
        ]  # fmt: skip
    return markdown(["at the peak", "", ""], rows)


def parts_table(capacity: Capacity, *, most: int | None = None) -> str:
    """Return what runs out first, and what replaces it."""
    rows = [
        [
            part.usage.name,
            f"{figure(part.usage.used)} {part.usage.unit}".strip(),
            f"{figure(part.usage.limit * part.usage.usable)}",
            figure(part.times),
            part.usage.replaced_by,
        ]
        for part in capacity.parts[:most]
    ]
    return markdown(["part", "used", "usable", "times this load", "then"], rows)
