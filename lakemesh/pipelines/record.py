"""The graph that code declares, read from its tree: nothing is run. For code that `gate.judge` lets through."""

import ast
from collections.abc import Mapping
from typing import Any

from lakemesh.pipelines.expressions import canonical, parse_query, split_alias
from lakemesh.pipelines.gate import is_literal, literal_of
from lakemesh.pipelines.graph import Flow, Graph, Node

KINDS = {"table": "streaming_table", "materialized_view": "materialized_view", "temporary_view": "temporary_view"}
ACTIONS = {"": "warn", "_or_drop": "drop", "_or_fail": "fail"}


def record(files: Mapping[str, str]) -> Graph:
    """The datasets, flows and expectations of the modules."""
    nodes: dict[str, Node] = {}
    flows: dict[str, list[Flow]] = {}
    for path in sorted(files):
        if not path.endswith(".py"):
            continue
        for statement in ast.parse(files[path]).body:
            if isinstance(statement, ast.FunctionDef):
                declare_function(statement, nodes, flows)
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                declare_call(statement.value, nodes, flows)
    return Graph(
        {
            name: Node(node.kind, (*node.flows, *flows.get(name, ())), node.rules, node.cluster_by)
            for name, node in nodes.items()
        }
    )


def declare_function(function: ast.FunctionDef, nodes: dict[str, Node], flows: dict[str, list[Flow]]) -> None:
    [returned] = [statement for statement in function.body if isinstance(statement, ast.Return)]
    assert returned.value is not None
    flow = flow_of(returned.value)
    kind, arguments, rules = "", dict[str, Any](), set()
    for decorator in function.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name.startswith("expect"):
            rules |= rules_of(name, [literal_of(argument) for argument in call.args])
        else:
            kind, arguments = name, arguments_of(call)
    if kind == "append_flow":
        flows.setdefault(arguments["target"], []).append(flow)
        return
    name = arguments.get("name", function.name)
    nodes[name] = Node(KINDS[kind], (flow,), frozenset(rules), tuple(arguments.get("cluster_by", ())))


def rules_of(name: str, values: list[Any]) -> set[tuple[str, str, str]]:
    action = ACTIONS[name.removeprefix("expect").removeprefix("_all")]
    conditions = values[0] if isinstance(values[0], dict) else {values[0]: values[1]}
    return {(rule, canonical(condition), action) for rule, condition in conditions.items()}


def declare_call(call: ast.Call, nodes: dict[str, Node], flows: dict[str, list[Flow]]) -> None:
    function = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    values = arguments_of(call)
    if function == "create_sink":
        nodes[values["name"]] = Node("sink")
    elif function == "create_streaming_table":
        given = {key: value for key, value in values.items() if key.startswith("expect_all")}
        rules = frozenset(rule for key, value in given.items() for rule in rules_of(key, [value]))
        nodes[values["name"]] = Node("streaming_table", (), rules, tuple(values.get("cluster_by", ())))
    else:
        changes = {"keys": ",".join(values["keys"]), "scd": str(values.get("stored_as_scd_type", 1))}
        if function == "create_auto_cdc_flow":
            deletes = values.get("apply_as_deletes")
            changes |= {"sequence_by": values["sequence_by"], "delete_when": canonical(deletes) if deletes else ""}
            changes |= {"except": ",".join(values.get("except_column_list", ()))}
        flow = Flow(frozenset({values["source"]}), changes=tuple(sorted(changes.items())))
        flows.setdefault(values["target"], []).append(flow)


def arguments_of(call: ast.Call) -> dict[str, Any]:
    return {keyword.arg: literal_of(keyword.value) for keyword in call.keywords if keyword.arg}


def flow_of(query: ast.expr) -> Flow:
    """The query's chain of calls, from its end to `spark`."""
    reads: set[str] = set()
    columns: tuple[tuple[str, str], ...] = ()
    filters: list[str] = []
    group_by: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    for method, values in calls_of(query):
        if method in ("table", "load") and values:
            reads.add(values[0])
        elif method == "option" and values[0] == "subscribe":
            reads.add(f"kafka:{values[1]}")
        elif method in ("where", "filter") and values[0] is not None:
            filters.append(canonical(values[0]))
        elif method == "selectExpr" and not any(text.endswith(("*", " AS payload")) for text in values):
            columns = tuple((name or text, text) for text, name in map(split_alias, values))
        elif method == "dropDuplicates" and values:
            keys = tuple(values[0])
        elif method == "sql":
            found, columns, where, group_by = query_parts(values[0])
            reads |= found
            filters += where
    return Flow(frozenset(reads), columns, tuple(filters), group_by, keys)


def calls_of(query: ast.expr) -> list[tuple[str, list[Any]]]:
    found: list[tuple[str, list[Any]]] = []
    node: ast.AST = query
    while isinstance(node, ast.Call | ast.Attribute):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.append((node.func.attr, [literal_of(value) if is_literal(value) else None for value in node.args]))
            node = node.func.value
        else:
            node = node.value if isinstance(node, ast.Attribute) else node.func
    return found[::-1]


def query_parts(text: str) -> tuple[set[str], tuple[tuple[str, str], ...], list[str], tuple[str, ...]]:
    from sqlglot import exp

    from lakemesh.lakehouse.spark_dialect import render

    tree = parse_query(text)
    reads = {table.name for table in tree.find_all(exp.Table)}
    columns = tuple((item.alias_or_name, canonical(render(item.unalias()))) for item in tree.expressions)
    where, group = tree.args.get("where"), tree.args.get("group")
    filters = [canonical(render(where.this))] if where else []
    return reads, columns, filters, tuple(canonical(render(key)) for key in group.expressions) if group else ()
