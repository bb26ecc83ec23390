"""`python -m headrace_ingest_api`: run the ingest API, configured by environment."""

from headrace_common.telemetry import configure_logging, configure_tracing
from headrace_common.web import serve
from headrace_ingest_api.app import build_app
from headrace_ingest_api.settings import IngestSettings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = IngestSettings.load()
    configure_logging(
        service="ingest-api", level=settings.log_level, log_format=settings.log_format
    )
    configure_tracing(service="headrace-ingest-api")
    serve(build_app(settings), settings)


if __name__ == "__main__":
    main()
