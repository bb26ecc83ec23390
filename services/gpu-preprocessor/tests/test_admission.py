"""The memory guard through a probe in a test's hands, the probes, and running out of memory."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from headrace_gpu_preprocessor.admission import (
    AdmissionSettings,
    CudaProbe,
    HostProbe,
    MemoryGuard,
    MemoryReading,
    NoRoomError,
    NvmlProbe,
    OutOfMemoryError,
    ProbeUnavailableError,
    choose_probe,
    is_out_of_memory,
    run_smaller,
)
from headrace_gpu_preprocessor.admission.estimate import Estimate

MIB = 1 << 20
KIND = "preprocess"


class Card:
    """A card or a pod of so many MiB, as a driver or the kernel would show it."""

    name = "card"

    def __init__(self, total: int = 10_000) -> None:
        self.total = total
        self.others = 0
        self.own = 0
        self.most = 0
        self.broken = False

    def use(self, mib: int) -> None:
        self.own += mib
        self.most = max(self.most, self.own)

    def read(self) -> MemoryReading:
        if self.broken:
            raise RuntimeError("driver is gone")
        free = self.total - self.others - self.own
        return MemoryReading(free=free * MIB, total=self.total * MIB, own=self.own * MIB)

    def reset_peak(self) -> None:
        self.most = self.own

    def peak(self) -> int | None:
        return self.most * MIB


@pytest.fixture
def card() -> Card:
    return Card()


def guard_of(
    card: Card,
    *,
    job: int = 2_000,
    reserve: int = 500,
    on: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> MemoryGuard:
    return MemoryGuard(
        card,
        AdmissionSettings(
            gpu_memory_guard=on, gpu_memory_job_mib=job, gpu_memory_reserve_mib=reserve
        ),
        clock=clock,
    )


def need_of(guard: MemoryGuard) -> int:
    return guard.view().estimates[KIND].need_bytes // MIB


def test_as_many_are_admitted_as_fit_beside_the_reserve(card: Card) -> None:
    guard = guard_of(card)
    assert guard.room(KIND, 10) == 4
    assert guard.room(KIND, 3) == 3
    admitted = [guard.try_admit(KIND) for _ in range(5)]
    assert [each is not None for each in admitted] == [True] * 4 + [False]
    assert guard.view().running == 4
    assert guard.view().promised_bytes == 8_000 * MIB


def test_what_a_running_job_uses_already_is_not_counted_twice(card: Card) -> None:
    guard = guard_of(card)
    assert guard.try_admit(KIND)
    card.use(1_500)
    assert guard.view().promised_bytes == 500 * MIB
    assert guard.room(KIND, 10) == 3


def test_other_processes_make_jobs_wait_and_it_is_told_once(card: Card) -> None:
    guard = guard_of(card)
    card.others = 8_000
    with capture_logs() as logs:
        assert [guard.room(KIND, 1) for _ in range(3)] == [0, 0, 0]
        assert guard.view().holding
        assert REGISTRY.get_sample_value("headrace_preprocessor_memory_holding") == 1
        card.others = 7_400  # enough for a job, and too near to where it began to wait
        assert guard.room(KIND, 1) == 0
        card.others = 7_200
        assert guard.room(KIND, 1) == 1
        assert not guard.view().holding
        card.others = 7_450  # once released, what is enough is enough
        assert guard.room(KIND, 1) == 1
    assert [entry["event"] for entry in logs] == ["admission.holding", "admission.released"]
    assert logs[0]["free_mib"] == 2_000


def test_waiting_for_room_ends(card: Card) -> None:
    guard = guard_of(card)
    with guard.admit(KIND, timeout=0):
        card.others = 9_000
        with pytest.raises(NoRoomError):
            guard.admit(KIND, timeout=0.05)
    card.others = 0
    guard.admit(KIND, timeout=0).release()
    assert guard.view().running == 0


def test_switched_off_it_admits_everything(card: Card) -> None:
    guard = guard_of(card, on=False)
    card.others = 10_000
    assert guard.room(KIND, 7) == 7
    assert guard.try_admit(KIND)


def test_a_job_that_is_guessed_larger_than_the_card_does_not_wait_for_ever(card: Card) -> None:
    assert guard_of(card, job=50_000).room(KIND, 2) == 1


@pytest.mark.parametrize("total", [1_536, 2_048])
def test_in_a_small_pod_what_the_process_itself_has_is_not_waited_for(total: int) -> None:
    """Model, libraries and all: they never become free, whatever else does."""
    pod = Card(total)
    pod.use(600)
    guard = guard_of(pod, job=4_000, reserve=512)
    assert guard.room(KIND, 3) == 1
    admitted = guard.try_admit(KIND)
    assert admitted
    pod.use(300)
    assert guard.room(KIND, 1) == 0
    pod.use(-300)
    admitted.release()
    assert guard.room(KIND, 1) == 1


def test_what_others_have_is_waited_for_until_less_is_tried() -> None:
    """A job of less than it is taken to need is better than none for ever."""
    now = 0.0
    pod = Card(2_048)
    pod.use(600)
    pod.others = 700
    guard = guard_of(pod, job=1_000, reserve=512, clock=lambda: now)
    assert guard.room(KIND, 1) == 0
    while guard.room(KIND, 1) == 0 and now < 3_600:
        now += 10
    assert 100 <= now <= 300
    now += 10  # until an entry is there
    admitted = guard.try_admit(KIND)
    assert admitted
    assert guard.room(KIND, 1) == 0
    now += 100_000
    assert guard.room(KIND, 1) == 0, "beside one that runs, what is needed is needed"
    admitted.release()
    assert guard.room(KIND, 1) == 0, "jobs waited for the one that ran"


def test_the_reserve_is_never_given_away() -> None:
    now = 0.0
    pod = Card(4_096)
    pod.others = 3_700
    guard = guard_of(pod, job=1_000, reserve=512, clock=lambda: now)
    assert guard.room(KIND, 1) == 0
    now += 100_000
    assert guard.room(KIND, 1) == 0


def test_who_waits_for_memory_hears_of_a_stop(card: Card) -> None:
    guard = guard_of(card)
    card.others = 9_000
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(NoRoomError):
        guard.admit(KIND, timeout=30, stop=stop)
    assert time.monotonic() - began < 20


def test_a_probe_that_fails_holds_nothing_up(card: Card) -> None:
    guard = guard_of(card)
    card.broken = True
    with capture_logs() as logs:
        assert guard.room(KIND, 3) == 3
        admitted = guard.try_admit(KIND)
        assert admitted
        admitted.release()
        assert guard.view().free_bytes is None
    assert [entry["event"] for entry in logs] == ["admission.probe_failed"]


def test_the_estimate_grows_at_once_and_falls_slowly(card: Card) -> None:
    guard = guard_of(card)

    def job(mib: int) -> None:
        with guard.admit(KIND, timeout=0):
            card.use(mib)
            card.use(-mib)

    job(3_000)
    assert need_of(guard) == 3_300
    job(1_000)
    assert need_of(guard) == 3_080
    for _ in range(60):
        job(1_000)
    assert 1_100 <= need_of(guard) < 1_150
    job(4_000)
    assert need_of(guard) == 4_400


def test_a_shared_peak_can_raise_the_estimate_only(card: Card) -> None:
    guard = guard_of(card, job=1_000)
    first, second = guard.try_admit(KIND), guard.try_admit(KIND)
    assert first
    assert second
    card.use(600)
    first.release()
    second.release()
    assert need_of(guard) == 1_000, "600 for two says nothing about a larger one"
    card.use(-600)
    first, second = guard.try_admit(KIND), guard.try_admit(KIND)
    assert first
    assert second
    card.use(4_000)
    first.release()
    second.release()
    assert need_of(guard) == 2_200


def test_the_first_measurement_replaces_half_of_a_guess() -> None:
    assert Estimate(1_000).learned(0, alone=True) == Estimate(500, 1)


def test_released_twice_counts_once(card: Card) -> None:
    guard = guard_of(card)
    admitted = guard.try_admit(KIND)
    assert admitted
    admitted.release()
    admitted.release()
    assert guard.view().running == 0


def test_the_host_is_measured_for_real() -> None:
    probe = HostProbe()
    before = probe.read()
    assert 0 < before.own < before.total
    assert 0 < before.free <= before.total
    probe.reset_peak()
    block = np.ones(64 * MIB, dtype=np.uint8)
    assert block[-1] == 1
    del block
    peak = probe.peak()
    if peak is None:
        pytest.skip("this container does not let a process reset its peak")
    assert peak >= before.own + 48 * MIB


def test_the_host_is_what_the_container_may_use(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{800 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{700 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {300 * MIB}\n")
    reading = HostProbe(cgroup=tmp_path).read()
    assert (reading.free, reading.total) == (400 * MIB, 800 * MIB)
    (tmp_path / "memory.max").write_text("max\n")
    assert HostProbe(cgroup=tmp_path).read().total > 800 * MIB
    assert HostProbe(proc=tmp_path / "none").peak() is None


def test_without_a_gpu_it_says_why_and_measures_the_host() -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ProbeUnavailableError, match="NVML"):
        NvmlProbe()
    with pytest.raises(ProbeUnavailableError, match="torch"):
        CudaProbe()
    with capture_logs() as logs:
        assert choose_probe(AdmissionSettings()).name == "host"
    assert [entry["probe"] for entry in logs] == ["cuda", "nvml"]
    assert all(entry["reason"] for entry in logs)
    with pytest.raises(ProbeUnavailableError):
        choose_probe(AdmissionSettings(gpu_memory_probe="nvml"))


def error_of(module: str, name: str, text: str) -> Exception:
    made: type[Exception] = type(name, (RuntimeError,), {"__module__": module})
    return made(text)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("x"),
        error_of("torch", "OutOfMemoryError", "CUDA out of memory. Tried to allocate 20 MiB"),
        error_of("torch.cuda", "OutOfMemoryError", ""),
        RuntimeError("CUDA error: out of memory"),
        error_of(
            "onnxruntime.capi.onnxruntime_pybind11_state",
            "RuntimeException",
            "BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for requested "
            "buffer of size 1073741824",
        ),
        error_of("cv2", "error", "(-4:Insufficient memory) Failed to allocate 9 bytes"),
    ],
)
def test_out_of_memory_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("shape"),
        error_of("swiftclient", "ClientException", "507 out of memory on the other side"),
        error_of("onnxruntime.capi", "InvalidArgument", "no such input"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_not(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_after_running_out_of_memory_half_is_tried() -> None:
    tried: list[int] = []
    released: list[bool] = []

    def run(batch: int) -> str:
        tried.append(batch)
        if batch > 2:
            raise MemoryError
        return f"done by {batch}"

    assert run_smaller(run, batch=13, release=lambda: released.append(True)) == "done by 1"
    assert tried == [13, 6, 3, 1]
    assert len(released) == 3


def test_when_not_even_one_fits_it_is_for_later() -> None:
    def run(batch: int) -> None:
        raise MemoryError

    with pytest.raises(OutOfMemoryError, match="batch of one") as caught:
        run_smaller(run, batch=4)
    assert caught.value.retryable
    assert caught.value.retry_after == 30


def test_other_errors_pass_through() -> None:
    def run(batch: int) -> None:
        raise ValueError(os.name)

    with pytest.raises(ValueError, match=os.name):
        run_smaller(run, batch=4)
