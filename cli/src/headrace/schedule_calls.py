"""Calls of the `schedules`, `calendars` and `targets` commands."""

from typing import Any
from urllib.parse import quote

from headrace.client import Client
from headrace.connection import DISPATCHER_URL, find_connection


def dispatcher_client() -> Client:
    """Return a client that needs nothing but the dispatcher."""
    return Client(find_connection(needs=(DISPATCHER_URL,)))


def call(method: str, path: str, **arguments: Any) -> Any:
    """Ask the dispatcher for one thing."""
    with dispatcher_client() as client:
        return client.dispatcher(method, path, **arguments)


def path_of(collection: str, name: str) -> str:
    """Return the path of what is named so."""
    return f"/{collection}/{quote(name, safe='')}"
