"""Where the services are and with which key: by environment, or from the local stack."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.failures import CommandError, ExitCode
from headrace_local.state import StackState, find_stack

if TYPE_CHECKING:
    from headrace_common.settings import DatabaseSettings

INGEST_URL = "HEADRACE_INGEST_URL"
RESULTS_URL = "HEADRACE_RESULTS_URL"
PREPROCESSOR_URL = "HEADRACE_PREPROCESSOR_URL"
DISPATCHER_URL = "HEADRACE_DISPATCHER_URL"
API_KEY = "HEADRACE_API_KEY"  # the variable's name, not a key

#: What most commands need.
_USUAL: Final = (INGEST_URL, RESULTS_URL)


@dataclass(frozen=True)
class Connection:
    """How to reach Headrace; a service that a command does not need may be empty."""

    ingest_url: str
    results_url: str
    api_key: str
    preprocessor_url: str = ""
    dispatcher_url: str = ""


def find_connection(needs: Collection[str] = _USUAL) -> Connection:
    """Return how to reach Headrace.

    HEADRACE_INGEST_URL, HEADRACE_RESULTS_URL, HEADRACE_PREPROCESSOR_URL, HEADRACE_DISPATCHER_URL
    and HEADRACE_API_KEY say it; what they leave open comes from the local stack of this directory.

    Args:
        needs: variables of the services that must be known; the key always must.

    Raises:
        CommandError: something is left open and no local stack runs here.
    """
    stack = find_stack()
    endpoints = stack.endpoints if stack else {}
    found = {
        INGEST_URL: os.environ.get(INGEST_URL) or endpoints.get("ingest_url"),
        RESULTS_URL: os.environ.get(RESULTS_URL) or endpoints.get("results_url"),
        API_KEY: os.environ.get(API_KEY) or (stack.api_key if stack else None),
        PREPROCESSOR_URL: os.environ.get(PREPROCESSOR_URL) or endpoints.get("preprocessor_url"),
        DISPATCHER_URL: os.environ.get(DISPATCHER_URL) or endpoints.get("dispatcher_url"),
    }
    missing = [name for name in (*needs, API_KEY) if not found[name]]
    if stack and not stack.is_running and not all(os.environ.get(name) for name in needs):
        raise CommandError(_not_running(stack), ExitCode.UNAVAILABLE)
    if missing:
        raise CommandError(
            f"no local stack here (`headrace up` starts one), and not set: {', '.join(missing)}",
            ExitCode.UNAVAILABLE,
        )
    return Connection(*((value or "").rstrip("/") for value in found.values()))


def find_environment() -> dict[str, str]:
    """Return the settings that commands for operators use: the local stack's, then our own."""
    stack: StackState | None = find_stack()
    return {**(stack.env if stack else {}), **os.environ}


def find_database() -> "DatabaseSettings":
    """Return how to reach the database: DATABASE_URL, else the local stack's.

    Raises:
        CommandError: neither is there, or DATABASE_URL is none.
    """
    stack = find_stack()
    if stack and not stack.is_running and not os.environ.get("DATABASE_URL"):
        raise CommandError(_not_running(stack), ExitCode.UNAVAILABLE)
    url = find_environment().get("DATABASE_URL")
    if not url:
        raise CommandError(
            "set DATABASE_URL, or start a local stack with `headrace up`", ExitCode.UNAVAILABLE
        )
    from pydantic import ValidationError  # noqa: PLC0415 - few commands want them

    from headrace_common.settings import DatabaseSettings  # noqa: PLC0415

    try:
        return DatabaseSettings.model_validate({"database_url": url})
    except ValidationError as error:
        # The error itself would show the URL, and the password that may be in it.
        told = "; ".join(each["msg"] for each in error.errors(include_input=False))
        raise CommandError(f"DATABASE_URL: {told}", ExitCode.USAGE) from None


def _not_running(stack: StackState) -> str:
    return f"the local stack in {stack.directory} does not run; `headrace up` starts it"
