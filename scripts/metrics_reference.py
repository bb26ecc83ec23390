"""The page of all metrics, from what each process really registers.

python scripts/metrics_reference.py MODULE   lists those of a process that runs MODULE, as JSON
"""

import importlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.metrics import MetricWrapperBase

#: Every process, by the module that its `python -m` loads, without running it.
PROCESSES: Final = {
    "ingest-api": "headrace_ingest_api.app",
    "dispatcher": "headrace_dispatcher.app",
    "results": "headrace_results.app",
    "gpu-preprocessor": "headrace_gpu_preprocessor.app",
    "speech-analysis": "speech_analysis_server.app",
}
#: The last part of a name says what its numbers are; `_total` and `_info` stand after it.
_UNITS: Final = {
    "timestamp_seconds": "Unix time",
    "seconds": "seconds",
    "bytes": "bytes",
    "ratio": "0 to 1",
}


class Metric(NamedTuple):
    """A metric as the code declares it."""

    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def unit(self) -> str:
        """What its numbers are; a count has none."""
        stem = self.name.removesuffix("_total")
        return next((unit for end, unit in _UNITS.items() if stem.endswith(f"_{end}")), "")


def registered() -> list[Metric]:
    """Return the metrics that the modules loaded so far declare."""
    found = {}
    for module in list(sys.modules.values()):
        for value in list(vars(module).values()):
            if isinstance(value, MetricWrapperBase):
                metric = _metric(value)
                found[metric.name] = metric
    return sorted(found.values())


def _metric(declared: MetricWrapperBase) -> Metric:
    family = next(iter(declared.describe()))
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = tuple(declared._labelnames)  # noqa: SLF001 - they have no public name
    return Metric(name, family.type, labels, family.documentation)


def by_process() -> dict[str, list[Metric]]:
    """Return the metrics of every process; each is loaded in a process of its own."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(PROCESSES, pool.map(_ask, PROCESSES.values()), strict=True))


def _ask(module: str) -> list[Metric]:
    command = [sys.executable, str(Path(__file__)), module]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [
        Metric(each["name"], each["type"], tuple(each["labels"]), each["meaning"])
        for each in json.loads(told)
    ]


def metrics_page() -> str:
    """Return the page of all metrics."""
    found = by_process()
    holders: dict[Metric, list[str]] = {}
    for process, metrics in found.items():
        for metric in metrics:
            holders.setdefault(metric, []).append(process)
    lines = [
        "# Metrics",
        "",
        "Every process answers `GET /metrics` in Prometheus' format; a plain analysis worker has",
        "`ANALYSIS_METRICS_PORT` for it. Dramatiq's workers run inside their service's process, so",
        "that nothing of a dead process stays. `process_*` and `python_*` are there too.",
        "",
        "A histogram has `_bucket`, `_sum` and `_count`. Values of labels are bounded: routes are",
        "templates, codes and states come from the code, queues and targets from the installation.",
        "Figures that a service reads from the database or SQS are the same on each of its",
        "replicas: take their `max`, not their `sum`.",
        "",
        "<!-- Written by `make reference` from the code. -->",
    ]
    groups = {"Every process": [m for m, who in holders.items() if len(who) == len(PROCESSES)]}
    groups["More than one service"] = [
        metric for metric, who in holders.items() if 1 < len(who) < len(PROCESSES)
    ]
    for process in PROCESSES:
        groups[process] = [metric for metric, who in holders.items() if who == [process]]
    for heading, metrics in groups.items():
        lines += ["", f"## {heading}", ""]
        lines += ["| name | type | unit | labels | meaning | service |", "|---" * 6 + "|"]
        lines += [_row(metric, holders[metric]) for metric in sorted(metrics)]
    return "\n".join(lines) + "\n"


def _row(metric: Metric, who: list[str]) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    service = "all" if len(who) == len(PROCESSES) else ", ".join(who)
    meaning = metric.meaning.replace("|", "\\|")
    return f"| `{metric.name}` | {metric.type} | {metric.unit} | {labels} | {meaning} | {service} |"


def main() -> None:
    """List the metrics of a process."""
    importlib.import_module(sys.argv[1])
    print(json.dumps([metric._asdict() for metric in registered()]))


if __name__ == "__main__":
    main()
