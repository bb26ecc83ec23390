"""Whoever makes schedules on a running stack, and looks at what they fired."""

from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx

from headrace_local.pytest_plugin import LocalStack
from headrace_local.waiting import wait_until

#: What a firing and its job take here, with room for a machine that has much else to do.
_LONG_SECONDS = 120


class Planner:
    """Asks the dispatcher of a stack."""

    def __init__(self, stack: LocalStack, *, process: str = "dispatcher") -> None:
        key = {"authorization": f"Bearer {stack.state.api_key}"}
        url = stack.process(process).url
        self._client = httpx.Client(base_url=url, headers=key, timeout=60)

    def close(self) -> None:
        self._client.close()

    def add(self, target: str, *, seconds: float = 1, **params: Any) -> str:
        """Make a schedule that fires every `seconds`, and return its name."""
        return self._add({"type": "interval", "seconds": seconds}, target, params)

    def add_at(self, at: datetime, target: str, **params: Any) -> str:
        """Make a schedule that fires once, and return its name."""
        return self._add({"type": "at", "at": at.isoformat()}, target, params)

    def _add(self, trigger: dict[str, Any], target: str, params: dict[str, Any]) -> str:
        name = f"s-{uuid4().hex[:12]}"
        body = {"name": name, "trigger": trigger, "target": target, "params": params}
        answer = self._client.post("/schedules", json=body)
        assert answer.status_code == 201, answer.text
        return name

    def run_now(self, name: str) -> None:
        answer = self._client.post(f"/schedules/{name}/run")
        assert answer.status_code == 202, answer.text

    def pause(self, name: str) -> None:
        assert self._client.post(f"/schedules/{name}/pause").status_code == 200

    def remove(self, name: str) -> None:
        assert self._client.delete(f"/schedules/{name}").status_code == 204

    def firings(self, name: str) -> list[dict[str, Any]]:
        """Return the firings of a schedule, oldest first."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            params = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
            answer = self._client.get(f"/schedules/{name}/firings", params=params)
            assert answer.status_code == 200, answer.text
            found += answer.json()["firings"]
            cursor = answer.json()["next_cursor"]
        return found[::-1]

    def ended(self, name: str, state: str, *, at_least: int = 1) -> list[dict[str, Any]]:
        """Wait for firings that ended in a state, and return them, oldest first."""

        def look() -> list[dict[str, Any]]:
            return [firing for firing in self.firings(name) if firing["state"] == state]

        return wait_until(look, lambda seen: len(seen) >= at_least, seconds=_LONG_SECONDS)
