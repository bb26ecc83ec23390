"""What the `schedules` commands print for people."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from headrace.output import console, print_fields, print_heading, print_json, print_table

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_FIRING_COLUMNS: Final = ("ID", "ORIGIN", "STATE", "LATE", "JOB", "TOLD")


def print_schedule(schedule: dict[str, Any]) -> None:
    """Print all that is said of a schedule, and when it fires next."""
    state = schedule["state"]
    reason = schedule["paused_reason"]
    parameters = " ".join(f"{name}={value}" for name, value in schedule["params"].items())
    print_fields(
        [
            ("name", schedule["name"]),
            ("description", schedule["description"]),
            ("state", f"{state}: {reason}" if reason else state),
            ("trigger", trigger_text(schedule["trigger"])),
            ("time zone", schedule["time_zone"]),
            ("start", moment_text(schedule["start_at"])),
            ("end", moment_text(schedule["end_at"])),
            ("jitter", span_text(schedule["jitter_seconds"]) if schedule["jitter_seconds"] else ""),
            ("calendar", schedule["calendar"]),
            ("target", f"{schedule['target']} {parameters}".strip()),
            ("if missed", _misfire_text(schedule)),
            ("if it still runs", schedule["overlap"]),
            ("built in", "yes" if schedule["built_in"] else None),
            ("last", moment_text(schedule["last_fire_at"])),
            ("version", schedule["version"]),
            ("changed", f"{moment_text(schedule['changed_at'])} by {schedule['changed_by']}"),
        ]
    )
    print_next(schedule["next_firings"])


def print_next(firings: Sequence[dict[str, Any]]) -> None:
    """Print when something fires, on the clock of its zone."""
    if not firings:
        return
    print_heading("Next")
    late = [_later(firing) for firing in firings]
    columns = ("TIME", "IN", "WITH JITTER") if any(late) else ("TIME", "IN")
    print_table(
        columns,
        [
            (local_text(firing["local"]), _from_now(firing["fire_at"]), by)[: len(columns)]
            for firing, by in zip(firings, late, strict=True)
        ],
    )


def print_firings(firings: Sequence[dict[str, Any]], *, names: bool = False) -> None:
    """Print firings, newest first; with the names of their schedules where they are of several."""
    print_table(
        ("TIME", *(("SCHEDULE",) if names else ()), *_FIRING_COLUMNS),
        [
            (
                moment_text(firing["fire_at"]),
                *((firing["schedule"],) if names else ()),
                *(firing["id"], firing["origin"], firing["state"]),
                *(f"{firing['late_seconds']:.3f} s", firing["job_id"], firing_text(firing)),
            )
            for firing in firings
        ],
    )


def firing_text(firing: dict[str, Any]) -> str:
    """Return what there is to say of a firing, in a line."""
    told = [firing["reason"]] if firing["reason"] else []
    if firing["missed"]:
        told.append(f"for {firing['missed']} earlier ones too")
    told.append(_result_text(firing["result"] or {}))
    return "; ".join(filter(None, told))


def trigger_text(trigger: dict[str, Any]) -> str:
    """Return a trigger in a few words."""
    kind = trigger["type"]
    if kind == "cron":
        return f"cron {trigger['expression']}"
    if kind == "interval":
        return f"every {span_text(trigger['seconds'])}"
    if kind == "delay":
        return f"at {moment_text(trigger['at'])}, {span_text(trigger['seconds'])} after it was made"
    return f"at {moment_text(trigger['at'])}"


def span_text(seconds: float) -> str:
    """Return a duration as options take it: 1h30m."""
    if seconds != int(seconds):
        return f"{seconds:g}s"
    left, parts = int(seconds), []
    for unit, size in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def moment_text(text: str | None) -> str | None:
    """Return a time on the clock of this machine."""
    return text and datetime.fromisoformat(text).astimezone().isoformat(" ", "seconds")


def local_text(text: str) -> str:
    """Return a time as it is given, with its day of the week."""
    moment = datetime.fromisoformat(text)
    return f"{moment:%a} {moment.isoformat(' ', 'seconds')}"


def next_text(schedule: dict[str, Any]) -> str:
    """Return when a schedule fires next, or why it does not."""
    firings = schedule["next_firings"]
    return local_text(firings[0]["local"]) if firings else schedule["state"]


def print_done(schedule: dict[str, Any], done: str, *, as_json: bool) -> None:
    """Say what was done to a schedule, and when it fires next."""
    if as_json:
        print_json(schedule)
        return
    trigger = f"{trigger_text(schedule['trigger'])}, {schedule['time_zone']}"
    state = "" if schedule["state"] == "active" else f", {schedule['state']}"
    told = f"{schedule['name']} {done}: {schedule['target']}, {trigger}{state}"
    console.print(told, highlight=False, markup=False)
    print_next(schedule["next_firings"])


def tell_more(page: dict[str, Any]) -> None:
    """Say how the next page is got, if there is one."""
    if page["next_cursor"]:
        console.print(f"More: --cursor {page['next_cursor']}", highlight=False)


def _result_text(result: dict[str, Any]) -> str:
    """Return what was done; a count of none says nothing."""
    counted = {name: value for name, value in result.items() if value is False or value != 0}
    return ", ".join(f"{name}: {value}" for name, value in counted.items())


def _misfire_text(schedule: dict[str, Any]) -> str:
    policy = schedule["misfire"]
    limit = f", {schedule['misfire_limit']} at most" if policy == "all" else ""
    return f"{policy}{limit}, after {span_text(schedule['misfire_grace_seconds'])}"


def _from_now(text: str) -> str:
    moment = datetime.fromisoformat(text)
    seconds = int((moment - datetime.now(moment.tzinfo)).total_seconds())
    if seconds <= 0:
        return "due"
    if seconds >= 2 * _DAY:
        return f"{seconds // _DAY}d"
    return span_text(seconds if seconds < _HOUR else seconds - seconds % _MINUTE)


def _later(firing: dict[str, Any]) -> str | None:
    if firing["due_at"] is None:
        return None
    by = datetime.fromisoformat(firing["due_at"]) - datetime.fromisoformat(firing["fire_at"])
    return f"+ {by.total_seconds():.1f} s" if by > timedelta(0) else None
