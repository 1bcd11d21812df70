"""What is kept of an exception: its kind, its message, where it was raised."""

import traceback
from collections.abc import Mapping

from lakemesh.redaction import without_input_values

MAX_MESSAGE_CHARACTERS = 2_048
MAX_STACKTRACE_CHARACTERS = 12_288


def exception_attributes(error: BaseException) -> Mapping[str, str]:
    """By OpenTelemetry's semantic conventions for exceptions. Values that pydantic quotes in its messages are callers'
    and are left out; of a long stack trace the middle is."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {
        "exception.type": name,
        "exception.message": without_input_values(message_of(error))[:MAX_MESSAGE_CHARACTERS],
        "exception.stacktrace": without_input_values(stacktrace_of(error)),
    }


def message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 (an exception whose text cannot be made is still to be told)
        return f"{type(error).__name__} (its text cannot be made)"


def stacktrace_of(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    if len(text) <= MAX_STACKTRACE_CHARACTERS:
        return text
    head, tail = MAX_STACKTRACE_CHARACTERS // 4, 3 * MAX_STACKTRACE_CHARACTERS // 4
    return f"{text[:head]}\n… ({len(text) - head - tail} characters)\n{text[-tail:]}"
