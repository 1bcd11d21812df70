"""A plan as SQL: built as a tree, its values bound, and through the one gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakemesh.agents.analyst.plan import Plan, TimeRange
from lakemesh.agents.analyst.semantic_model import Metric, SemanticModel, table_of
from lakemesh.lakehouse.sql_gate import require_allowed

if TYPE_CHECKING:
    from sqlglot import exp


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedQuery:
    """One SELECT with its named parameters."""

    statement: str
    parameters: Mapping[str, Any]


def query_of(plan: Plan, model: SemanticModel) -> PlannedQuery:
    """Raises `PermissionDenied` for a verified query that reads other than the model's tables' schemas."""
    if plan.verified is not None:
        query = PlannedQuery(statement=model.verified_queries[plan.verified].sql, parameters={})
    else:
        query = Builder(model).build(plan)
    require_allowed(query.statement, model.schemas, query.parameters)
    return query


class Builder:
    """The tree of one query; what is bound is collected on the way."""

    def __init__(self, model: SemanticModel) -> None:
        self._model = model
        self._parameters: dict[str, Any] = {}
        self._tables: list[str] = []

    def build(self, plan: Plan) -> PlannedQuery:
        from sqlglot import exp

        fact = self._model.table_of_metric(plan.metrics[0])
        self._tables = [fact]
        grouped: list[tuple[str, exp.Expr]] = []
        if plan.grain is not None:
            grouped.append((plan.grain, self._period(fact, plan.grain)))
        grouped += [(name, self._column(self._model.dimensions[name].column)) for name in plan.dimensions]
        metrics = [(name, self._metric(self._model.metrics[name])) for name in plan.metrics]
        select = exp.select(*(value.as_(name, quoted=True) for name, value in (*grouped, *metrics)))
        conditions = self._conditions(plan, fact)
        having = [
            comparison(one.operator, self._metric(self._model.metrics[one.metric]), self._bind(one.number))
            for one in plan.having
        ]
        select = self._from(select, fact)
        for condition in conditions:
            select = select.where(condition)
        for _, value in grouped:
            select = select.group_by(value.copy())
        for condition in having:
            select = select.having(condition)
        select = ordered(select, plan, [name for name, _ in grouped])
        if plan.limit is not None:
            select = select.limit(plan.limit)
        return PlannedQuery(statement=select.sql("databricks"), parameters=self._parameters)

    def _conditions(self, plan: Plan, fact: str) -> "list[exp.Expr]":
        from sqlglot import exp

        found: list[exp.Expr] = []
        for one in plan.filters:
            column = self._column(self._model.dimensions[one.dimension].column)
            inside = exp.In(this=column, expressions=[self._bind(value) for value in one.values])
            found.append(exp.Not(this=inside) if one.excluded else inside)
        if plan.ranges:
            found.append(exp.or_(*(self._within(one, fact) for one in plan.ranges)))
        return found

    def _within(self, one: TimeRange, fact: str) -> "exp.Expr":
        from sqlglot import exp

        column = self._time(fact)
        start = exp.GTE(this=column, expression=self._date(one.start.isoformat()))
        return exp.and_(start, exp.LT(this=column.copy(), expression=self._date(one.end.isoformat())))

    def _date(self, day: str) -> "exp.Expr":
        from sqlglot import exp

        return exp.Cast(this=self._bind(day), to=exp.DataType.build("date"))

    def _time(self, fact: str) -> "exp.Expr":
        return self._column(f"{fact}.{self._model.tables[fact].time_column}")

    def _period(self, fact: str, grain: str) -> "exp.Expr":
        from sqlglot import exp

        start = exp.Anonymous(this="date_trunc", expressions=[exp.Literal.string(grain.upper()), self._time(fact)])
        return exp.Cast(this=start, to=exp.DataType.build("date"))

    def _metric(self, metric: Metric) -> "exp.Expr":
        from sqlglot import exp

        if metric.numerator and metric.denominator:
            parts = [self._metric(self._model.metrics[name]) for name in (metric.numerator, metric.denominator)]
            nothing = exp.Anonymous(this="nullif", expressions=[parts[1], exp.Literal.number(0)])
            return exp.Div(this=exp.Cast(this=parts[0], to=exp.DataType.build("double")), expression=nothing)
        value: exp.Expr = self._column(metric.column) if metric.column else exp.Literal.number(1)
        if metric.where:
            tests = [comparison("=", self._column(name), self._bind(item)) for name, item in metric.where.items()]
            value = exp.Case(ifs=[exp.If(this=exp.and_(*tests), true=value)])
        if metric.aggregate == "count_distinct":
            return exp.Anonymous(this="count", expressions=[exp.Distinct(expressions=[value])])
        return exp.Anonymous(this=metric.aggregate, expressions=[value])

    def _column(self, name: str) -> "exp.Expr":
        from sqlglot import exp

        table, _, column = name.partition(".")
        if table not in self._tables:
            self._tables.append(table)
        return exp.column(column, table=table, quoted=True)

    def _bind(self, value: Any) -> "exp.Expr":
        from sqlglot import exp

        name = f"p{len(self._parameters)}"
        self._parameters[name] = value
        return exp.Placeholder(this=name)

    def _from(self, select: "exp.Select", fact: str) -> "exp.Select":
        select = select.from_(self._table(fact))
        joined = {fact}
        for table in self._tables:
            for join in self._model.path(fact, table) or ():
                one = table_of(join.one)
                if one not in joined:
                    joined.add(one)
                    on = comparison("=", quoted_column(join.many), quoted_column(join.one))
                    select = select.join(self._table(one), on=on, join_type="left")
        return select

    def _table(self, name: str) -> "exp.Expr":
        from sqlglot import exp

        catalog, schema, table = self._model.tables[name].name.split(".")
        return exp.table_(table, db=schema, catalog=catalog, alias=name, quoted=True)


def quoted_column(name: str) -> "exp.Expr":
    from sqlglot import exp

    table, _, column = name.partition(".")
    return exp.column(column, table=table, quoted=True)


def comparison(operator: str, left: "exp.Expr", right: "exp.Expr") -> "exp.Expr":
    from sqlglot import exp

    kinds: dict[str, type[exp.Binary]] = {">": exp.GT, ">=": exp.GTE, "<": exp.LT, "<=": exp.LTE, "=": exp.EQ}
    return kinds[operator](this=left, expression=right)


def ordered(select: "exp.Select", plan: Plan, groups: list[str]) -> "exp.Select":
    """Over time by time, otherwise by the first metric; the groups break ties, so that the rows are always the same."""
    from sqlglot import exp

    if not groups:
        return select
    by_time = plan.grain is not None and plan.limit is None
    metric = exp.Ordered(this=exp.column(plan.metrics[0], quoted=True), desc=not plan.ascending, nulls_first=False)
    names = [exp.Ordered(this=exp.column(name, quoted=True), desc=False, nulls_first=False) for name in groups]
    return select.order_by(*(names if by_time else [metric, *names]))
