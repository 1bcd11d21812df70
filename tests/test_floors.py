"""The house plan as a test: a room imports only from its own floor's plan or from lower floors, never up."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lakemesh

PACKAGE = Path(lakemesh.__file__).parent

FLOORS: list[str] = [
    "__init__ client deprecation schemas errors scope deadline breaker http outgoing bounded event_stream suggestions "
    "attended file_lock spool redaction logs threads allocator config",
    "lakehouse",
    "telemetry models prompts memory sessions governance rollout dashboards",
    "agents pipelines",
    "engine invocations erasure",
    "edge services mcp a2a",
    "composition app cli jobs evaluation deploy emulator model_serving testing",
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
FRONT = PACKAGE / "__init__.py"
"""Names what is public, from every floor, and imports it when it is asked for."""
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if "template" not in path.relative_to(PACKAGE).parts and path != FRONT
)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported_by(path: Path) -> set[str]:
    """Every room of lakemesh that the module names in an import, also inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "lakemesh" else [node.module]
            )
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("lakemesh.")}
    return {room if room in FLOOR_OF else "__init__" for room in rooms if room != "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_floor_or_below(path: Path) -> None:
    room = room_of(path)
    assert room in FLOOR_OF, f"{room} has no floor; give it one here and in docs/architecture.md"
    above = {other for other in rooms_imported_by(path) if FLOOR_OF[other] > FLOOR_OF[room]}
    assert not above, f"{room} (floor {FLOOR_OF[room]}) imports from above: {above}"


def modules_imported_by(path: Path) -> set[str]:
    """Every module of lakemesh that the module names in an import, for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= submodules & NAMES.keys() or {node.module}
    return found & NAMES.keys()


def name_of(path: Path) -> str:
    return ".".join(("lakemesh", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES}
MAY_CIRCLE = "lakemesh.lakehouse.embedded.sql."
"""A grammar is a circle by nature: an expression holds a query, which holds expressions."""


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: modules_imported_by(path) for name, path in NAMES.items() if not name.startswith(MAY_CIRCLE)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")
