"""How a prompt came to serve, or ceased to, as one page: steps, candidates, what changed, the experiment, the moves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from html import escape
from pathlib import Path
from typing import Any

from lakemesh.evaluation.report import STYLE
from lakemesh.evaluation.sequential import Arm
from lakemesh.prompts.selections import Move

WIDTH, HEIGHT, MARGIN = 640, 180, 34
PLOT_STYLE = """
.axis{stroke:#8896a5;stroke-width:1}.label{font-size:12px;fill:currentColor}.new{stroke:#c2560c;fill:#c2560c}
.old{stroke:#1f6feb;fill:#1f6feb}.old-text{color:#1f6feb}.new-text{color:#c2560c}.line{fill:none;stroke-width:2}pre{overflow-x:auto;padding:.6rem;background:#8896a522}
.plus{color:#116329}.minus{color:#b42318}svg{max-width:100%;height:auto}
@media(prefers-color-scheme:dark){.plus{color:#5fd38a}.minus{color:#ff8a7a}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The experiment as it stood when it was looked at."""

    champion: Arm
    challenger: Arm
    log_ratio: float
    decision: str


@dataclass(kw_only=True)
class Story:
    """`steps` are a name, a figure and whether that is good; `candidates` have `source` and `validation`."""

    steps: list[tuple[str, str, bool]] = field(default_factory=list)
    candidates: Sequence[Mapping[str, Any]] = ()
    before: str = ""
    after: str = ""
    looks: list[Look] = field(default_factory=list)
    moves: Sequence[Move] = ()


def write_story(path: Path, story: Story) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(story), encoding="utf-8")
    return path


def page(story: Story) -> str:
    steps = "".join(
        f'<tr><td>{place}</td><td class="{"passed" if good else "failed"}">{escape(name)}</td>'
        f"<td>{escape(figure)}</td></tr>"
        for place, (name, figure, good) in enumerate(story.steps, 1)
    )
    moves = "".join(
        f"<tr><td>{escape(move.at)}</td><td>{escape(move.action)}</td><td>{escape(move.by)}</td>"
        f"<td>{escape(move.why)}</td></tr>"
        for move in story.moves
    )
    validation = [float(one["validation"]) for one in story.candidates]
    champions = [look.champion.mean for look in story.looks]
    challengers = [look.challenger.mean for look in story.looks]
    sessions = [look.champion.sessions + look.challenger.sessions for look in story.looks]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>How the prompt came to serve</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{PLOT_STYLE}</style></head><body>'
        f"<h1>How the prompt came to serve</h1><table><tr><th><th>step<th>what came of it</tr>{steps}</table>"
        f"<h2>Candidates on the validation cases</h2>{bars(validation)}"
        f"<h2>What changed</h2><pre>{diff(story.before, story.after)}</pre>"
        "<h2>The experiment</h2><p>Mean of people's feedback by session, each time it was looked at: "
        '<b class="old-text">champion</b> and <b class="new-text">challenger</b>.</p>'
        f"{lines(sessions, champions, challengers)}{looks(story.looks)}"
        "<h2>Moves</h2><table><tr><th>at<th>move<th>by<th>why</tr>"
        f"{moves}</table></body></html>\n"
    )


def looks(found: Sequence[Look]) -> str:
    rows = "".join(
        f"<tr><td>{arm_text(look.champion)}</td><td>{arm_text(look.challenger)}</td>"
        f"<td>{look.log_ratio:.2f}</td><td>{escape(look.decision)}</td></tr>"
        for look in found
    )
    return f"<table><tr><th>champion<th>challenger<th>logarithm of the ratio<th>decision</tr>{rows}</table>"


def arm_text(arm: Arm) -> str:
    return f"{arm.mean:.3f} over {arm.sessions}" if arm.sessions else "none"


def diff(before: str, after: str) -> str:
    """Sentence by sentence, since a prompt is often one long line."""
    marks = {"+": "plus", "-": "minus"}
    compared = list(unified_diff(sentences(before), sentences(after), lineterm="", n=99))[3:]
    return "\n".join(
        f'<span class="{marks[line[0]]}">{escape(line)}</span>' if line[0] in marks else escape(line)
        for line in compared
    )


def sentences(text: str) -> list[str]:
    return text.replace(". ", ".\n").splitlines()


def bars(values: Sequence[float]) -> str:
    """A bar for each candidate, in the order of their making; values are shares."""
    step = (WIDTH - MARGIN) / max(len(values), 1)
    drawn = ""
    for place, value in enumerate(values):
        left, top = f"{MARGIN + step * (place + 0.2):.1f}", level(value)
        width, height = min(step * 0.6, 60), level(0) - top
        drawn += (
            f'<rect class="old" x="{left}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"></rect>'
            f'<text class="label" x="{left}" y="{top - 4:.1f}">{value:.2f}</text>'
            f'<text class="label" x="{left}" y="{level(0) + 16}">{place}</text>'
        )
    return plot(drawn, "scores of candidates on the validation cases, in the order of their making")


def lines(x: Sequence[int], old: Sequence[float], new: Sequence[float]) -> str:
    if not x:
        return ""
    place = {value: MARGIN + (WIDTH - 2 * MARGIN) * (value - x[0]) / max(x[-1] - x[0], 1) for value in x}
    drawn = ""
    for name, values in (("old", old), ("new", new)):
        points = " ".join(f"{place[at]:.1f},{level(value):.1f}" for at, value in zip(x, values, strict=True))
        drawn += f'<polyline class="line {name}" points="{points}" style="fill:none"></polyline>'
        drawn += "".join(
            f'<circle class="{name}" cx="{place[at]:.1f}" cy="{level(value):.1f}" r="3"></circle>'
            for at, value in zip(x, values, strict=True)
        )
    ticks = "".join(
        f'<text class="label" x="{place[at] - 10:.1f}" y="{HEIGHT - MARGIN + 16}">{at}</text>' for at in (x[0], x[-1])
    )
    return plot(drawn + ticks, "mean feedback of both arms by number of sessions")


def plot(drawn: str, label: str) -> str:
    axis = "".join(
        f'<line class="axis" x1="{MARGIN}" x2="{WIDTH}" y1="{level(value)}" y2="{level(value)}" '
        f'stroke-dasharray="{"none" if value == 0 else "2 4"}"></line>'
        f'<text class="label" x="4" y="{level(value) + 4}">{value:g}</text>'
        for value in (0, 0.5, 1)
    )
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{axis}{drawn}</svg>'


def level(value: float) -> float:
    """Where a share stands."""
    clean = min(max(value, 0.0), 1.0) if value == value else 0.0
    return MARGIN / 2 + (HEIGHT - 1.5 * MARGIN) * (1 - clean)
