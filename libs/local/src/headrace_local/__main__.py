"""The supervisor as a process of its own; people use `headrace up`."""

import argparse
import os
import sys
from pathlib import Path

from headrace_common.loading import loading

with loading():
    from headrace_local import control, servers
    from headrace_local.errors import LocalStackError
    from headrace_local.layout import resolve_directory
    from headrace_local.overrides import OVERRIDES_VARIABLE, Overrides
    from headrace_local.process import ProcessIdentity
    from headrace_local.services import specs_from_json
    from headrace_local.supervisor import StackOptions


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m headrace_local", description=__doc__)
    parser.add_argument("--directory", type=Path, help="default: HEADRACE_HOME, or .headrace here")
    parser.add_argument("--servers", default=",".join(servers.SERVER_NAMES), help="names, by comma")
    parser.add_argument("--services", default="[]", help="specs as JSON; default: none")
    parser.add_argument("--held", action="store_true", help="start nothing until ordered")
    parser.add_argument("--parent", type=int, help="stop when the process of this pid is gone")
    return parser.parse_args()


def main() -> int:
    """Run a stack until SIGINT or SIGTERM and return the exit status."""
    arguments = _arguments()
    parent = None
    if arguments.parent is not None:
        parent = ProcessIdentity.of(arguments.parent)
        if parent is None:  # gone already
            return 1
    options = StackOptions(
        directory=resolve_directory(arguments.directory),
        servers=[name for name in arguments.servers.split(",") if name],
        services=specs_from_json(arguments.services),
        held=arguments.held,
        parent=parent,
        overrides=Overrides.model_validate_json(os.environ.get(OVERRIDES_VARIABLE, "{}")),
    )
    try:
        control.run(options)
    except LocalStackError as error:
        print(f"headrace: {error}", file=sys.stderr)  # noqa: T201 - the log of the supervisor
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
