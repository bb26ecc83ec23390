"""One Deployment's work: how to give it more than it can do, and how to see who did it."""

import operator
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import ClassVar, Final

from headrace_local.waiting import wait_until
from headrace_scaling.doings import Doing
from headrace_scaling.logbook import Logbook
from headrace_scaling.scene import Scene

#: Pieces for each replica, as many as any works on at a time of those that start processes.
_WARM: Final = 2
_WARM_UPS: Final = 10
_WARM_UP_SECONDS: Final = 180.0


class Work(ABC):
    """Work that a Deployment's replicas share. Each kind is a class of its own.

    Attributes:
        deployment: its name in k8s/base.
        service: its name in the fleet.
        what: the pieces, in words.
        needs: other services of which one replica must run.
        each: pieces of a batch for each replica.
        is_timed_whole: whether a batch is so small that all of it is timed, not its middle only.
        cores: share of a core that each replica is held to; None where it rather waits than works.
            On few cores, more replicas of what is bound by CPU could not show anything otherwise.
        settled_by: setting by which the pieces of a replica that was killed go on elsewhere.
        may_be_together: whether all kinds of work on the service can be given at the same time.
        is_once: whether a piece has one effect even if its replica is killed in the midst of it;
            else it may have two, which its receiver tells apart.
    """

    deployment: ClassVar[str]
    service: ClassVar[str]
    what: ClassVar[str]
    needs: ClassVar[Sequence[str]] = ()
    each: ClassVar[int]
    is_timed_whole: ClassVar[bool] = False
    cores: ClassVar[float | None] = 0.15
    settled_by: ClassVar[str]
    may_be_together: ClassVar[bool] = True
    is_once: ClassVar[bool] = True

    def __init__(self, scene: Scene) -> None:
        """Make it for a scene."""
        self.scene = scene
        #: Of its own: several are at work at the same time.
        self.logbook = Logbook(scene.fleet.directory / "logs")

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make what must be there before the first batch."""

    def warm_up(self, new: Collection[str]) -> None:
        """Let new replicas do some pieces: the first make them start processes, for example."""
        self.logbook.mark()
        for _ in range(_WARM_UPS):
            items = self.feed(_WARM * len(self.scene.fleet.running(self.service)))
            wait_until(partial(self.unfinished, items), operator.not_, seconds=_WARM_UP_SECONDS)
            counts = Counter(doing.replica for doing in self.doings())
            if all(counts[name] >= _WARM for name in new):
                return

    @abstractmethod
    def feed(self, count: int) -> Sequence[str]:
        """Give the replicas so many pieces, and return their ids; they may be done by then."""

    @abstractmethod
    def unfinished(self, items: Sequence[str]) -> int:
        """Return how many pieces are not done, as the servers say, who outlive every replica."""

    @abstractmethod
    def doings(self) -> Sequence[Doing]:
        """Return who did which piece, as the logs of all replicas say since their mark."""

    @abstractmethod
    def effects(self, items: Sequence[str]) -> int:
        """Return how many effects they had in all, as the servers say: one each is right."""

    @abstractmethod
    def handed_over(self, items: Sequence[str], victim: str) -> Sequence[str]:
        """Return the pieces that `victim` had in hand when it was killed, and others did."""

    @property
    def replicas(self) -> Sequence[str]:
        """Names of all replicas that there may have been."""
        return self.scene.fleet.names(self.service)
