"""The Delta tables the server writes: made, and brought to a newer version in place."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from lakemesh.deploy.resources.base import Body, Difference, Resource, Target
from lakemesh.deploy.resources.catalog import API, run_statement
from lakemesh.errors import Conflict, PermissionDenied
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.type_widening import is_wider

WIDENING = "ALTER TABLE {table} SET TBLPROPERTIES ('delta.enableTypeWidening' = 'true')"


class Table(Resource):
    """Who deploys owns it, the app may read and change its rows. Columns and members of structs that are new are
    added; a column of another type is changed only when asked for (`target.migrate`). Columns the server does not know
    stay."""

    holds_data: ClassVar[bool] = True

    def __init__(self, spec: TableSpec, target: Target) -> None:
        super().__init__(f"tables.{spec.name.rpartition('.')[2]}", {"name": spec.name}, target)
        self._spec = spec

    @property
    def desired(self) -> Body:
        return {"columns": columns_of((column.name, column.type) for column in self._spec.columns)}

    def read(self) -> Body | None:
        found = self.target.find(f"{API}/tables/{self.name}")
        if found is None:
            return None
        return {"columns": columns_of((item["name"], item["type_text"]) for item in found.get("columns") or ())}

    def create(self) -> None:
        from lakemesh.lakehouse.databricks.tables import create_statement

        run_statement(self.target, create_statement(self._spec))

    def refusal(self, wanted: Body, actual: Body) -> str | None:
        if narrower := [
            f"{column.name} as {was}, not {column.type}"
            for column, was in self._retyped(actual)
            if not is_wider(was, column.type)
        ]:
            return f"{self.name} has {', '.join(narrower)}, which no ALTER TABLE mends; copy the table, or drop it."
        changing = self._changing(actual)
        if not changing or self.target.migrate:
            return None
        return (
            f"{self.name} needs more than new columns; look at these, then apply with --migrate: {'; '.join(changing)}"
        )

    def update(self, wanted: Body) -> None:
        """Raises `Conflict` for a table whose former columns are asked for: what was added has rows already."""
        actual = self.read() or {}
        for statement in [*self._adding(actual), *self._changing(actual)]:
            self.target.say(statement)
            run_statement(self.target, statement)
        if any(self._changing(self.read() or {})):
            raise Conflict(f"{self.name} still differs from what is declared.")

    def delete(self) -> None:
        self.target.do("DELETE", f"{API}/tables/{self.name}")

    def explain(self, several: Mapping[str, Sequence[Difference]], actual: Body) -> list[str]:
        return [*self._adding(actual), *self._changing(actual)]

    def _adding(self, actual: Body) -> list[str]:
        """What can be added beside a server of the former version, which goes on writing."""
        from lakemesh.lakehouse.databricks.tables import identifier, literal, quoted

        there: Mapping[str, str] = actual.get("columns") or {}
        added = []
        for column in self._spec.columns:
            comment = f" COMMENT {literal(column.comment)}" if column.comment else ""
            if column.name not in there:
                added.append(f"{identifier(column.name)} {column.type}{comment}")
            else:
                members = added_members(column, there[column.name]) or []
                added += [f"{identifier(column.name)}.{identifier(name)} {kind}" for name, kind in members]
        return [f"ALTER TABLE {quoted(self.name)} ADD COLUMNS ({', '.join(added)})"] if added else []

    def _changing(self, actual: Body) -> list[str]:
        from lakemesh.lakehouse.databricks.tables import identifier, quoted

        table = quoted(self.name)
        changed = [column for column, _ in self._retyped(actual)]
        types = [f"ALTER TABLE {table} ALTER COLUMN {identifier(column.name)} TYPE {column.type}" for column in changed]
        return [WIDENING.format(table=table), *types] if types else []

    def _retyped(self, actual: Body) -> list[tuple[Column, str]]:
        """Columns of another type than is declared, and the type they have."""
        there: Mapping[str, str] = actual.get("columns") or {}
        return [
            (column, there[column.name])
            for column in self._spec.columns
            if there.get(column.name, spelled(column.type)) != spelled(column.type)
            and added_members(column, there[column.name]) is None
        ]


class View(Resource):
    """A view over tables of the server. Who deploys owns it, so that it outlives the app; the server leaves a view that
    shows every column as it is."""

    @classmethod
    def of(cls, name: str, query: str, target: Target) -> "View":
        return cls(f"views.{name.rpartition('.')[2]}", {"name": name, "query": query}, target)

    @property
    def desired(self) -> Body:
        return {"query": normal(str(self.body["query"]))}

    def read(self) -> Body | None:
        """What stands there under the name and is no view is not ours to replace."""
        found = self.target.find(f"{API}/tables/{self.name}")
        if found is None:
            return None
        return {"query": normal(found.get("view_definition") or "")}

    def create(self) -> None:
        self._run("CREATE VIEW IF NOT EXISTS")

    def update(self, wanted: Body) -> None:
        self._run("CREATE OR REPLACE VIEW")

    def delete(self) -> None:
        from lakemesh.lakehouse.databricks.tables import quoted

        run_statement(self.target, f"DROP VIEW IF EXISTS {quoted(self.name)}")

    def _run(self, verb: str) -> None:
        from lakemesh.lakehouse.databricks.tables import quoted

        try:
            run_statement(self.target, f"{verb} {quoted(self.name)} AS {self.body['query']}")
        except PermissionDenied as error:
            advice = f"its owner has to give it to you: ALTER VIEW {self.name} SET OWNER TO `{self.target.user}`"
            raise PermissionDenied(f"{error.detail} Where a former app made the view, {advice}.") from None


def normal(query: str) -> str:
    """A query in one spelling."""
    from lakemesh.lakehouse.spark_dialect import parse_statement, render

    return render(parse_statement(query)) if query else ""


def added_members(column: Column, actual: str) -> list[tuple[str, str]] | None:
    """The members a STRUCT has more than `actual`; None when it differs in anything else."""
    from sqlglot import exp

    wanted, found = (exp.DataType.build(kind, dialect="databricks") for kind in (column.type, actual))
    if not (wanted.is_type("struct") and found.is_type("struct")):
        return None
    names = {member.name: spelled(member.args["kind"].sql("databricks")) for member in found.expressions}
    declared = {member.name: member.args["kind"].sql("databricks") for member in wanted.expressions}
    if any(spelled(declared.get(name, "")) != kind for name, kind in names.items()):
        return None
    return [(name, kind) for name, kind in declared.items() if name not in names]


def columns_of(columns: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: spelled(kind) for name, kind in columns}


def spelled(kind: Any) -> str:
    """A type in one spelling. Where there is no VARIANT (the emulator), JSON text stands for it."""
    from lakemesh.lakehouse.databricks.cells import type_name

    return type_name(kind).replace(" ", "").upper().replace("VARIANT", "STRING") if kind else ""
