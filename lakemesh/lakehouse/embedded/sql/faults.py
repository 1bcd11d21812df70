"""DuckDB's errors as Spark names them."""

import re

from lakemesh.errors import InvalidRequest, LakemeshError

RAISED = re.compile(r"\[[A-Z][A-Z_.0-9]+\].*", re.DOTALL)
CLASSES: tuple[tuple[str, str], ...] = (
    (r"Overflow in (addition|subtraction|multiplication|negation)", "ARITHMETIC_OVERFLOW"),
    (r"out of range for the destination type|value .* can't be cast|out of range", "CAST_OVERFLOW"),
    (r"Could not cast value .* to DECIMAL|Casting value .* to type DECIMAL", "NUMERIC_VALUE_OUT_OF_RANGE"),
    (
        r"Could not (convert|parse) string|invalid (date|timestamp) field|date field value out of range",
        "CAST_INVALID_INPUT",
    ),
    (r"must appear in the GROUP BY", "MISSING_GROUP_BY"),
    (r"More than one row returned by a subquery", "SCALAR_SUBQUERY_TOO_MANY_ROWS"),
    (r"Map keys must be unique", "DUPLICATED_MAP_KEY"),
    (r"Out of Memory", "OUT_OF_MEMORY"),
    (r"Malformed JSON", "MALFORMED_RECORD_IN_PARSING"),
)


def fault_of(error: Exception) -> LakemeshError:
    """What the caller is told. A message that names its class was raised by what the compiler wrote."""
    text = str(error).strip()
    if raised := RAISED.search(text):
        return InvalidRequest(raised[0].splitlines()[0][:500])
    line = (text.splitlines() or ["The statement failed."])[0]
    for pattern, name in CLASSES:
        if re.search(pattern, text):
            return InvalidRequest(f"[{name}] {line:.400}")
    return InvalidRequest(f"{line:.500}")
