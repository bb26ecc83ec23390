"""What operators do with letters over HTTP: choose, count, replay at a rate, stop; the trail."""

from datetime import datetime, timedelta
from itertools import pairwise

from dead_bench import Bench, bench
from sqlalchemy import select, text

from headrace_common import keys
from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import DeadLetter
from headrace_common.keys import Scope

__all__ = ["bench"]


def fill(bench: Bench, count: int) -> None:
    """Let so many entries die, each of a camera of its own."""
    for number in range(count):
        bench.kill_entry({"cctvId": f"cam-{number}"})
    bench.collect()


def due_times(bench: Bench) -> list[datetime]:
    with bench.scene.database.begin() as session:
        due = session.scalars(select(DeadLetter.due_at).order_by(DeadLetter.due_at))
        return [moment for moment in due if moment is not None]


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(bench: Bench) -> None:
    fill(bench, 2)
    done = bench.camera_job()
    bench.kill_entry({"cctvId": "c", "jobId": done})
    bench.end(done, JobStatus.CANCELLED)
    bench.collect()
    before = bench.found()
    preview = bench.post("/dead-letters/replay", all=True, dry_run=True)
    assert (preview["letters"], preview["actions"]) == (3, {"send_again": 2, "obsolete": 1})
    assert preview["replay_id"] is None
    bench.replay_due()
    assert bench.found() == before
    assert not bench.redis.exists(bench.stream)
    assert bench.get("/audit")["entries"] == []


def test_a_rate_is_kept_also_after_nobody_was_there(bench: Bench) -> None:
    fill(bench, 5)
    begun = bench.post("/dead-letters/replay", all=True, rate_per_second=0.1)
    assert begun["letters"] == 5
    gap = timedelta(seconds=10)

    def gaps() -> set[timedelta]:
        due = due_times(bench)
        return {later - earlier for earlier, later in pairwise(due)}

    assert gaps() == {gap}
    assert datetime.fromisoformat(begun["last_due_at"]) == due_times(bench)[-1]
    bench.replay_due()
    assert bench.redis.xlen(bench.stream) < 5, "the rest is not due"
    with bench.scene.database.begin() as session:
        session.execute(text("UPDATE dead_letters SET due_at = due_at - interval '1 hour'"))
        now = session.scalar(text("SELECT now()"))
    bench.letters.replayer.keep_pace()
    assert gaps() == {gap}
    assert due_times(bench)[0] >= now
    progress = bench.get(f"/dead-letters/replays/{begun['replay_id']}")
    assert progress["letters"] == 5
    assert progress["replaying"] == len(due_times(bench))
    stopped = bench.post(f"/dead-letters/replays/{begun['replay_id']}/stop")["stopped"]
    assert stopped == progress["replaying"]
    assert bench.found(state="replaying") == []
    assert len(bench.found(state="dead")) == stopped


def test_letters_are_found_by_what_is_known_of_them_and_grouped_by_their_cause(
    bench: Bench,
) -> None:
    fill(bench, 3)
    inbox_id = bench.poison("job-x")
    bench.collect()
    assert len(bench.found(text="valid NUMBER")) == 3
    assert [letter["source_id"] for letter in bench.found(text="job-x")] == [str(inbox_id)]
    assert bench.found(text="cam-1") == [], "payloads may hold secrets, and are not searched"
    assert len(bench.found(died_before="2026-02-01T00:00:00Z")) == 3
    assert len(bench.found(died_after="2026-02-01T00:00:00Z")) == 1
    assert bench.found(code="none_such") == []
    first, second = bench.get("/dead-letters/groups")["groups"]
    assert (first["count"], second["count"]) == (3, 1)
    assert (first["sources"], first["queues"]) == (["stream"], [bench.stream])
    assert first["example"]["code"] == "malformed_entry"
    assert len(bench.found(fingerprint=first["fingerprint"])) == 3
    page = bench.get("/dead-letters", limit=3)
    rest = bench.get("/dead-letters", limit=3, cursor=page["next_cursor"])
    assert len({letter["id"] for letter in page["letters"] + rest["letters"]}) == 4
    assert rest["next_cursor"] is None


def test_every_deed_is_in_the_trail(bench: Bench) -> None:
    fill(bench, 3)
    some = bench.found()[0]["id"]
    bench.post("/dead-letters/drop", ids=[some])
    began = bench.post("/dead-letters/replay", filter={"source": "stream"}, limit=1)
    newest, oldest = bench.get("/audit")["entries"]
    assert (oldest["action"], oldest["details"]["letters"]) == ("dead.drop", 1)
    assert oldest["details"]["ids"] == [some]
    assert newest["action"] == "dead.replay"
    assert newest["target"] == f"replay/{began['replay_id']}"
    assert newest["details"]["filter"] == {"source": "stream"}
    page = bench.get("/audit", limit=1)
    assert bench.get("/audit", cursor=page["next_cursor"])["entries"] == [oldest]
    assert bench.get("/audit", target=newest["target"])["entries"] == [newest]
    (letter,) = bench.found(state="replaying")
    assert letter["state_by"] == newest["actor"]


def test_a_wish_that_is_not_clear_is_refused(bench: Bench) -> None:
    unclear: list[dict[str, object]] = [
        {},
        {"all": True, "ids": ["a"]},
        {"filter": {}},
        {"filter": {"no_such": "x"}},
        {"ids": []},
        {"all": True, "rate_per_second": 0},
    ]
    for body in unclear:
        assert bench.api.post("/dead-letters/replay", json=body).status_code == 422, body


def test_whoever_only_reads_decides_nothing(bench: Bench) -> None:
    with bench.scene.database.begin() as session:
        key = keys.create(session, name="reader", scopes=[Scope.JOBS_READ, Scope.JOBS_WRITE])
    reader = {"authorization": f"Bearer {key.secret_text}"}
    assert bench.api.get("/dead-letters", headers=reader).status_code == 200
    for path in ("/dead-letters/replay", "/dead-letters/drop", "/dead-letters/replays/x/stop"):
        answer = bench.api.post(path, json={"all": True}, headers=reader)
        assert answer.status_code == 403
    assert bench.api.get("/dead-letters/none").status_code == 404
    assert bench.api.get("/dead-letters/replays/none").status_code == 404
    assert bench.api.get("/dead-letters", params={"cursor": "x"}).status_code == 400
