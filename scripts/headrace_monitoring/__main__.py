"""Write what k8s/monitoring takes from here, or check that it is true.

PYTHONPATH=scripts python -m headrace_monitoring [--check]
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from headrace_monitoring import alerts, slo
from headrace_monitoring.boards import BOARDS
from headrace_monitoring.rules import prometheus_rule, rules_file

PROJECT: Final = Path(__file__).parents[2]
PLACE: Final = PROJECT / "k8s" / "monitoring"
GROUPS: Final = (*slo.groups(), *alerts.GROUPS)


def files() -> Iterator[tuple[Path, str]]:
    """Yield every file with what it should say."""
    yield PLACE / "rules.yaml", rules_file(GROUPS)
    yield PLACE / "prometheus-rule.yaml", prometheus_rule(GROUPS)
    for board in BOARDS:
        yield PLACE / "dashboards" / f"{board.name}.json", board.as_json()


def main() -> int:
    """Write or check; return 1 where a file is not what the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    expected = dict(files())
    stale = [path for path in (PLACE / "dashboards").glob("*.json") if path not in expected]
    for path, text in expected.items():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            stale.append(path)
    for path in stale:
        print(f"{path.relative_to(PROJECT)} is out of date: run `make monitoring`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
