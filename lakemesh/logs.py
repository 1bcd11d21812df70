"""The process' own log: one JSON object a line, or colours on a terminal."""

import linecache
import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from lakemesh.redaction import REDACTED, NameMatcher, TextRedactor, without_input_values

CHATTY = ("httpx", "httpx2", "httpcore", "httpcore2", "databricks")
"""Loggers that say at level info what they do for each request; below a warning they are heard only when debugging."""

MAX_VALUE_CHARACTERS = 16_384
SECRET_NAMES = ("*password*", "*secret*", "*authorization*", "*api_key*", "*access_key*", "*_token", "token", "*dsn")


def configure_logging(level: str) -> None:
    """Send structlog and the standard library's loggers to stderr through one formatter."""
    for_people = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([short_exception] if for_people else []),
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


def short_exception(logger: Any, method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """For who works on an agent: the line of their own code that failed, then what it raised. An exception that went
    through no code but ours and libraries' keeps its whole traceback."""
    found = fields.get("exc_info")
    error = found[1] if isinstance(found, tuple) else found
    error = sys.exc_info()[1] if error is True else error
    if isinstance(error, BaseException) and (lines := own_lines(error.__traceback__)):
        fields.pop("exc_info")
        fields["exception"] = "\n".join([*lines, "".join(traceback.format_exception_only(error)).rstrip()])
    return fields


def own_lines(place: TracebackType | None) -> list[str]:
    """`file:line in function: source` of each frame outside lakemesh and libraries, the failing one first."""
    found = []
    while place is not None:
        file, line = place.tb_frame.f_code.co_filename, place.tb_lineno
        if is_own(file):
            source = linecache.getline(file, line).strip()
            found.append(f"{shown(file)}:{line} in {place.tb_frame.f_code.co_name}: {source}")
        place = place.tb_next
    return found[::-1]


def is_own(file: str) -> bool:
    libraries = ("site-packages", "dist-packages", f"python{sys.version_info.major}.{sys.version_info.minor}")
    path = Path(file)
    return path.suffix == ".py" and not path.is_relative_to(PACKAGE) and not any(n in path.parts for n in libraries)


def shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


PACKAGE = Path(__file__).parent
