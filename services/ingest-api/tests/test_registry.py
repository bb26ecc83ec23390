"""The registry of cameras over HTTP, and jobs that name a camera of it."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from ingest_harness import Backend, IngestApi
from sqlalchemy import select

from headrace_common import keys
from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.db import AuditEntry, Camera
from headrace_common.jobs.cameras import camera_entry
from headrace_common.keys import Scope

pytestmark = pytest.mark.stack

HLS = "https://user:pass-word@cam.example.org:8443/1/live.m3u8?token=se-cret"
SHOWN = "https://[redacted]@cam.example.org:8443/1/live.m3u8?token=[redacted]"
ROAD = [[[0.1, 0.95], [0.45, 0.3], [0.55, 0.3], [0.9, 0.95]]]

Register = Callable[..., str]


@pytest.fixture
def name() -> str:
    return f"L 01 {uuid.uuid4().hex[:8]}"


@pytest.fixture
def register(api: IngestApi, name: str) -> Register:
    def made(**fields: Any) -> str:
        answer = api.client.post("/cameras", json={"name": name, "hls": HLS, **fields})
        assert answer.status_code == 201, answer.text
        return name

    return made


def ask(api: IngestApi, camera: str, headers: Any = None, **body: Any) -> httpx.Response:
    return api.client.post(f"/cctv/{camera}/preprocess", json=body or None, headers=headers)


def entry_of(backend: Backend, answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 202, answer.text
    entry_id = answer.json()["queue_message_id"]
    rows: Any = backend.redis.xrange(backend.settings.redis_stream, entry_id, entry_id)
    return {name.decode(): value.decode() for name, value in rows[0][1].items()}


def test_a_camera_is_registered_read_changed_and_removed(
    api: IngestApi, backend: Backend, name: str
) -> None:
    new = {"name": name, "hls": HLS, "region": ROAD, "seconds": 10, "description": "A1 north"}
    created = api.client.post("/cameras", json=new)
    assert created.status_code == 201, created.text
    shown = created.json()
    rest = {key: shown[key] for key in ("created_by", "created_at", "updated_at")}
    assert shown == {**new, "hls": SHOWN, **rest}
    path = f"/cameras/{name}"
    assert api.client.get(path).json() == shown
    changed = api.client.patch(path, json={"region": None, "seconds": 7.5, "description": None})
    assert changed.status_code == 200, changed.text
    told = {"region": None, "seconds": 7.5, "description": None}
    assert changed.json() == {**shown, **told, "updated_at": changed.json()["updated_at"]}
    assert changed.json()["updated_at"] > shown["updated_at"]
    assert api.client.patch(path, json={"seconds": None}).json()["seconds"] == 20
    moved = api.client.patch(path, json={"hls": "http://other/1.m3u8?key=hidden"})
    assert moved.json()["hls"] == "http://other/1.m3u8?key=[redacted]"
    removed = api.client.delete(path)
    assert (removed.status_code, removed.content) == (204, b"")
    for answer in (
        api.client.get(path),
        api.client.delete(path),
        api.client.patch(path, json={}),
        ask(api, name),
    ):
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (404, "unknown_camera")
        assert name in problem["detail"]
        assert problem["camera"] == name
    with backend.database.begin() as session:
        noted = session.scalars(
            select(AuditEntry).where(AuditEntry.target == f"camera:{name}").order_by(AuditEntry.id)
        ).all()
        deeds = [(entry.action, entry.details) for entry in noted]
    assert [action for action, _ in deeds] == [
        "camera.create",
        *["camera.change"] * 3,
        "camera.remove",
    ]
    assert deeds[0][1] == {
        "hls": SHOWN,
        "region": "given",
        "seconds": 10,
        "description": "A1 north",
    }
    for text in (created.text, moved.text, json.dumps(deeds), api.log):
        assert "se-cret" not in text
        assert "pass-word" not in text


def test_a_name_is_taken_once(api: IngestApi, register: Register) -> None:
    name = register()
    again = api.client.post("/cameras", json={"name": name, "hls": "http://other/"})
    assert (again.status_code, again.json()["code"]) == (409, "camera_exists")
    shown = api.client.get(f"/cameras/{name}").json()
    assert (shown["hls"], shown["seconds"], shown["region"]) == (SHOWN, 20, None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": ".."}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"hls": None}, "hls"),
        ({"hls": "rtsp://cam/1"}, "hls"),
        ({"hls": "https:///1.m3u8"}, "hls"),
        ({"hls": "http://cam:0/1.m3u8"}, "hls"),
        ({"hls": "http://cam/" + "x" * 5_000}, "hls"),
        ({"hls": SHOWN}, "hls"),
        ({"region": []}, "region"),
        ({"region": "road"}, "region"),
        ({"region": [[[0, 0], [0.5, 0.5], [1, 1]]]}, "region"),
        ({"region": [[[0, 0], [1, 0], [1, 2]]]}, "region"),
        ({"region": [[[i / 201, 0.123456789] for i in range(200)] + [[1, 1]]]}, "region"),
        ({"region": [[[i / 200, (i / 200) ** 2] for i in range(200)]] * 8}, "region"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": 601}, "seconds"),
        ({"description": "x" * 501}, "description"),
        ({"description": "a\x00b"}, "description"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_is_no_camera_is_422_and_names_the_field(
    api: IngestApi, register: Register, name: str, fields: dict[str, Any], field: str
) -> None:
    answers = [api.client.post("/cameras", json={"name": name, "hls": HLS, **fields})]
    if "name" not in fields:
        register()
        answers.append(api.client.patch(f"/cameras/{name}", json=fields))
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert {fault["field"] for fault in answer.json()["errors"]} == {f"body.{field}"}
        assert "se-cret" not in answer.text


def test_the_list_is_paged_newest_first(api: IngestApi) -> None:
    names = [f"c-{uuid.uuid4().hex[:8]}" for _ in range(5)]
    for name in names:
        api.client.post("/cameras", json={"name": name, "hls": HLS}).raise_for_status()
    seen: list[str] = []
    params: dict[str, str] = {"limit": "2"}
    while len(seen) < 5:
        page = api.client.get("/cameras", params=params).json()
        seen += [camera["name"] for camera in page["cameras"]]
        params = {"limit": "2", "cursor": page["next_cursor"]}
    assert seen[:5] == names[::-1]
    assert api.client.get("/cameras", params={"cursor": "x"}).status_code == 400
    assert api.client.get("/cameras", params={"limit": 0}).status_code == 422


def test_the_last_page_has_no_cursor(api: IngestApi, register: Register) -> None:
    name = register()
    cursor: str | None = ""
    seen: list[str] = []
    for _ in range(100):
        params = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
        page = api.client.get("/cameras", params=params).json()
        seen += [camera["name"] for camera in page["cameras"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert cursor is None
    assert name in seen
    assert len(seen) == len(set(seen))


def test_readers_read_and_writers_write(
    api: IngestApi, backend: Backend, register: Register
) -> None:
    path = f"/cameras/{register()}"
    with backend.database.begin() as session:
        reader = keys.create(session, name="r", scopes=[Scope.JOBS_READ]).secret_text
    headers = {"Authorization": f"Bearer {reader}"}
    assert api.client.get(path, headers=headers).status_code == 200
    assert api.client.get("/cameras", headers=headers).status_code == 200
    new = {"name": "other", "hls": HLS}
    for answer in (
        api.client.post("/cameras", json=new, headers=headers),
        api.client.patch(path, json={}, headers=headers),
        api.client.delete(path, headers=headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert api.client.get(path, headers={"Authorization": ""}).status_code == 401


def test_a_job_of_a_registered_camera_needs_its_name_alone(
    api: IngestApi, backend: Backend, register: Register
) -> None:
    name = register(region=ROAD, seconds=7.5)
    answer = ask(api, name)
    fields = entry_of(backend, answer)
    entry = PreprocessEntry.parse(fields)
    assert (entry.cctv_id, entry.hls, entry.sec) == (name, HLS, 7.5)
    assert json.loads(fields["roadRegion"]) == ROAD
    job = backend.job(entry.job_id)
    assert job.input["road_region"] == ROAD
    again = camera_entry(job.id, job.input, {}, job.trace, run=2)
    assert again.fields() == {**fields, "jobRun": "2"}, "a retry has the same region"
    for text in (answer.text, api.log):
        assert "se-cret" not in text


def test_what_a_job_says_wins(api: IngestApi, backend: Backend, register: Register) -> None:
    name = register(region=ROAD, seconds=7.5)
    other = [[[0, 0], [1, 0], [1, 1]]]
    fields = entry_of(backend, ask(api, name, sec=3, region=other))
    assert (fields["sec"], fields["hls"]) == ("3", HLS)
    assert json.loads(fields["roadRegion"]) == other
    # Who gives the URL says everything.
    fields = entry_of(backend, ask(api, name, hls="http://other/1.m3u8", sec=3))
    assert fields["hls"] == "http://other/1.m3u8"
    assert "roadRegion" not in fields
    answer = ask(api, name, hls="http://other/1.m3u8")
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["body.sec"]
    answer = ask(api, name, region=[[[0, 0], [1, 1]]])
    assert [fault["field"] for fault in answer.json()["errors"]] == ["body.region"]


def test_a_camera_without_a_region_says_none(
    api: IngestApi, backend: Backend, register: Register
) -> None:
    fields = entry_of(backend, ask(api, register()))
    assert "roadRegion" not in fields
    with backend.database.begin() as session:
        nothing = select(Camera.name).where(Camera.region.is_(None))
        assert fields["cctvId"] in session.scalars(nothing).all()


def test_a_repetition_is_answered_whatever_became_of_the_camera(
    api: IngestApi, register: Register
) -> None:
    name = register()
    headers = {"Idempotency-Key": name}
    first = ask(api, name, headers)
    api.client.delete(f"/cameras/{name}").raise_for_status()
    assert ask(api, name, headers).json() == first.json()
    # What was refused did not use its key up.
    headers = {"Idempotency-Key": f"{name} 2"}
    assert ask(api, name, headers).status_code == 404
    api.client.post("/cameras", json={"name": name, "hls": HLS}).raise_for_status()
    assert ask(api, name, headers).status_code == 202
