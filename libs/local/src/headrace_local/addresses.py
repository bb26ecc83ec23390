"""Where servers listen, and by which names others reach them."""

from dataclasses import dataclass

from headrace_local.ports import LOOPBACK


@dataclass(frozen=True)
class Addresses:
    """Hosts of the servers: the loopback address, unless each runs in a container of its own.

    Attributes:
        listen: address on which those listen that others may reach.
        keystone: host by which Keystone is reached.
        swift: host by which Swift is reached.
    """

    listen: str = LOOPBACK
    keystone: str = LOOPBACK
    swift: str = LOOPBACK
