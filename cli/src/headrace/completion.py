"""What tab completion offers beyond the commands: ids that exist, processes of the stack."""

from headrace.client import Client
from headrace.connection import DISPATCHER_URL, find_connection
from headrace.failures import CommandError
from headrace_local.state import find_stack

#: Newest jobs, tokens and cameras that are offered.
_OFFERED = 50


def job_ids(incomplete: str) -> list[str]:
    """Offer the newest jobs."""
    return _ids("jobs", "job_id", incomplete)


def token_ids(incomplete: str) -> list[str]:
    """Offer tokens."""
    return _ids("tokens", "id", incomplete)


def camera_names(incomplete: str) -> list[str]:
    """Offer registered cameras."""
    return _ids("cameras", "name", incomplete)


def schedule_names(incomplete: str) -> list[str]:
    """Offer schedules."""
    params = {"limit": _OFFERED, "firings": 0, "prefix": incomplete or None}
    return _names("schedules", {name: value for name, value in params.items() if value is not None})


def calendar_names(incomplete: str) -> list[str]:
    """Offer calendars."""
    return [name for name in _names("calendars", {}) if name.startswith(incomplete)]


def target_names(incomplete: str) -> list[str]:
    """Offer what schedules can fire at."""
    return [name for name in _names("targets", {}) if name.startswith(incomplete)]


def process_names(incomplete: str) -> list[str]:
    """Offer the processes of the local stack."""
    stack = find_stack()
    names = [record.name for record in stack.processes] if stack else []
    return [name for name in [*names, "supervisor"] if name.startswith(incomplete)]


def _ids(collection: str, field: str, incomplete: str) -> list[str]:
    try:
        with Client() as client:
            call = client.results if collection == "jobs" else client.ingest
            answer = call("GET", f"/{collection}", params={"limit": _OFFERED})
    except CommandError:
        # Completion has no place to complain in; the command itself will.
        return []
    return [item[field] for item in answer[collection] if item[field].startswith(incomplete)]


def _names(collection: str, params: dict[str, str | int]) -> list[str]:
    try:
        with Client(find_connection(needs=(DISPATCHER_URL,))) as client:
            answer = client.dispatcher("GET", f"/{collection}", params=params)
    except CommandError:
        return []
    return [item["name"] for item in answer[collection]]
