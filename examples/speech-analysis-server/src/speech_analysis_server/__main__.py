"""Start the server: `python -m speech_analysis_server`."""

from headrace_common.telemetry import configure_logging, configure_tracing
from headrace_common.web.serve import serve
from speech_analysis_server.app import SERVICE, build
from speech_analysis_server.settings import SpeechSettings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = SpeechSettings.load()
    configure_logging(service=SERVICE, level=settings.log_level, log_format=settings.log_format)
    configure_tracing(service=SERVICE)
    serve(build(settings), settings)


if __name__ == "__main__":
    main()
