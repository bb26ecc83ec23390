"""Camera jobs for people: what was looked at, what was found, and where the pictures are."""

from typing import Any

from headrace.output import print_fields, print_table


def print_camera_job(job: dict[str, Any], artifacts: list[dict[str, Any]]) -> None:
    """Print a camera job's fields, and its result with links to the artefacts."""
    told, done = job["input"], job["metadata"]
    attempt = done.get("attempt", told.get("attempt"))
    error = job["error"]
    print_fields((name, job[name]) for name in ("job_id", "kind", "status", "progress", "message"))
    print_fields(
        [
            ("camera", told.get("cctv_id")),
            ("stream", told.get("hls")),
            ("clip", f"{told['sec']:g} s" if "sec" in told else None),
            ("retry", attempt or None),
            ("stage", done.get("stage")),
            ("consumer", done.get("consumer")),
            ("entry", job["queue_message_id"]),
            ("error", f"{error['code']}: {error['message']}" if error else None),
            ("trace_id", job["trace_id"]),
            ("created_at", job["created_at"]),
        ]
    )
    if job["result"]:
        print_camera_result(job["result"], artifacts)


def print_camera_result(result: dict[str, Any], artifacts: list[dict[str, Any]]) -> None:
    """Print what was found, and links to those artefacts that are given, good for minutes."""
    classes = result.get("damages_by_class") or {}
    print_fields(
        [
            ("damages", str(result["damages"])),
            ("by class", ", ".join(f"{name} {count}" for name, count in sorted(classes.items()))),
            ("worst", result.get("worst_severity")),
            ("damaged", f"{100 * result['damaged_share']:.2f} % of the road"),
            ("quality", f"{result['quality']:.2f} of the background, from 0 to 1"),
            ("in Swift", f"{result['container']}/{result['folder']}"),
        ]
    )
    if artifacts:
        print_table(
            ("ARTEFACT", "BYTES", "LINK"),
            [(each["name"], each["bytes"], each["url"] or "none") for each in artifacts],
        )
