"""Structured logs: JSON in production, readable on a terminal, never a secret.

Events are dotted keys (`dispatcher.batch_sent`) with their facts as fields. The job and trace
ids come from structlog's context variables, which the web and message middleware bind.
"""

import logging
import logging.config
import re
import sys
from typing import Final

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from headrace_common.telemetry.secrets import REDACTED, deeply_without_secrets
from headrace_common.telemetry.trace import trace_id

#: Fields that hold a secret whatever they hold.
_SECRET_FIELD: Final = re.compile(
    r"(?i)(^|_)(authorization|password|passwd|secret|secrets|api_?key|cookie|signature|token)$"
)
#: Libraries whose own chatter below WARNING is nobody's business.
_QUIET: Final = (
    "boto3",
    "botocore",
    "s3transfer",
    "urllib3",
    "httpx",
    "httpcore",
    "alembic",
    "matplotlib",
    "PIL",
)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace secrets, by the name of their field or by their looks (a structlog processor)."""
    for key, value in event.items():
        event[key] = REDACTED if _SECRET_FIELD.search(key) else deeply_without_secrets(value)
    return event


def configure_logging(*, service: str, level: str = "INFO", log_format: str = "auto") -> None:
    """Send every log of the process, ours and the libraries', to standard output.

    Args:
        service: name that every line carries.
        level: DEBUG, INFO, WARNING or ERROR.
        log_format: json, console, or auto (console on a terminal).
    """
    as_json = log_format == "json" or (log_format == "auto" and not sys.stdout.isatty())

    def add_origin(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        if current := trace_id():
            event.setdefault("trace_id", current)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_origin,
    ]
    rendering: list[Processor] = (
        [
            # Local variables stay out of both: they hold whatever a secret was passed as.
            ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            redact,
            structlog.processors.JSONRenderer(),
        ]
        if as_json
        else [
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        *rendering,
                    ],
                }
            },
            "handlers": {
                "stdout": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stdout",
                    "formatter": "structured",
                }
            },
            "root": {"level": level, "handlers": ["stdout"]},
            "loggers": {name: {"level": "WARNING"} for name in _QUIET},
        }
    )
