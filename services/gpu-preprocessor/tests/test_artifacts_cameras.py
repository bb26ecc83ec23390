"""Cameras' memories in Swift: shared, whole, and never a reason for a job to fail."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from artifact_scene import MakeStore
from prometheus_client import REGISTRY

from headrace_gpu_preprocessor.artifacts import SwiftStore
from headrace_gpu_preprocessor.artifacts.cameras import SwiftCameraStore
from headrace_gpu_preprocessor.artifacts.errors import SwiftUnavailableError
from headrace_gpu_preprocessor.background import CameraMemory
from headrace_gpu_preprocessor.background.memory import UnreadableMemoryError

CAMERA = "../길/" + "L" * 190
MIB = 1024 * 1024


def make_memory(level: int = 7) -> CameraMemory:
    size = (90, 160)
    return CameraMemory(
        picture=np.full((*size, 3), level, np.uint8),
        weight=np.linspace(0, 1, 90 * 160, dtype=np.float32).reshape(size),
        seen_at=np.full(size, 1_764_100_000, np.uint32),
        changed_at=np.zeros(size, np.uint32),
    )


def count(operation: str, outcome: str) -> float:
    labels = {"operation": operation, "outcome": outcome}
    return REGISTRY.get_sample_value("headrace_camera_memory_total", labels) or 0


def repacked(**changes: np.ndarray | None) -> bytes:
    """The file of a memory with some of its parts changed or left out."""
    with np.load(io.BytesIO(make_memory().dump())) as file:
        parts = {**file, **changes}
    packed = io.BytesIO()
    np.savez_compressed(packed, **{key: part for key, part in parts.items() if part is not None})
    return packed.getvalue()


def bomb() -> bytes:
    """A small archive that unpacks to a quarter of a gigabyte."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("picture.npy", "w") as part,
    ):
        np.lib.format.write_array_header_1_0(
            part, {"descr": "|u1", "fortran_order": False, "shape": (256 * MIB,)}
        )
        for _ in range(256):
            part.write(bytes(MIB))
    return packed.getvalue()


def boast() -> bytes:
    """A small archive with an array that says it has 2 ** 50 numbers."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, archive.open("version.npy", "w") as part:
        np.lib.format.write_array_header_1_0(
            part, {"descr": "|u1", "fortran_order": False, "shape": (2**50,)}
        )
    return packed.getvalue()


HOSTILE = {
    "empty": lambda: b"",
    "text": lambda: b"nonsense",
    "cut": lambda: make_memory().dump()[:-100],
    "pickle": lambda: repacked(picture=np.array([{}], dtype=object)),
    "no picture": lambda: repacked(picture=None),
    "no version": lambda: repacked(version=None),
    "other size": lambda: repacked(seen_at=np.zeros((3, 3), np.uint32)),
    "other type": lambda: repacked(picture=np.zeros((90, 160, 3), np.float64)),
    "grey": lambda: repacked(picture=np.zeros((90, 160), np.uint8)),
    "version list": lambda: repacked(version=np.zeros(4, np.int64)),
    "bomb": bomb,
    "boast": boast,
}


def test_replicas_share_what_a_camera_showed(make_swift_store: MakeStore) -> None:
    first = SwiftCameraStore(make_swift_store(), prefix="preprocess/")
    second = SwiftCameraStore(make_swift_store(), prefix="preprocess/")
    assert first.load(CAMERA) is None
    first.save(CAMERA, make_memory(1))
    second.save(CAMERA, make_memory(2))
    loaded = first.load(CAMERA)
    assert loaded is not None
    assert (loaded.picture == 2).all()
    assert (loaded.seen_at == 1_764_100_000).all()
    assert np.abs(loaded.weight - make_memory().weight).max() < 0.005
    assert second.load("another") is None
    (name,) = first._store.list_names("")
    assert name.startswith("preprocess/_cameras/")
    assert name.isascii()


def test_another_version_is_no_memory() -> None:
    assert CameraMemory.parse(repacked(version=np.array(2))) is None


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_broken_file_is_found_out_before_it_costs_memory(kind: str) -> None:
    data = HOSTILE[kind]()
    tracemalloc.start()
    with pytest.raises(UnreadableMemoryError):
        CameraMemory.parse(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MIB + 3 * len(data)


def test_a_broken_object_counts_as_nothing(swift_store: SwiftStore) -> None:
    cameras = SwiftCameraStore(swift_store, prefix="preprocess/")
    cameras.save(CAMERA, make_memory())
    (name,) = swift_store.list_names("")
    swift_store.put(name, b"PK broken", "application/octet-stream")
    before = count("load", "unreadable")
    assert cameras.load(CAMERA) is None
    assert count("load", "unreadable") == before + 1
    cameras.save(CAMERA, make_memory(3))
    assert cameras.load(CAMERA) is not None


def test_without_swift_nothing_is_saved_and_nothing_forgotten(make_swift_store: MakeStore) -> None:
    store = make_swift_store(os_auth_url="http://127.0.0.1:9", swift_retries=0)
    cameras = SwiftCameraStore(store, prefix="preprocess/")
    saves, loads = count("save", "failed"), count("load", "failed")
    cameras.save(CAMERA, make_memory())
    assert count("save", "failed") == saves + 1
    with pytest.raises(SwiftUnavailableError):
        cameras.load(CAMERA)
    assert count("load", "failed") == loads + 1
