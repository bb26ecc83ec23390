"""What the stack's tests share."""

import sys
from collections.abc import Callable

from headrace_local.control import UpResult
from headrace_local.services import ServiceSpec

HTTP_SERVICE = ServiceSpec(
    name="files",
    command=(sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"),
    health_path="/",
    endpoint="files_url",
)

StartStack = Callable[..., UpResult]
