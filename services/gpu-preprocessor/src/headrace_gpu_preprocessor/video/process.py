"""The decoder process, from the parent's side."""

import socket
import subprocess
import sys
from typing import Final

from headrace_gpu_preprocessor.decoder.protocol import Channel
from headrace_gpu_preprocessor.video.memory import FrameMemory

#: Just enough for Python; secrets of the service stay here.
_ENVIRONMENT: Final = {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
_REAP_SECONDS: Final = 5
_MODULE: Final = "headrace_gpu_preprocessor.decoder"


class DecoderProcess:
    """A fresh Python (never forked: threads and CUDA do not survive it) with one socket."""

    def __init__(self, frame_bytes: int) -> None:
        """Start it; it waits for its order.

        Args:
            frame_bytes: of all frames that it may hand over.
        """
        self.frames = FrameMemory(frame_bytes)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    sys.executable,
                    "-I",
                    "-m",
                    "headrace_gpu_preprocessor.decoder",
                    str(theirs.fileno()),
                    str(self.frames.descriptor),
                ],
                pass_fds=(theirs.fileno(), self.frames.descriptor),
                env=_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.channel = Channel(ours)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return how it ended, once it has: negative for a signal."""
        try:
            return self._process.wait(timeout=_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """End it, whatever it does, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        self.channel.socket.close()
        self.frames.close()
