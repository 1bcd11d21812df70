"""The golden set: requests.yaml, and the definitions that it names."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lakemesh.pipelines.definition import PipelineDefinition, read_definition
from lakemesh.pipelines.graph import Graph, graph_of
from lakemesh.pipelines.requests import changed_definition, definition_of

FOLDER = Path(__file__).parent
HELD_OUT = 20
KINDS = {"streaming_table": "stream", "materialized_view": "view", "temporary_view": "temp", "sink": "sink"}


@dataclass(frozen=True)
class Case:
    content: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.content["id"])

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.id.encode()).hexdigest()

    @property
    def before(self) -> PipelineDefinition | None:
        return definition_of(self.content["before"]) if "before" in self.content else None

    def definition(self) -> PipelineDefinition:
        """What the grammar makes of the request, or what the definition's file says."""
        if "definition" in self.content:
            return read_definition((FOLDER / self.content["definition"]).read_text())
        if self.before is not None:
            return changed_definition(self.before, self.content["request"])
        return definition_of(self.content["request"])

    @property
    def expected(self) -> dict[str, tuple[str, frozenset[str], frozenset[str]]]:
        """Kind, actions and what is read, by dataset; of those that land, only that they are there."""
        found = {}
        for name, text in self.content["graph"].items():
            said, _, reads = text.partition("<")
            kind, *actions = said.split()
            found[name] = (kind, frozenset(actions), frozenset(reads.split()))
        return found


def load_cases() -> list[Case]:
    return [Case(content) for content in yaml.safe_load((FOLDER / "requests.yaml").read_text())]


def held_out(cases: list[Case]) -> list[Case]:
    """The ones nobody tunes on: those with the lowest digests."""
    return sorted(cases, key=lambda case: case.digest)[:HELD_OUT]


def seen_graph(graph: Graph) -> dict[str, tuple[str, frozenset[str], frozenset[str]]]:
    found = {}
    for name, node in graph.nodes.items():
        changes = dict(node.flows[0].changes) if node.flows else {}
        kind = f"scd{changes['scd']}" if changes else KINDS[node.kind]
        found[name] = (kind, frozenset(action for _, _, action in node.rules), node.reads)
    return found


def difference(case: Case, definition: PipelineDefinition) -> str | None:
    """What the definition's graph has otherwise than it was meant; None when they are the same."""
    seen, expected = seen_graph(graph_of(definition)), case.expected
    landed = {f"bronze_{name}" for name in case.content["bronze"]}
    if missing := landed - seen.keys():
        return f"there is no {', '.join(sorted(missing))}"
    found = {name: node for name, node in seen.items() if name not in landed}
    return None if found == expected else f"{found} instead of {expected}"
