"""Types that hold every value of another: a column may change to them in place (Delta documentation, "type
widening")."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp

WIDER = {
    "TINYINT": {"SMALLINT", "INT", "BIGINT", "DOUBLE"},
    "SMALLINT": {"INT", "BIGINT", "DOUBLE"},
    "INT": {"BIGINT", "DOUBLE"},
    "FLOAT": {"DOUBLE"},
    "DATE": {"TIMESTAMPNTZ"},
}
WHOLE_DIGITS = {"TINYINT": 10, "SMALLINT": 10, "INT": 10, "BIGINT": 20}
"""What a DECIMAL needs before its point to follow such a type."""


def is_wider(was: str, wanted: str) -> bool:
    """Whether a column of the type `was` may become `wanted`."""
    from lakemesh.lakehouse.spark_dialect import parse_type

    one, other = parse_type(was), parse_type(wanted)
    if one == other:
        return True
    if name_of(other) != "DECIMAL":
        return name_of(other) in WIDER.get(name_of(one), ())
    precision, scale = digits(other)
    if name_of(one) == "DECIMAL":
        whole, least = digits(one)[0] - digits(one)[1], digits(one)[1]
    else:
        whole, least = WHOLE_DIGITS.get(name_of(one), 99), 0
    return scale >= least and precision - scale >= whole


def name_of(kind: "exp.DataType") -> str:
    return str(kind.this.value)


def digits(kind: "exp.DataType") -> tuple[int, int]:
    """Precision and scale of a DECIMAL."""
    sizes = [int(size.name) for size in kind.expressions]
    return (sizes or [10])[0], sizes[1] if len(sizes) > 1 else 0
