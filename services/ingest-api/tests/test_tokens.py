import base64
import json
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from ingest_harness import Backend, IngestApi

from headrace_common.keys import Scope, create

RECORDINGS = Path(__file__).parents[3] / "examples/recordings"

pytestmark = pytest.mark.stack


def new_id() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def test_a_token_is_created_read_changed_and_deleted(api: IngestApi) -> None:
    token_id = new_id()
    new = {
        "id": token_id,
        "title": "Mary rolled the barrel",
        "s3_textgrid_url": "s3://headrace-media/mary.TextGrid",
        "s3_pitch_url": None,
        "metadata": {"speaker": "mary", "take": 1},
    }
    created = api.client.post("/tokens", json=new)
    assert created.status_code == 201
    times = {key: created.json()[key] for key in ("created_at", "updated_at")}
    assert created.json() == {**new, **times}
    assert api.client.get(f"/tokens/{token_id}").json() == created.json()
    changed = api.client.patch(
        f"/tokens/{token_id}", json={"title": None, "metadata": {"take": None, "room": "b"}}
    )
    assert changed.status_code == 200
    assert changed.json() == {
        **created.json(),
        "title": None,
        "metadata": {"speaker": "mary", "room": "b"},
        "updated_at": changed.json()["updated_at"],
    }
    assert changed.json()["updated_at"] > times["updated_at"]
    deleted = api.client.delete(f"/tokens/{token_id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (
        api.client.get(f"/tokens/{token_id}"),
        api.client.delete(f"/tokens/{token_id}"),
        api.client.patch(f"/tokens/{token_id}", json={}),
        api.client.put(f"/tokens/{token_id}/pitch", content=b"[1]"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_an_id_is_made_up_and_a_taken_one_is_409(api: IngestApi) -> None:
    made_up = api.client.post("/tokens", json={}).json()["id"]
    again = api.client.post("/tokens", json={"id": made_up, "title": "other"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert api.client.get(f"/tokens/{made_up}").json()["title"] is None


@pytest.mark.parametrize(
    "new",
    [
        {"id": ""},
        {"id": "a/b"},
        {"id": ".."},
        {"id": "x" * 129},
        {"id": "ä"},
        {"title": "x" * 501},
        {"title": "a\0b"},
        {"metadata": {"a": ["b", {"c\0": 1}]}},
        {"metadata": []},
        {"s3_pitch_url": "https://example.org/x.json"},
        {"s3_pitch_url": "s3://somebody-elses-bucket/x.json"},
        {"s3_textgrid_url": "s3://headrace-media"},
        {"unknown": 1},
    ],
)
def test_what_is_no_token_is_422(api: IngestApi, token: str, new: dict[str, object]) -> None:
    assert api.client.post("/tokens", json=new).status_code == 422
    if "id" not in new:
        assert api.client.patch(f"/tokens/{token}", json=new).status_code == 422


def test_the_list_is_paged_newest_first(api: IngestApi) -> None:
    ids = [new_id() for _ in range(5)]
    for token_id in ids:
        api.client.post("/tokens", json={"id": token_id}).raise_for_status()
    seen: list[str] = []
    cursor: str | None = None
    while len(seen) < 5:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = api.client.get("/tokens", params=params).json()
        seen += [token["id"] for token in page["tokens"]]
        cursor = page["next_cursor"]
    assert seen[:5] == ids[::-1]
    assert api.client.get("/tokens", params={"cursor": "x"}).status_code == 400
    assert api.client.get("/tokens", params={"limit": 0}).status_code == 422


def test_the_last_page_has_no_cursor(api: IngestApi, token: str) -> None:
    def pages() -> Iterator[dict[str, Any]]:
        cursor: str | None = ""
        while cursor is not None:
            params = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
            page = api.client.get("/tokens", params=params).json()
            yield page
            cursor = page["next_cursor"]

    ids = [shown["id"] for page in islice(pages(), 100) for shown in page["tokens"]]
    assert token in ids
    assert len(ids) == len(set(ids))


def test_reference_files_are_stored_and_named_by_the_token(
    api: IngestApi, backend: Backend, token: str
) -> None:
    textgrid = (RECORDINGS / "mary.TextGrid").read_bytes()
    pitch = json.dumps({"times": [0.1], "frequencies": [120.5]}).encode()
    api.client.put(f"/tokens/{token}/textgrid", content=textgrid).raise_for_status()
    shown = api.client.put(f"/tokens/{token}/pitch", content=pitch).json()
    assert shown["s3_textgrid_url"].startswith(f"s3://{backend.bucket}/references/{token}/")
    assert shown["s3_textgrid_url"].endswith(".TextGrid")
    assert backend.object(shown["s3_textgrid_url"]) == textgrid
    assert backend.object(shown["s3_pitch_url"]) == pitch
    assert api.client.get(f"/tokens/{token}").json() == shown


def test_a_new_reference_does_not_overwrite_what_jobs_may_still_read(
    api: IngestApi, backend: Backend, token: str
) -> None:
    first = api.client.put(f"/tokens/{token}/pitch", content=b"[[0, 1]]").json()["s3_pitch_url"]
    second = api.client.put(f"/tokens/{token}/pitch", content=b"[[0, 2]]").json()["s3_pitch_url"]
    assert first != second
    assert backend.object(first) == b"[[0, 1]]"


def test_what_is_no_reference_is_422_and_too_much_413(strict_api: IngestApi, token: str) -> None:
    put = strict_api.client.put
    assert put(f"/tokens/{token}/pitch", content=b"not json").status_code == 422
    assert put(f"/tokens/{token}/textgrid", content=b"RIFF").status_code == 422
    assert put(f"/tokens/{token}/pitch", content=b"[" + b" " * 2_000 + b"1]").status_code == 413
    chunks = iter([b" " * 1_000] * 3)
    assert put(f"/tokens/{token}/pitch", content=chunks).status_code == 413
    assert strict_api.client.get(f"/tokens/{token}").json()["s3_pitch_url"] is None


def test_each_scope_opens_its_routes_only(api: IngestApi, backend: Backend, token: str) -> None:
    with backend.database.begin() as session:
        reader = create(session, name="r", scopes=[Scope.TOKENS_READ]).secret_text
        writer = create(session, name="w", scopes=[Scope.TOKENS_WRITE]).secret_text
    reads = [("GET", "/tokens"), ("GET", f"/tokens/{token}")]
    writes = [
        ("POST", "/tokens"),
        ("PATCH", f"/tokens/{token}"),
        ("PUT", f"/tokens/{token}/pitch"),
        ("PUT", f"/tokens/{token}/textgrid"),
        ("DELETE", f"/tokens/{token}"),
    ]

    def status(key: str | None, method: str, path: str) -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        content = b"{}" if method in {"POST", "PATCH"} else None
        url = api.url + path
        return httpx.request(method, url, headers=headers, content=content, timeout=30).status_code

    assert {status(None, *route) for route in reads + writes} == {401}
    assert {status(reader, *route) for route in writes} == {403}
    assert {status(writer, *route) for route in reads} == {403}
    assert {status(reader, *route) for route in reads} == {200}
    assert status(writer, "DELETE", f"/tokens/{token}") == 204


def test_a_large_json_body_is_413(api: IngestApi) -> None:
    answer = api.client.post("/tokens", json={"metadata": {"a": "x" * 1_100_000}})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "too_large"


@pytest.mark.parametrize("metadata", ['{"a": "\\ud800"}', '{"\\udfff": 1}', '{"a": ["\\u0000"]}'])
def test_what_postgres_cannot_store_is_422(api: IngestApi, metadata: str) -> None:
    body = f'{{"metadata": {metadata}}}'
    answer = api.client.post("/tokens", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_made_up_cursor_is_400(api: IngestApi) -> None:
    for item_id in ("\ud800", "\0", 1):
        text = json.dumps(["2026-01-01T00:00:00+00:00", item_id])
        cursor = base64.urlsafe_b64encode(text.encode()).decode()
        answer = api.client.get("/tokens", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
