"""The endpoints of detection on demand, on a real server with real keys, streams and the model."""

import io
import json
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import REGISTRY

from headrace_common.db import Database
from headrace_common.keys import Scope, create
from headrace_common.netguard import FetchLimits, NetGuard, NetworkPolicy
from headrace_common.settings import DatabaseSettings, ProcessSettings
from headrace_common.web import Authenticator, create_app
from headrace_gpu_preprocessor.background import BackgroundBuilder
from headrace_gpu_preprocessor.background.device import Device
from headrace_gpu_preprocessor.detection.detector import Detector
from headrace_gpu_preprocessor.detection.load import load_detector
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.on_demand import (
    OnDemand,
    OnDemandSettings,
    damage_detection_router,
)
from headrace_gpu_preprocessor.on_demand import service as service_module
from headrace_gpu_preprocessor.on_demand.accept import wants_picture
from headrace_gpu_preprocessor.on_demand.service import VideoOrder
from headrace_gpu_preprocessor.simulate import Handler, HlsServer, Scene
from headrace_gpu_preprocessor.video import ReadLimits
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until

IMAGE = "/api/v1/damage-detection/image"
VIDEO = "/api/v1/damage-detection/video"
MAX_BYTES = 1_000_000
MAX_PIXELS = 2_000_000


@pytest.fixture(scope="module")
def database(local_servers: LocalServers) -> Iterator[Database]:
    url = local_servers.database_url
    made = Database(DatabaseSettings.model_validate({"database_url": url}))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector(DetectionSettings())


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Run an app as in production, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


NETWORK = NetGuard(
    NetworkPolicy(("127.0.0.1",)),
    FetchLimits(connect_seconds=10, silence_seconds=60, total_seconds=90),
)


@contextmanager
def on_demand(
    detector: Detector, database: Database, key: str, **settings: Any
) -> Iterator[tuple[httpx.Client, OnDemand]]:
    """The service as tests want it, and a client with a key."""
    limits = {"on_demand_max_bytes": MAX_BYTES, "on_demand_max_pixels": MAX_PIXELS}
    service = OnDemand(
        detector,
        DetectionSettings(),
        OnDemandSettings.model_validate({**limits, **settings}),
        guard=NETWORK,
        limits=lambda seconds: ReadLimits(samples=25, wall_seconds=seconds + 90),
    )
    app = create_app(ProcessSettings(), service="gpu-preprocessor", description="On demand")
    app.state.authenticator = Authenticator(database, legacy_open=False)
    app.include_router(damage_detection_router(service))
    try:
        with serving(app) as url:
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
                yield client, service
    finally:
        service.close()


@pytest.fixture(scope="module")
def client(
    detector: Detector, database: Database, local_servers: LocalServers
) -> Iterator[httpx.Client]:
    with on_demand(detector, database, local_servers.api_key) as (made, _):
        yield made


@pytest.fixture(scope="module")
def road() -> NDArray[np.uint8]:
    """A road with known damage, small enough for a quick answer."""
    return Scene("light", 960, 540).truth


def encoded(picture: NDArray[np.uint8], kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture[:, :, ::-1]).save(file, kind, **options)
    return file.getvalue()


def send(client: httpx.Client, body: bytes, **options: Any) -> httpx.Response:
    headers = {"Content-Type": "image/jpeg", **options.pop("headers", {})}
    return client.post(IMAGE, content=body, headers=headers, **options)


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    return told


def counted(source: str, outcome: str) -> float:
    labels = {"source": source, "outcome": outcome}
    return REGISTRY.get_sample_value("headrace_on_demand_requests_total", labels) or 0.0


