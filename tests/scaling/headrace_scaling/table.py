"""The replica table, for people: printed, and kept in docs/how-to/scale.md."""

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Final

from headrace_scaling.outcomes import Batch, HandOver, Outcome, Row, Schedulers

PAGE: Final = Path(__file__).parents[3] / "docs" / "how-to" / "scale.md"
_BEGIN: Final = "<!-- Written by `make scaling`. -->\n"
_END: Final = "<!-- Until here. -->\n"


def render(outcome: Outcome, *, why_no_share: str | None) -> str:
    """Return the tables as Markdown.

    Args:
        outcome: of a run.
        why_no_share: why no replica could be held to a share of a core; None if they were.
    """
    return "\n".join([*_about(why_no_share), *_works(outcome.rows), *_schedulers(outcome)]) + "\n"


def write(tables: str, page: Path = PAGE) -> None:
    """Replace the tables of a page.

    Raises:
        ValueError: it has no place for them.
    """
    text = page.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the tables")
    page.write_text(f"{before}{begin}\n{tables}\n{end}{after}")


def _about(why_no_share: str | None) -> Iterator[str]:
    today = date.today()  # noqa: DTZ011 - for people, where they are
    python = platform.python_version()
    yield (
        f"{today}, {os.cpu_count()} shared cores, Python {python}; servers and clients on the same "
        "machine."
    )
    if why_no_share is not None:
        yield (
            f"**No replica could be held to a share of a core** ({why_no_share}): what is bound by "
            "CPU gets no faster than the machine."
        )
    yield ""


def _works(rows: Sequence[Row]) -> Iterator[str]:
    counts = [batch.replicas for batch in rows[0].batches] if rows else []
    heads = [
        *("Deployment", "work", "cores each"),
        *(f"{count} replica{'s' if count > 1 else ''}" for count in counts),
        *("fairness", "twice", "lost", "killed", "stopped"),
    ]
    if not rows:
        return
    yield _line(heads)
    yield _line(["---"] * len(heads))
    for row in rows:
        ends = {end.killed: end for end in row.hand_overs}
        yield _line(
            [
                f"`{row.deployment}`",
                row.what,
                "-" if row.cores is None else f"{row.cores:g}",
                *(_speed(row, batch) for batch in row.batches),
                ", ".join(f"{batch.fairness:.2f}" for batch in row.batches[1:]),
                str(sum(batch.twice for batch in row.batches)),
                str(sum(batch.lost for batch in row.batches)),
                _killed(row, ends.get(True)),
                _stopped(ends.get(False)),
            ]
        )
    yield ""


def _speed(row: Row, batch: Batch) -> str:
    if batch is row.batches[0]:
        return f"{batch.rate:.1f}/s"
    return f"{batch.rate:.1f}/s = **{row.speed_up(batch):.1f}**"


def _killed(row: Row, end: HandOver | None) -> str:
    if end is None:
        return ""
    one = f"one of {end.replicas}: "
    if not end.handed:
        return f"{one}nothing in hand; {end.lost} lost"
    again = f", {end.twice} sent twice" if end.twice else ""
    after = f", by `{row.settled_by}`" if row.settled_by else ""
    within = f"within {end.seconds:.1f} s{after}"
    return f"{one}{end.handed} elsewhere {within}{again}; {end.lost} lost"


def _stopped(end: HandOver | None) -> str:
    if end is None:
        return ""
    handed = f"{end.handed} elsewhere within {end.seconds:.1f} s" if end.handed else "ended its own"
    one = f"one of {end.replicas}: "
    return f"{one}gone after {end.gone_seconds:.1f} s, {handed}; {end.twice} twice, {end.lost} lost"


def _schedulers(outcome: Outcome) -> Iterator[str]:
    if outcome.schedulers is None:
        return
    yield from _firings(outcome.schedulers)


def _firings(found: Schedulers) -> Iterator[str]:
    heads = ["`scheduler`", "due times", "fired twice", "missed", "another led after"]
    yield _line(heads)
    yield _line(["---"] * len(heads))
    for batch in found.firings:
        name = f"{batch.replicas} replica{'s' if batch.replicas > 1 else ''}"
        yield _line([name, str(batch.due), str(batch.twice), str(batch.wrong), ""])
    for end in found.take_overs:
        name = f"2, the leader {'killed' if end.killed else 'stopped'}"
        cells = [str(end.due), str(end.twice), str(end.wrong), f"{end.seconds:.1f} s"]
        yield _line([name, *cells])
    yield ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
