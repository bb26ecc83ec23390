"""Sets of artefacts on real Swift: resumed, adopted, contested, tampered with."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from artifact_scene import MakeStore
from prometheus_client import REGISTRY

from headrace_common.artifact_sets import (
    CodeRecord,
    Findings,
    ModelRecord,
    ProcessFacts,
    SourceRecord,
    verify,
)
from headrace_common.contracts.cctv import ArtifactName, PreprocessEntry, job_folder
from headrace_gpu_preprocessor.artifacts import (
    ArtifactSets,
    SwiftSettings,
    SwiftStore,
    UnfinishedSet,
    WholeSet,
)
from headrace_gpu_preprocessor.artifacts.connections import Check, no_check
from headrace_gpu_preprocessor.artifacts.errors import SetConflictError, SwiftUnavailableError
from headrace_gpu_preprocessor.stream.errors import LeaseLostError

BACKGROUND, BACKGROUND_META, ANALYSIS, RESULT, META = ArtifactName
FIRST_FOUR = (BACKGROUND, BACKGROUND_META, ANALYSIS, RESULT)
ENTRY = PreprocessEntry.parse(
    {
        "cctvId": "L 010/146".replace("/", "-"),
        "hls": "https://user:secret@cam.example.org/live.m3u8?token=secret",
        "sec": "20",
        "enqueuedAt": "1764100000000",
        "jobId": "job-1",
    }
)
FACTS = ProcessFacts(
    attempt=1,
    source=SourceRecord(url=ENTRY.hls, seconds=ENTRY.sec),
    clip={"frames": 500},
    frames={"samples": 50},
    model=ModelRecord(name="m", sha256="0" * 64, labels=("D00",), threshold=0.35),
    code=CodeRecord(service="gpu-preprocessor", version="0.1.0"),
    timings_seconds={"reading": 20.5},
    findings=Findings(quality=0.9, damages=2, damages_by_class={"D00": 2}, damaged_share=0.01),
)


class Worker:
    """A process that makes a set; `who` is in all that it makes."""

    def __init__(self, store: SwiftStore, settings: SwiftSettings, who: str = "a") -> None:
        self.store = store
        self.sets = ArtifactSets.of(store, settings)
        self.who = who

    def begin(self, check: Check = no_check) -> UnfinishedSet:
        return self.sets.begin(ENTRY, check=check)

    def find(self, check: Check = no_check) -> WholeSet | UnfinishedSet | None:
        return self.sets.find(ENTRY, check=check)

    def resume(self, check: Check = no_check) -> UnfinishedSet:
        found = self.find(check)
        assert isinstance(found, UnfinishedSet)
        return found

    def whole(self) -> WholeSet:
        found = self.find()
        assert isinstance(found, WholeSet)
        return found

    def content(self, name: ArtifactName, at: UnfinishedSet) -> bytes:
        if name in {BACKGROUND, RESULT}:
            return f"{name} by {self.who}".encode() * 1000
        link = hashlib.sha256(at.read(BACKGROUND)).hexdigest()
        return json.dumps({"who": self.who, "picture": {"sha256": link}}, indent=1).encode()

    def fill(self, at: UnfinishedSet, upto: int = 4) -> UnfinishedSet:
        for name in FIRST_FOUR[:upto]:
            at.put(name, self.content(name, at))
        return at


MakeWorker = Callable[..., Worker]


@pytest.fixture
def make_worker(swift_store: SwiftStore, swift_settings: SwiftSettings) -> MakeWorker:
    """Make workers that share nothing but Swift, and the connections to it."""
    swift_store.ensure_container()
    return lambda who="a": Worker(swift_store, swift_settings, who)


def put_count() -> float:
    labels = {"operation": "put", "outcome": "ok"}
    name = "headrace_swift_request_duration_seconds_count"
    return REGISTRY.get_sample_value(name, labels) or 0


def files_of(store: SwiftStore, folder: str) -> dict[str, bytes]:
    found = {name: store.get(folder + name) for name in ArtifactName}
    return {name: data for name, data in found.items() if data is not None}


def check_right(whole: WholeSet, store: SwiftStore, settings: SwiftSettings) -> None:
    """Check a set as somebody else would, by what is in Swift."""
    key = settings.signing_key()
    assert key is not None
    report = verify(files_of(store, whole.folder), [key.public_key()], job_id=ENTRY.job_id)
    assert report.ok, report.faults
    assert report.meta == whole.meta


def test_the_whole_life_of_a_set(make_worker: MakeWorker, swift_settings: SwiftSettings) -> None:
    worker = make_worker()
    assert worker.find() is None
    begun = worker.begin()
    assert not begun.names
    assert worker.store.list_names("") == [], "nothing before the first artefact"
    worker.fill(begun)
    assert begun.names == FIRST_FOUR
    whole = begun.finish(FACTS)

    check_right(whole, worker.store, swift_settings)
    root = job_folder("preprocess/", ENTRY.cctv_id, ENTRY.job_id)
    assert whole.folder.startswith(root)
    assert whole.folder == f"{root}{whole.meta.timestamp}/"
    assert worker.store.list_names("") == sorted(whole.folder + name for name in ArtifactName)
    assert whole.meta.source.url == "https://cam.example.org/live.m3u8"
    assert b"secret" not in whole.meta_bytes
    heads = {name: worker.store.head(whole.folder + name) for name in ArtifactName}
    result = whole.as_result()
    for name, artifact in result.artifacts.items():
        head = heads[name]
        assert head is not None
        assert (artifact.object, artifact.sha256) == (whole.folder + name, head.sha256)
        assert (artifact.bytes, artifact.content_type) == (head.bytes, head.content_type)
        assert head.content_type == name.content_type
    assert list(result.artifacts) == list(ArtifactName)
    assert (result.quality, result.damages, result.damages_by_class) == (0.9, 2, {"D00": 2})
    assert result.storage_url == worker.store.public_storage_url()

    found = make_worker("b").whole()
    assert found.as_result() == result


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_another_pod_goes_on_after_each_artefact(
    make_worker: MakeWorker, swift_settings: SwiftSettings, done: int
) -> None:
    first, second = make_worker(), make_worker("b")
    begun = first.fill(first.begin(), done)
    found = second.find()
    if done < 2:  # the background without its description is nothing
        assert found is None
        found = second.begin()
    assert isinstance(found, UnfinishedSet)
    kept = FIRST_FOUR[:done] if done >= 2 else ()
    assert found.names == kept
    assert [found.read(name) for name in kept] == [begun.read(name) for name in kept]
    before = put_count()
    whole = second.fill(found).finish(FACTS)
    assert put_count() - before == 5 - len(kept), "only what is missing is sent"
    check_right(whole, second.store, swift_settings)
    assert second.store.list_folders(job_folder("preprocess/", ENTRY.cctv_id, "job-1")) == [
        whole.folder
    ], "what the first had begun is removed"


def test_order_and_links_are_kept(make_worker: MakeWorker) -> None:
    begun = make_worker().begin()
    with pytest.raises(ValueError, match=r"before background\.jpg"):
        begun.put(BACKGROUND_META, b"{}")
    begun.put(BACKGROUND, b"1")
    for bad in (b"{}", b"[]", b"nonsense", b'{"picture":{"sha256":"' + b"0" * 64 + b'"}}'):
        with pytest.raises(ValueError, match=r"picture\.sha256"):
            begun.put(BACKGROUND_META, bad)
    with pytest.raises(ValueError, match="before"):
        begun.finish(FACTS)


def test_what_does_not_fit_together_is_not_resumed(make_worker: MakeWorker) -> None:
    worker = make_worker()
    begun = worker.fill(worker.begin())
    for name, data in (
        (BACKGROUND_META, b"nonsense"),
        (BACKGROUND_META, worker.content(BACKGROUND_META, begun).replace(b'"a"', b'"b"')),
        (ANALYSIS, b"{}"),
        (BACKGROUND, b"another picture"),
    ):
        worker.store.put(begun.folder + name, data, name.content_type)
        found = worker.find()
        if data == b"nonsense" or name is BACKGROUND:
            assert found is None
            continue
        assert isinstance(found, UnfinishedSet)
        assert found.names == (FIRST_FOUR if name is BACKGROUND_META else FIRST_FOUR[:2])


def test_the_latest_folder_that_serves_is_resumed(make_worker: MakeWorker) -> None:
    worker = make_worker()
    old = worker.fill(worker.begin(), 3)
    new = worker.fill(worker.begin(), 2)
    worker.fill(worker.begin(), 1)
    assert old.folder < new.folder
    assert worker.resume().folder == new.folder


def test_two_in_one_folder_end_with_one_set(
    make_worker: MakeWorker, swift_settings: SwiftSettings
) -> None:
    """A frozen worker thaws after another has resumed its folder: it finds all taken."""
    zombie, heir = make_worker("zombie"), make_worker("heir")
    thawing = zombie.fill(zombie.begin(), 2)
    inherited = heir.resume()
    assert inherited.folder == thawing.folder
    heir.fill(inherited, 3)
    zombie.fill(thawing, 4)
    assert thawing.read(ANALYSIS) == inherited.read(ANALYSIS)
    assert b"heir" in thawing.read(ANALYSIS)
    heir.fill(inherited, 4)
    assert b"zombie" in inherited.read(RESULT), "this one was first with the picture"
    whole = inherited.finish(FACTS)
    adopted = thawing.finish(FACTS.model_copy(update={"attempt": 7}))
    assert adopted.as_result() == whole.as_result()
    check_right(whole, heir.store, swift_settings)
    assert heir.store.list_folders(job_folder("preprocess/", ENTRY.cctv_id, "job-1")) == [
        whole.folder
    ]


def test_a_lost_answer_does_not_look_like_another_worker(make_worker: MakeWorker) -> None:
    """412 with our own hash."""
    worker = make_worker()
    begun = worker.begin()
    data = worker.content(BACKGROUND, begun)
    worker.store.put_new(begun.folder + BACKGROUND, data, "image/jpeg")
    folder = begun.folder
    worker.fill(begun)
    assert begun.folder == folder
    worker.store.put_new(folder + "unrelated", b"1", "text/plain")
    assert begun.finish(FACTS).folder == folder


def test_a_whole_background_of_another_is_adopted(make_worker: MakeWorker) -> None:
    """412 with another hash, and what is there fits together."""
    first, second = make_worker("first"), make_worker("second")
    late = second.begin()
    early = first.begin()
    early.folder = late.folder  # within one millisecond
    first.fill(early, 2)
    late.put(BACKGROUND, second.content(BACKGROUND, late))
    assert late.folder == early.folder
    assert late.names == (BACKGROUND, BACKGROUND_META)
    assert b"first" in late.read(BACKGROUND)
    assert b"first" in late.read(BACKGROUND_META)


@pytest.mark.parametrize("place", FIRST_FOUR[:3])
def test_a_folder_that_does_not_fit_is_left(
    make_worker: MakeWorker, swift_settings: SwiftSettings, place: ArtifactName
) -> None:
    """412 with another hash, and it cannot be built upon."""
    worker = make_worker()
    begun = worker.fill(worker.begin(), FIRST_FOUR.index(place))
    left = begun.folder
    worker.store.put_new(left + place, b'{"picture": {}}', place.content_type)
    whole = worker.fill(begun).finish(FACTS)
    assert whole.folder > left
    check_right(whole, worker.store, swift_settings)
    assert worker.store.list_names(left) == [], "and cleared away in the end"


def test_a_process_meta_that_does_not_fit_is_left(
    make_worker: MakeWorker, swift_settings: SwiftSettings
) -> None:
    worker = make_worker()
    begun = worker.fill(worker.begin())
    left = begun.folder
    worker.store.put_new(left + META, b"{}", "application/json")
    whole = begun.finish(FACTS)
    assert whole.folder > left
    check_right(whole, worker.store, swift_settings)
    assert len(worker.store.list_names(left)) == 5, "what claims to be whole is never removed"
    assert make_worker("b").whole().folder == whole.folder


def test_who_always_meets_others_gives_way(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    begun = worker.begin()
    put_new = worker.store.put_new

    def contested(name: str, data: bytes, *arguments: Any, **more: Any) -> Any:
        put_new(name, b"somebody else's", "image/jpeg")
        return put_new(name, data, *arguments, **more)

    monkeypatch.setattr(worker.store, "put_new", contested)
    with pytest.raises(SetConflictError) as raised:
        worker.fill(begun)
    assert raised.value.retryable


def test_nothing_is_written_after_the_lease_is_lost(make_worker: MakeWorker) -> None:
    """Whenever it is lost, no request follows that changes something."""
    for allowed in range(5):
        worker = make_worker()
        asked: list[None] = []

        def check(asked: list[None] = asked, allowed: int = allowed) -> None:
            if len(asked) == allowed:
                raise LeaseLostError("another has it")
            asked.append(None)

        before = worker.store.list_names("")
        with pytest.raises(LeaseLostError):
            worker.fill(worker.begin(check)).finish(FACTS)
        assert len(worker.store.list_names("")) == len(before) + allowed


def test_a_finished_job_survives_a_stop_while_clearing_up(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.fill(worker.begin(), 1)

    def check() -> None:
        if any(name.endswith(META) for name in worker.store.list_names("")):
            raise LeaseLostError("another has it")

    whole = worker.fill(worker.begin(check)).finish(FACTS)
    assert worker.whole().folder == whole.folder


def test_who_thaws_before_its_last_write_takes_it_back(
    make_worker: MakeWorker, swift_settings: SwiftSettings
) -> None:
    """The check passed, then the process froze; another finished, and cleared its folder."""
    zombie, heir = make_worker("zombie"), make_worker("heir")
    others: list[WholeSet] = []
    checks = 0

    def freeze() -> None:
        nonlocal checks
        checks += 1
        if checks == 5:  # after the check for process_meta.json, before its request
            others.append(heir.fill(heir.begin()).finish(FACTS))

    begun = zombie.fill(zombie.begin(freeze))
    with pytest.raises(SetConflictError) as raised:
        begun.finish(FACTS)
    assert raised.value.retryable
    assert zombie.store.list_names(begun.folder) == []
    assert zombie.whole().folder == others[0].folder
    check_right(others[0], heir.store, swift_settings)


def test_who_finds_its_folder_cleared_says_so(make_worker: MakeWorker) -> None:
    zombie, heir = make_worker("zombie"), make_worker("heir")
    thawing = zombie.fill(zombie.begin())
    heir.fill(heir.begin()).finish(FACTS)
    with pytest.raises(SetConflictError, match="another worker"):
        thawing.finish(FACTS)


def test_a_set_that_was_tampered_with_is_not_whole(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    whole = worker.fill(worker.begin()).finish(FACTS)
    for name in ArtifactName:
        right = worker.store.get(whole.folder + name) or b""
        changed = bytearray(right)
        changed[len(changed) // 2] ^= 1
        worker.store.put(whole.folder + name, bytes(changed), name.content_type)
        assert worker.find() is None, name
        worker.store.put(whole.folder + name, right, name.content_type)
    # Moved to another folder, with all hashes right.
    elsewhere = whole.folder.replace(whole.meta.timestamp, "20000101T000000.000Z")
    for name in ArtifactName:
        data = worker.store.get(whole.folder + name) or b""
        worker.store.put(elsewhere + name, data, name.content_type)
    assert worker.whole().folder == whole.folder
    again = worker.begin()
    worker.store.delete(whole.folder + RESULT)
    finished = worker.fill(again).finish(FACTS)
    assert worker.whole().folder == finished.folder
    assert worker.store.head(whole.folder + META) is not None, "kept as it is"


def test_sets_older_than_the_key_are_whole(
    make_worker: MakeWorker, swift_settings: SwiftSettings
) -> None:
    worker = make_worker()
    unsigned = swift_settings.model_copy(update={"meta_signing_key": None})
    old = Worker(worker.store, unsigned)
    whole = old.fill(old.begin()).finish(FACTS)
    assert whole.meta.signature is None
    assert worker.whole().folder == whole.folder


def test_a_listing_may_tell_too_much(make_worker: MakeWorker) -> None:
    """A folder of which nothing is left."""
    worker = make_worker()
    begun = worker.fill(worker.begin(), 2)
    worker.store.delete(begun.folder + BACKGROUND)
    assert worker.find() is None


def test_errors_of_swift_are_passed_on(
    make_worker: MakeWorker, make_swift_store: MakeStore
) -> None:
    store = make_swift_store(os_auth_url="http://127.0.0.1:9", swift_retries=0)
    worker = Worker(store, store._settings)
    with pytest.raises(SwiftUnavailableError):
        worker.find()
    with pytest.raises(SwiftUnavailableError):
        worker.fill(worker.begin())
