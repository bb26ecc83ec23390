"""Decoder processes that are started before a clip needs them, each for one clip."""

import threading
from collections import deque
from typing import Final

import structlog

from headrace_gpu_preprocessor.video.process import DecoderProcess

log = structlog.get_logger()

_SPARES: Final = 1


class DecoderPool:
    """Keeps spare decoders waiting. Safe for several threads.

    A thread of its own starts them: a decoder dies with the thread that started it, and the one
    that takes a clip may end long before the spare is used.
    """

    def __init__(self, spares: int = _SPARES) -> None:
        """Make it; nothing is started before `warm` or the first clip.

        Args:
            spares: that wait for a clip.

        Raises:
            ValueError: none.
        """
        if spares < 1:
            raise ValueError("a pool needs a spare")
        self._most = spares
        self._spares: deque[DecoderProcess] = deque()
        self._changed = threading.Condition()
        self._wanted = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def warm(self) -> None:
        """Start the spares that are missing, without waiting for them."""
        with self._changed:
            if self._closed:
                return
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="decoder-pool", daemon=True)
                self._thread.start()
            self._wanted = True
            self._changed.notify_all()

    def take(self) -> DecoderProcess:
        """Return a decoder that has no order yet; the caller closes it, then calls `warm`.

        Not before: decoding keeps every core busy, what follows it does not.

        A spare where one lives, else a new one, which dies with the calling thread. A spare dies
        when the pool is closed, whether taken or not.

        Raises:
            OSError: the system starts no more processes.
        """
        with self._changed:
            found = self._living_spare()
        return found or DecoderProcess()

    def close(self) -> None:
        """End the spares. Clips read afterwards start a decoder each."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        while self._spares:
            self._spares.popleft().close()

    def _living_spare(self) -> DecoderProcess | None:
        while self._spares:
            spare = self._spares.popleft()
            if spare.alive:
                return spare
            log.warning("video.spare_decoder_died", exit_code=spare.exit_code())
            spare.close()
        return None

    def _keep(self) -> None:
        """Start spares whenever they are wanted, until the pool is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                self._wanted = False
                missing = self._most - len(self._spares)
            for _ in range(missing):
                try:
                    spare = DecoderProcess()
                except Exception as error:  # noqa: BLE001 - the spares of later clips need the thread
                    # The clip that needs one tries again, and tells if that fails.
                    log.warning("video.no_spare_decoder", error=repr(error))
                    break
                with self._changed:
                    self._spares.append(spare)
