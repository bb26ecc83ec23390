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

from prometheus_client import Counter
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


#: Counters whose labels are known only when they count: what botocore or Swift is asked, codes of
#: errors, classes of the model that is loaded, and what a broker, a circuit or a lane declares.
_BEGIN_LATER: Final = frozenset(
    {
        "headrace_analysis_messages_received_total",
        "headrace_aws_retries_total",
        "headrace_circuit_opened_total",
        "headrace_damages_total",
        "headrace_firings_performed_total",
        "headrace_messages_given_up_total",
        "headrace_messages_retried_total",
        "headrace_messages_sent_total",
        "headrace_on_demand_requests_total",
        "headrace_preprocessor_attempts_failed_total",
        "headrace_preprocessor_clip_faults_total",
        "headrace_preprocessor_dead_letters_total",
        "headrace_preprocessor_dependency_faults_total",
        "headrace_swift_requests_repeated_total",
    }
)


#: Gauges of which each replica has a part.
_SUMMED: Final = frozenset(
    {
        "headrace_analysis_slots",
        "headrace_analysis_slots_busy",
        "headrace_build_info",
        "headrace_on_demand_requests_in_flight",
        "headrace_preprocessor_slots",
        "headrace_preprocessor_slots_busy",
        "headrace_scheduler_leader",
        "headrace_sse_clients",
        "headrace_uploads_in_flight",
    }
)
#: Gauges of which each replica speaks for itself.
_EACH: Final = frozenset(
    {
        "headrace_circuit_open",
        "headrace_preprocessor_dependency_holding",
        "headrace_preprocessor_memory_estimate_bytes",
        "headrace_preprocessor_memory_free_bytes",
        "headrace_preprocessor_memory_holding",
        "headrace_preprocessor_memory_promised_bytes",
        "headrace_preprocessor_memory_total_bytes",
        "headrace_preprocessor_paused",
        "headrace_rollout_shadow_ratio",
        "headrace_rollout_sqs_ratio",
        "headrace_rollout_version",
        "headrace_sse_hub_connected",
    }
)


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

    @property
    def over_replicas(self) -> str:
        """How the figures of several replicas become one."""
        if self.type != "gauge" or self.name in _SUMMED:
            return "sum"
        return "each" if self.name in _EACH else "max"


def registered() -> list[Metric]:
    """Return the metrics that the modules loaded so far declare.

    Raises:
        ValueError: a counter has no series yet, and nothing here says why.
    """
    found = {}
    for module in list(sys.modules.values()):
        for value in list(vars(module).values()):
            if isinstance(value, MetricWrapperBase):
                metric = _metric(value)
                found[metric.name] = metric
                if isinstance(value, Counter) and metric.labels and not value._metrics:  # noqa: SLF001 - they have no public name
                    _check_begins_later(metric.name)
    return sorted(found.values())


def _check_begins_later(name: str) -> None:
    if name not in _BEGIN_LATER:
        raise ValueError(
            f"{name} has no series until it counts: of one that begins at one, nobody sees that it "
            "grew. Let it begin with `from_zero`, or say in _BEGIN_LATER why it cannot"
        )


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
    names = {metric.name for metrics in found.values() for metric in metrics}
    if gone := (_SUMMED | _EACH | _BEGIN_LATER) - names:
        raise ValueError(f"there is no metric {', '.join(sorted(gone))} any more")
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
        "",
        "*Replicas* is how the figures of several become one: `sum` them; take the `max` of what",
        "all read from one database, Redis or SQS: it is the same on each, or the latest of some;",
        "or look at `each`, which speaks for itself. A scrape reads memory only, and asks nobody.",
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
        columns = "name", "type", "unit", "labels", "meaning", "service", "replicas"
        lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        lines += [_row(metric, holders[metric]) for metric in sorted(metrics)]
    return "\n".join(lines) + "\n"


def _row(metric: Metric, who: list[str]) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    service = "all" if len(who) == len(PROCESSES) else ", ".join(who)
    meaning = metric.meaning.replace("|", "\\|")
    cells = metric.type, metric.unit, labels, meaning, service, metric.over_replicas
    return f"| `{metric.name}` | {' | '.join(cells)} |"


def main() -> None:
    """List the metrics of a process."""
    importlib.import_module(sys.argv[1])
    print(json.dumps([metric._asdict() for metric in registered()]))


if __name__ == "__main__":
    main()
