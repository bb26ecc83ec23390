"""TCP proxies that misbehave on request, in a thread of their own."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, Self, TypeVar

import uvloop

from headrace_chaos.link import LOOPBACK, Link
from headrace_chaos.modes import Blackhole, Cut, HttpErrors, Mode, Pass, Reset
from headrace_chaos.situation import Situation, Traffic

_T = TypeVar("_T")
_CALL_SECONDS: Final = 30
_BACKLOG: Final = 1_024


class Proxy:
    """One port, with servers behind it; its methods may be called from any thread."""

    def __init__(
        self,
        host: "ProxyHost",
        name: str,
        port: int,
        upstreams: Sequence[int],
        *,
        fails_over: bool = True,
    ) -> None:
        """Made by `ProxyHost.add`."""
        self.name = name
        self.port = port
        self._host = host
        self._situation = Situation(list(upstreams), fails_over=fails_over)
        self._listener: asyncio.Server | None = None

    @property
    def mode(self) -> Mode:
        """What it does now."""
        return self._situation.mode

    @property
    def traffic(self) -> Traffic:
        """What went through until now."""
        return replace(self._situation.traffic)

    @property
    def open_links(self) -> int:
        """How many connections go through it."""
        return len(self._situation.links)

    def lead_to(self, *ports: int) -> None:
        """Say which servers new connections go to, in turn."""
        self._situation.upstreams = list(ports)

    def set(self, mode: Mode) -> None:
        """Begin to misbehave; `Pass` is the end of it."""
        self._host.call(self._set(mode))

    def heal(self) -> None:
        """Let everything through again."""
        self.set(Pass())

    async def listen(self) -> None:
        """Take connections."""
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: Link(self._situation).accepted(),
            LOOPBACK,
            self.port,
            backlog=_BACKLOG,
            reuse_address=True,
        )

    async def _set(self, mode: Mode) -> None:
        situation = self._situation
        situation.mode = mode
        if isinstance(mode, Cut):
            self._close_listener()
        elif self._listener is None:
            await self.listen()
        for link in list(situation.links):
            if isinstance(mode, Cut | Reset | HttpErrors):
                link.reset()
            elif isinstance(mode, Blackhole):
                link.hold()
            else:
                link.release()
        changed, situation.changed = situation.changed, asyncio.Event()
        changed.set()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """Stop listening, and reset what is open."""
        self._close_listener()
        for link in list(self._situation.links):
            link.reset()


class ProxyHost:
    """The thread with the event loop of all proxies."""

    def __init__(self) -> None:
        """Start it."""
        self._loop = uvloop.new_event_loop()
        self._proxies: dict[str, Proxy] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        self.close()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run something in the loop and return its result."""
        done: Future[_T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(_CALL_SECONDS)

    def add(self, name: str, port: int, *upstreams: int, fails_over: bool = True) -> Proxy:
        """Put a proxy on a port of the loopback address.

        Args:
            name: what it is called in reports.
            port: where it listens.
            upstreams: ports behind it; `Proxy.lead_to` says them later.
            fails_over: whether a connection tries the next of them where one does not answer.

        Raises:
            OSError: the port is taken.
        """
        proxy = Proxy(self, name, port, upstreams, fails_over=fails_over)
        self.call(proxy.listen())
        self._proxies[name] = proxy
        return proxy

    @property
    def proxies(self) -> dict[str, Proxy]:
        """All of them by name."""
        return dict(self._proxies)

    def heal(self) -> None:
        """Have all behave."""
        for proxy in self._proxies.values():
            proxy.heal()

    def close(self) -> None:
        """Reset all connections and end the thread."""
        for proxy in self._proxies.values():
            self.call(proxy.close())
        self.call(_let_closing_finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _let_closing_finish() -> None:
    """Aborted transports tell their protocols in the loop's next rounds."""
    for _ in range(3):
        await asyncio.sleep(0)
