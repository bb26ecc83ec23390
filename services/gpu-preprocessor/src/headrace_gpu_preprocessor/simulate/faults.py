"""Servers at fault, for tests and benchmarks: answers that stall, or never end."""

from typing import Final

from headrace_gpu_preprocessor.simulate.server import Handler, Route

#: A client that never hangs up is left after so long.
_PATIENCE_SECONDS: Final = 30


def stall(handler: Handler) -> None:
    """Promise an answer, send a part, and fall silent until the reader hangs up."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b"\x47" * 188)
    handler.connection.settimeout(_PATIENCE_SECONDS)
    handler.rfile.read(1)
    handler.close_connection = True


def endless(start: bytes, block: bytes) -> Route:
    """Send `start`, then `block` again and again."""

    def route(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        handler.wfile.write(start)
        while True:
            handler.wfile.write(block)

    return route
