"""Runs ministack so that its queues outlive a kill; executed by the Python that has ministack.

ministack writes its state when it stops cleanly, and only then. This saves it within a second
of each change, as Redis does: a forked child writes a snapshot while the server goes on, so
that the server pauses for the fork (milliseconds) whatever the backlog. The last second before
a kill is lost.

It stands on four names inside ministack, which `_check_ministack` verifies at the start; the
version is pinned in `tools`.
"""

import argparse
import asyncio
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_SAVE_EVERY_SECONDS = 1.0
#: A writer takes well under a second for 10,000 messages; one that takes this long hangs.
_WRITER_TIMEOUT_SECONDS = 30.0
#: Actions that leave the state as it is. Receiving changes it when something was received.
_READING = {b"GetQueueUrl", b"GetQueueAttributes", b"ListQueues", b"ListQueueTags"}
_RECEIVING = b"ReceiveMessage"
#: Where queue URLs point inside ministack; the answers carry the address that a client used.
#: It stays the same when our port changes, so that the saved queues are found again.
_CANONICAL_PORT = "4566"


class Snapshots:
    """Saves the state of the SQS service in the background."""

    def __init__(self, sqs: Any, persistence: Any, *, every: float = _SAVE_EVERY_SECONDS) -> None:
        """Make it for ministack's modules `services.sqs` and `core.persistence`."""
        self._sqs = sqs
        self._persistence = persistence
        self._every = every
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._saving = asyncio.Lock()

    def note_change(self) -> None:
        """Remember that there is something to save."""
        self._changed.set()

    def start(self) -> None:
        """Begin to save."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop saving, so that ministack's own final save comes last."""
        if self._task:
            self._task.cancel()
        async with self._saving:  # a writer under way would replace the final state
            return

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            started = time.monotonic()
            await asyncio.shield(self._save())
            # A writer of a large backlog keeps a core busy: at most half of the time.
            took = time.monotonic() - started
            await asyncio.sleep(max(self._every, 2 * took))

    async def _save(self) -> None:
        async with self._saving:
            pid = os.fork()
            if pid == 0:
                self._write_and_exit()
            status = await asyncio.to_thread(_wait, pid)
            if status != 0:
                self._changed.set()
                print(f"saving the queues failed with status {status}", file=sys.stderr)  # noqa: T201

    def _write_and_exit(self) -> None:
        """In the child: write the snapshot, and leave without running anybody's clean-up."""
        status = 1
        try:
            write_state(self._sqs, self._persistence)
            status = 0
        except Exception as error:  # noqa: BLE001 - the child must not return into the server
            os.write(2, f"saving the queues: {error!r}\n".encode())
        finally:
            os._exit(status)


def _wait(pid: int) -> int:
    """Wait for a writer, for a limited time, and return its status."""
    deadline = time.monotonic() + _WRITER_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def state_text(sqs: Any, persistence: Any) -> str:
    """Return the state as ministack's own `save_state` would write it, ten times as fast."""
    payload = {"queues": sqs._queues, "queue_name_to_url": sqs._queue_name_to_url}  # noqa: SLF001
    version = persistence._state_format_version("sqs")  # noqa: SLF001
    return json.dumps(
        {"__ministack_format__": version, "payload": payload},
        default=persistence._json_default,  # noqa: SLF001
    )


def write_state(sqs: Any, persistence: Any) -> None:
    """Replace the state file as a whole, on the disk."""
    path = Path(persistence.STATE_DIR) / "sqs.json"
    temporary = path.with_suffix(".snapshot")
    with temporary.open("w") as file:
        file.write(state_text(sqs, persistence))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def durable(app: _App, snapshots: Snapshots) -> _App:
    """Wrap ministack's application so that changes are noticed and saved."""

    async def wrapped(scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, *_lifespan_hooks(snapshots, receive, send))
            return
        action = _action(scope)
        if action == _RECEIVING:
            send = _note_received(snapshots, send)
        await app(scope, receive, send)
        if action not in _READING and action != _RECEIVING:
            snapshots.note_change()

    return wrapped


def _lifespan_hooks(snapshots: Snapshots, receive: _Receive, send: _Send) -> tuple[_Receive, _Send]:
    async def receiving() -> _Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await snapshots.close()
        return message

    async def sending(message: _Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            snapshots.start()
        await send(message)

    return receiving, sending


def _note_received(snapshots: Snapshots, send: _Send) -> _Send:
    async def sending(message: _Message) -> None:
        if b"ReceiptHandle" in message.get("body", b""):
            snapshots.note_change()
        await send(message)

    return sending


def _action(scope: _Message) -> bytes:
    """Return the action of a request in the JSON protocol; empty for the older one."""
    headers: list[tuple[bytes, bytes]] = scope.get("headers", [])
    target = next((value for name, value in headers if name == b"x-amz-target"), b"")
    return target.rpartition(b".")[2]


def _check_ministack(app: Any, sqs: Any, persistence: Any) -> None:
    """Fail at once, and not by losing queues, if ministack is not as this file knows it."""
    if not persistence.PERSIST_STATE:
        raise SystemExit("PERSIST_STATE is not set")
    if app._state_map.get("sqs") != "sqs":  # noqa: SLF001
        raise SystemExit("this ministack keeps its queues elsewhere")
    theirs = {"__ministack_format__": persistence._state_format_version("sqs")}  # noqa: SLF001
    theirs["payload"] = sqs.get_state()
    if json.dumps(theirs, default=persistence._json_default) != state_text(sqs, persistence):  # noqa: SLF001
        raise SystemExit("this ministack writes its state differently")


async def _serve(host: str, port: int) -> None:
    app = importlib.import_module("ministack.app")
    sqs = importlib.import_module("ministack.services.sqs")
    persistence = importlib.import_module("ministack.core.persistence")
    _check_ministack(app, sqs, persistence)
    serve = importlib.import_module("hypercorn.asyncio").serve
    config = importlib.import_module("hypercorn.config").Config()
    config.bind = [f"{host}:{port}"]
    config.loglevel = os.environ.get("LOG_LEVEL", "WARNING")
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1  # long polls need not be waited for
    await serve(durable(app.app, Snapshots(sqs, persistence)), config)


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    os.environ["GATEWAY_PORT"] = _CANONICAL_PORT
    os.environ.pop("MINISTACK_HOST", None)
    asyncio.run(_serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
