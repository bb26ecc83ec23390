"""`python -m headrace_scaling`: the replica table. Exits 1 where anything is not as it must be."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from headrace_local.layout import DIRECTORY_NAME
from headrace_scaling.cpu import why_no_share
from headrace_scaling.run import SERVICES, Options, run
from headrace_scaling.table import PAGE, render, write


def main() -> int:
    """Run, print the table, and write it into the page if all services were tried."""
    parser = argparse.ArgumentParser(prog="headrace_scaling", description=__doc__)
    parser.add_argument("--services", default=",".join(SERVICES), help="those to try")
    services = parser.parse_args().services.split(",")
    if unknown := set(services) - set(SERVICES):
        parser.error(f"no {', '.join(sorted(unknown))}; there are {', '.join(SERVICES)}")
    started = time.monotonic()

    def say(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {line}\n")

    directory = Path(DIRECTORY_NAME, "scaling").resolve()
    shutil.rmtree(directory, ignore_errors=True)
    outcome = run(Options(directory / "stack", services), say=say)
    tables = render(outcome, why_no_share=why_no_share())
    sys.stdout.write(f"\n{tables}\n")
    faults = outcome.faults()
    for fault in faults:
        sys.stdout.write(f"NOT AS IT MUST BE: {fault}\n")
    if faults:
        sys.stdout.write(f"logs: {directory / 'stack' / 'logs'}\n")
        return 1
    shutil.rmtree(directory)
    if set(services) == set(SERVICES):
        write(tables)
        sys.stdout.write(f"written into {PAGE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
