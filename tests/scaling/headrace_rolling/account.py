"""The account of one part of a run: what was asked, and what became of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_chaos.violations import Violation, ViolationKind

_STREAM_KINDS: Final = frozenset(
    {ViolationKind.STREAM_GAP, ViolationKind.STREAM_DOUBLE, ViolationKind.STREAM_UNENDED}
)
_LOST_KINDS: Final = frozenset({ViolationKind.LOST, ViolationKind.STUCK})
_DOUBLED_KINDS: Final = frozenset(
    {
        ViolationKind.DOUBLED_END,
        ViolationKind.DOUBLED_JOB,
        ViolationKind.DOUBLED_RECORDING,
        ViolationKind.DOUBLED_REPORT,
        ViolationKind.DOUBLED_SET,
    }
)
_SHOWN: Final = 20


@dataclass(frozen=True)
class Account:
    """What a part has shown.

    Attributes:
        title: what was done.
        is_planted: whether it is there to show that the account sees what fails.
        seconds: for how long there was load.
        replaced: replicas, by service.
        requests: kind, sent and failed.
        failures: why requests failed, and how often.
        webhooks: that analysis servers sent, and those that no results service answered.
        is_drained: whether every replica drains. Beside one that does not, analysis servers, which
            keep their connections, send a webhook again.
        followed: event streams.
        connections: by which they were read.
        accepted: jobs by the way they came in.
        ended: jobs by status.
        violations: what must never be, of jobs, messages and streams.
        firings: that were due.
        misfired: what is wrong with them.
        sent_again: firings whose message was sent twice.
        unsettled: what was still under way when nothing moved any more.
    """

    title: str
    is_planted: bool
    seconds: float
    replaced: Mapping[str, int]
    requests: Sequence[tuple[str, int, int]]
    failures: Mapping[str, int]
    webhooks: tuple[int, int]
    is_drained: bool
    followed: int
    connections: int
    accepted: Mapping[str, int]
    ended: Mapping[str, int]
    violations: Sequence[Violation]
    firings: int
    misfired: Sequence[str]
    sent_again: int
    unsettled: Sequence[str]

    @property
    def failed(self) -> int:
        """Requests that failed."""
        webhooks = self.webhooks[1] if self.is_drained else 0
        return sum(failed for _, _, failed in self.requests) + webhooks

    @property
    def is_clean(self) -> bool:
        """Whether no request failed, and nothing was lost or done twice."""
        return not (self.failed or self.violations or self.misfired or self.unsettled)

    @property
    def is_right(self) -> bool:
        """Whether it is clean; or has failed requests, where these were planted."""
        return self.failed > 0 if self.is_planted else self.is_clean

    def count(self, *kinds: ViolationKind) -> int:
        """Return how many violations are of these kinds."""
        return sum(each.kind in kinds for each in self.violations)

    def faults(self) -> Iterator[str]:
        """Tell what is wrong, in lines."""
        for reason, count in sorted(self.failures.items(), key=lambda item: -item[1])[:_SHOWN]:
            yield f"{count} x {reason}"
        if self.webhooks[1] and self.is_drained:
            yield f"{self.webhooks[1]} webhooks were not answered"
        yield from (str(each) for each in self.violations[:_SHOWN])
        yield from self.misfired
        yield from (f"still under way: {each}" for each in self.unsettled)


def tables(accounts: Sequence[Account]) -> Iterator[str]:
    """Show accounts side by side, as tables of Markdown."""
    titles = " | ".join(account.title for account in accounts)
    yield f"| | {titles} |"
    yield "|---|" + "---|" * len(accounts)
    for name, cells in _rows(accounts):
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    yield f"| requests, failed of sent | {titles} |"
    yield "|---|" + "---|" * len(accounts)
    kinds = sorted({kind for account in accounts for kind, _, _ in account.requests})
    for kind in kinds:
        yield f"| {kind} | {' | '.join(_of(account, kind) for account in accounts)} |"
    webhooks = (f"{failed} of {sent}" for sent, failed in (each.webhooks for each in accounts))
    yield f"| webhooks that analysis servers sent again | {' | '.join(webhooks)} |"


def _rows(accounts: Sequence[Account]) -> Iterator[tuple[str, list[str]]]:
    yield "replicas replaced", [str(sum(each.replaced.values())) for each in accounts]
    yield "seconds of load", [f"{each.seconds:.0f}" for each in accounts]
    yield "**failed requests**", [f"**{each.failed}**" for each in accounts]
    yield "jobs accepted", [str(sum(each.accepted.values())) for each in accounts]
    yield "by way", [_counts(each.accepted) for each in accounts]
    yield "ended", [_counts(each.ended) for each in accounts]
    yield "**jobs lost or stuck**", [f"**{each.count(*_LOST_KINDS)}**" for each in accounts]
    yield "**done twice**", [f"**{each.count(*_DOUBLED_KINDS)}**" for each in accounts]
    others = [set(ViolationKind) - _LOST_KINDS - _DOUBLED_KINDS - _STREAM_KINDS] * len(accounts)
    yield (
        "otherwise wrong",
        [str(a.count(*kinds)) for a, kinds in zip(accounts, others, strict=True)],
    )
    streams = (f"{each.followed}, by {each.connections} connections" for each in accounts)
    yield "event streams read to their end", list(streams)
    yield "with an event missed or twice", [str(each.count(*_STREAM_KINDS)) for each in accounts]
    yield "firings whose message both versions sent", [str(each.sent_again) for each in accounts]
    yield "firings due", [str(each.firings) for each in accounts]
    yield (
        "otherwise missed, doubled or of a former leader",
        [str(len(each.misfired)) for each in accounts],
    )


def _of(account: Account, kind: str) -> str:
    found = [(sent, failed) for name, sent, failed in account.requests if name == kind]
    return f"{found[0][1]} of {found[0][0]}" if found else ""


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(Counter(counts).items())) or "none"
