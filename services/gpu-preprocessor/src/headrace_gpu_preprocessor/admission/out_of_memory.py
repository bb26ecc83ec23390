"""Running out of memory: recognised by its looks, tried smaller, then later; never fatal."""

import gc
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from headrace_common.errors import UnavailableError
from headrace_gpu_preprocessor.admission import metrics

log = structlog.get_logger()

Answer = TypeVar("Answer")

#: torch is not imported to ask: a process without it cannot have raised its error.
_TORCH_ERRORS: Final = frozenset({"OutOfMemoryError", "AcceleratorError"})
#: What the allocators of onnxruntime, CUDA, cuDNN and OpenCV say, in lower case.
_PHRASES: Final = (
    "failed to allocate memory",
    "out of memory",
    "cuda_error_out_of_memory",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
    "bfcarena::allocaterawinternal",
    "insufficient memory",
    "bad_alloc",
)
#: Modules whose errors are believed when they say so.
_SPEAKERS: Final = ("torch", "onnxruntime", "cv2", "builtins")


class OutOfMemoryError(UnavailableError):
    """There was not enough memory, of the GPU or the host, even for the smallest batch."""

    code = "out_of_memory"
    title = "Out of memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    kind = type(error)
    speaker = kind.__module__.partition(".")[0]
    if speaker == "torch" and kind.__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    says_so = any(phrase in text for phrase in _PHRASES)
    if speaker == "torch" and kind.__name__ in _TORCH_ERRORS:
        return says_so
    # onnxruntime raises classes of a C module, torch and OpenCV plain RuntimeErrors too.
    return speaker in _SPEAKERS and isinstance(error, Exception) and says_so


def run_smaller(
    run: Callable[[int], Answer],
    *,
    batch: int,
    release: Callable[[], object] = gc.collect,
) -> Answer:
    """Run with a batch size, and again with half of it each time that memory runs out.

    Args:
        run: does the whole work with the batch size it is given.
        batch: the first size, at least 1.
        release: gives memory back before the next try; `torch.cuda.empty_cache` on a GPU.

    Raises:
        OutOfMemoryError: not even a batch of one found room; another attempt later may.
    """
    while True:
        try:
            return run(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)[:300] or type(error).__name__
        # Outside of the handler, so that the traceback holds no tensor any more.
        metrics.OUT_OF_MEMORY.inc()
        log.warning("admission.out_of_memory", batch=batch, reason=reason)
        release()
        if batch <= 1:
            raise OutOfMemoryError(f"out of memory with a batch of one: {reason}", retry_after=30)
        batch //= 2
