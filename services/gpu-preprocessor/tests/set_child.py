"""A worker in a process of its own: python set_child.py SETTINGS, with SwiftSettings as JSON.

It makes a set, and stops itself (SIGSTOP) after the last look at its lease, before the request
that makes the set whole. Whoever lets it go on finds it finishing.
"""

import os
import signal
import sys

from test_artifacts_sets import FACTS, Worker

from headrace_gpu_preprocessor.artifacts import SwiftSettings, SwiftStore

#: Of the checks: one before each of the four artefacts, the fifth before process_meta.json.
_LAST_CHECK = 5


def main() -> None:
    settings = SwiftSettings.model_validate_json(sys.argv[1])
    worker = Worker(SwiftStore(settings), settings, "zombie")
    checks = 0

    def freeze() -> None:
        nonlocal checks
        checks += 1
        if checks == _LAST_CHECK:
            os.kill(os.getpid(), signal.SIGSTOP)

    sys.stdout.write(worker.fill(worker.begin(freeze)).finish(FACTS).folder)


if __name__ == "__main__":
    main()
