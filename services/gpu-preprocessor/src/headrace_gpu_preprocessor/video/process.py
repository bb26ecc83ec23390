"""The decoder process, from the parent's side."""

import socket
import subprocess
import sys
from typing import Any, Final

from headrace_gpu_preprocessor.decoder.protocol import Channel, Kind
from headrace_gpu_preprocessor.video.memory import FrameMemory

#: Just enough for Python; secrets of the service stay here.
_ENVIRONMENT: Final = {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
_REAP_SECONDS: Final = 5
_MODULE: Final = "headrace_gpu_preprocessor.decoder"


class DecoderProcess:
    """A fresh Python (never forked: threads and CUDA do not survive it) with one socket.

    It dies with the thread that makes it: to the kernel, that is its parent.
    """

    def __init__(self) -> None:
        """Start it; it waits for its order.

        Raises:
            OSError: the system starts no more processes.
        """
        self._frames: FrameMemory | None = None
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _started(theirs.fileno())
            except BaseException:
                ours.close()
                raise
        self.channel = Channel(ours)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def begin(self, order: dict[str, Any], frame_bytes: int) -> FrameMemory:
        """Give it its order, once.

        Args:
            order: for its START.
            frame_bytes: of all frames that it may hand over.

        Returns:
            Where it puts the frames.

        Raises:
            OSError: it is gone, or the system has no memory for frames.
        """
        self._frames = FrameMemory(frame_bytes)
        self.channel.send_descriptor(self._frames.descriptor)
        self.channel.send_json(Kind.START, order)
        return self._frames

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
        if self._frames is not None:
            self._frames.close()


def _started(descriptor: int) -> subprocess.Popen[bytes]:
    """Start a decoder that has one descriptor of ours, and no other."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-I", "-m", _MODULE, str(descriptor)],
        pass_fds=(descriptor,),
        env=_ENVIRONMENT,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
