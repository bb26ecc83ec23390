"""A user of a running stack: the command line, the API, and its logs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from headrace_local.pytest_plugin import LocalStack
from headrace_local.state import StackState

RECORDINGS = Path(__file__).parents[2] / "examples" / "recordings"


class User:
    """Uses the stack as people and scripts do."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.state: StackState = stack.state
        key = {"authorization": f"Bearer {self.state.api_key}"}
        urls = self.state.endpoints
        # Between two events of a live stream it may be silent for as long as a keep-alive takes.
        self.ingest = httpx.Client(base_url=urls["ingest_url"], headers=key, timeout=60)
        self.results = httpx.Client(base_url=urls["results_url"], headers=key, timeout=60)

    def close(self) -> None:
        self.ingest.close()
        self.results.close()

    def run(self, *arguments: str | Path, expect: int = 0) -> str:
        """Run `headrace` and return what it printed; its exit code must be as expected."""
        done = subprocess.run(
            [sys.executable, "-m", "headrace", *map(str, arguments)],
            env=os.environ | {"HEADRACE_HOME": str(self.stack.directory), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def run_json(self, *arguments: str | Path, expect: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", expect=expect))

    def token(self) -> str:
        """Create a token without references."""
        token_id = f"token-{uuid4()}"
        answer = self.ingest.post("/tokens", json={"id": token_id})
        assert answer.status_code == 201, answer.text
        return token_id

    def upload(
        self, token: str, path: Path = RECORDINGS / "bobby.wav", **params: str
    ) -> dict[str, Any]:
        answer = self.ingest.post(
            f"/tokens/{token}/upload-audio",
            params=params,
            files={"file": (path.name, path.read_bytes())},
        )
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()
        return data

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.results.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()
        return data

    def log_lines(self) -> dict[str, list[str]]:
        """Return the lines that each service has logged."""
        return {
            record.name: record.log_path.read_text().splitlines()
            for record in self.stack.state.processes
            if record.kind == "service"
        }
