"""Links to artefacts: to ours and to nobody else's (V9)."""

import hashlib
import hmac
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from camera_harness import entry, result
from results_harness import Bench, Replica, running
from swiftclient.utils import generate_temp_url

from headrace_common.contracts import JobKind, JobStatus, Lane
from headrace_common.contracts.cctv import CctvResult, PreprocessEntry
from headrace_common.jobs import NewJob
from headrace_common.jobs.cameras import camera_input
from headrace_common.storage import s3_client
from headrace_results.cameras.links import SwiftLinks
from headrace_results.settings import ResultsSettings

KEY = "temp-url-key"
STORAGE = "http://127.0.0.1:8080/v1/AUTH_test"


def links(**settings: Any) -> SwiftLinks:
    least = {
        "database_url": "postgresql://localhost/x",
        "webhook_url": "http://localhost/webhooks/analysis",
        "callback_token_secrets": "x" * 32,
        "swift_temp_url_key": KEY,
        "swift_storage_urls": "http://127.0.0.1:8080",
    }
    return SwiftLinks(ResultsSettings.model_validate(least | settings))


def sign(signer: SwiftLinks, name: str = "background.jpg", **changes: Any) -> str | None:
    camera = changes.pop("camera", "L 01")
    parsed = CctvResult.model_validate(result("job-1", camera, **changes))
    [artifact] = [each for key, each in parsed.artifacts.items() if key == name]
    return signer.sign(parsed, artifact)


def test_a_link_is_what_swifts_own_client_makes() -> None:
    link = sign(links(), camera="Straße 5?#%")
    assert link is not None
    parts = urlsplit(link)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    expected = generate_temp_url(
        unquote(parts.path), int(query["temp_url_expires"]), KEY, "GET", absolute=True
    )
    assert query["temp_url_sig"] == parse_qs(expected.rpartition("?")[2])["temp_url_sig"][0]
    assert unquote(parts.path) == (
        "/v1/AUTH_test/cctv-preprocess/preprocess/Straße 5?#%/job-1/20261122T103000.123Z/"
        "background.jpg"
    )
    assert "?#%" not in link.partition("?temp_url_sig")[0]


def test_a_link_names_the_public_address_and_signs_the_path() -> None:
    link = sign(links(swift_public_url="https://files.example.org"))
    assert link is not None
    assert link.startswith("https://files.example.org/v1/AUTH_test/cctv-preprocess/")
    path, _, query = link.removeprefix("https://files.example.org").partition("?")
    told = parse_qs(query)
    body = f"GET\n{told['temp_url_expires'][0]}\n{unquote(path)}".encode()
    assert hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest() == told["temp_url_sig"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"storage_url": "http://evil.example.org/v1/AUTH_test"},
        {"storage_url": "http://127.0.0.1:8081/v1/AUTH_test"},
        {"storage_url": "https://127.0.0.1:8080/v1/AUTH_test"},
        {"storage_url": "http://127.0.0.1:8080@evil.example.org/v1/AUTH_test"},
        {"storage_url": "http://user@127.0.0.1:8080/v1/AUTH_test"},
        {"storage_url": "http://127.0.0.1:8080/v1/../AUTH_test"},
        {"storage_url": "http://127.0.0.1:8080/v1/AUTH_test?x=1"},
        {"storage_url": "http://127.0.0.1:port/v1/AUTH_test"},
        {"storage_url": "javascript://127.0.0.1:8080/v1/AUTH_test"},
        {"storage_url": "127.0.0.1:8080/v1/AUTH_test"},
        {"container": "secrets"},
        {"container": "cctv-preprocess/../secrets"},
        {"folder": "preprocess/another/"},
        {"folder": ""},
    ],
)
def test_no_link_leads_elsewhere(changes: dict[str, str]) -> None:
    assert sign(links(), **changes) is None


@pytest.mark.parametrize("path", ["../../other/key", "a/../../b", "a//b", "./a"])
def test_no_link_leaves_the_folder(path: str) -> None:
    told = result("job-1", "L1")
    told["artifacts"]["background.jpg"]["object"] = told["folder"] + path
    parsed = CctvResult.model_validate(told)
    assert links().sign(parsed, next(iter(parsed.artifacts.values()))) is None


@pytest.mark.parametrize(
    ("allowed", "is_allowed"),
    [
        ("http://127.0.0.1:8080/v1/AUTH_test", True),
        ("http://127.0.0.1:8080/v1/AUTH_test/", True),
        ("http://other/v1/AUTH_x http://127.0.0.1:8080", True),
        ("http://127.0.0.1:8080/v1/AUTH_te", False),
        ("http://127.0.0.1:8080/v1/AUTH_test2", False),
        ("http://127.0.0.1", False),
    ],
)
def test_an_account_or_a_whole_server_may_be_named(
    allowed: str,
    is_allowed: bool,  # noqa: FBT001
) -> None:
    assert (sign(links(swift_storage_urls=allowed)) is not None) is is_allowed


