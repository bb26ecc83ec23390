"""The API of schedules on a real database: made, shown, changed, paused, run and removed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from schedule_bench import Bench, bench

from headrace_common.contracts.jobs import JobKind

__all__ = ["bench"]

pytestmark = pytest.mark.stack

DAILY = {"type": "cron", "expression": "0 3 * * *"}
#: Its days are to come, whenever these tests run.
YEAR = datetime.now(UTC).year + 2


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_schedule_is_made_and_shown(bench: Bench) -> None:
    job_id = bench.job()
    made = bench.create(
        "nightly",
        trigger=DAILY,
        time_zone="Europe/Berlin",
        target="audio.reanalyse",
        params={"job_id": job_id},
        description="Each night",
    )
    assert (made["state"], made["version"], made["built_in"]) == ("active", 1, False)
    assert made["target_key"] == f"job:{job_id}"
    local = [moment(found["local"]) for found in made["next_firings"]]
    assert [(found.hour, found.minute) for found in local] == [(3, 0)] * 5
    assert local == sorted(set(local))
    assert made["next_firings"][0]["fire_at"].endswith("Z")

    shown = bench.get("/schedules/nightly")
    assert shown.pop("last_firings") == []
    assert shown == made
    row = bench.row("nightly")
    assert row.next_fire_at == row.next_due_at == moment(made["next_firings"][0]["fire_at"])
    assert bench.deeds("nightly") == ["schedule.create"]
    again = bench.ask("POST", "/schedules", json=bench.wish("nightly"))
    assert (again.status_code, again.json()["code"]) == (409, "schedule_exists")
    unknown = bench.ask("GET", "/schedules/no-such")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "cron": ({"trigger": {"type": "cron", "expression": "61 * * * *"}}, "trigger.expression", ""),
    "kind": ({"trigger": {"type": "often"}}, "trigger", "type"),
    "past": ({"trigger": {"type": "at", "at": "2020-01-01T00:00Z"}}, "trigger.at", "past"),
    "no offset": ({"trigger": {"type": "at", "at": "2027-01-01T00:00"}}, "trigger.at", "timezone"),
    "zone": ({"time_zone": "Europe/Berlim"}, "time_zone", "Europe/Berlin"),
    "target": ({"target": "audio.replay"}, "target", "audio.reanalyse"),
    "camera": ({"params": {"camera": "gates"}}, "params.camera", "no camera 'gates'"),
    "params": ({"params": {"camera": "gate", "seconds": -1}}, "params.seconds", "greater than 0"),
    "no param": ({"params": {}}, "params.camera", "required"),
    "other param": ({"params": {"camera": "gate", "sec": 1}}, "params.sec", "not permitted"),
    "NUL": ({"description": "a\0b"}, "description", "NUL"),
    "calendar": ({"calendar": "holidays"}, "calendar", "no calendar"),
    "end": ({"end_at": "2020-01-01T00:00Z"}, "end_at", "past"),
    "too soon an end": (
        {"trigger": DAILY, "start_at": f"{YEAR}-01-01T04:00Z", "end_at": f"{YEAR}-01-01T05:00Z"},
        "end_at",
        "nothing is fired",
    ),
    "span": (
        {"start_at": f"{YEAR}-01-02T00:00Z", "end_at": f"{YEAR}-01-01T00:00Z"},
        "end_at",
        "later than start_at",
    ),
    "name": ({"name": "a/b"}, "name", ""),
    "reserved": ({"name": "housekeeping.mine"}, "name", "housekeeping."),
    "grace": ({"misfire_grace_seconds": 0}, "misfire_grace_seconds", ""),
    "overlap": ({"overlap": "queue"}, "overlap", "cancel"),
    "both": ({"overlap": "skip", "misfire": "all"}, "overlap", "say 'allow', and limit"),
    "field": ({"timezone": "UTC"}, "timezone", "not permitted"),
}


def test_what_is_wrong_is_named_by_its_field(bench: Bench) -> None:
    for case, (body, field, told) in WRONG.items():
        faults = bench.faults("POST", "/schedules", **(bench.wish("a") | body))
        assert list(faults) == [field], case
        assert told in faults[field], case
    camera_job = bench.job(JobKind.CCTV_PREPROCESS)
    for job_id in ("no-such", camera_job):
        wish = bench.wish("a", target="audio.reanalyse", params={"job_id": job_id})
        assert list(bench.faults("POST", "/schedules", **wish)) == ["params.job_id"]
    broken = bench.ask(
        "POST", "/schedules", content="{", headers={"content-type": "application/json"}
    )
    assert [fault["field"] for fault in broken.json()["errors"]] == ["body"]
    assert bench.get("/schedules")["schedules"] == []


def test_only_operators_make_house_keeping(bench: Bench) -> None:
    wish = bench.wish("mine", target="housekeeping.trim-streams", params={})
    assert bench.ask("POST", "/schedules", json=wish).status_code == 403
    assert bench.ask("POST", "/schedules", json=wish, key=bench.admin).status_code == 201
    assert bench.ask("POST", "/schedules/mine/pause").status_code == 403
    assert bench.ask("DELETE", "/schedules/mine", key=bench.admin).status_code == 204
    reader = bench.ask("DELETE", "/schedules/mine", key=bench.key())
    assert reader.status_code == 403


def test_a_change_of_the_timing_counts_from_now(bench: Bench) -> None:
    bench.create("a", trigger=DAILY)
    changed = bench.patch("/schedules/a", trigger={"type": "cron", "expression": "0 4 * * *"})
    assert changed["version"] == 2
    assert "T04:00:00" in changed["next_firings"][0]["local"]
    assert bench.row("a").next_fire_at == moment(changed["next_firings"][0]["fire_at"])
    there = bench.patch("/schedules/a", time_zone="Asia/Seoul")["next_firings"][0]
    assert there["local"].endswith("T04:00:00+09:00")
    jittered = bench.patch("/schedules/a", jitter_seconds=600)["next_firings"][0]
    late = moment(jittered["due_at"]) - moment(jittered["fire_at"])
    assert timedelta(0) < late < timedelta(minutes=10)
    start = in_seconds(30 * 86_400)
    assert bench.patch("/schedules/a", start_at=start)["next_firings"][0]["fire_at"] > start[:10]
    assert (
        bench.patch("/schedules/a", start_at=None)["next_firings"][0]["fire_at"]
        == (jittered["fire_at"])
    )
    assert bench.firings("a") == []
    assert bench.deeds("a") == ["schedule.create", *["schedule.change"] * 5]


def test_other_changes_leave_the_next_firing_alone(bench: Bench) -> None:
    bench.create("a")
    bench.age("a", 5)
    before = bench.row("a")
    bench.camera("yard")
    changed = bench.patch(
        "/schedules/a",
        params={"camera": "yard"},
        misfire="skip",
        overlap="allow",
        description="Watch the yard",
        version=1,
    )
    after = bench.row("a")
    assert (after.next_fire_at, after.next_due_at) == (before.next_fire_at, before.next_due_at)
    assert (changed["target_key"], changed["version"]) == ("camera:yard", 2)
    assert bench.patch("/schedules/a", overlap="allow")["version"] == 2, "nothing new was said"
    stale = bench.ask("PATCH", "/schedules/a", json={"overlap": "skip", "version": 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "schedule_changed")
    assert bench.faults("PATCH", "/schedules/a", overlap=None) == {
        "overlap": "must not be null; left out, it stays as it is"
    }
    assert list(bench.faults("PATCH", "/schedules/a", target="audio.reanalyse")) == [
        "params.job_id",
        "params.camera",
    ]
    assert list(bench.faults("PATCH", "/schedules/a", end_at="2020-01-01T00:00Z")) == ["end_at"]


def test_a_change_loses_nothing_that_was_due_and_fires_nothing_twice(bench: Bench) -> None:
    bench.create("a", overlap="allow", misfire_grace_seconds=3600)
    bench.age("a", 1_230)
    due = bench.row("a").next_fire_at
    assert due is not None
    changed = bench.patch("/schedules/a", trigger={"type": "interval", "seconds": 60})
    fired = bench.firings("a")
    assert [firing.fire_at - due for firing in fired] == [timedelta(0), timedelta(minutes=10)]
    assert {(firing.origin, firing.state) for firing in fired} == {("schedule", "pending")}
    assert moment(changed["next_firings"][0]["fire_at"]) > fired[-1].fire_at
    assert moment(changed["last_fire_at"]) == fired[-1].fire_at
    bench.patch("/schedules/a", trigger={"type": "interval", "seconds": 600})
    assert [firing.id for firing in bench.firings("a")] == [firing.id for firing in fired]


def test_what_only_waits_for_its_jitter_is_fired_before_a_change(bench: Bench) -> None:
    bench.create("a", jitter_seconds=500)
    row = bench.row("a")
    assert row.next_fire_at is not None
    bench.age("a", (row.next_fire_at - datetime.now(UTC)).total_seconds() + 0.5)
    nominal = bench.row("a").next_fire_at
    bench.patch("/schedules/a", jitter_seconds=0)
    assert [firing.fire_at for firing in bench.firings("a")] == [nominal]


def test_a_change_goes_by_the_misfire_policy_of_what_was_missed(bench: Bench) -> None:
    bench.create("a", misfire="skip")
    bench.age("a", 3_700)
    bench.patch("/schedules/a", trigger=DAILY)
    (skipped,) = bench.firings("a")
    assert (skipped.state, skipped.reason, skipped.missed) == ("skipped", "misfire", 5)
    assert skipped.finished_at is not None


def test_what_is_made_up_for_is_not_skipped(bench: Bench) -> None:
    assert bench.create("a")["overlap"] == "skip"
    assert bench.create("b", misfire="all")["overlap"] == "allow"
    assert bench.create("c", misfire="all", overlap="cancel")["overlap"] == "cancel"
    wish = bench.wish("a", misfire="all")
    del wish["name"]
    for method, name, body in (
        ("PUT", "a", wish | {"overlap": "skip"}),
        ("PATCH", "a", {"misfire": "all", "overlap": "skip"}),
        ("PATCH", "a", {"misfire": "all"}),
        ("PATCH", "b", {"overlap": "skip"}),
    ):
        faults = bench.faults(method, f"/schedules/{name}", **body)
        assert list(faults) == ["overlap"], body
        assert "say 'allow', and limit the target" in faults["overlap"]
    assert bench.patch("/schedules/b", misfire="once", overlap="skip")["overlap"] == "skip"
    assert bench.ask("PUT", "/schedules/a", json=wish).json()["overlap"] == "allow"


def test_put_says_all_of_a_schedule_and_may_be_repeated(bench: Bench) -> None:
    wish = bench.wish("a", trigger={"type": "delay", "seconds": 3_600}, paused=True)
    del wish["name"]
    made = bench.ask("PUT", "/schedules/a", json=wish)
    assert (made.status_code, made.json()["state"]) == (201, "paused")
    assert made.json()["trigger"]["at"] is not None
    same = bench.ask("PUT", "/schedules/a", json=wish)
    assert (same.status_code, same.json()) == (200, made.json())
    resumed = bench.put("/schedules/a", **wish | {"paused": False, "overlap": "allow"})
    assert (resumed["state"], resumed["overlap"]) == ("active", "allow")
    assert resumed["next_firings"][0]["fire_at"] == made.json()["trigger"]["at"]
    again = bench.patch("/schedules/a", trigger={"type": "delay", "seconds": 3_600})
    assert again["trigger"]["at"] > made.json()["trigger"]["at"], "a change begins the delay anew"
    del wish["paused"]
    assert bench.put("/schedules/a", **wish)["overlap"] == "skip", "what is left out is as for new"
    assert bench.put("/schedules/b", **wish | {"trigger": {"type": "delay", "seconds": 0}})


def test_a_paused_schedule_fires_nothing_and_makes_up_for_nothing(bench: Bench) -> None:
    bench.create("a")
    paused = bench.post("/schedules/a/pause", reason="the gate moves")
    assert (paused["state"], paused["paused_reason"]) == ("paused", "the gate moves")
    assert paused["next_firings"] == []
    assert bench.row("a").next_due_at is None
    assert bench.post("/schedules/a/pause")["version"] == paused["version"]
    changed = bench.patch("/schedules/a", trigger=DAILY)
    assert (changed["state"], changed["next_firings"]) == ("paused", [])
    bench.age("a", 86_400 * 3)
    resumed = bench.post("/schedules/a/resume")
    assert (resumed["state"], resumed["paused_reason"]) == ("active", None)
    assert moment(resumed["next_firings"][0]["fire_at"]) > datetime.now(UTC)
    assert bench.post("/schedules/a/resume")["version"] == resumed["version"]
    assert bench.firings("a") == []
    verbs = ["create", "pause", "change", "resume"]
    assert bench.deeds("a") == [f"schedule.{verb}" for verb in verbs]


def test_what_was_due_when_a_schedule_is_paused_is_told_as_skipped(bench: Bench) -> None:
    bench.create("a")
    bench.age("a", 1_230)
    bench.post("/schedules/a/pause")
    (skipped,) = bench.firings("a")
    assert (skipped.state, skipped.reason, skipped.missed) == ("skipped", "paused", 1)


def manual_firings() -> float:
    labels = {"origin": "manual", "state": "pending"}
    return REGISTRY.get_sample_value("headrace_firings_total", labels) or 0


def test_run_now_records_a_firing_that_waits_to_be_sent(bench: Bench) -> None:
    bench.create("a", trigger=DAILY)
    before = bench.row("a").next_fire_at
    bench.post("/schedules/a/pause")
    counted = manual_firings()
    answer = bench.ask("POST", "/schedules/a/run")
    assert answer.status_code == 202
    first = answer.json()
    assert manual_firings() == counted + 1
    assert (first["origin"], first["state"], first["epoch"]) == ("manual", "pending", 0)
    assert first["params"] == {"camera": "gate"}
    assert len(first["fire_at"]) > 0
    second = bench.post("/schedules/a/run")
    assert (second["state"], second["reason"]) == ("skipped", "overlap")
    assert second["finished_at"] is not None
    bench.finish(first["id"])
    assert bench.post("/schedules/a/run")["state"] == "pending"
    bench.patch("/schedules/a", overlap="cancel")
    assert bench.post("/schedules/a/run")["state"] == "pending", "whoever performs it cancels"
    assert bench.post("/schedules/a/resume")["next_firings"][0]["fire_at"] == (
        before and before.isoformat().replace("+00:00", "Z")
    )


def test_history_by_pages_and_states(bench: Bench) -> None:
    bench.create("a", overlap="allow")
    ids = [bench.post("/schedules/a/run")["id"] for _ in range(5)]
    bench.finish(ids[2])
    seen, cursor = [], None
    for _ in range(3):
        page = bench.get("/schedules/a/firings", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [firing["id"] for firing in page["firings"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (ids[::-1], None)
    ended = bench.get("/schedules/a/firings", state=["succeeded", "failed"])["firings"]
    assert [firing["id"] for firing in ended] == [ids[2]]
    shown = bench.get("/schedules/a", firings=2)
    assert [firing["id"] for firing in shown["last_firings"]] == ids[::-1]
    assert len(shown["next_firings"]) == 2
    wrong = bench.ask("GET", "/schedules/a/firings", params={"cursor": "x"})
    assert wrong.status_code == 400


def test_what_all_schedules_fired(bench: Bench) -> None:
    bench.create("a", overlap="allow")
    bench.create("b", target="audio.reanalyse", params={"job_id": bench.job()})
    fired = [bench.post(f"/schedules/{name}/run") for name in ("a", "b", "a")]
    ids = [firing["id"] for firing in fired]
    first = bench.get("/firings", limit=2)
    assert [(found["id"], found["schedule"]) for found in first["firings"]] == [
        (ids[2], "a"),
        (ids[1], "b"),
    ]
    rest = bench.get("/firings", limit=2, cursor=first["next_cursor"])
    assert ([found["id"] for found in rest["firings"]], rest["next_cursor"]) == ([ids[0]], None)
    bench.finish(ids[0])
    for params, found in (
        ({"state": "succeeded"}, [ids[0]]),
        ({"target": "audio.reanalyse"}, [ids[1]]),
        ({"target_key": "camera:gate", "state": "pending"}, [ids[2]]),
        ({"state": "failed"}, []),
    ):
        assert [firing["id"] for firing in bench.get("/firings", **params)["firings"]] == found


def test_lists_by_pages_and_filters(bench: Bench) -> None:
    bench.camera("yard")
    for name in ("b", "a.2", "a.1", "A.3"):
        bench.create(name, params={"camera": "yard" if name == "b" else "gate"})
    bench.create("c", target="audio.reanalyse", params={"job_id": bench.job()})
    bench.post("/schedules/b/pause")

    def names(**params: Any) -> list[str]:
        return [found["name"] for found in bench.get("/schedules", **params)["schedules"]]

    everyone = names()
    assert sorted(everyone) == ["A.3", "a.1", "a.2", "b", "c"]
    seen, cursor = [], None
    while True:
        page = bench.get("/schedules", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [found["name"] for found in page["schedules"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == everyone
    assert names(prefix="a.") == ["a.1", "a.2"]
    assert names(paused=True) == ["b"]
    assert names(target="audio.reanalyse") == ["c"]
    assert names(target_key="camera:yard") == ["b"]
    assert names(built_in=True) == []
    assert names(prefix="a%") == names(calendar="x") == []
    assert len(bench.get("/schedules", firings=3)["schedules"][0]["next_firings"]) == 3
    assert bench.ask("GET", "/schedules", params={"cursor": "4pyT"}).status_code == 400


def test_a_schedule_is_removed_with_its_history_but_no_built_in_one(bench: Bench) -> None:
    bench.create("a")
    bench.post("/schedules/a/run")
    assert bench.ask("DELETE", "/schedules/a").status_code == 204
    assert bench.ask("DELETE", "/schedules/a").status_code == 404
    assert bench.deeds("a")[-1] == "schedule.delete"

    bench.create("kept", target="audio.reanalyse", params={"job_id": bench.job()})
    bench.write("kept", built_in=True)
    assert bench.ask("PATCH", "/schedules/kept", json={"overlap": "skip"}).status_code == 403
    refused = bench.ask("DELETE", "/schedules/kept", key=bench.admin)
    assert (refused.status_code, refused.json()["code"]) == (409, "schedule_built_in")
    assert list(bench.faults("PATCH", "/schedules/kept", params={"job_id": "b"})) == ["params"]
    slower = {"trigger": {"type": "interval", "seconds": 1_200}}
    changed = bench.ask("PATCH", "/schedules/kept", json=slower, key=bench.admin)
    assert (changed.status_code, changed.json()["version"]) == (200, 2)


def test_a_preview_keeps_nothing(bench: Bench) -> None:
    change = {"type": "cron", "expression": "30 2 * * *"}
    told = bench.post(
        "/schedules/preview",
        trigger=change,
        time_zone="Europe/Berlin",
        after="2027-03-26T12:00Z",
        count=3,
    )
    assert [found["local"] for found in told["next_firings"]] == [
        "2027-03-27T02:30:00+01:00",
        "2027-03-28T03:00:00+02:00",
        "2027-03-29T02:30:00+02:00",
    ]
    assert bench.get("/schedules")["schedules"] == []
    assert bench.faults("POST", "/schedules/preview", trigger=change, count=101).keys() == {"count"}
    never = bench.post("/schedules/preview", trigger={"type": "at", "at": "2020-01-01T00:00Z"})
    assert never["next_firings"] == []


def test_the_state_of_the_scheduler_is_told(bench: Bench) -> None:
    bench.create("a")
    bench.age("a", 700)
    state = bench.get("/scheduler")
    assert state["leader"] is None
    assert (state["backlog"]["due"], state["backlog"]["pending"]) == (1, 0)


def test_a_row_that_makes_no_sense_hides_no_other(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.create(name, trigger=DAILY)
    bench.write("a", trigger={"type": "tide"})
    bench.write("b", time_zone="Europe/Atlantis")
    listed = bench.get("/schedules", firings=3)["schedules"]
    assert [len(found["next_firings"]) for found in listed] == [1, 1, 3]
    mended = bench.ask("DELETE", "/schedules/a")
    assert mended.status_code == 204
