"""Measure what pieces of work cost, on a real local stack, and prove the figures on another mix.

Runs both halves of the product with an analysis server that analyses nothing. Each phase does
mainly one kind of work (uploads of two sizes, jobs over SQS and over HTTP, reports, event streams,
firings of schedules, camera jobs of two lengths, removal); what it used of everything is read from
counters: processor time of each process, transactions and WAL of Postgres, commands and bytes of
Redis, requests to SQS, S3 and Swift. Then a second pod of each service is started, and a mix that
was not measured before runs on all of them: what the model predicts for it is compared.

Writes scripts/headrace_capacity/measured.json and the tables of docs/how-to/capacity.md. Where a
prediction misses by more than its bound nothing is written, and the exit code is 1.

    PYTHONPATH=scripts python benchmarks/capacity.py [--output FILE] [--scale 1]
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from headrace_capacity import page
from headrace_capacity.fit import fit
from headrace_capacity.measurement import (
    MEASURED,
    WAL_BYTES,
    Conditions,
    Held,
    Measurement,
    Service,
    Work,
    cpu_of,
)
from headrace_capacity.measuring.driving import Driver
from headrace_capacity.measuring.phases import Phases
from headrace_capacity.measuring.probes import (
    bytes_per_row,
    full_page_factor,
    most_commits_per_second,
)
from headrace_capacity.measuring.stand import Stand, film
from headrace_capacity.proof import compare, failures, table

_FILM_SECONDS: Final = 10.0
_PROJECT: Final = Path(__file__).parents[1]


def measure(directory: Path, scale: float) -> Measurement:
    """Run everything once; see `Phases` for the scale."""
    with film(_FILM_SECONDS) as url, Stand(directory) as stand:
        driver = Driver(stand)
        phases = Phases(stand, driver, hls=url(), scale=scale)
        phases.warm_up()
        phases.audio()
        phases.streams()
        phases.schedules()
        phases.cameras()
        phases.purge()
        phases.more_pods()
        phases.prove()
        database_url = stand.state.env["DATABASE_URL"]
        rows = bytes_per_row(database_url)
        swift_bytes = float(stand.meters.one(_ARTIFACT_BYTES)[0])
        draft = _measurement(phases, rows, swift_bytes, _conditions(stand))
        costs = fit(draft)
        wal = costs.work(WAL_BYTES, {Work.UPLOAD: 1, Work.JOB_SQS: 1})
        return draft.model_copy(
            update={
                "full_page_factor": round(full_page_factor(stand, driver, wal), 2),
                "commits_per_second": round(most_commits_per_second(database_url)),
            }
        )


#: Of the artefacts of a camera job, as its result names them.
_ARTIFACT_BYTES: Final = (
    "SELECT avg(bytes) FROM (SELECT job.id, sum((artifact.value ->> 'bytes')::bigint) AS bytes "
    "FROM jobs AS job, jsonb_each(job.result -> 'artifacts') AS artifact "
    "WHERE job.kind = 'cctv_preprocess' AND job.status = 'completed' GROUP BY job.id) AS sizes"
)


def _measurement(
    phases: Phases, rows: dict[str, float], swift_bytes: float, conditions: Conditions
) -> Measurement:
    (burst,) = phases.burst
    (proof,) = phases.proof
    dispatched = burst.work[Work.JOB_SQS]
    return Measurement(
        conditions=conditions,
        idle=phases.idle,
        work=phases.work,
        proof=proof,
        held=Held(
            redis_bytes_per_waiting_job=round(phases.waiting_bytes),
            redis_bytes_per_camera_entry=round(phases.entry_bytes),
            postgres_connections=phases.connections,
            postgres_bytes_per_row={name: round(size) for name, size in rows.items()},
            swift_bytes_per_camera_job=round(swift_bytes),
            memory_mib={name: round(size, 1) for name, size in phases.memory_mib.items()},
            memory_mib_per_stream=round(phases.stream_mib, 3),
        ),
        held_proof=round(phases.waiting_proof_bytes),
        burst_cpu_seconds_per_dispatch=round(
            burst.used[cpu_of(Service.DISPATCHER)] / dispatched, 5
        ),
        commits_per_second=0,
        full_page_factor=1,
    )


def _conditions(stand: Stand) -> Conditions:
    git = ("git", "-C", str(_PROJECT), "describe", "--always", "--dirty", "--abbrev=10")
    cpu = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    lines = dict(line.split(":", 1) for line in cpu.splitlines() if ":" in line)
    return Conditions(
        commit=subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip(),
        date=datetime.now(UTC).date().isoformat(),
        cpu=lines["Model name"].strip(),
        cores=int(lines["CPU(s)"]),
        python=platform.python_version(),
        postgres=str(stand.meters.one("SHOW server_version")[0]),
        redis=f"Valkey {stand.meters.redis.info('server')['valkey_version']}",
    )


def _text(measured: Measurement) -> str:
    return measured.model_dump_json(indent=1) + "\n"


def main() -> int:
    """Measure, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="write the figures there, and no page")
    parser.add_argument(
        "--scale", type=float, default=1, help="share of the work to do; less is less exact"
    )
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headrace-capacity-") as root:
        path = Path(root)
        path.chmod(0o711)  # PostgreSQL runs as another user where we are root
        measured = measure(path / "stack", options.scale)
    print(f"\n{time.monotonic() - began:.0f} s\n")
    if options.output:
        options.output.write_text(_text(measured))
    compared = compare(measured)
    print(table(compared))
    if missed := failures(compared):
        print("\nnothing is written:", *missed, sep="\n")
        return 1
    if not options.output:
        MEASURED.write_text(_text(measured))
        page.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