def test_without_a_key_there_are_no_links() -> None:
    assert sign(links(swift_temp_url_key=None)) is None


def camera_job(bench: Bench, status: JobStatus, **more: Any) -> str:
    parsed = PreprocessEntry.parse(entry())
    bench.store.create(
        NewJob(
            id=parsed.job_id,
            kind=JobKind.CCTV_PREPROCESS,
            lane=Lane.NORMAL,
            message="",
            input=camera_input(parsed),
            status=JobStatus.QUEUED,
        )
    )
    if status is not JobStatus.QUEUED:
        bench.change(parsed.job_id, status, **more)
    return parsed.job_id


@pytest.mark.stack
def test_the_five_artefacts_are_listed_and_linked(
    bench: Bench, service_env: dict[str, str], tmp_path: Path
) -> None:
    told = result("job-1", "L1")
    job_id = camera_job(bench, JobStatus.COMPLETED, result=told)
    waiting = camera_job(bench, JobStatus.QUEUED)
    odd = camera_job(bench, JobStatus.COMPLETED, result={"of": "a later version"})
    settings = {
        "SWIFT_TEMP_URL_KEY": KEY,
        "SWIFT_STORAGE_URLS": STORAGE,
        "SWIFT_PUBLIC_URL": "",
        "CCTV_ENABLED": "false",
    }
    with running(service_env, tmp_path / "log", **settings) as replica:
        answer = bench.get(replica, f"/jobs/{job_id}/artifacts")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["job_id"] == job_id
        listed = answer.json()["artifacts"]
        assert [each["name"] for each in listed] == list(told["artifacts"])
        for each in listed:
            stored = told["artifacts"][each["name"]]
            for name in ("bytes", "sha256", "content_type"):
                assert each[name] == stored[name]
            assert each["url"].startswith(f"{STORAGE}/cctv-preprocess/{stored['object']}?")
            redirect = bench.get(replica, f"/jobs/{job_id}/artifacts/{each['name']}")
            assert redirect.status_code == 307
            assert redirect.headers["cache-control"] == "no-store"
            assert urlsplit(redirect.headers["location"]).path == urlsplit(each["url"]).path
        for missing in ("recording", "else.jpg"):
            answer = bench.get(replica, f"/jobs/{job_id}/artifacts/{missing}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        for each_id in (waiting, odd):
            assert bench.get(replica, f"/jobs/{each_id}/artifacts").json()["artifacts"] == []
            answer = bench.get(replica, f"/jobs/{each_id}/artifacts/background.jpg")
            assert answer.status_code == 404
        assert bench.get(replica, "/jobs/unknown/artifacts").status_code == 404


@pytest.mark.stack
def test_an_artefact_elsewhere_is_listed_without_a_link(
    bench: Bench, service_env: dict[str, str], tmp_path: Path
) -> None:
    told = result("job-1", "L1", storage_url="http://evil.example.org/v1/AUTH_test")
    job_id = camera_job(bench, JobStatus.COMPLETED, result=told)
    settings = {"SWIFT_TEMP_URL_KEY": KEY, "SWIFT_STORAGE_URLS": STORAGE, "CCTV_ENABLED": "false"}
    with running(service_env, tmp_path / "log", **settings) as replica:
        listed = bench.get(replica, f"/jobs/{job_id}/artifacts").json()["artifacts"]
        assert [each["url"] for each in listed] == [None] * 5
        answer = bench.get(replica, f"/jobs/{job_id}/artifacts/background.jpg")
        assert answer.status_code == 404


@pytest.mark.stack
def test_the_files_of_an_audio_job_are_listed(bench: Bench, replicas: list[Replica]) -> None:
    bucket = bench.settings.s3_bucket
    prefix = uuid.uuid4().hex
    s3_client(bench.settings).put_object(Bucket=bucket, Key=f"{prefix}/a.wav", Body=b"a.wav")
    facts = {"content_type": "audio/wav", "bytes": 5, "sha256": "0" * 64}
    job_id = bench.job(input={"s3_audio_url": f"s3://{bucket}/{prefix}/a.wav", **facts})
    artifacts = {"plot": f"s3://{bucket}/{prefix}/plot.png", "foreign": "s3://another/secret"}
    bench.change(job_id, JobStatus.COMPLETED, result={"artifacts": artifacts})

    listed = bench.get(replicas[0], f"/jobs/{job_id}/artifacts").json()["artifacts"]
    assert [each["name"] for each in listed] == ["recording", "plot"]
    assert {name: listed[0][name] for name in facts} == facts
    assert listed[1]["bytes"] is None
    for each in listed:
        redirect = bench.get(replicas[0], f"/jobs/{job_id}/artifacts/{each['name']}")
        path = urlsplit(redirect.headers["location"]).path
        assert path == urlsplit(each["url"]).path
