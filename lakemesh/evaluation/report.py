"""A run to look at: Markdown and HTML for people, JUnit's XML for whatever runs it."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from xml.sax.saxutils import quoteattr

from lakemesh.evaluation.gates import Verdict
from lakemesh.evaluation.metrics import Metric
from lakemesh.evaluation.runs import Run
from lakemesh.evaluation.statistics import compare_paired

WORST = 10
CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF], "\N{REPLACEMENT CHARACTER}")
"""Characters that XML 1.0 has no way to say."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2733}
table{border-collapse:collapse;width:100%;margin:1rem 0}td,th{border-bottom:1px solid #d8dee4;padding:.35rem .5rem;
text-align:left;vertical-align:top}.passed{color:#116329}.failed{color:#b42318}svg{display:block}
@media(prefers-color-scheme:dark){body{background:#10161c;color:#dbe3ea}.passed{color:#5fd38a}.failed{color:#ff8a7a}
td,th{border-color:#33404c}}
"""


def write_reports(folder: Path, run: Run, verdicts: Sequence[Verdict], champion: Mapping[str, Metric] | None) -> None:
    """`report.md`, `report.html` and `junit.xml`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(markdown(run, verdicts, champion), encoding="utf-8")
    (folder / "report.html").write_text(html(run, verdicts, champion), encoding="utf-8")
    (folder / "junit.xml").write_text(junit(run, verdicts), encoding="utf-8")


def markdown(run: Run, verdicts: Sequence[Verdict], champion: Mapping[str, Metric] | None) -> str:
    lines = [f"# {run.suite.name}: {outcome(verdicts)}", "", facts(run), ""]
    lines += ["| gate | value | outcome |", "|---|---|---|"]
    lines += [f"| {cell(one.gate)} | {shown(one.value)} | {cell(reason(one))} |" for one in verdicts]
    lines += ["", "| metric | mean | 95 % | cases | unmeasured | against the champion |", "|---|---|---|---|---|---|"]
    for row in metric_rows(run, champion):
        lines.append(f"| {' | '.join(map(cell, row))} |")
    lines += ["", "## The worst cases", ""]
    lines += [f"- **{cell(case)}** {cell(text)}" for case, text in worst(run)] or ["None."]
    return "\n".join(lines) + "\n"


def html(run: Run, verdicts: Sequence[Verdict], champion: Mapping[str, Metric] | None) -> str:
    passed = all(one.passed for one in verdicts)
    gates = "".join(
        f'<tr><td>{escape(one.gate)}</td><td>{shown(one.value)}</td><td class="{mark(one.passed)}">'
        f"{escape(reason(one))}</td></tr>"
        for one in verdicts
    )
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row)}<td>{histogram(run.metrics[row[0]])}</td></tr>"
        for row in metric_rows(run, champion)
    )
    cases = "".join(f"<li><b>{escape(case)}</b> {escape(text)}</li>" for case, text in worst(run))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(run.suite.name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>{escape(run.suite.name)}: <span class="{mark(passed)}">{outcome(verdicts)}</span></h1>'
        f"<p>{escape(facts(run))}</p><h2>Gates</h2><table><tr><th>gate<th>value<th>outcome</tr>{gates}</table>"
        "<h2>Metrics</h2><table><tr><th>metric<th>mean<th>95 %<th>cases<th>unmeasured<th>against the champion"
        f"<th>cases by value</tr>{rows}</table><h2>The worst cases</h2><ul>{cases or '<li>None.</li>'}</ul>"
        "</body></html>\n"
    )


def junit(run: Run, verdicts: Sequence[Verdict]) -> str:
    """A test for each gate."""
    failed = sum(not one.passed for one in verdicts)
    tests = "".join(
        f"<testcase classname={attribute(run.suite.name)} name={attribute(one.gate)}>"
        + "".join(f"<failure message={attribute(text)}/>" for text in ["; ".join(one.reasons)] if text)
        + "</testcase>"
        for one in verdicts
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<testsuite name={attribute(run.suite.name)} tests="{len(verdicts)}" failures="{failed}">{tests}</testsuite>\n'
    )


def attribute(text: str) -> str:
    return quoteattr(text.translate(CONTROL))


def outcome(verdicts: Sequence[Verdict]) -> str:
    return "passed" if all(one.passed for one in verdicts) else "failed"


def mark(passed: bool) -> str:
    return "passed" if passed else "failed"


def reason(verdict: Verdict) -> str:
    return "passed" if verdict.passed else f"failed: {'; '.join(verdict.reasons)}"


def facts(run: Run) -> str:
    text = (
        f"Run {run.run_id} of the agent {run.suite.agent}: {len(run.dataset.cases)} cases of {run.dataset.name} "
        f"(version {run.dataset.version}), {run.suite.repeats} times each, {run.cost_usd:.4f} USD."
    )
    return f"{text} {run.incomplete}." if run.incomplete else text


def metric_rows(run: Run, champion: Mapping[str, Metric] | None) -> Iterator[list[str]]:
    for name, metric in run.metrics.items():
        interval = metric.interval
        yield [
            name,
            shown(metric.mean),
            f"{shown(interval.low)} to {shown(interval.high)}" if metric.values else "",
            str(len(metric.values)),
            str(metric.unmeasured),
            against(metric, (champion or {}).get(name)),
        ]


def against(metric: Metric, champion: Metric | None) -> str:
    shared = sorted(metric.values.keys() & champion.values.keys()) if champion else []
    if champion is None or not shared:
        return ""
    found = compare_paired([metric.values[key] for key in shared], [champion.values[key] for key in shared])
    return f"{found.difference:+.4g} ({found.interval.low:+.4g} to {found.interval.high:+.4g}, p {found.p_value:.3f})"


def worst(run: Run) -> list[tuple[str, str]]:
    """Cases by how much went wrong, and what."""
    found: dict[str, list[str]] = {}
    for trial in run.trials:
        for score in trial.scores:
            why = score.error or score.rationale
            if (score.value is None and score.error) or (score.value is not None and 0 <= score.value < 1 and why):
                found.setdefault(trial.case, []).append(f"{score.metric}: {why}")
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(case, "; ".join(dict.fromkeys(reasons))[:600]) for case, reasons in ordered[:WORST]]


def histogram(metric: Metric, bins: int = 10) -> str:
    """How many cases have which value, as SVG."""
    import numpy as np

    if not metric.values:
        return ""
    counts, edges = np.histogram(list(metric.values.values()), bins=bins)
    tallest = max(int(counts.max()), 1)
    bars = "".join(
        f'<rect x="{place * 14}" y="{40 - 36 * int(count) / tallest:.1f}" width="12" '
        f'height="{36 * int(count) / tallest:.1f}" fill="currentColor" opacity=".6">'
        f"<title>{low:.3g} to {high:.3g}: {count}</title></rect>"
        for place, (count, low, high) in enumerate(zip(counts, edges[:-1], edges[1:], strict=True))
    )
    return f'<svg width="{bins * 14}" height="42" role="img" aria-label="cases by value">{bars}</svg>'


def shown(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.4g}"


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
