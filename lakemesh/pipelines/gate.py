"""What a pipeline's Python may hold: an allow-list over its tree, the same for code of ours and of a model.

A module of a pipeline is imported by an engine that has credentials, so it is judged before anything runs it. It holds
imports of three names, calls that declare tables, and functions without arguments that return one query. What is not on
the lists (`gate_lists`) is refused by rule and line; `record` then reads the graph from the same tree.
"""

import ast
from collections.abc import Iterator, Mapping

from lakemesh.errors import PermissionDenied
from lakemesh.pipelines.gate_lists import (
    ARGUMENTS,
    CREATING,
    DECLARING,
    EXPECTING,
    FUNCTIONS,
    IMPORTS,
    METHODS,
    NAME,
    SQL_METHODS,
)
from lakemesh.pipelines.gate_sql import judge_sql
from lakemesh.pipelines.gate_text import Refusal, fault_of_text
from lakemesh.pipelines.gate_values import METHOD_RULES, fault_of_argument, fault_of_conditions

MAX_NODES = 20_000
MAX_DEPTH = 60
MAX_TEXT = 20_000

LITERALS = (str, int, float, bool, type(None))


def judge(code: str) -> list[Refusal]:
    """Why this module may not run; nothing when it may."""
    if fault := fault_of_text(code):
        return [fault]
    try:
        tree = ast.parse(code.encode())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [Refusal("syntax", getattr(error, "lineno", None) or 1, "it is not Python")]
    if fault := fault_of_size(tree):
        return [fault]
    return list(Judge().module(tree))


def code_of(files: Mapping[str, str]) -> dict[str, str]:
    """What an engine imports, of a pipeline's files."""
    return {path: text for path, text in files.items() if path.startswith("transformations/") and path.endswith(".py")}


def source_of(files: Mapping[str, str]) -> dict[str, str]:
    """What an engine runs, of a pipeline's files: its Python and its SQL."""
    suffixes = (".py", ".sql")
    return {
        path: text for path, text in files.items() if path.startswith("transformations/") and path.endswith(suffixes)
    }


def judge_file(path: str, text: str) -> list[Refusal]:
    """Why this file, Python or SQL by its name, may not run; nothing when it may."""
    return judge_sql(text) if path.endswith(".sql") else judge(text)


def require_judged(files: Mapping[str, str]) -> None:
    """Raises `PermissionDenied` for the first file that the gate refuses."""
    for path, text in files.items():
        if refusals := judge_file(path, text):
            raise PermissionDenied(f"{path}, {refusals[0]}")


def fault_of_size(tree: ast.AST) -> Refusal | None:
    level, count, depth = [tree], 0, 0
    while level:
        count, depth = count + len(level), depth + 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            return Refusal("size", 1, "it is too long, or nested too deeply")
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return None


