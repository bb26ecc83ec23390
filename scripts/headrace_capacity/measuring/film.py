"""Plays a film as a good camera does: `python -m headrace_capacity.measuring.film SECONDS`.

1280x720 at 25 frames/s and 8 Mbit/s without B pictures, as benchmarks/preprocess.py has it; all of
it can be read at once, so that a clip takes no longer than its work. Prints its URL when it is on.
"""

import sys
import tempfile
from pathlib import Path

from headrace_gpu_preprocessor.simulate import HlsFormat, HlsServer, Scene, write_hls


def main() -> None:
    """Play until the input ends."""
    scene = Scene("light", 1280, 720, seconds=float(sys.argv[1]), rate=25, seed=3)
    with tempfile.TemporaryDirectory(prefix="headrace-film-") as folder:
        form = HlsFormat(camera_bits=8_000_000)
        playlist = write_hls(scene.frames(), scene.rate, Path(folder), form)
        with HlsServer() as server:
            print(server.add_vod("/film", playlist), flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
