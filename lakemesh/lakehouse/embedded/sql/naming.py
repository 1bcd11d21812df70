"""The names Spark gives to columns without an alias."""

from sqlglot import exp

from lakemesh.lakehouse.embedded.sql.types import convert

OPERATORS = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%", exp.IntDiv: "div", exp.EQ: "=", exp.NEQ: "=",
    exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.And: "AND", exp.Or: "OR", exp.NullSafeEQ: "<=>",
    exp.BitwiseAnd: "&", exp.BitwiseOr: "|", exp.BitwiseXor: "^",
}  # fmt: skip


def column_name(node: exp.Expr) -> str:
    """`count(1)`, `(a + 1)`, `CAST(a AS STRING)`; for rarer forms, their text."""
    if isinstance(node, exp.Column | exp.Dot | exp.Identifier):
        return node.name
    if isinstance(node, exp.Paren):
        return column_name(node.this)
    if isinstance(node, exp.Literal):
        return str(node.this)
    if isinstance(node, exp.Star):
        return "1"
    if isinstance(node, exp.Null):
        return "NULL"
    if isinstance(node, exp.Boolean):
        return "true" if node.this else "false"
    if isinstance(node, exp.Not):
        return f"(NOT {column_name(node.this)})"
    if isinstance(node, exp.NEQ):
        return f"(NOT ({column_name(node.this)} = {column_name(node.expression)}))"
    if isinstance(node, exp.Binary) and type(node) in OPERATORS:
        return f"({column_name(node.this)} {OPERATORS[type(node)]} {column_name(node.expression)})"
    if isinstance(node, exp.Neg):
        inner = column_name(node.this)
        return f"-{inner}" if isinstance(node.this, exp.Literal) else f"(- {inner})"
    if isinstance(node, exp.Is):
        return f"({column_name(node.this)} IS {column_name(node.expression).upper()})"
    if isinstance(node, exp.Cast):
        return _cast_name(node)
    if isinstance(node, exp.Bracket):
        return f"{column_name(node.this)}[{column_name(node.expressions[0])}]"
    if isinstance(node, exp.Case):
        return _case_name(node)
    if isinstance(node, exp.Placeholder):
        return node.name
    if isinstance(node, exp.Anonymous):
        return _call_name(node)
    return node.sql("databricks", comments=False)


def _call_name(node: exp.Anonymous) -> str:
    name = str(node.this).lower()
    arguments = node.expressions
    if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
        return f"{name}(DISTINCT {', '.join(column_name(item) for item in arguments[0].expressions)})"
    return f"{name}({', '.join(column_name(item) for item in arguments)})"


def _cast_name(node: exp.Cast) -> str:
    if isinstance(node.this, exp.Literal) and node.to.sql("databricks") in ("DATE", "TIMESTAMP"):
        return f"{node.to.sql('databricks')} '{node.this.this}'"
    word = "TRY_CAST" if isinstance(node, exp.TryCast) else "CAST"
    return f"{word}({column_name(node.this)} AS {convert(node.to).text})"


def _case_name(node: exp.Case) -> str:
    head = f" {column_name(node.this)}" if node.this else ""
    branches = "".join(
        f" WHEN {column_name(each.this)} THEN {column_name(each.args['true'])}" for each in node.args["ifs"]
    )
    default = f" ELSE {column_name(node.args['default'])}" if node.args.get("default") else ""
    return f"CASE{head}{branches}{default} END"
