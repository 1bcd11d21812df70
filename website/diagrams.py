"""The diagrams of the concepts, drawn from a few words each.

`python -m website.diagrams` writes `docs/pictures/*.svg`.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

PICTURES = Path(__file__).parents[1] / "docs/pictures"
WIDTH, BOX, GAP, BAND = 760, 44, 16, 40
LINE_CHARACTERS_WIDTH = 7.2


@dataclass(frozen=True, slots=True)
class Diagram:
    """Bands from the top down, each of boxes side by side; an arrow leads from band to band, with the words of
    `between`. In a `flow` an arrow leads from each box of a band to the next one too."""

    title: str
    bands: list[list[str]]
    between: list[str]
    kind: Literal["stack", "flow"] = "stack"


DIAGRAMS = {
    "concept-engine": Diagram(
        "One engine behind every door",
        [
            ["REST /api", "WebSocket", "A2A /a2a", "MCP /mcp", "command line"],
            ["engine: identity, policy, budget, limits, deadline, span, row"],
            ["your agents", "tools", "peers' skills", "tools of MCP servers"],
            ["model routes", "prompts", "memory", "sessions", "workspace"],
        ],
        ["one AgentInput", "one way to run", "AgentContext"],
    ),
    "concept-workspace": Diagram(
        "One workspace, two builds",
        [
            ["agents, telemetry, memory, prompts"],
            ["Workspace: volumes, tables, warehouse, indexes, endpoints, jobs"],
            [
                "embedded: folder, delta-rs, DuckDB, offline model",
                "Databricks: Unity Catalog, SQL, Vector Search, Serving",
            ],
        ],
        ["ports", "LAKEMESH_WORKSPACE"],
    ),
    "concept-request": Diagram(
        "One request",
        [
            ["edge: who, how large", "policy, budget", "a slot, or the queue", "input model", "agent", "output model"],
            ["span, row and audit record: spool on disk", "Delta"],
        ],
        ["beside the answer"],
        "flow",
    ),
    "concept-memory": Diagram(
        "What is remembered",
        [
            ["remember()", "journal: fsync on this disk", "Delta table, once", "vector index"],
            ["retrieve(): the calling user's alone, filters exact"],
        ],
        ["derived, mended when it differs"],
        "flow",
    ),
    "concept-telemetry": Diagram(
        "What is observed",
        [
            ["spans, logs, metrics, rows", "buffer", "Arrow batch", "spool on disk"],
            ["Delta", "Zerobus", "OTLP collector"],
        ],
        ["each at its own pace, retried alone"],
        "flow",
    ),
    "concept-durable": Diagram(
        "A run that survives",
        [
            ["POST /api/invocations", "queue in PostgreSQL", "a worker, with a heartbeat", "events, then the answer"],
            ["the worker dies: another takes over, with the checkpoint and the answers of people"],
        ],
        ["a lease runs out"],
        "flow",
    ),
    "concept-governance": Diagram(
        "May this be done",
        [
            ["caller, groups, agent, origins of text"],
            ["policies: deny, approve, allow", "budgets: set aside, settle", "content rules"],
            ["call, ask a model, read, write, send", "refused: the rule is named", "a person approves"],
        ],
        ["each action of the run, nested ones too", "every decision on the span and in the audit trail"],
    ),
    "concept-deployment": Diagram(
        "From a folder to an app",
        [
            ["agents, config/, prompts, databricks.yml"],
            ["rehearsed here", "plan", "apply, one at a time"],
            ["catalog, tables, grants, jobs", "volumes: configuration, prompts", "the app"],
        ],
        ["lakemesh apply", "taken back when it does not start"],
    ),
}


def svg(diagram: Diagram) -> str:
    height = 44 + len(diagram.bands) * BOX + (len(diagram.bands) - 1) * BAND + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(diagram.title)}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#f7f8fa"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#51606e"/></marker></defs>',
        text(WIDTH / 2, 24, diagram.title, "#16202a", weight="bold"),
    ]
    for place, band in enumerate(diagram.bands):
        top = 44 + place * (BOX + BAND)
        if place:
            parts.append(arrow(WIDTH / 2, top - BAND + 2, WIDTH / 2, top - 3))
            parts.append(
                text(WIDTH / 2 + 10, top - BAND / 2 + 4, diagram.between[place - 1], "#51606e", anchor="start")
            )
        parts += boxes(band, top, joined=diagram.kind == "flow")
    return "\n".join([*parts, "</svg>\n"])


def boxes(band: list[str], top: float, *, joined: bool) -> list[str]:
    width = (WIDTH - 32 - GAP * (len(band) - 1)) / len(band)
    parts = []
    for place, label in enumerate(band):
        left = 16 + place * (width + GAP)
        parts.append(
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BOX}" rx="6" fill="#fff" stroke="#2b6cb0"/>'
        )
        lines = wrapped(label, int((width - 8) / LINE_CHARACTERS_WIDTH * 1.1))
        first = top + BOX / 2 + 4 - 7 * (len(lines) - 1)
        parts += [text(left + width / 2, first + 14 * row, line, "#16202a") for row, line in enumerate(lines)]
        if joined and place:
            parts.append(arrow(left - GAP + 1, top + BOX / 2, left - 2, top + BOX / 2))
    return parts


def wrapped(label: str, characters: int) -> list[str]:
    lines: list[str] = []
    for word in label.split():
        if lines and len(lines[-1]) + 1 + len(word) <= characters:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def text(x: float, y: float, words: str, color: str, *, weight: str = "normal", anchor: str = "middle") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-weight="{weight}" fill="{color}">{escape(words)}</text>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="#51606e" marker-end="url(#tip)"/>'


if __name__ == "__main__":
    for name, diagram in DIAGRAMS.items():
        (PICTURES / f"{name}.svg").write_text(svg(diagram))
