"""A Prometheus of one's own that scrapes a running local stack."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from headrace_local.ports import reserve_port
from headrace_local.tools import ensure_prometheus
from headrace_local.waiting import wait_until

#: By the name that a service has among the stack's addresses: the one that Kubernetes gives it.
JOBS = {
    "ingest_url": "ingest-api",
    "dispatcher_url": "dispatcher",
    "results_url": "results",
    "preprocessor_url": "gpu-preprocessor",
    "analysis_url": "speech-analysis-server",
}


class Prometheus:
    """Asks a server over its API."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=20)

    def close(self) -> None:
        self._client.close()

    def is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, path: str, **params: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def series(self, expr: str) -> int:
        """Return how many series an expression answers; those that are no number do not count."""
        result = self.ask("query", query=expr)["result"]
        return sum(each["value"][1] != "NaN" for each in result)

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}


@contextmanager
def prometheus(
    directory: Path, endpoints: Mapping[str, str], rules: Path, *, seconds: int
) -> Iterator[Prometheus]:
    """Run a server.

    Args:
        directory: for its configuration and its data.
        endpoints: addresses of the stack's services.
        rules: file that it loads.
        seconds: between two scrapes, and two evaluations.
    """
    scraped = [
        {"job_name": job, "static_configs": [{"targets": [endpoints[name].partition("//")[2]]}]}
        for name, job in JOBS.items()
    ]
    every = {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"}
    configuration = {"global": every, "rule_files": [str(rules)], "scrape_configs": scraped}
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{reserve_port()}"
    command = [
        *(str(ensure_prometheus() / "prometheus"), f"--config.file={file}"),
        *(f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={address}"),
    ]
    with (directory / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        server = Prometheus(f"http://{address}")
        try:
            wait_until(server.is_ready, seconds=60)
            yield server
        finally:
            server.close()
            process.terminate()