# Pictures.


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_as_the_body(client: httpx.Client, road: NDArray[np.uint8], kind: str) -> None:
    before = counted("image", "ok")
    body = encoded(road, kind)
    answer = client.post(IMAGE, content=body, headers={"Content-Type": f"image/{kind.lower()}"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["analysis"]["picture"] == {"width": 960, "height": 540}
    assert "D20" in {damage["class"] for damage in told["analysis"]["damages"]}
    assert told["clip"] is None
    assert counted("image", "ok") == before + 1


def test_a_picture_in_a_form(client: httpx.Client, road: NDArray[np.uint8]) -> None:
    body = encoded(road)
    answer = client.post(IMAGE, files={"file": ("road.jpg", body)}, data={"note": "north"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["analysis"] == send(client, body).json()["analysis"]


@pytest.mark.parametrize(
    ("params", "accept"), [({"format": "jpeg"}, "*/*"), ({}, "image/jpeg"), ({}, "image/*")]
)
def test_the_drawn_picture_as_the_answer(
    client: httpx.Client, road: NDArray[np.uint8], params: dict[str, str], accept: str
) -> None:
    answer = send(client, encoded(road), params=params, headers={"Accept": accept})
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["vary"] == "Accept"
    drawn = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    assert drawn.shape[1] == 960
    assert drawn.shape[0] > 540  # the summary below


def test_json_may_be_asked_for_whatever_is_accepted(
    client: httpx.Client, road: NDArray[np.uint8]
) -> None:
    answer = send(
        client, encoded(road), params={"format": "json"}, headers={"Accept": "image/jpeg"}
    )
    assert answer.json()["analysis"]["version"] == 1


@pytest.mark.parametrize(
    ("accept", "picture"),
    [
        ("", False),
        ("*/*", False),
        ("image/jpeg", True),
        ("image/*;q=0.8, */*;q=0.1", True),
        ("application/json, image/jpeg", False),
        ("application/json;q=0.5, image/jpeg", True),
        ("image/jpeg;q=nonsense", False),
        ("text/html", False),
    ],
)
def test_what_is_accepted(accept: str, picture: bool) -> None:  # noqa: FBT001
    assert wants_picture(accept) is picture


#: Too large for a float.
_HUGE = f"[[[0,0],[1,1],[{'9' * 400},0]]]"


def test_a_region_limits_where_damage_counts(client: httpx.Client, road: NDArray[np.uint8]) -> None:
    corner = json.dumps([[[0, 0], [0.1, 0], [0.1, 0.1], [0, 0.1]]])
    told = send(client, encoded(road), params={"region": corner}).json()["analysis"]
    assert told["damages"] == []
    assert told["road_pixels"] == pytest.approx(0.01 * 960 * 540, rel=0.05)
    for wrong in ("{", "[]", "[[[0,0],[2,2],[1,0]]]", "[" * 10_000, _HUGE):
        assert_problem(send(client, encoded(road), params={"region": wrong}), 422, "invalid_region")


def test_close_ups_are_seen_once(client: httpx.Client, road: NDArray[np.uint8]) -> None:
    views = [
        send(client, encoded(road), params={"tiles": tiles}).json()["analysis"]["views"]["tiles"]
        for tiles in ("true", "false")
    ]
    assert views[0] > 0
    assert views[1] == 0


def test_a_photo_is_turned_upright(client: httpx.Client, road: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    told = send(client, encoded(road, exif=exif)).json()
    assert told["analysis"]["picture"] == {"width": 540, "height": 960}


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises any number of pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "missing_file"),
        (b"GIF89a" + bytes(100), 415, "unsupported_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_image"),
        (b"\xff\xd8\xff\xe0" + bytes(500), 422, "broken_image"),
        (png_header(40, 40)[:-40], 422, "broken_image"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(40), 422, "broken_image"),
        (png_header(8, 8), 422, "broken_image"),
        (png_header(1_415, 1_415), 413, "image_too_large"),
        (png_header(30_000, 30_000), 413, "image_too_large"),
        (png_header(2_000_000_000, 2), 413, "image_too_large"),
        (b"\xff\xd8\xff" + bytes(MAX_BYTES), 413, "image_too_large"),
    ],
)
def test_bodies_that_are_no_pictures(
    client: httpx.Client, body: bytes, status: int, code: str
) -> None:
    before = counted("image", code)
    assert_problem(send(client, body), status, code)
    assert_problem(client.post(IMAGE, files={"file": ("a.jpg", body)}), status, code)
    assert counted("image", code) == before + 2


def test_a_picture_cut_short_is_broken(client: httpx.Client, road: NDArray[np.uint8]) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        body = encoded(road, kind)
        assert_problem(send(client, body[: len(body) // 2]), 422, "broken_image")


def test_sixteen_bits_are_not_guessed_at(client: httpx.Client) -> None:
    deep = cv2.imencode(".png", np.full((64, 64), 40_000, np.uint16))[1].tobytes()
    assert_problem(send(client, deep), 422, "broken_image")


def test_a_body_without_end_is_cut_off(client: httpx.Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 65_536
            yield bytes(65_536)

    answer = client.post(IMAGE, content=endless(), headers={"Content-Type": "image/jpeg"})
    assert_problem(answer, 413, "image_too_large")


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("text/plain", b"road", 415, "unsupported_media_type"),
        ("multipart/form-data", b"road", 400, "malformed_form"),
        ("multipart/form-data; boundary=x", b"road", 400, "malformed_form"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422, "missing_file"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--\r\n',
            422,
            "missing_file",
        ),
    ],
)
def test_requests_that_carry_no_picture(
    client: httpx.Client, kind: str, body: bytes, status: int, code: str
) -> None:
    answer = client.post(IMAGE, content=body, headers={"Content-Type": kind})
    assert_problem(answer, status, code)


def test_a_client_that_dawdles_is_sent_away(
    detector: Detector, database: Database, local_servers: LocalServers
) -> None:
    key = local_servers.api_key
    limits = {"on_demand_receive_seconds": 0.3}
    with on_demand(detector, database, key, **limits) as (client, _):
        host, port = client.base_url.host, client.base_url.port
        assert port is not None
        with socket.create_connection((host, port), timeout=60) as connection:
            head = (
                f"POST {IMAGE} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
                "Content-Type: image/jpeg\r\nContent-Length: 500\r\n\r\n"
            )
            connection.sendall(head.encode() + b"\xff\xd8\xff")
            answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 408 ")


# Keys.


def test_looking_needs_a_key_that_may_write(
    client: httpx.Client, database: Database, road: NDArray[np.uint8]
) -> None:
    with database.begin() as session:
        reader = create(session, name="reader", scopes=[Scope.JOBS_READ]).secret_text
    for path in (IMAGE, VIDEO):
        for key, status, code in (("nonsense", 401, "unauthorized"), (reader, 403, "forbidden")):
            answer = client.post(
                path, content=encoded(road), headers={"Authorization": f"Bearer {key}"}
            )
            assert_problem(answer, status, code)
    headers = {"Authorization": f"Bearer {reader}"}
    assert client.get("/api/v1/damage-detection/model", headers=headers).status_code == 200


def test_the_model_is_told(client: httpx.Client, detector: Detector) -> None:
    told = client.get("/api/v1/damage-detection/model").json()
    assert told["sha256"] == detector.info.sha256
    assert told["classes"][0] == {"code": "D00", "title": "Longitudinal crack"}
    assert told["threshold"] == detector.info.threshold


# Videos.


def test_a_stream(client: httpx.Client, server: HlsServer, streams: dict[str, Path]) -> None:
    url = server.add_vod("/cam", streams["ts"])
    answer = client.post(VIDEO, json={"url": url, "sec": 3})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["clip"]["whole"]
    assert told["background"]["quality"] > 0.3
    assert told["analysis"]["picture"] == {"width": 320, "height": 180}
    plain = client.post(VIDEO, json={"url": url, "sec": 3, "background": False}).json()
    assert plain["background"] is None
    assert plain["clip"]["samples"] == 3


def test_the_device_that_counts_is_the_one_that_is_set(
    detector: Detector,
    server: HlsServer,
    streams: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices: list[Any] = []

    class Watched(BackgroundBuilder):
        def __init__(self, samples: int, *, device: Device = "auto") -> None:
            devices.append(device)
            super().__init__(samples, device=device)

    monkeypatch.setattr(service_module, "BackgroundBuilder", Watched)
    service = OnDemand(
        detector,
        DetectionSettings(),
        OnDemandSettings(),
        guard=NETWORK,
        limits=lambda seconds: ReadLimits(samples=9, wall_seconds=seconds + 90),
        device="numpy",
    )
    try:
        service.video(VideoOrder(server.add_vod("/cam", streams["ts"]), 1))
    finally:
        service.close()
    assert devices == ["numpy"]


def test_a_video_file(client: httpx.Client, server: HlsServer, streams: dict[str, Path]) -> None:
    whole = (streams["ranges"].parent / "all.m4s").read_bytes()
    url = server.add("/clip.mp4", lambda handler: handler.reply(whole))
    answer = client.post(VIDEO, json={"url": url, "sec": 2})
    assert answer.status_code == 200, answer.text
    assert answer.json()["clip"]["covered_seconds"] == pytest.approx(2, abs=0.2)


def test_a_stream_drawn(client: httpx.Client, server: HlsServer, streams: dict[str, Path]) -> None:
    order = {
        "url": server.add_vod("/cam", streams["ts"]),
        "sec": 2,
        "region": [[[0.4, 0.2], [0.6, 0.2], [1, 1], [0, 1]]],
    }
    answer = client.post(VIDEO, json=order, headers={"Accept": "image/jpeg"})
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content.startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    ("order", "status", "code"),
    [
        ({"url": "http://169.254.169.254/latest/index.m3u8"}, None, "address_refused"),
        ({"url": "http://10.0.0.1/index.m3u8"}, None, "address_refused"),
        ({"url": "file:///etc/passwd"}, 422, "invalid_request"),
        ({"url": "http://127.0.0.1/x", "sec": 0}, 422, "invalid_request"),
        ({"url": "http://127.0.0.1/x", "sec": 61}, 422, "clip_too_long"),
        ({"url": "http://127.0.0.1/x", "region": []}, 422, "invalid_region"),
        ({"url": "http://127.0.0.1/x", "unknown": 1}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
    ],
)
def test_orders_that_are_refused(
    client: httpx.Client, order: dict[str, Any], status: int | None, code: str
) -> None:
    answer = client.post(VIDEO, json=order)
    assert answer.status_code < 500
    assert_problem(answer, status or answer.status_code, code)


def test_a_stream_that_is_not_there(client: httpx.Client, server: HlsServer) -> None:
    url = server.add("/gone.m3u8", lambda handler: handler.reply(b"", status=404))
    assert_problem(client.post(VIDEO, json={"url": url, "sec": 1}), 502, "stream_not_found")
    assert counted("video", "stream_not_found") >= 1


def test_more_than_may_wait_are_sent_away_and_a_stop_ends_what_runs(
    detector: Detector,
    database: Database,
    local_servers: LocalServers,
    server: HlsServer,
    streams: dict[str, Path],
    road: NDArray[np.uint8],
) -> None:
    opened, go_on = threading.Event(), threading.Event()
    playlist = streams["ts"].read_bytes()
    server.add_vod("/cam", streams["ts"])

    def held(handler: Handler) -> None:
        opened.set()
        go_on.wait(50)
        handler.reply(playlist)

    url = server.add("/cam/held.m3u8", held)
    limits = {"on_demand_concurrency": 1, "on_demand_waiting": 1}
    key = local_servers.api_key
    with (
        on_demand(detector, database, key, **limits) as (client, service),
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(client.post, VIDEO, json={"url": url, "sec": 2})
        assert opened.wait(30)
        second = pool.submit(send, client, encoded(road))
        inside = "headrace_on_demand_requests_in_flight"
        wait_until(lambda: REGISTRY.get_sample_value(inside), lambda seen: seen == 2)
        answer = send(client, encoded(road))
        assert_problem(answer, 503, "detection_busy")
        assert int(answer.headers["retry-after"]) >= 1
        go_on.set()
        assert first.result().status_code == second.result().status_code == 200
        wait_until(lambda: REGISTRY.get_sample_value(inside), lambda seen: seen == 0)

        go_on.clear()
        opened.clear()
        late = pool.submit(client.post, VIDEO, json={"url": url, "sec": 2})
        assert opened.wait(30)
        stopping = pool.submit(service.close)
        assert service._stopping.wait(30)
        go_on.set()
        assert_problem(late.result(), 503, "stopping")
        stopping.result()


def test_no_turn_in_time(
    detector: Detector,
    database: Database,
    local_servers: LocalServers,
    server: HlsServer,
    road: NDArray[np.uint8],
) -> None:
    opened, go_on = threading.Event(), threading.Event()

    def held(handler: Handler) -> None:
        opened.set()
        go_on.wait(50)
        handler.reply(b"", status=404)

    url = server.add("/held.m3u8", held)
    limits = {"on_demand_concurrency": 1, "on_demand_wait_seconds": 0.1}
    with (
        on_demand(detector, database, local_servers.api_key, **limits) as (client, _),
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(client.post, VIDEO, json={"url": url, "sec": 2})
        assert opened.wait(30)
        assert_problem(send(client, encoded(road)), 503, "detection_busy")
        go_on.set()
        assert_problem(first.result(), 502, "stream_not_found")
