"""`python -m headrace_results`: the service, configured by its environment."""

from headrace_common.telemetry import configure_logging, configure_tracing
from headrace_common.web import serve
from headrace_results.app import build_app
from headrace_results.settings import ResultsSettings


def main() -> None:
    """Serve until SIGTERM."""
    settings = ResultsSettings.load()
    configure_logging(service="results", level=settings.log_level, log_format=settings.log_format)
    configure_tracing(service="results")
    serve(build_app(settings), settings)


if __name__ == "__main__":
    main()
