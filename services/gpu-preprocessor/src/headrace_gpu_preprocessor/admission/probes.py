"""Where memory is measured: the GPU by torch or by its driver, else the host."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import psutil
import structlog

from headrace_common.errors import UnavailableError
from headrace_gpu_preprocessor.admission.settings import AdmissionSettings

log = structlog.get_logger()

_CGROUP: Final = Path("/sys/fs/cgroup")
_PROC: Final = Path("/proc/self")


class ProbeUnavailableError(UnavailableError):
    """This machine cannot be measured in this way; the message says why."""

    code = "memory_probe_unavailable"
    title = "Memory probe unavailable"


@dataclass(frozen=True)
class MemoryReading:
    """Memory at one moment, in bytes.

    Attributes:
        free: what this process could still get.
        total: what there is.
        own: what this process uses of it, its caches not counted.
    """

    free: int
    total: int
    own: int


class MemoryProbe(Protocol):
    """Measures memory; may be asked from any thread, and answers within milliseconds."""

    @property
    def name(self) -> str:
        """What measures, for metrics and logs."""

    def read(self) -> MemoryReading:
        """Measure now."""

    def reset_peak(self) -> None:
        """Begin to measure a peak."""

    def peak(self) -> int | None:
        """Return the most that this process used since `reset_peak`; None if unknown."""


class CudaProbe:
    """What CUDA says, through torch; torch's cache counts as free, because jobs reuse it."""

    name = "cuda"

    def __init__(self, device: int = 0) -> None:
        """Measure GPU number `device`.

        Raises:
            ProbeUnavailableError: torch is not installed, or finds no such GPU.
        """
        try:
            import torch  # noqa: PLC0415 - optional, and slow to import
        except ImportError as error:
            raise ProbeUnavailableError(f"torch is not installed: {error}") from None
        cuda: Any = torch.cuda
        if not cuda.is_available() or device >= cuda.device_count():
            raise ProbeUnavailableError(f"torch finds no GPU number {device}")
        self._cuda = cuda
        self._device = device

    def read(self) -> MemoryReading:
        """Measure now; the driver's figure includes other processes."""
        free, total = self._cuda.mem_get_info(self._device)
        own = self._cuda.memory_allocated(self._device)
        cached = self._cuda.memory_reserved(self._device) - own
        return MemoryReading(free=int(free + cached), total=int(total), own=int(own))

    def reset_peak(self) -> None:
        """Begin to measure a peak; what earlier jobs left in the cache must not count."""
        self._cuda.empty_cache()
        self._cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int | None:
        """Return the most that torch had taken from the driver."""
        return int(self._cuda.max_memory_reserved(self._device))


class NvmlProbe:
    """What the driver says: for onnxruntime on a GPU, where there is no torch to ask."""

    name = "nvml"

    def __init__(self, device: int = 0) -> None:
        """Measure GPU number `device`.

        Raises:
            ProbeUnavailableError: there is no driver, or no such GPU.
        """
        import pynvml  # noqa: PLC0415 - looks for the driver's library

        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(device)
        except pynvml.NVMLError as error:
            raise ProbeUnavailableError(f"NVML: {error}") from None

    def read(self) -> MemoryReading:
        """Measure now."""
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        own = 0
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle):
            if process.pid == os.getpid():
                own = int(process.usedGpuMemory or 0)
        return MemoryReading(free=int(memory.free), total=int(memory.total), own=own)

    def reset_peak(self) -> None:
        """The driver keeps no peak."""

    def peak(self) -> int | None:
        """Return None: the driver keeps no peak."""
        return None


class HostProbe:
    """Memory of the host, within what the container may use."""

    name = "host"

    def __init__(self, *, cgroup: Path = _CGROUP, proc: Path = _PROC) -> None:
        """Measure this process; the directories are those of Linux."""
        self._cgroup = cgroup
        self._proc = proc
        self._process = psutil.Process()
        self._has_peak = False

    def read(self) -> MemoryReading:
        """Measure now."""
        memory = psutil.virtual_memory()
        free, total = int(memory.available), int(memory.total)
        limit, used = _number(self._cgroup / "memory.max"), _number(self._cgroup / "memory.current")
        if limit is not None and used is not None and limit < total:
            # The page cache counts as used, and gives way.
            cache = _fields(self._cgroup / "memory.stat", " ").get("inactive_file", 0)
            free, total = min(free, max(0, limit - used + cache)), limit
        return MemoryReading(free=free, total=total, own=int(self._process.memory_info().rss))

    def reset_peak(self) -> None:
        """Begin to measure a peak; of this process alone, its decoders have limits of their own."""
        try:
            (self._proc / "clear_refs").write_text("5")
        except OSError:
            self._has_peak = False  # another system, or a container that forbids it
        else:
            self._has_peak = True

    def peak(self) -> int | None:
        """Return the most that was resident since `reset_peak`."""
        if not self._has_peak:
            return None
        kib = _fields(self._proc / "status", ":").get("VmHWM")
        return None if kib is None else kib * 1024


def choose_probe(settings: AdmissionSettings) -> MemoryProbe:
    """Return the probe by setting; with `auto` the first that works, and the log says why.

    Raises:
        ProbeUnavailableError: the one that was asked for does not work here.
    """
    makers: Mapping[str, Callable[[], MemoryProbe]] = {
        "cuda": lambda: CudaProbe(settings.gpu_device),
        "nvml": lambda: NvmlProbe(settings.gpu_device),
        "host": HostProbe,
    }
    if settings.gpu_memory_probe != "auto":
        return makers[settings.gpu_memory_probe]()
    for name in ("cuda", "nvml"):
        try:
            return makers[name]()
        except ProbeUnavailableError as error:
            log.info("admission.probe_not_used", probe=name, reason=error.detail)
    return makers["host"]()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such group, or `max`
        return None


def _fields(path: Path, separator: str) -> dict[str, int]:
    """Read lines of a name and a number; others are left out."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    read: dict[str, int] = {}
    for line in lines:
        name, _, rest = line.partition(separator)
        words = rest.split()
        if words and words[0].isdigit():
            read[name] = int(words[0])
    return read
