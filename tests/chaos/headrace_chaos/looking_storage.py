"""Reading what S3 and Swift hold."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import httpx

from headrace_chaos.endpoints import Endpoints
from headrace_chaos.facts import ObjectFact, SetFact
from headrace_common.artifact_sets import read_public_keys, verify
from headrace_common.contracts.cctv import ArtifactName
from headrace_local.clients import local_s3_client
from headrace_local.openstack import ask_token

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_THREADS: Final = 8
_PAGE: Final = 10_000
_META: Final = f"/{ArtifactName.PROCESS_META}"
#: Below the prefix: camera, job, timestamp, name.
_PARTS: Final = 4


def s3_of(endpoints: Endpoints) -> "S3Client":
    """Make a client of S3."""
    return local_s3_client(endpoints.settings["S3_ENDPOINT_URL"], **endpoints.aws)


def read_objects(client: "S3Client", bucket: str) -> dict[str, ObjectFact]:
    """Return every object."""
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", []):
            found[each["Key"]] = ObjectFact(each["Key"], each["Size"], each["ETag"].strip('"'))
    return found


def read_multiparts(client: "S3Client", bucket: str) -> list[tuple[str, str]]:
    """Return every multipart upload that is under way."""
    answer = client.list_multipart_uploads(Bucket=bucket)
    return [(each["Key"], each["UploadId"]) for each in answer.get("Uploads", [])]


def read_documents(
    client: "S3Client", bucket: str, keys: Iterable[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    """Return JSON documents by the name that each key is given with; what is not there is not."""

    def read(named: tuple[str, str]) -> tuple[str, dict[str, Any] | None]:
        name, key = named
        try:
            body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
            return name, _short(json.loads(body))
        except (client.exceptions.NoSuchKey, ValueError):
            return name, None

    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(pool.map(read, keys))
    return {name: document for name, document in found.items() if document is not None}


def _short(document: Any) -> dict[str, Any] | None:
    """Leave out the contours, which are long and which nothing is compared with."""
    if not isinstance(document, dict):
        return None
    return {name: value for name, value in document.items() if name != "contours"}


class SwiftReader:
    """Reads the container, straight from Swift."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Get a token."""
        settings = endpoints.settings
        token = ask_token(
            endpoints.straight(settings["OS_AUTH_URL"]), password=settings["OS_PASSWORD"]
        )
        self._container = settings["SWIFT_CONTAINER"]
        self._prefix = settings["SWIFT_UPLOAD_PREFIX"]
        self._keys = read_public_keys(settings["META_VERIFY_KEYS"])
        path = httpx.URL(token.object_store_url).path
        self._client = httpx.Client(
            base_url=f"{endpoints.swift_url}{path}/",
            headers={"x-auth-token": token.text},
            timeout=20,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def names(self) -> list[str]:
        """Return the path of every object below the prefix that can be read.

        The listing lags behind, so that each is asked for.
        """
        listed = self.listed()
        with ThreadPoolExecutor(_THREADS) as pool:
            there = list(pool.map(self._is_there, listed))
        return [name for name, is_there in zip(listed, there, strict=True) if is_there]

    def listed(self) -> list[str]:
        """Return the path of every object below the prefix, as the listing has it."""
        listed: list[str] = []
        while page := self._page(listed[-1] if listed else ""):
            listed += page
        return listed

    def unfinished(self) -> int:
        """Count the folders that are listed without a process_meta.json."""
        paths = [name for name in self.listed() if name.endswith(tuple(ArtifactName))]
        folders = {name.rpartition("/")[0] for name in paths}
        whole = {name.rpartition("/")[0] for name in paths if name.endswith(_META)}
        return len(folders - whole)

    def sets(self, names: Iterable[str]) -> tuple[list[SetFact], list[str]]:
        """Return the sets that the objects make, verified, and the objects that are of none."""
        folders: dict[str, set[str]] = {}
        strays: list[str] = []
        for name in names:
            parts = name.removeprefix(self._prefix).split("/")
            if len(parts) == _PARTS:
                folders.setdefault(name.rpartition("/")[0] + "/", set()).add(parts[-1])
            else:
                strays.append(name)
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self._set, folders.items())), strays

    def get(self, name: str) -> bytes | None:
        """Return an object; None if it is not there."""
        answer = self._client.get(f"{self._container}/{name}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return answer.raise_for_status().content

    def put(self, name: str, data: bytes) -> None:
        """Store an object."""
        self._client.put(f"{self._container}/{name}", content=data).raise_for_status()

    def delete(self, name: str) -> None:
        """Remove an object."""
        self._client.delete(f"{self._container}/{name}").raise_for_status()

    def ensure_container(self) -> None:
        """Make the container where it is missing."""
        self._client.put(self._container).raise_for_status()

    def _page(self, after: str) -> list[str]:
        query: dict[str, str | int] = {"prefix": self._prefix, "marker": after, "limit": _PAGE}
        answer = self._client.get(self._container, params={**query, "format": "json"})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        return [each["name"] for each in answer.raise_for_status().json()]

    def _is_there(self, name: str) -> bool:
        return self._client.head(f"{self._container}/{name}").is_success

    def _set(self, found: tuple[str, set[str]]) -> SetFact:
        folder, names = found
        camera, job_id, _ = folder.removeprefix(self._prefix).rstrip("/").split("/")
        if ArtifactName.PROCESS_META not in names:
            return SetFact(folder, camera, job_id, frozenset(names))
        files = {name: data for name in names if (data := self.get(folder + name)) is not None}
        report = verify(files, self._keys, job_id=job_id)
        source = report.meta.source.url if report.meta else None
        return SetFact(folder, camera, job_id, frozenset(names), report, source)
