"""The API of calendars and limits, and what they mean for schedules."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from schedule_bench import Bench, bench

__all__ = ["bench"]

pytestmark = pytest.mark.stack

DAILY = {"type": "cron", "expression": "0 3 * * *"}


def next_day(schedule: dict[str, Any]) -> date:
    return datetime.fromisoformat(schedule["next_firings"][0]["local"]).date()


def test_a_calendar_is_made_changed_and_removed(bench: Bench) -> None:
    made = bench.post("/calendars", name="holidays", exceptions=["2026-12-24", "12-25"])
    assert (made["schedules"], made["exceptions"]) == (0, ["2026-12-24", "12-25"])
    twice = bench.ask("POST", "/calendars", json={"name": "holidays"})
    assert (twice.status_code, twice.json()["code"]) == (409, "calendar_exists")
    span = {"from": "2026-12-28", "to": "2027-01-06"}
    changed = bench.patch("/calendars/holidays", add=[span, "12-25"], remove=["2026-12-24"])
    assert changed["exceptions"] == ["12-25", span]
    assert bench.patch("/calendars/holidays", description="Off")["exceptions"] == ["12-25", span]
    assert bench.put("/calendars/holidays", exceptions=["05-01"])["description"] is None
    assert [found["name"] for found in bench.get("/calendars")["calendars"]] == ["holidays"]
    assert bench.ask("DELETE", "/calendars/holidays").status_code == 204
    assert bench.ask("GET", "/calendars/holidays").status_code == 404
    verbs = ["create", "change", "change", "change", "delete"]
    assert bench.deeds("holidays") == [f"calendar.{verb}" for verb in verbs]


def test_what_is_wrong_with_a_calendar_is_named(bench: Bench) -> None:
    for day, told in (("2026-02-30", "no day"), ("13-01", "no day"), (7, "must be")):
        faults = bench.faults("POST", "/calendars", name="a", exceptions=["12-25", day])
        assert list(faults) == ["exceptions.1"]
        assert told in faults["exceptions.1"]
    backwards = {"from": "2026-12-28", "to": "2026-12-01"}
    (field,) = bench.faults("POST", "/calendars", name="a", exceptions=[backwards])
    assert field.startswith("exceptions.0")
    assert bench.get("/calendars")["calendars"] == []


def test_schedules_go_by_a_change_of_their_calendar_at_once(bench: Bench) -> None:
    bench.post("/calendars", name="holidays")
    free = next_day(bench.create("a", trigger=DAILY, calendar="holidays"))
    bench.create("paused", trigger=DAILY, calendar="holidays", paused=True)
    bench.create("other", trigger=DAILY)
    bench.create("broken", trigger=DAILY, calendar="holidays")
    bench.write("broken", trigger={"type": "tide"})
    used = bench.ask("DELETE", "/calendars/holidays")
    assert (used.status_code, used.json()["code"]) == (409, "calendar_in_use")

    changed = bench.patch("/calendars/holidays", add=[free.isoformat()])
    assert changed["schedules"] == 3
    assert next_day(bench.get("/schedules/a")) == free + timedelta(days=1)
    assert next_day(bench.get("/schedules/other")) == free
    bench.patch("/calendars/holidays", remove=[free.isoformat()])
    assert next_day(bench.get("/schedules/a")) == free
    far = (free + timedelta(days=9)).isoformat()
    before = bench.row("a").next_fire_at
    bench.patch("/calendars/holidays", add=[far])
    assert bench.row("a").next_fire_at == before
    assert bench.row("paused").next_fire_at is None
    assert next_day(bench.post("/schedules/paused/resume")) == free
    assert bench.get("/schedules", calendar="holidays")["schedules"][0]["name"] == "a"
    assert list(bench.faults("PATCH", "/schedules/a", calendar="no-such")) == ["calendar"]
    assert bench.patch("/schedules/a", calendar=None)["calendar"] is None


def test_a_calendar_takes_back_nothing_that_was_due(bench: Bench) -> None:
    bench.post("/calendars", name="holidays")
    bench.create("a", calendar="holidays", misfire_grace_seconds=3_600)
    bench.age("a", 630)
    due = bench.row("a").next_fire_at
    yesterday, today, tomorrow = (
        (datetime.now(UTC) + timedelta(days=days)).date().isoformat() for days in (-1, 0, 1)
    )
    bench.patch("/calendars/holidays", add=[{"from": yesterday, "to": tomorrow}])
    assert [firing.fire_at for firing in bench.firings("a")] == [due]
    assert next_day(bench.get("/schedules/a")).isoformat() > today


def test_a_schedule_that_a_calendar_leaves_no_day_has_nothing_to_fire(bench: Bench) -> None:
    christmas = {"type": "at", "at": f"{datetime.now(UTC).year + 1}-12-25T08:00Z"}
    bench.post("/calendars", name="holidays", exceptions=["12-25"])
    wish = bench.wish("a", trigger=christmas, calendar="holidays")
    assert bench.faults("POST", "/schedules", **wish) == {
        "calendar": "nothing is fired but on its days"
    }
    bench.put("/calendars/holidays")
    assert bench.create("a", trigger=christmas, calendar="holidays")["state"] == "active"
    bench.put("/calendars/holidays", exceptions=["12-25"])
    assert bench.get("/schedules/a")["state"] == "finished"
    bench.put("/calendars/holidays")
    assert bench.get("/schedules/a")["state"] == "active"


def test_targets_and_their_limits(bench: Bench) -> None:
    targets = {found["name"]: found for found in bench.get("/targets")["targets"]}
    assert targets["camera.preprocess"]["params"]["required"] == ["camera"]
    assert targets["housekeeping.purge-jobs"]["housekeeping"]
    bench.create("a", overlap="allow")
    for _ in range(2):
        bench.post("/schedules/a/run")

    def limit(target: str, **body: Any) -> Any:
        return bench.ask("PUT", f"/targets/{target}/limit", json=body, key=bench.admin)

    assert limit("camera:gate", max_running=2).json()["waiting"] == 2
    assert limit("camera.preprocess", max_running=8).json()["max_running"] == 8
    limits = bench.get("/targets/limits")["limits"]
    assert [(found["target"], found["max_running"]) for found in limits] == [
        ("camera.preprocess", 8),
        ("camera:gate", 2),
    ]
    assert limit("camera.process", max_running=1).status_code == 404
    assert list(bench.faults("PUT", "/targets/camera:gate/limit", max_running=0)) == ["max_running"]
    refused = bench.ask("PUT", "/targets/camera:gate/limit", json={"max_running": 1})
    assert refused.status_code == 403
    for status in (204, 404):
        gone = bench.ask("DELETE", "/targets/camera:gate/limit", key=bench.admin)
        assert gone.status_code == status
    assert bench.deeds("camera:gate") == ["target.limit", "target.unlimit"]
