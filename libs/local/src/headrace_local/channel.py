"""Orders to a running supervisor: a loopback port that wants the key from the state file."""

import json
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import structlog

from headrace_local.errors import LocalStackError
from headrace_local.ports import LOOPBACK
from headrace_local.state import ControlAddress, StackState

Order = Mapping[str, Any]
_log = structlog.get_logger()


def order(state: StackState, do: str, names: Iterable[str]) -> None:
    """Have the supervisor start, stop or restart processes, and wait until it is done.

    Args:
        state: of a stack that runs.
        do: start, stop or restart.
        names: of processes.

    Raises:
        LocalStackError: there is no such process, or it did not become ready.
    """
    if state.control is None:
        raise LocalStackError("the supervisor takes no orders")
    send_order(state.control, {"do": do, "names": tuple(names)})


class OrderServer:
    """Takes orders and answers when they are carried out."""

    def __init__(self, handle: Callable[[Order], None]) -> None:
        """Listen.

        Args:
            handle: carries an order out; called from a thread for each order. Its
                `LocalStackError` becomes the answer.
        """
        self._handle = handle
        key = secrets.token_urlsafe(32)
        self._listener = Listener((LOOPBACK, 0), authkey=key.encode())
        self.address = ControlAddress(port=self._listener.address[1], key=key)
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="orders", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except (AuthenticationError, EOFError, ConnectionError):
                continue  # somebody without the key
            if self._closing:
                connection.close()
                return
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with connection:
            try:
                order = json.loads(connection.recv_bytes())
                self._handle(order)
                answer: dict[str, str] = {}
            except LocalStackError as error:
                answer = {"error": error.detail}
            except EOFError:
                return
            connection.send_bytes(json.dumps(answer).encode())

    def close(self) -> None:
        """Stop listening."""
        self._closing = True
        Client((LOOPBACK, self.address.port), authkey=self.address.key.encode()).close()
        self._thread.join()
        self._listener.close()


def send_order(address: ControlAddress, order: Order) -> None:
    """Send an order and wait until it is carried out.

    Raises:
        LocalStackError: it could not be; or the supervisor is gone.
    """
    try:
        with Client((LOOPBACK, address.port), authkey=address.key.encode()) as connection:
            connection.send_bytes(json.dumps(order).encode())
            answer = json.loads(connection.recv_bytes())
    except (OSError, EOFError, AuthenticationError) as error:
        raise LocalStackError(f"the supervisor does not answer: {error!r}") from None
    if "error" in answer:
        raise LocalStackError(answer["error"])
