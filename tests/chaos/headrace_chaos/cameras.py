"""Simulated cameras, played by a process of their own."""

import json
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

from headrace_common.errors import UnavailableError

#: Small and short: what is to be tried is the way of a job, not the eye of the detector.
_OPTIONS: Final = ("--cameras", "2", "--size", "320x180", "--rate", "10", "--seconds", "3", "--vod")
CLIP_SECONDS: Final = 1
_STOP_SECONDS: Final = 10


class Cameras:
    """A context manager; `urls` are the playlists."""

    def __init__(self) -> None:
        """Make it; nothing runs before it is entered."""
        self.urls: tuple[str, ...] = ()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start them, and wait until they show something."""
        command = [sys.executable, "-m", "headrace_gpu_preprocessor.simulate", "serve", *_OPTIONS]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UnavailableError("the simulated cameras did not start")
        self.urls = tuple(camera["url"] for camera in json.loads(line)["cameras"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop them."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
