"""All checks: what the facts say about the promises."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from headrace_chaos.checks_jobs import check_ends, check_final, check_requests, check_results
from headrace_chaos.checks_messages import check_followers, check_letters, check_messages
from headrace_chaos.checks_storage import (
    check_direct,
    check_objects,
    check_recordings,
    check_sets,
)
from headrace_chaos.checks_timeline import check_reports, check_timelines
from headrace_chaos.facts import Facts
from headrace_chaos.ledger import Promises
from headrace_chaos.violations import Violation, ViolationKind

_CHECKS: Final[tuple[Callable[[Facts, Promises], Iterator[Violation]], ...]] = (
    check_ends,
    check_final,
    check_requests,
    check_results,
    check_timelines,
    check_reports,
    check_recordings,
    check_objects,
    check_direct,
    check_sets,
    check_messages,
    check_letters,
    check_followers,
)


def check(facts: Facts, promises: Promises) -> list[Violation]:
    """Return everything that is wrong, in order of kind and job; nothing if all is well."""
    return sorted(violation for each in _CHECKS for violation in each(facts, promises))


def count_kinds(violations: list[Violation]) -> Counter[ViolationKind]:
    """Return how often each kind was found."""
    return Counter(violation.kind for violation in violations)
