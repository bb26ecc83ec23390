"""What can go wrong with the local stack."""

from headrace_common.errors import HeadraceError


class LocalStackError(HeadraceError):
    """The local stack cannot do what was asked; the message says why."""

    code = "local_stack"
    title = "Local stack"


class StartFailedError(LocalStackError):
    """A process did not become ready; the message carries its last log lines."""

    code = "local_start_failed"
    title = "Local stack did not start"


class NoStackError(LocalStackError):
    """There is no stack here, or no process of that name in it."""

    code = "no_local_stack"
    status = 404
    title = "No local stack"


class ToolInstallError(LocalStackError):
    """A tool that needs an environment of its own could not be installed."""

    code = "tool_install_failed"
    title = "Tool not installed"
