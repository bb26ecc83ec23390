"""The dashboards."""

from typing import Final

from headrace_monitoring.boards import (
    analysis,
    dispatcher,
    ingest,
    overview,
    preprocessor,
    results,
    scheduler,
    slo,
    timeline,
)
from headrace_monitoring.panels import Board

BOARDS: Final[tuple[Board, ...]] = (
    overview.BOARD,
    slo.BOARD,
    timeline.BOARD,
    ingest.BOARD,
    dispatcher.BOARD,
    scheduler.BOARD,
    results.BOARD,
    preprocessor.BOARD,
    analysis.BOARD,
)