class Judge:
    """One module. `aliases` maps the module's names to what they were imported as."""

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}

    def module(self, tree: ast.Module) -> Iterator[Refusal]:
        functions: set[str] = set()
        for position, node in enumerate(tree.body):
            if position == 0 and is_text(node):
                continue
            if isinstance(node, ast.ImportFrom):
                yield from self.imported(node)
            elif isinstance(node, ast.FunctionDef):
                if node.name in functions or node.name in self.aliases or node.name == "spark":
                    yield refusal("rebinding", node, f"{node.name} is defined twice")
                functions.add(node.name)
                yield from self.function(node)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                yield from self.declared(node.value, CREATING)
            else:
                yield refusal("statement", node, f"{type(node).__name__} is not allowed at the top")

    def imported(self, node: ast.ImportFrom) -> Iterator[Refusal]:
        for name in node.names:
            alias = name.asname or name.name
            if node.level or name.name not in IMPORTS.get(node.module or "", ()):
                yield refusal("import", node, f"{node.module}.{name.name} may not be imported")
            elif alias in self.aliases or alias == "spark" or not NAME.fullmatch(alias):
                yield refusal("rebinding", node, f"{alias} is bound twice, or not to be bound")
            else:
                self.aliases[alias] = name.name

    def function(self, node: ast.FunctionDef) -> Iterator[Refusal]:
        given = node.args
        if any((given.posonlyargs, given.args, given.vararg, given.kwonlyargs, given.kwarg)) or node.returns:
            yield refusal("function", node, f"{node.name} takes arguments or has annotations")
        if not NAME.fullmatch(node.name) or getattr(node, "type_params", None) or node.type_comment:
            yield refusal("function", node, f"{node.name!r:.60} is not a name for a function here")
        declaring = 0
        for decorator in node.decorator_list:
            name = self.pipelines_name(decorator.func if isinstance(decorator, ast.Call) else decorator)
            declaring += name in DECLARING
            if name in EXPECTING:
                yield from self.expectation(decorator, name)
            elif name in DECLARING and isinstance(decorator, ast.Call):
                yield from self.declared(decorator, DECLARING)
            elif name not in DECLARING:
                yield refusal("decorator", decorator, "only declarations of datasets and expectations decorate")
        if declaring != 1:
            yield refusal("decorator", node, f"{node.name} is declared by {declaring} decorators; it takes one")
        body = node.body[1:] if is_text(node.body[0]) else node.body
        if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
            yield refusal("body", node, f"{node.name} does more than return one query")
        else:
            yield from self.query(body[0].value)

    def pipelines_name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return node.attr if self.aliases.get(node.value.id) == "pipelines" else ""
        return ""

    def expectation(self, node: ast.expr, name: str) -> Iterator[Refusal]:
        arguments = node.args if isinstance(node, ast.Call) and not node.keywords else []
        values = [literal_of(argument) for argument in arguments]
        if name.startswith("expect_all"):
            conditions = values[0] if len(values) == 1 and isinstance(values[0], dict) else None
        else:
            conditions = {values[0]: values[1]} if len(values) == 2 and isinstance(values[0], str) else None
        if conditions is None:
            yield refusal("expectation", node, f"{name} takes a name and a condition, as text")
        elif found := fault_of_conditions(conditions):
            yield refusal(found[0], node, found[1])

    def declared(self, node: ast.Call, among: set[str]) -> Iterator[Refusal]:
        name = self.pipelines_name(node.func)
        if name not in among:
            yield refusal("call", node, "only declarations of the pipeline are called here")
            return
        if node.args:
            yield refusal("argument", node, f"{name} takes its arguments by name")
        values = {keyword.arg: keyword.value for keyword in node.keywords}
        if len(values) != len(node.keywords):
            yield refusal("argument", node, f"{name} is given an argument twice")
        for key, value in values.items():
            if key is None or key not in ARGUMENTS[name]:
                yield refusal("argument", node, f"{name} takes no {key or '**'} here")
            elif not is_literal(value):
                yield refusal("argument", value, f"{key} is not a literal")
            elif fault := fault_of_argument(key, literal_of(value)):
                yield refusal("argument", value, f"{key} {fault}")

    def query(self, node: ast.expr) -> Iterator[Refusal]:
        """An expression that makes a DataFrame or a column of one."""
        if isinstance(node, ast.Call):
            yield from self.called(node)
        elif isinstance(node, ast.Constant):
            if not isinstance(node.value, LITERALS) or len(str(node.value)) > MAX_TEXT:
                yield refusal("literal", node, "it is not a literal of SQL")
        elif isinstance(node, ast.List | ast.Tuple):
            for element in node.elts:
                yield from self.query(element)
        elif isinstance(node, ast.BinOp | ast.Compare | ast.UnaryOp):
            yield from self.operated(node)
        else:
            yield refusal("expression", node, f"{type(node).__name__} is not allowed in a query")

    def operated(self, node: ast.BinOp | ast.Compare | ast.UnaryOp) -> Iterator[Refusal]:
        """Arithmetic and comparisons of columns. Of constants alone there is none: `"a" + "b"` and `"%s" % x` would
        make text that nobody has judged."""
        if isinstance(node, ast.UnaryOp):
            operands = [node.operand]
        else:
            operands = [node.left, *(node.comparators if isinstance(node, ast.Compare) else [node.right])]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.MatMult | ast.LShift | ast.RShift):
            yield refusal("expression", node, f"{type(node.op).__name__} is not allowed in a query")
        if not is_number(operands[0]) and not makes_column(operands[0]):
            yield refusal("expression", node, "text is not put together; write it out")
        if not isinstance(node, ast.UnaryOp) and not any(map(makes_column, operands)):
            yield refusal("expression", node, "constants are not put together; write the result")
        for operand in operands:
            yield from self.query(operand)

    def called(self, node: ast.Call) -> Iterator[Refusal]:
        method = node.func
        if not isinstance(method, ast.Attribute):
            yield refusal("call", node, "only methods of spark, of its tables and of functions are called")
            return
        yield from self.receiver(method)
        if any(
            keyword.arg is None or keyword.arg not in ("how", "on", "allowMissingColumns") for keyword in node.keywords
        ):
            yield refusal("argument", node, f"{method.attr} takes no such argument by name here")
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        for value in values:
            yield from self.query(value)
        rule = METHOD_RULES.get(method.attr)
        if rule is None:
            return
        texts = [literal_of(value) if is_literal(value) else None for value in node.args]
        if fault := rule(texts):
            yield refusal(
                "sql" if method.attr in SQL_METHODS | {"sql"} else "argument", node, f"{method.attr}: {fault}"
            )

    def receiver(self, method: ast.Attribute) -> Iterator[Refusal]:
        """What a method is called on: `spark`, a chain that begins there, or the functions that were imported."""
        value = method.value
        if isinstance(value, ast.Name):
            module = self.aliases.get(value.id)
            allowed = {"functions": FUNCTIONS, "Window": {"partitionBy", "orderBy"}}.get(module or "", set())
            if value.id == "spark":
                allowed = {"sql", "table"}
            if method.attr not in allowed:
                yield refusal("name", method, f"{value.id}.{method.attr} may not be used")
            return
        if method.attr not in METHODS - {"read", "readStream", "sql"}:
            yield refusal("method", method, f"the method {method.attr} may not be used")
        if isinstance(value, ast.Attribute):
            root = value.value
            if not (isinstance(root, ast.Name) and root.id == "spark" and value.attr in ("read", "readStream")):
                yield refusal("attribute", value, f"the attribute {value.attr} may not be used")
        elif isinstance(value, ast.Call):
            yield from self.called(value)
        elif makes_column(value):
            yield from self.query(value)
        else:
            yield refusal("attribute", value, "a method is called on what is no column and no table")


def is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def makes_column(node: ast.expr) -> bool:
    """Calls begin at `spark` or at the functions, so what they give is a table or a column, never text."""
    if isinstance(node, ast.BinOp | ast.Compare):
        return makes_column(node.left) or is_number(node.left)
    return isinstance(node, ast.Call) or (isinstance(node, ast.UnaryOp) and makes_column(node.operand))


def refusal(rule: str, node: ast.AST, message: str) -> Refusal:
    return Refusal(rule, getattr(node, "lineno", 1), message)


def is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, LITERALS) and len(str(node.value)) <= MAX_TEXT
    if isinstance(node, ast.Dict):
        return all(key is not None and is_literal(key) for key in node.keys) and all(map(is_literal, node.values))
    return isinstance(node, ast.List | ast.Tuple) and all(map(is_literal, node.elts))


def literal_of(node: ast.expr) -> object:
    return ast.literal_eval(node) if is_literal(node) else None
