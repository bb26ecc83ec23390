"""What is measured of dead letters."""

from typing import Final

from prometheus_client import Counter, Gauge

from headrace_common.telemetry.metrics import from_zero
from headrace_dispatcher.dead.letter import Source
from headrace_dispatcher.dead.plan import Action

COLLECTED: Final = Counter(
    "headrace_dead_letters_collected_total",
    "Letters that were found for the first time",
    ["source"],
)
from_zero(COLLECTED, Source)
REPLAYED: Final = Counter(
    "headrace_dead_letters_replayed_total",
    "Letters that were replayed, by what that came to",
    ["source", "action"],
)
from_zero(REPLAYED, Source, Action)
REPLAYS_FAILED: Final = Counter(
    "headrace_dead_letters_replays_failed_total",
    "Replays that did not work out, and were put off or given up",
    ["source", "outcome"],
)
from_zero(REPLAYS_FAILED, Source, ("put_off", "given_up"))
DROPPED: Final = Counter(
    "headrace_dead_letters_dropped_total", "Letters that somebody dropped", ["source"]
)
from_zero(DROPPED, Source)
LETTERS: Final = Gauge(
    "headrace_dead_letters", "Letters that are kept, as of the last look", ["source", "state"]
)
OLDEST_SECONDS: Final = Gauge(
    "headrace_dead_letters_oldest_age_seconds",
    "Age of the oldest letter that nobody has decided about; 0 without one",
)
SOURCE_FAULTS: Final = Counter(
    "headrace_dead_letters_source_faults_total",
    "Looks for letters that failed: the server was away",
    ["source"],
)
from_zero(SOURCE_FAULTS, Source)
