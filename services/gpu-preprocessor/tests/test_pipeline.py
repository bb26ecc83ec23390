"""A job from its entry to its five artefacts, with real video, the real model and real Swift."""

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from headrace_common.contracts.cctv import ArtifactName, PreprocessEntry, Stage
from headrace_gpu_preprocessor.artifacts import SwiftSettings, SwiftStore
from headrace_gpu_preprocessor.detection.detector import Detector
from headrace_gpu_preprocessor.detection.load import load_detector
from headrace_gpu_preprocessor.pipeline.errors import LowQualityError
from headrace_gpu_preprocessor.pipeline.job import Pipeline
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_gpu_preprocessor.simulate import HlsServer, Scene, write_hls
from headrace_gpu_preprocessor.stream import LeasedJob
from headrace_gpu_preprocessor.stream.deliveries import Hold
from headrace_gpu_preprocessor.stream.leases import Lease
from headrace_gpu_preprocessor.video.errors import StreamNotFoundError

pytestmark = pytest.mark.stack

MakePipeline = Callable[..., Pipeline]


class Killed(BaseException):
    """The process died; nothing may catch it."""


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four seconds of a road in light traffic, and in a jam."""
    made = {}
    for variant in ("light", "jam"):
        scene = Scene(variant, 320, 180, seconds=4, rate=12)
        made[variant] = write_hls(scene.frames(), scene.rate, tmp_path_factory.mktemp(variant))
    return made


@pytest.fixture(scope="session")
def detector() -> Detector:
    return load_detector(PreprocessorSettings.model_validate(NOWHERE))


NOWHERE = {
    "os_auth_url": "http://127.0.0.1:9/v3",
    "os_username": "nobody",
    "os_password": "nothing",
    "os_project_name": "none",
}


@pytest.fixture
def make_pipeline(swift_settings: SwiftSettings, detector: Detector) -> Iterator[MakePipeline]:
    """Make the pipeline as another process would have it."""
    made: list[Pipeline] = []

    def make(model: Detector = detector, **changes: Any) -> Pipeline:
        settings = PreprocessorSettings.model_validate(
            {**swift_settings.model_dump(), "hls_allowed_hosts": ["127.0.0.1"], **changes}
        )
        made.append(Pipeline(settings, model))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.close()


def make_entry(url: str, **fields: str) -> PreprocessEntry:
    told = {"cctvId": "cam", "hls": url, "sec": "3", "attempt": "0", "enqueuedAt": "1"}
    return PreprocessEntry.parse({**told, "jobId": "job", **fields})


class Told:
    """A job as the consumer hands it out, and what was told of it."""

    def __init__(self, entry: PreprocessEntry) -> None:
        lease = Lease(Hold("1-0", 1), visibility_seconds=600, since=time.monotonic())
        self.stages: list[Stage] = []
        self.percents: list[float] = []
        self.job = LeasedJob(
            entry, lease, stopping=threading.Event(), on_progress=self._on_progress
        )
        self.job.begin()

    def _on_progress(self, job: LeasedJob) -> None:
        self.percents.append(job.now.percent)
        if job.now.stage is not None:
            self.stages.append(job.now.stage)


def documents(store: SwiftStore, folder: str) -> dict[str, Any]:
    found = {}
    for name in ArtifactName:
        body = store.get(folder + name)
        assert body is not None
        found[name.value] = json.loads(body) if name.endswith(".json") else body
    return found


def test_a_job_leaves_five_artefacts_that_belong_together(
    make_pipeline: MakePipeline, swift_store: SwiftStore, server: HlsServer, clips: dict[str, Path]
) -> None:
    told = Told(make_entry(server.add_vod("/clip", clips["light"]) + "?token=s3cret"))
    result = make_pipeline()(told.job)
    found = documents(swift_store, result.folder)
    meta, analysis = found["background_meta.json"], found["damage_analysis.json"]
    assert meta["picture"]["sha256"] == analysis["picture"]["sha256"]
    assert result.artifacts[ArtifactName.BACKGROUND].sha256 == meta["picture"]["sha256"]
    assert (meta["clip"]["whole"], meta["background"]["samples"] > 20) == (True, True)
    assert result.damages == len(analysis["damages"])
    assert 0.9 < result.quality <= 1
    assert list(dict.fromkeys(told.stages)) == [*[*Stage][:2], Stage.UPLOADING, Stage.DETECTING]
    assert told.percents == sorted(told.percents)
    assert "s3cret" not in json.dumps([meta, analysis, found["process_meta.json"]])


@pytest.mark.parametrize("stored", range(1, 5))
def test_an_attempt_goes_on_wherever_another_died(
    make_pipeline: MakePipeline,
    swift_store: SwiftStore,
    server: HlsServer,
    clips: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    stored: int,
) -> None:
    entry = make_entry(server.add_vod("/clip", clips["light"]))
    dying = make_pipeline()
    put_new, count = SwiftStore.put_new, 0

    def put_until(self: SwiftStore, *arguments: Any, **named: Any) -> Any:
        nonlocal count
        if count == stored:
            raise Killed
        count += 1
        return put_new(self, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(SwiftStore, "put_new", put_until)
        with pytest.raises(Killed):
            dying(Told(entry).job)
    left = {
        name.rpartition("/")[2]: swift_store.head(name)
        for name in swift_store.list_names("preprocess/cam/job/")
    }
    assert len(left) == stored
    read_before = len(server.asked)

    result = make_pipeline()(Told(entry).job)

    assert len(swift_store.list_names("preprocess/cam/job/")) == 5, "and no leftovers"
    if stored >= 2:
        assert len(server.asked) == read_before, "the clip was not read again"
        for name, head in left.items():
            assert swift_store.head(result.folder + name) == head
    again = make_pipeline()(Told(entry).job)
    assert again == result


def test_jobs_leave_no_connection_behind(
    make_pipeline: MakePipeline, swift_store: SwiftStore, server: HlsServer
) -> None:
    """Each has a thread of its own, whose connection must not wait for the garbage collector."""
    pipeline = make_pipeline()
    port = urlsplit(swift_store.public_storage_url()).port
    swift_store.ensure_container()
    swift_store.release()

    def fail(number: int) -> None:
        with pytest.raises(StreamNotFoundError):
            pipeline(Told(make_entry(f"{server.url}/nothing", jobId=f"job-{number}")).job)

    gc.collect()
    before = connections_to(port)
    gc.disable()
    try:
        for number in range(20):
            thread = threading.Thread(target=fail, args=(number,))
            thread.start()
            thread.join()
        pipeline.prepare_storage()
        pipeline.check_storage()
        assert connections_to(port) == before
    finally:
        gc.enable()


def connections_to(port: int | None) -> int:
    found = psutil.Process().net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.port == port for each in found)


def test_too_little_of_the_road_is_tried_again_later(
    make_pipeline: MakePipeline, swift_store: SwiftStore, server: HlsServer, clips: dict[str, Path]
) -> None:
    url = server.add_vod("/jam", clips["jam"])
    strict = {"min_quality": 0.99, "redis_max_retry": 1, "low_quality_retry_seconds": 77}
    with pytest.raises(LowQualityError) as caught:
        make_pipeline(**strict)(Told(make_entry(url)).job)
    assert (caught.value.retryable, caught.value.retry_after) == (True, 77)
    assert swift_store.list_names("preprocess/") == []
    with pytest.raises(LowQualityError):
        make_pipeline(**strict, low_quality_at_last="fail")(Told(make_entry(url, attempt="1")).job)
    result = make_pipeline(**strict)(Told(make_entry(url, attempt="1")).job)
    assert result.summary["low_quality"] is True
    meta = documents(swift_store, result.folder)["background_meta.json"]
    assert meta["low_quality"] is True
    assert meta["background"]["share_usable"] < 1


def test_what_the_camera_showed_before_fills_a_jam(
    make_pipeline: MakePipeline, swift_store: SwiftStore, server: HlsServer, clips: dict[str, Path]
) -> None:
    light = server.add_vod("/light", clips["light"])
    jam = server.add_vod("/jam", clips["jam"])
    make_pipeline()(Told(make_entry(light, jobId="before")).job)
    # Another process, which shares nothing but Swift.
    result = make_pipeline()(Told(make_entry(jam, jobId="after")).job)
    alone = make_pipeline()(Told(make_entry(jam, jobId="alone", cctvId="other")).job)
    share = result.summary["share_filled"]
    assert isinstance(share, float)
    assert share > 0
    assert alone.summary["share_filled"] == 0
    assert result.quality > alone.quality


def test_damage_counts_on_the_road_only(
    make_pipeline: MakePipeline,
    swift_store: SwiftStore,
    server: HlsServer,
    clips: dict[str, Path],
    tmp_path: Path,
) -> None:
    regions = tmp_path / "regions.json"
    corner = [[[0, 0], [0.1, 0], [0.1, 0.1], [0, 0.1]]]
    regions.write_text(json.dumps({"cam": corner}))
    url = server.add_vod("/clip", clips["light"])
    result = make_pipeline(camera_regions_file=regions)(Told(make_entry(url)).job)
    found = documents(swift_store, result.folder)
    assert found["background_meta.json"]["region"] == corner
    assert found["damage_analysis.json"]["region_pixels"] <= 0.011 * 320 * 180
    assert result.damages == 0


def test_the_region_of_the_job_goes_before_the_file(
    make_pipeline: MakePipeline,
    swift_store: SwiftStore,
    server: HlsServer,
    clips: dict[str, Path],
    tmp_path: Path,
) -> None:
    regions = tmp_path / "regions.json"
    regions.write_text(json.dumps({"cam": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}))
    corner = [[[0.0, 0.0], [0.1, 0.0], [0.1, 0.1], [0.0, 0.1]]]
    entry = make_entry(server.add_vod("/clip", clips["light"]), roadRegion=json.dumps(corner))
    result = make_pipeline(camera_regions_file=regions)(Told(entry).job)
    found = documents(swift_store, result.folder)
    assert found["background_meta.json"]["region"] == corner
    assert found["damage_analysis.json"]["region_pixels"] <= 0.011 * 320 * 180
    assert result.damages == 0


def test_another_models_analysis_is_not_drawn_over(
    make_pipeline: MakePipeline,
    swift_store: SwiftStore,
    server: HlsServer,
    clips: dict[str, Path],
    detector: Detector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = make_entry(server.add_vod("/clip", clips["light"]))
    put_new = SwiftStore.put_new

    def no_picture(self: SwiftStore, name: str, *arguments: Any, **named: Any) -> Any:
        if name.endswith(ArtifactName.DAMAGE_RESULT):
            raise Killed
        return put_new(self, name, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(SwiftStore, "put_new", no_picture)
        with pytest.raises(Killed):
            make_pipeline()(Told(entry).job)
    pickier = load_detector(
        PreprocessorSettings.model_validate({**NOWHERE, "detector_threshold": 0.9})
    )
    result = make_pipeline(pickier)(Told(entry).job)
    meta = documents(swift_store, result.folder)["process_meta.json"]
    assert meta["model"]["threshold"] == 0.9
    assert len(swift_store.list_names("preprocess/cam/job/")) == 5
