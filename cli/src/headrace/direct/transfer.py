"""Sending parts to S3, several at a time, each tried again while that can help."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Final

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from headrace.client import Client
from headrace.direct.parts import FileParts, md5_of
from headrace.failures import CommandError, ExitCode

#: Tries of a part, or of a call to the API: over half a minute in all.
TRIES: Final = 7
_LONGEST_WAIT_SECONDS: Final = 15.0
#: S3 answers once it has a part on its disks.
_TIMEOUT: Final = httpx.Timeout(60, connect=5, write=20)
_PIECE_BYTES: Final = 256 * 1024
#: Refused for good, whatever is sent: the bucket's policy, or a proxy's limit.
_FINAL_STATUSES: Final = frozenset({401, 404, 405, 411, 413})


class PartRefusedError(Exception):
    """S3 did not take a part."""

    def __init__(self, number: int, status: int) -> None:
        """Tell of part `number`."""
        super().__init__(f"S3 refused part {number} ({status})")
        self.status = status


def patiently(sleep: Callable[[float], None] = time.sleep) -> Retrying:
    """Return what tries again while a server is away: with growing pauses, and jitter."""
    return Retrying(
        sleep=sleep,
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_SECONDS),
        reraise=True,
    )


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, PartRefusedError):
        return error.status not in _FINAL_STATUSES
    if isinstance(error, CommandError):
        return error.code is ExitCode.UNAVAILABLE
    return isinstance(error, httpx.TransportError)


class PartSender:
    """Sends parts of one upload."""

    def __init__(self, client: Client, job_id: str, parts: FileParts) -> None:
        """Send the parts of `job_id`'s file."""
        self._client = client
        self._path = f"/direct-uploads/{job_id}/parts"
        self._parts = parts
        # A client of its own: our key is nobody's business in S3.
        self._http = httpx.Client(timeout=_TIMEOUT)
        self._stopping = threading.Event()
        self.etags_are_md5 = True

    def send(
        self, numbers: Iterable[int], *, parallel: int, sent: Callable[[int], None]
    ) -> dict[int, str]:
        """Send parts and return their MD5s by number.

        Args:
            numbers: of the parts.
            parallel: how many at a time; as many are in memory.
            sent: told of each part's bytes once S3 has it.

        Raises:
            CommandError: one did not get through.
        """
        digests: dict[int, str] = {}
        pool = ThreadPoolExecutor(parallel, thread_name_prefix="part")
        try:
            futures = {pool.submit(self._send, number): number for number in numbers}
            for future in as_completed(futures):
                number = futures[future]
                digests[number] = future.result()
                sent(self._parts.bytes_of(number))
        except (httpx.TransportError, PartRefusedError) as error:
            raise CommandError(
                f"S3 does not take the parts: {error}", ExitCode.UNAVAILABLE
            ) from None
        finally:
            self._stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._http.close()
        return digests

    def _send(self, number: int) -> str:
        content = self._parts.read(number)
        digest = md5_of(content)
        for attempt in patiently(self._pause):
            with attempt:
                if self._stopping.is_set():
                    raise CommandError("the upload was interrupted")
                self._put(self._url(number, digest), content)
        return digest

    def _url(self, number: int, digest: str) -> dict[str, Any]:
        """Get a fresh URL each time: an old one may have run out."""
        wish = {"parts": [{"number": number, "md5": digest}]}
        answer = self._client.ingest("POST", self._path, json=wish)
        url: dict[str, Any] = answer["urls"][0]
        return url

    def _pause(self, seconds: float) -> None:
        self._stopping.wait(seconds)

    def _pieces(self, content: bytes) -> Iterator[bytes]:
        """Yield a part until somebody wants to stop: that need not wait for slow connections."""
        for start in range(0, len(content), _PIECE_BYTES):
            if self._stopping.is_set():
                raise CommandError("the upload was interrupted")
            yield content[start : start + _PIECE_BYTES]

    def _put(self, url: dict[str, Any], content: bytes) -> None:
        headers = {**url["headers"], "Content-Length": str(len(content))}
        answer = self._http.put(url["url"], content=self._pieces(content), headers=headers)
        if answer.status_code != 200:
            raise PartRefusedError(url["number"], answer.status_code)
        if answer.headers.get("etag", "").strip('"') != md5_of(content):
            self.etags_are_md5 = False
