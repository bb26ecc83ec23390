"""`python -m headrace_gpu_preprocessor.simulate serve`: cameras to try things with."""

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

import av.error

from headrace_gpu_preprocessor.simulate.cameras import Camera, filmed, rendered
from headrace_gpu_preprocessor.simulate.scene import VARIANTS, Scene
from headrace_gpu_preprocessor.simulate.server import HlsServer

_USAGE_EXIT: Final = 2
_MOST_CAMERAS: Final = 50
#: A size that is rendered and encoded within two seconds.
_SIZE: Final = "640x360"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"simulate: {message}\n")
        sys.exit(_USAGE_EXIT)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code."""
    options = _options(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        started = time.monotonic()
        cache = options.cache or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-cameras-"))
        )
        try:
            # Bound first: a port that is taken shows before anything is rendered.
            server = HlsServer(options.host, options.port)
            stack.callback(server.server_close)
            cameras = _cameras(options, cache)
        except (OSError, ValueError, av.error.FFmpegError) as error:
            sys.stderr.write(f"simulate: {error}\n")
            return 1
        stack.enter_context(server)
        shown = [_serve(server, camera, live=options.live) for camera in cameras]
        ready = {
            "url": shown[0]["url"],
            "cameras": shown,
            "live": options.live,
            "seconds_to_ready": round(time.monotonic() - started, 2),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        stop.wait()
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m headrace_gpu_preprocessor.simulate", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    serve = commands.add_parser("serve", help="serve cameras; one line of JSON says that they run")
    add = serve.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="0 takes any that is free")
    add("--variant", choices=VARIANTS, default="light", help="kind of traffic, or of camera")
    add("--size", type=_size, default=_SIZE, help="width x height of the frames, both even")
    add("--rate", type=int, default=10, help="frames per second")
    add("--seconds", type=float, default=20.0, help="length of the clip that is looped")
    add("--cameras", type=int, default=1, help="how many; each looks at a road of its own")
    add("--video", type=Path, help="show this file instead of a rendered road")
    add("--cache", type=Path, help="directory that keeps what was rendered")
    how = serve.add_mutually_exclusive_group()
    how.add_argument("--live", action="store_true", default=True, help="an endless loop (default)")
    how.add_argument("--vod", dest="live", action="store_false", help="a clip with an end")
    options = parser.parse_args(arguments)
    for name, most in (("rate", 60), ("seconds", 600), ("cameras", _MOST_CAMERAS)):
        if not 0 < getattr(options, name) <= most:
            parser.error(f"--{name} must be above 0 and at most {most}")
    return options


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1280x720")
    size = int(width), int(height)
    if any(side % 2 or not 64 <= side <= 4096 for side in size):
        raise argparse.ArgumentTypeError("both sides must be even, between 64 and 4096")
    return size


def _cameras(options: argparse.Namespace, cache: Path) -> list[Camera]:
    names = [f"cam-{number + 1}" for number in range(options.cameras)]
    if options.video:
        return [filmed(name, options.video, options.seconds, cache) for name in names]
    width, height = options.size
    return [
        rendered(
            name,
            Scene(
                options.variant, width, height, options.seconds, options.rate,
                seed=number, place=number,
            ),
            cache,
        )
        for number, name in enumerate(names)
    ]  # fmt: skip


def _serve(server: HlsServer, camera: Camera, *, live: bool) -> dict[str, str]:
    prefix = f"/{camera.name}"
    add = server.add_live if live else server.add_vod
    shown = {"id": camera.name, "url": add(prefix, camera.playlist)}
    if camera.has_truth:
        shown["truth_picture"] = f"{server.url}{prefix}/truth.png"
        shown["truth"] = f"{server.url}{prefix}/truth.json"
    return shown


if __name__ == "__main__":
    sys.exit(main())
