"""What all connections of a proxy share: where they lead, and what happens to them."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace_chaos.modes import Mode, Pass

if TYPE_CHECKING:
    from headrace_chaos.link import Link


@dataclass
class Traffic:
    """What went through a proxy, and what did not.

    Attributes:
        connections: accepted.
        failed: HTTP requests that were answered with an error before the server saw them.
        unanswered: HTTP requests that the server did, and whose answers were replaced.
    """

    connections: int = 0
    failed: int = 0
    unanswered: int = 0


@dataclass
class Situation:
    """What all links of a proxy share.

    Attributes:
        upstreams: ports of the servers behind it, used in turn.
        mode: what happens to data now.
        changed: set and replaced when the mode changes.
        traffic: the counters.
        links: those that are open.
        chance: decides which request fails, and when a connection is reset.
        fails_over: whether a connection tries the next server where one does not answer.
    """

    upstreams: Sequence[int]
    mode: Mode = field(default_factory=Pass)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    traffic: Traffic = field(default_factory=Traffic)
    links: "set[Link]" = field(default_factory=set)
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311
    turn: int = 0
    fails_over: bool = True

    def next_upstreams(self) -> Sequence[int]:
        """Return the upstreams in the order in which a new connection tries them."""
        if not self.upstreams:
            return ()
        self.turn = (self.turn + 1) % len(self.upstreams)
        if not self.fails_over:
            return [self.upstreams[self.turn]]
        return [*self.upstreams[self.turn :], *self.upstreams[: self.turn]]
