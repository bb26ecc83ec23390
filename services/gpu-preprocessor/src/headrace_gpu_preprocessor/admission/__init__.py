"""Admission: a job begins when the memory that it needs is free (V6)."""

from headrace_gpu_preprocessor.admission.guard import (
    AdmissionView,
    Admitted,
    MemoryGuard,
    NoRoomError,
)
from headrace_gpu_preprocessor.admission.out_of_memory import (
    OutOfMemoryError,
    is_out_of_memory,
    run_smaller,
)
from headrace_gpu_preprocessor.admission.probes import (
    CudaProbe,
    HostProbe,
    MemoryProbe,
    MemoryReading,
    NvmlProbe,
    ProbeUnavailableError,
    choose_probe,
)
from headrace_gpu_preprocessor.admission.settings import AdmissionSettings

__all__ = [
    "AdmissionSettings",
    "AdmissionView",
    "Admitted",
    "CudaProbe",
    "HostProbe",
    "MemoryGuard",
    "MemoryProbe",
    "MemoryReading",
    "NoRoomError",
    "NvmlProbe",
    "OutOfMemoryError",
    "ProbeUnavailableError",
    "choose_probe",
    "is_out_of_memory",
    "run_smaller",
]
