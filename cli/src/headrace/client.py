"""The HTTP API as Python calls: problems become `CommandError`, streams resume by themselves."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, connect_sse

from headrace.connection import Connection, find_connection
from headrace.failures import CommandError, ExitCode
from headrace_common.contracts.events import JobEvent

#: An upload answers once the file is stored, a stream is silent for its ping's interval.
_TIMEOUT: Final = httpx.Timeout(60, connect=5)
#: A stream that breaks is taken up again for so long before we give up.
_RECONNECT_FOR_SECONDS: Final = 60.0
_RECONNECT_DELAY_SECONDS: Final = 1.0


class Client:
    """Talks to the services."""

    def __init__(self, connection: Connection | None = None) -> None:
        """Use `connection`, or find one."""
        self.connection = connection or find_connection()
        self._http = httpx.Client(
            timeout=_TIMEOUT, headers={"authorization": f"Bearer {self.connection.api_key}"}
        )

    def __enter__(self) -> Self:
        """Use the client in a `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close its connections."""
        self._http.close()

    def ingest(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the ingest API and return the JSON it answers; None where it has no content.

        Raises:
            CommandError: it answered with a problem, or not at all.
        """
        return self._call(method, self.connection.ingest_url + path, **arguments)

    def results(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the results service like `ingest`."""
        return self._call(method, self.connection.results_url + path, **arguments)

    def preprocessor(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the gpu-preprocessor like `ingest`."""
        return self._call(method, self.connection.preprocessor_url + path, **arguments)

    def dispatcher(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the dispatcher like `ingest`."""
        return self._call(method, self.connection.dispatcher_url + path, **arguments)

    def upload(
        self,
        token_id: str,
        file: BinaryIO,
        *,
        name: str,
        priority: str,
        begin: Mapping[str, str],
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Upload a recording, streaming it from `file`; `begin` is `run_at`, `delay` or nothing."""
        answer: dict[str, Any] = self.ingest(
            "POST",
            f"/tokens/{token_id}/upload-audio",
            params={"priority": priority, **begin},
            files={"file": (name, file, "application/octet-stream")},
            headers={"idempotency-key": idempotency_key} if idempotency_key else {},
        )
        return answer

    def preprocess(
        self, cctv_id: str, body: dict[str, Any], *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Have a camera looked at."""
        answer: dict[str, Any] = self.ingest(
            "POST",
            f"/cctv/{quote(cctv_id, safe='')}/preprocess",
            json=body,
            headers={"idempotency-key": idempotency_key} if idempotency_key else {},
        )
        return answer

    def put_reference(self, token_id: str, kind: str, path: Path) -> dict[str, Any]:
        """Upload a token's TextGrid (`kind` textgrid) or reference pitch (`pitch`)."""
        answer: dict[str, Any] = self.ingest(
            "PUT", f"/tokens/{token_id}/{kind}", content=path.read_bytes()
        )
        return answer

    def events(self, job_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a job's events by name, from its first to its final one.

        A stream that breaks is resumed behind the last event seen. A job that was begun anew has
        a final event in the midst of its history, so that only the server ends its stream.

        Raises:
            CommandError: there is no such job, or the stream stayed broken for a minute.
        """
        last_id, silent_since = "", time.monotonic()
        ended = False
        while True:
            try:
                for event in self._stream(job_id, last_id):
                    silent_since = time.monotonic()
                    last_id = event.id or last_id
                    if not event.data:  # only sets the reconnection time
                        continue
                    data = event.json()
                    yield event.event, data
                    if event.event != "queue_position":
                        ended = JobEvent.model_validate(data).status.is_final
                if ended:
                    return
            except httpx.TransportError as error:
                if time.monotonic() - silent_since > _RECONNECT_FOR_SECONDS:
                    raise CommandError(f"the stream broke: {error}", ExitCode.UNAVAILABLE) from None
            time.sleep(_RECONNECT_DELAY_SECONDS)

    def _stream(self, job_id: str, last_id: str) -> Iterator[Any]:
        url = f"{self.connection.results_url}{job_path(job_id)}/events"
        headers = {"last-event-id": last_id} if last_id else {}
        with connect_sse(self._http, "GET", url, headers=headers) as source:
            if source.response.status_code == 204:  # nothing follows
                return
            yield from _checked(source).iter_sse()

    def _call(self, method: str, url: str, **arguments: Any) -> Any:
        try:
            answer = self._http.request(method, url, **arguments)
        except httpx.TransportError as error:
            raise CommandError(
                f"no answer from {httpx.URL(url).host}:{httpx.URL(url).port}: {error}",
                ExitCode.UNAVAILABLE,
            ) from None
        _raise_problem(answer)
        return answer.json() if answer.content else None


def job_path(job_id: str) -> str:
    """Return a job's path; whoever chose its id was free in that."""
    return f"/jobs/{quote(job_id, safe='')}"


def _checked(source: EventSource) -> EventSource:
    if source.response.is_error:
        source.response.read()
    _raise_problem(source.response)
    return source


def _raise_problem(answer: httpx.Response) -> None:
    """Turn an error into one line: what problem+json says, else the bare status."""
    if not answer.is_error:
        return
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:200] or answer.reason_phrase
    codes = {404: ExitCode.NOT_FOUND}
    code = codes.get(
        answer.status_code,
        ExitCode.UNAVAILABLE if answer.status_code >= 500 else ExitCode.REFUSED,
    )
    raise CommandError(f"{detail} ({answer.status_code})", code)
