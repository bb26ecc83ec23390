"""What the drill's schedules fire at: a contract of another package; nobody takes its messages."""

from pathlib import Path
from typing import Final

from headrace_common.contracts.schedules import TARGETS_GROUP, NoParams, TargetContract

NOTE: Final = TargetContract(
    name="drill.note",
    summary="A message that stays where it is, to be counted",
    params=NoParams,
    queue="drill",
    actor="drill.note",
    tracked=False,
)


def declare(place: Path) -> None:
    """Write what makes Python find the entry point, as an installed package would have it."""
    about = place / "headrace_drill_target-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: headrace-drill-target\nVersion: 1\n"
    )
    (about / "entry_points.txt").write_text(f"[{TARGETS_GROUP}]\nnote = {__name__}:NOTE\n")
