"""Functions that are named like a type and cast to it."""

from collections.abc import Sequence

from lakemesh.lakehouse.embedded.sql.casts import cast
from lakemesh.lakehouse.embedded.sql.registry import BUILT, Build
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    decimal,
)
from lakemesh.lakehouse.embedded.sql.values import (
    Typed,
)


def by_type(kind: Type) -> Build:
    def build(values: Sequence[Typed]) -> Typed:
        (value,) = values
        return cast(value, kind)

    return build


for _kind in (
    Type("TINYINT"),
    Type("SMALLINT"),
    INT,
    BIGINT,
    Type("FLOAT"),
    DOUBLE,
    BOOLEAN,
    STRING,
    BINARY,
    DATE,
    TIMESTAMP,
):
    BUILT[_kind.name.lower()] = by_type(_kind)

BUILT["decimal"] = by_type(decimal(10, 0))
