"""A client of direct uploads that does as a test says."""

import hashlib
from typing import Any

import httpx
from ingest_harness import IngestApi

MIB = 1024 * 1024


class DirectClient:
    """One file on its way."""

    def __init__(self, api: IngestApi, token: str, content: bytes, **changes: Any) -> None:
        self.api = api
        self.content = content
        self.body = {
            "filename": "long.wav",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            **changes,
        }
        self.token = token
        self.opened: dict[str, Any] = {}

    def open(self, **headers: str) -> httpx.Response:
        answer = self.api.client.post(
            f"/tokens/{self.token}/direct-uploads", json=self.body, headers=headers
        )
        if answer.status_code == 201:
            self.opened = answer.json()
        return answer

    @property
    def job_id(self) -> str:
        return str(self.opened["job_id"])

    def part(self, number: int) -> bytes:
        size = self.opened["part_bytes"]
        return self.content[(number - 1) * size : number * size]

    def md5(self, number: int) -> str:
        return hashlib.md5(self.part(number), usedforsecurity=False).hexdigest()

    def url(self, number: int, **more: Any) -> dict[str, Any]:
        answer = self.api.client.post(
            f"/direct-uploads/{self.job_id}/parts", json={"parts": [{"number": number, **more}]}
        )
        answer.raise_for_status()
        url: dict[str, Any] = answer.json()["urls"][0]
        return url

    def put(self, url: dict[str, Any], content: bytes | None = None) -> httpx.Response:
        body = self.part(url["number"]) if content is None else content
        return httpx.put(url["url"], content=body, headers=url["headers"], timeout=30)

    def send(self, *numbers: int) -> None:
        for number in numbers:
            assert self.put(self.url(number, md5=self.md5(number))).status_code == 200

    def send_all(self) -> None:
        self.send(*range(1, self.opened["part_count"] + 1))

    def view(self) -> dict[str, Any]:
        answer = self.api.client.get(f"/direct-uploads/{self.job_id}")
        answer.raise_for_status()
        view: dict[str, Any] = answer.json()
        return view

    def complete(self, parts: dict[int, str] | None = None) -> httpx.Response:
        body = {"parts": [{"number": n, "etag": etag} for n, etag in (parts or {}).items()]}
        return self.api.client.post(f"/direct-uploads/{self.job_id}/complete", json=body)

    def abort(self) -> httpx.Response:
        return self.api.client.delete(f"/direct-uploads/{self.job_id}")
