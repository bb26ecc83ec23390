"""The commands that runbooks tell people to run, as they would on a stack that works."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from camera_yard import STREAM, Yard
from planner import Planner
from test_runbooks import CODE, PAGES
from typer.testing import CliRunner

from headrace.main import app
from headrace_common.contracts.lanes import Lane
from headrace_local.pytest_plugin import LocalStack
from headrace_local.waiting import wait_until

#: A word in capitals stands for what the reader knows.
_WORD = re.compile(r"\b[A-Z]+\b")


def commands() -> Iterator[tuple[str, str]]:
    """Yield each command once, with a page that has it."""
    seen = set()
    for page in PAGES:
        for code in CODE.findall(page.read_text()):
            if code.split()[0] in {"headrace", "SELECT", "XPENDING"} and code not in seen:
                seen.add(code)
                yield page.stem, code


@dataclass
class Reader:
    """Somebody who follows runbooks on a stack that works."""

    stack: LocalStack
    yard: Yard

    def faults(self) -> list[str]:
        """Run every command; return what did not work, and leave things as they were."""
        planner, known = Planner(self.stack), self._known()
        known["NAME"] = planner.add("audio.reanalyse", seconds=3600, job_id=known["ID"])
        try:
            return [fault for page, code in commands() for fault in self._run(page, code, known)]
        finally:
            planner.remove(known["NAME"])
            planner.close()
            for undo in ("rollout set 100", "targets unlimit audio.reanalyse"):
                self._headrace(undo.split())

    def _known(self) -> dict[str, str]:
        """Make what commands are about: a job that is done, two that wait, a letter."""
        user = self.yard.user
        token = user.token()
        done = user.upload(token)["job_id"]
        self.yard.redis.xadd(STREAM, {"nothing": "to be understood"})
        letters = wait_until(lambda: user.run_json("dead", "list")["letters"], seconds=60)
        wait_until(lambda: self.yard.is_final(done), seconds=120)
        return {
            "ID": done,
            "JOB": user.upload(token, delay="3600")["job_id"],
            "LATER": user.upload(token, delay="3600")["job_id"],
            "LETTER": str(letters[0]["id"]),
            "F": letters[0]["fingerprint"],
            "TIME": datetime.now(UTC).isoformat(),
            "STATUS": "queued",
            "PERCENT": "100",
            "N": "2",
            "TARGET": "audio.reanalyse",
            "QUEUE": Lane.LOW.queue_name,
            "GROUP": "workers",
            "PID": "0",
        }

    def _run(self, page: str, code: str, known: Mapping[str, str]) -> Iterator[str]:
        line = code.replace("dead show ID", "dead show LETTER").replace("retry ID", "retry LATER")
        if code.startswith("SELECT"):
            with psycopg.connect(self.yard.env["DATABASE_URL"]) as connection:
                connection.execute(line.replace("PID", known["PID"]).encode())
            return
        words = shlex.split(_WORD.sub(lambda found: known.get(found[0], found[0]), line))
        if words[0] == "XPENDING":
            self.yard.redis_cli(*words)
            return
        ended, output = self._headrace(words[1:])
        if ended:
            yield f"{page}: {code}: exit {ended}: {output[-300:]}"

    def _headrace(self, words: list[str]) -> tuple[int, str]:
        """Run `headrace` in this process, which is quicker, with yes as the answer if it asks."""
        home = {"HEADRACE_HOME": str(self.stack.directory), "COLUMNS": "200"}
        done = CliRunner().invoke(app, words, env=home, input="y\n")
        return done.exit_code, done.output
