"""The process' own log: one JSON object a line, or colours on a terminal."""

import logging
import sys
from typing import Any

import structlog

from lakemesh.redaction import REDACTED, NameMatcher, TextRedactor, without_input_values

CHATTY = ("httpx", "httpcore", "databricks")
"""Loggers that say at level info what they do for each request; below a warning they are heard only when debugging."""

MAX_VALUE_CHARACTERS = 16_384
SECRET_NAMES = ("*password*", "*secret*", "*authorization*", "*api_key*", "*access_key*", "*_token", "token", "*dsn")


def configure_logging(level: str) -> None:
    """Send structlog and the standard library's loggers to stderr through one formatter."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                RedactLine(),
                renderer,
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class RedactLine:
    """Takes secrets, and the callers' values that pydantic quotes in its errors, out of a line before it is written."""

    def __init__(self) -> None:
        self._texts = TextRedactor(["card_number", "token"])
        self._is_named = NameMatcher(SECRET_NAMES)

    def __call__(self, logger: Any, method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
        for name, value in fields.items():
            if self._is_named(name):
                fields[name] = REDACTED
            elif isinstance(value, str):
                fields[name] = self._texts.redact(without_input_values(value), MAX_VALUE_CHARACTERS)
        return fields
