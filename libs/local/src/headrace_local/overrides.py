"""What somebody wants otherwise than a stack has it by itself."""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

#: How a detached supervisor gets them: what is set may be secret, and a command line is not.
OVERRIDES_VARIABLE: Final = "HEADRACE_OVERRIDES"


class Overrides(BaseModel):
    """Changes to a stack.

    Attributes:
        settings: environment variables of every service, instead of or beside the stack's own.
        advertised: ports by the name of a server or service, at which the services reach it
            instead of at its own: those of proxies in front of it. The stack itself, and what
            answers on a server's own port, are not affected.
        tireless: start a process again however often it dies.
    """

    model_config = ConfigDict(frozen=True)

    settings: Mapping[str, str] = {}
    advertised: Mapping[str, int] = {}
    tireless: bool = False


#: A stack as it is by itself.
NONE: Final = Overrides()
