"""The language of prompts: Jinja2's sandbox, with a budget.

The sandbox keeps a template away from Python's internals. It does not keep one from growing a text without end
(`{{ "x"|center(10**9) }}`, a text doubled in a loop) or from running for hours. So a prompt gets less of the language:
text, variables, conditions, loops, `set`, and the filters and methods below; no macros, includes or recursion. And
everything that makes something new spends from the rendering's budget: a character of text or an element of a list
costs one, a round of a loop twenty and the text in it.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import Any

from jinja2 import StrictUndefined, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateAssertionError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, _PassArg
from jinja2.visitor import NodeTransformer

BUDGET = 4_000_000
ROUND = 20
BUDGET_KEY = " budget"
EACH = " each"
"""Names no template can write, for the budget among the variables and for the filter round every loop."""

CONTAINERS = (list, tuple, set, frozenset, Mapping)
SIZED = (str, bytes, *CONTAINERS)
METHOD_OWNERS = (str, date, LoopContext, *CONTAINERS)
LARGEST_INTEGER = 2**64
WIDE_FORMAT = re.compile(r"%(?:\([^)]*\))?[^%a-zA-Z]*?(?:\*|\d{3,})")

NODES = frozenset(
    """
    Template Output TemplateData Const Name NSRef For If With Assign AssignBlock FilterBlock Scope CondExpr Filter
    Test Call Keyword Pair Tuple List Dict Getattr Getitem Slice Concat Compare Operand And Or Not Neg Pos Add Sub
    Mul Div FloorDiv Mod
    """.split()  # noqa: SIM905
)
FILTERS = frozenset(
    """
    abs capitalize count d default dictsort first float groupby int items last length list lower map max min reject
    rejectattr reverse select selectattr sort string title trim truncate unique upper wordcount
    """.split()  # noqa: SIM905
)
METHODS = frozenset(
    """
    capitalize changed count cycle date endswith get index isoformat items keys lower lstrip rstrip split splitlines
    startswith strip title upper values
    """.split()  # noqa: SIM905
)


class Budget:
    """What one rendering may still use."""

    def __init__(self, cpu_seconds: float) -> None:
        self._left = BUDGET
        self._cpu_seconds = cpu_seconds
        self._stop_at = time.thread_time() + cpu_seconds

    def spend(self, amount: int) -> None:
        self._left -= max(0, amount)
        if self._left < 0:
            raise SecurityError("the template makes too much text or too many rounds")
        if time.thread_time() > self._stop_at:
            raise SecurityError(f"the template runs for more than {self._cpu_seconds} seconds")

    def spend_on(self, value: Any) -> None:
        """Spend the size of a text or a container, with all that is in it."""
        if isinstance(value, str):
            self.spend(len(value))
        elif isinstance(value, Mapping):
            self.spend(1)
            for key, item in value.items():
                self.spend_on(key)
                self.spend_on(item)
        elif isinstance(value, CONTAINERS):
            self.spend(1)
            for item in value:
                self.spend_on(item)
        else:
            self.spend(1)


def budget_of(context: Context) -> Budget:
    budget: Budget = context.parent[BUDGET_KEY]
    return budget


class PromptEnvironment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False, finalize=output)
        self.filters = {name: spending(self.filters[name]) for name in FILTERS}
        self.filters |= {EACH: each, "format": spending(printf), "indent": spending(indent), "join": join}
        self.filters |= {"replace": replace, "round": round, "tojson": spending(tojson)}
        self.globals = {"range": self.globals["range"], "namespace": Namespace}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = Budgeting().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        texts = isinstance(left, SIZED) or isinstance(right, SIZED)
        if texts and operator != "+":
            raise SecurityError(f"the operator {operator} is for numbers only")
        if texts:
            budget_of(context).spend_on([left, right])
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > LARGEST_INTEGER:
            raise SecurityError("the number is too large")
        return result

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        owner = getattr(__obj, "__self__", None)
        method = isinstance(owner, METHOD_OWNERS) and __obj.__name__ in METHODS
        known = method or any(__obj is function for function in __self.globals.values())
        if not known and not isinstance(__obj, Undefined):
            raise SecurityError(f"{getattr(__obj, '__name__', __obj)!r:.60} cannot be called in a prompt")
        result = super().call(__context, __obj, *args, **kwargs)
        budget_of(__context).spend_on(result)
        return result


class Budgeting(NodeTransformer):
    """Refuses what is no part of the language, and makes loops, new containers and `~` spend."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        if type(node).__name__ not in NODES or getattr(node, "recursive", False):
            raise TemplateAssertionError(f"{type(node).__name__} is not allowed in a prompt", node.lineno)
        return super().visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = filtered(node.iter, EACH, nodes.Const(text, lineno=node.lineno))
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return filtered(self.generic_visit(node), "list")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return filtered(self.generic_visit(node), "default")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return filtered(node, "default") if node.ctx == "load" else node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return filtered(nodes.List(node.nodes, lineno=node.lineno), "join")


def filtered(node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def spending(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, paying for what it returns."""
    wants = _PassArg.from_obj(function)

    @pass_context
    def spend(context: Context, *args: Any, **kwargs: Any) -> Any:
        if wants is not None:
            passed = {_PassArg.context: context, _PassArg.eval_context: context.eval_ctx}
            args = (passed.get(wants, context.environment), *args)
        result = function(*args, **kwargs)
        budget_of(context).spend_on(result)
        return result

    return spend


@pass_context
def output(context: Context, value: Any) -> str:
    text = str(value)
    budget_of(context).spend(len(text))
    return text


@pass_context
def each(context: Context, values: Iterable[Any], text: int) -> Iterator[Any]:
    budget = budget_of(context)
    for value in values:
        budget.spend(ROUND + max(0, text))
        yield value


@pass_context
def join(context: Context, values: Iterable[Any], between: str = "") -> str:
    pieces = [str(value) for value in values]
    budget_of(context).spend(sum(map(len, pieces)) + len(between) * len(pieces))
    return between.join(pieces)


@pass_context
def replace(context: Context, text: str, old: str, new: str) -> str:
    text = str(text)
    budget_of(context).spend(len(text) + text.count(old) * len(new))
    return text.replace(old, new)


def printf(text: str, *args: Any, **kwargs: Any) -> str:
    if WIDE_FORMAT.search(text):
        raise SecurityError("the format is too wide")
    return str(text) % (kwargs or args)


def indent(text: str, width: int = 4, first: bool = False) -> str:
    """Every line but the first, or all, moved `width` places (16 at the most) to the right."""
    space = " " * min(int(width), 16)
    moved = str(text).replace("\n", f"\n{space}")
    return f"{space}{moved}" if first else moved


def tojson(value: Any, indent: int | None = None) -> str:
    """Plain JSON, without the escapes a web page would need."""
    return json.dumps(value, ensure_ascii=False, indent=None if indent is None else min(int(indent), 8), default=str)
