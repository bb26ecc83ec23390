"""A server whose handler never ends: run by a test, to be killed."""

import sys
import time
from pathlib import Path

from headrace_analysis import AnalysisServer, AnalysisSettings, AnalysisTask


def handler(task: AnalysisTask) -> dict[str, object]:
    Path(sys.argv[1]).write_text(task.job_id)
    while True:
        task.check()
        time.sleep(0.1)


if __name__ == "__main__":
    AnalysisServer(handler, AnalysisSettings.load()).run()
