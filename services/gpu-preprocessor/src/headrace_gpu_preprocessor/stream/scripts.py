"""The Lua scripts: each ends, hands out or keeps entries in one atomic step.

`lua/prelude.lua` has the key layout. Redis loads a script when it is first used, and again
after a restart or a failover (`EVALSHA`, and `EVAL` where the server does not know it).
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

_LUA: Final = files(__package__) / "lua"


@dataclass(frozen=True)
class Scripts:
    """The scripts, registered with one client."""

    begin: AsyncScript
    claim: AsyncScript
    renew: AsyncScript
    finish: AsyncScript
    retry: AsyncScript
    bury: AsyncScript
    hand_back: AsyncScript
    promote: AsyncScript
    trim: AsyncScript
    report: AsyncScript
    retire: AsyncScript
    forget: AsyncScript
    look: AsyncScript
    forget_cancelled: AsyncScript
    take_settled: AsyncScript

    @classmethod
    def register(cls, client: Redis) -> Self:
        """Make the scripts known to a client; asks the server for nothing yet."""
        return cls(**{name: _script(client, name) for name in cls.__dataclass_fields__})


def _script(client: Redis, name: str) -> AsyncScript:
    text = "\n".join((_LUA / file).read_text("utf-8") for file in ("prelude.lua", f"{name}.lua"))
    script: Any = client.register_script(text)
    assert isinstance(script, AsyncScript)  # noqa: S101 - the client is an asynchronous one
    return script
