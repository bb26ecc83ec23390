"""`python -m headrace_dispatcher`: run the dispatcher, configured by environment."""

from headrace_common.telemetry import configure_logging, configure_tracing
from headrace_common.web import serve
from headrace_dispatcher.app import build_app
from headrace_dispatcher.settings import DispatcherSettings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = DispatcherSettings.load()
    configure_logging(
        service="dispatcher", level=settings.log_level, log_format=settings.log_format
    )
    configure_tracing(service="headrace-dispatcher")
    serve(build_app(settings), settings)


if __name__ == "__main__":
    main()
