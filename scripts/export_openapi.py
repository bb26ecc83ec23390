"""Write the OpenAPI files of the services, or check that they are what the code says.

python scripts/export_openapi.py [--check]
"""

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from headrace_dispatcher.app import build_app as build_dispatcher
from headrace_dispatcher.settings import DispatcherSettings
from headrace_ingest_api.app import build_app as build_ingest_api
from headrace_ingest_api.settings import IngestSettings
from headrace_results.app import build_app as build_results
from headrace_results.settings import ResultsSettings

FOLDER = Path(__file__).parent.parent / "docs" / "reference" / "openapi"

#: Just enough to build the apps; nothing is connected to.
SETTINGS: dict[str, Any] = {
    "database_url": "postgresql://nobody@localhost/none",
    "analysis_server_url": "http://localhost:9/analyze",
    "webhook_url": "http://localhost:8002/webhooks/analysis",
    "webhook_secrets": ["whsec_" + base64.b64encode(bytes(32)).decode()],
}


def apps() -> dict[str, FastAPI]:
    """Build every service's app."""
    return {
        "ingest-api": build_ingest_api(IngestSettings.model_validate(SETTINGS)),
        "dispatcher": build_dispatcher(DispatcherSettings.model_validate(SETTINGS)),
        "results": build_results(ResultsSettings.model_validate(SETTINGS)),
    }


def main() -> int:
    """Write or check; return 1 where a file is not what the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    stale = []
    for name, app in apps().items():
        text = json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"
        path = FOLDER / f"{name}.json"
        if check:
            if not path.is_file() or path.read_text() != text:
                stale.append(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for path in stale:
        print(f"{path.relative_to(FOLDER.parents[2])} is out of date: run `make openapi`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
