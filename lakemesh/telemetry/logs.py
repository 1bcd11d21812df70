"""From log lines to records, with the trace they were written in."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import get_current_span

from lakemesh.logs import CHATTY
from lakemesh.telemetry.exceptions import exception_attributes
from lakemesh.telemetry.records import LogRecord

OWN = "lakemesh.telemetry"
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Severity numbers of the OpenTelemetry log data model ("Mapping of SeverityNumber").
SEVERITIES = ((50, 21, "FATAL"), (40, 17, "ERROR"), (30, 13, "WARN"), (20, 9, "INFO"), (0, 5, "DEBUG"))


class BufferHandler(logging.Handler):
    """A handler of the standard library's logging (structlog ends there too) that keeps each line as a record.
    Telemetry's own lines are left out, and those of the clients it writes with below a warning: a sink must not feed
    itself."""

    def __init__(self, put: Callable[[LogRecord], None], *, level: str) -> None:
        super().__init__(level.upper())
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        chatty = record.levelno < logging.WARNING and record.name.startswith(CHATTY)
        if not chatty and not record.name.startswith(OWN):
            self._put(to_record(record))


def to_record(line: logging.LogRecord) -> LogRecord:
    context = get_current_span().get_span_context()
    number, text = next((number, text) for level, number, text in SEVERITIES if line.levelno >= level)
    body, attributes = body_and_attributes(line)
    error = exception_of(line)
    if error is not None:
        attributes.update(exception_attributes(error))
    return LogRecord(
        int(line.created * 1e9),
        number,
        text,
        body,
        "",
        attributes,
        context.trace_id,
        context.span_id,
        int(context.trace_flags),
        line.name,
    )


def body_and_attributes(line: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """structlog hands its fields over as a dictionary with the sentence under `event`."""
    if isinstance(line.msg, dict):
        fields = {key: value for key, value in line.msg.items() if not key.startswith("_")}
        fields.pop("exc_info", None)
        return str(fields.pop("event", "")), fields
    extra = {key: value for key, value in vars(line).items() if key not in STANDARD and not key.startswith("_")}
    return line.getMessage(), extra


def exception_of(line: logging.LogRecord) -> BaseException | None:
    """structlog hands `exc_info` over among its fields: as True, as an exception or as what `sys.exc_info` returns."""
    given: Any = line.msg.get("exc_info") if isinstance(line.msg, dict) else line.exc_info
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1] if isinstance(given[1], BaseException) else None
    return sys.exc_info()[1] if given else None
