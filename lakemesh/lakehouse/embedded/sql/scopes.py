"""What names mean inside a query: the columns of its tables, lambda parameters, aliases, and the queries around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sqlglot import exp

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.fields import field_of
from lakemesh.lakehouse.embedded.sql.types import Type, quoted
from lakemesh.lakehouse.embedded.sql.values import Typed


class ExpressionCompiler(Protocol):
    """What makes DuckDB's text of an expression in a scope."""

    def compile(self, node: exp.Expr, scope: "Scope") -> Typed: ...

    def all(self, nodes: Sequence[exp.Expr], scope: "Scope") -> list[Typed]: ...


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """`hidden`: a join's USING shows it once, under no table's name."""

    name: str
    value: Typed
    hidden: bool = False


@dataclass(slots=True)
class Source:
    """A table of a FROM clause; `path` is its alias, or the levels of its name."""

    path: tuple[str, ...]
    columns: list[SourceColumn]

    def matches(self, qualifier: Sequence[str]) -> bool:
        count = len(qualifier)
        return 0 < count <= len(self.path) and tuple(self.path[-count:]) == tuple(part.lower() for part in qualifier)


@dataclass(frozen=True, slots=True)
class Relation:
    """Something with columns that stands in a FROM clause. `names` are the columns' in DuckDB, each once."""

    sql: str
    columns: Sequence[tuple[str, Type]]
    names: Sequence[str]

    def source(self, path: tuple[str, ...], alias: str) -> Source:
        columns = [
            SourceColumn(name, Typed(f"{quoted(alias)}.{quoted(physical)}", kind))
            for (name, kind), physical in zip(self.columns, self.names, strict=True)
        ]
        return Source(path, columns)


class Scope:
    """Names in one SELECT. `outer` is the scope of the query around it, for correlated subqueries."""

    def __init__(self, outer: "Scope | None" = None, ctes: Mapping[str, Relation] | None = None) -> None:
        self.outer = outer
        self.ctes: dict[str, Relation] = dict(ctes or (outer.ctes if outer else {}))
        self.sources: list[Source] = []
        self.values: dict[str, Typed] = {}
        self.aliases: dict[str, Typed] = {}
        self.aliases_first = False
        self.windows: dict[str, exp.Window] = {}
        self.depth: int = outer.depth if outer else 0
        self.in_lambda = False

    def _copy(self) -> "Scope":
        copied = Scope(self.outer, self.ctes)
        copied.sources, copied.values, copied.aliases = self.sources, self.values, self.aliases
        copied.aliases_first, copied.windows = self.aliases_first, self.windows
        copied.depth, copied.in_lambda = self.depth, self.in_lambda
        return copied

    def with_values(self, values: Mapping[str, Typed]) -> "Scope":
        """Inside a lambda function."""
        inner = self._copy()
        inner.values = {**self.values, **{name.lower(): value for name, value in values.items()}}
        inner.depth, inner.in_lambda = self.depth + 1, True
        return inner

    def inside_aggregate(self) -> "Scope":
        """Inside an aggregate function's arguments, where aliases of this SELECT do not reach."""
        inner = self._copy()
        inner.aliases = {name: value for name, value in self.aliases.items() if not value.aggregate}
        return inner

    def window(self, name: str) -> exp.Window:
        found = self.windows.get(name.lower())
        if found is None:
            raise InvalidRequest(f"[MISSING_WINDOW_SPECIFICATION] There is no window {name!r:.60}.")
        return found

    def resolve(self, parts: Sequence[str], compiler: "ExpressionCompiler") -> Typed:
        """The column, alias or parameter of a dotted name, and the fields inside it. Raises `InvalidRequest`."""
        scope: Scope | None = self
        while scope is not None:
            found = scope._find(parts)
            if found is not None:
                value, rest = found
                for name in rest:
                    value = field_of(value, name)
                return value
            scope = scope.outer
        known = ", ".join(sorted({column.name for source in self.sources for column in source.columns})[:10])
        hint = f" Did you mean one of: {known:.300}?" if known else ""
        raise InvalidRequest(f"[UNRESOLVED_COLUMN] A column {'.'.join(parts)!r:.100} cannot be resolved.{hint}")

    def _find(self, parts: Sequence[str]) -> tuple[Typed, Sequence[str]] | None:
        first = parts[0].lower()
        if first in self.values:
            return self.values[first], parts[1:]
        if self.aliases_first and first in self.aliases:
            return self.aliases[first], parts[1:]
        for count in range(len(parts) - 1, -1, -1):
            qualifier, name, rest = parts[:count], parts[count], parts[count + 1 :]
            matches = [
                column.value
                for source in self.sources
                if not qualifier or source.matches(qualifier)
                for column in source.columns
                if column.name.lower() == name.lower() and (qualifier or not column.hidden)
            ]
            if len(matches) > 1:
                raise InvalidRequest(f"[AMBIGUOUS_REFERENCE] The column {'.'.join(parts)!r:.100} is in several tables.")
            if matches:
                return matches[0], rest
        return (self.aliases[first], parts[1:]) if first in self.aliases else None

    def star(self, qualifier: Sequence[str] = ()) -> list[tuple[str, Typed]]:
        """All columns, or those of one table."""
        found = [
            (column.name, column.value)
            for source in self.sources
            if not qualifier or source.matches(qualifier)
            for column in source.columns
            if qualifier or not column.hidden
        ]
        if not found:
            raise InvalidRequest(f"[CANNOT_RESOLVE_STAR_EXPAND] There is no table {'.'.join(qualifier)!r:.100}.")
        return found

    def merge(self, names: Sequence[str], left: Sequence[Source], right: Source, side: str) -> list[str]:
        """The columns that a join's USING has in both, shown once and first. Conditions that join them."""
        conditions, merged = [], []
        for name in names:
            one = self._pick(left, name)
            other = self._pick([right], name)
            conditions.append(f"{one.value.sql} = {other.value.sql}")
            shown = {"RIGHT": other.value.sql, "FULL": f"coalesce({one.value.sql}, {other.value.sql})"}
            merged.append(SourceColumn(one.name, replace(one.value, sql=shown.get(side, one.value.sql))))
        wanted = {name.lower() for name in names}
        for source in (*left, right):
            source.columns = [
                replace(column, hidden=True) if column.name.lower() in wanted else column for column in source.columns
            ]
        self.sources.insert(0, Source((), merged))
        return conditions

    def _pick(self, sources: Sequence[Source], name: str) -> SourceColumn:
        found = [
            column
            for source in sources
            for column in source.columns
            if column.name.lower() == name.lower() and not column.hidden
        ]
        if len(found) != 1:
            raise InvalidRequest(
                f"[UNRESOLVED_USING_COLUMN_FOR_JOIN] The column {name!r:.60} is not once in each table."
            )
        return found[0]


def unique(names: Sequence[str]) -> list[str]:
    """Names for DuckDB, which tells names apart by more than case: a repeated one gets a number."""
    taken: set[str] = set()
    found = []
    for name in names:
        candidate, number = name or "_", 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{name}#{number}"
        taken.add(candidate.lower())
        found.append(candidate)
    return found
