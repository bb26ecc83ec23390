"""`python -m headrace_ingest_api`: run the ingest API, configured by environment."""

from headrace_common.loading import loading

with loading():
    from headrace_common.web import run_service
    from headrace_ingest_api.app import build_app
    from headrace_ingest_api.settings import IngestSettings

if __name__ == "__main__":
    run_service("ingest-api", IngestSettings.load(), build_app)
