"""A Prometheus of one's own that scrapes a running local stack."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import yaml

from headrace_local.ports import reserve_port
from headrace_local.state import ProcessState, StackState
from headrace_local.tools import ensure_prometheus
from headrace_local.waiting import wait_until

#: The name that Kubernetes gives a service, where it is not the one that it has here.
_JOBS: Final = {"analysis-server": "speech-analysis-server"}


class Line(NamedTuple):
    """A series over time: its labels, and its value at each time that it has one."""

    labels: dict[str, str]
    times: list[float]
    values: list[float]


class Firing(NamedTuple):
    """An alert that fires."""

    name: str
    labels: Mapping[str, str]


class Prometheus:
    """Asks a server over its API."""

    def __init__(self, url: str, targets: Path) -> None:
        """Make it.

        Args:
            url: of the server.
            targets: file in which it finds what to scrape, as often as that changes.
        """
        self._client = httpx.Client(base_url=url, timeout=60)
        self._targets = targets

    def close(self) -> None:
        self._client.close()

    def is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def scrape(self, targets: Mapping[str, Sequence[str]]) -> None:
        """Scrape these addresses from now on, by job."""
        groups = [{"targets": [*each], "labels": {"job": job}} for job, each in targets.items()]
        # Renamed into its place, so that nobody reads half of it.
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(groups))
        new.rename(self._targets)

    def ask(self, path: str, **params: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def series(self, expr: str) -> int:
        """Return how many series an expression answers; those that are no number do not count."""
        result = self.ask("query", query=expr)["result"]
        return sum(each["value"][1] != "NaN" for each in result)

    def lines(self, expr: str, *, start: float, end: float, step: float) -> list[Line]:
        """Return what an expression answers over a span of Unix time, without what is no number."""
        span = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        result = self.ask("query_range", query=expr, **span)["result"]
        lines = []
        for each in result:
            points = [(float(at), float(value)) for at, value in each["values"] if value != "NaN"]
            if points:
                times, values = (list(column) for column in zip(*points, strict=True))
                lines.append(Line(each["metric"], times, values))
        return lines

    def up(self) -> dict[str, list[str]]:
        """Return whether targets answer, `1` or `0`, by job."""
        found: dict[str, list[str]] = {}
        for each in self.ask("query", query="up")["result"]:
            found.setdefault(each["metric"]["job"], []).append(each["value"][1])
        return found

    def firing(self) -> list[Firing]:
        """Return the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return [
            Firing(each["labels"]["alertname"], each["labels"])
            for each in alerts
            if each["state"] == "firing"
        ]

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule, with how its last evaluation went."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]


def targets_of(state: StackState) -> dict[str, list[str]]:
    """Return where to scrape each job of what runs of a stack.

    `dispatcher-2` is another dispatcher.
    """
    targets: dict[str, list[str]] = {}
    for record in state.processes:
        if record.kind == "service" and record.state is ProcessState.READY:
            name = record.name.rstrip("0123456789").removesuffix("-")
            targets.setdefault(_JOBS.get(name, name), []).append(record.url.partition("//")[2])
    return targets


@contextmanager
def prometheus(
    directory: Path, targets: Mapping[str, Sequence[str]], rules: Path, *, seconds: int
) -> Iterator[Prometheus]:
    """Run a server.

    Args:
        directory: for its configuration and its data.
        targets: addresses by job; `Prometheus.scrape` changes them.
        rules: file that it loads.
        seconds: between two scrapes, and two evaluations.
    """
    every = {
        "scrape_interval": f"{seconds}s",
        "scrape_timeout": f"{seconds}s",
        "evaluation_interval": f"{seconds}s",
    }
    found = directory / "targets.json"
    scraped = [{"job_name": "headrace", "file_sd_configs": [{"files": [str(found)]}]}]
    configuration = {"global": every, "rule_files": [str(rules)], "scrape_configs": scraped}
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{reserve_port()}"
    command = [
        *(str(ensure_prometheus() / "prometheus"), f"--config.file={file}"),
        *(f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={address}"),
    ]
    with (directory / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        server = Prometheus(f"http://{address}", found)
        server.scrape(targets)
        expected = {job: ["1"] * len(each) for job, each in targets.items()}
        try:
            wait_until(server.is_ready, seconds=60)
            # What rules say before the first samples is nothing to go by.
            wait_until(server.up, lambda up: up == expected, seconds=60)
            yield server
        finally:
            server.close()
            process.terminate()
