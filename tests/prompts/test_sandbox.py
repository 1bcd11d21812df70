"""What a template may do, and that no template can take the server's time or memory."""

import contextlib
import datetime
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakemesh.errors import InvalidRequest
from lakemesh.prompts.sandbox import PromptEnvironment
from lakemesh.prompts.templates import parse_prompt, render, split_front_matter

ENVIRONMENT = PromptEnvironment()
FACTS = {
    "name": "Ann",
    "amounts": [3, 1, 2],
    "case": {"id": 7, "note": "a\nb"},
    "when": datetime.datetime(2026, 11, 20, 8, 30),
    "share": 0.123456,
}


def text_of(template: str, **variables: object) -> str:
    return render(parse_prompt("t", 1, template.encode(), ENVIRONMENT), FACTS | variables, cpu_seconds=0.5)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Hello {{ name }}, {{ name|upper }}, {{ name.lower() }}", "Hello Ann, ANN, ann"),
        ("{% for a in amounts|sort %}{{ loop.index }}:{{ a }}{{ ', ' if not loop.last }}{% endfor %}", "1:1, 2:2, 3:3"),
        ("{% for a in amounts if a > 1 %}{{ a }}/{{ loop.length }} {% endfor %}", "3/2 2/2 "),
        ("{% for key, value in case.items() %}{{ key }}={{ value|tojson }};{% endfor %}", 'id=7;note="a\\nb";'),
        ("{{ 'share %.2f of %s' | format(share, name) }} {{ share|round(3) }}", "share 0.12 of Ann 0.123"),
        ("{{ name ~ '-' ~ 7 }} {{ [1] + [2] }} {{ 3 * 4 % 5 + 1 }}", "Ann-7 [1, 2] 3"),
        ("{{ amounts|map('string')|join('; ') }} {{ case|tojson }}", '3; 1; 2 {"id": 7, "note": "a\\nb"}'),
        ("{{ case.note|indent(2) }} {{ 'aXb'|replace('X', '--') }}", "a\n  b a--b"),
        ("{% set ns = namespace(n=0) %}{% for a in amounts %}{% set ns.n = ns.n + a %}{% endfor %}{{ ns.n }}", "6"),
        ("{% set all %}<{{ name }}>{% endset %}{{ all * 1 if false else all }}{{ when.isoformat() }}",
         "<Ann>2026-11-20T08:30:00"),
        ("{{ missing|default('none') }} {{ 'yes' if missing is defined else 'no' }} {{ (1, 2)|length }}", "none no 2"),
        ("{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% else %}-{% endfor %}{{ range(3)|list }}", "1234[0, 1, 2]"),
    ],
)  # fmt: skip
def test_the_language(template: str, text: str) -> None:
    assert text_of(template) == text


DOUBLING = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x|length }}"
NESTING = (
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x|string|length }}"
)
LONG = "x" * 900_000
HOSTILE = [
    *(DOUBLING.replace("STEP", step) for step in (
        "ns.x + ns.x", "ns.x ~ ns.x", "ns.x|replace('a', ns.x)", "[ns.x, ns.x]|join", "ns.x|replace('', ns.x)",
        "'%s%s'|format(ns.x, ns.x)", "[ns.x]|map('replace', 'a', ns.x)|first",
    )),
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"
    "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}{{ ns.x|length }}",
    *(NESTING.replace("STEP", step) for step in (
        "[ns.x, ns.x]", "(ns.x, ns.x)", "{1: ns.x, 2: ns.x}", "ns.x + ns.x", "[ns.x + ns.x]", "[ns.x]|list + [ns.x]",
    )),
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}" + "x" * 10_000 + "{% endfor %}",
    "{% for i in range(99999) %}{{ long }}{% endfor %}",
    "{% for i in range(99999) %}{% if long|upper == long|lower %}{% endif %}{% endfor %}",
    "{{ range(99999)|map(attribute='x', default={long: 1})|list|string|length }}",
    "{{ range(99999)|join(long) }}", "{{ long.join(amounts) }}", "{{ long|replace('x', long) }}",
    "{{ long.replace('x', long) }}", "{{ 'x'|center(10**9) }}", "{{ 'x'.center(1000000000) }}",
    "{{ 'x'.ljust(1000000000) }}", "{{ '%1000000000d'|format(1) }}", "{{ '%*d'|format(1000000000, 1) }}",
    "{{ '%(a)01000000000d'|format(a=1) }}", "{{ '%1000000000d' % 1 }}", "{{ '{:1000000000}'.format(1) }}",
    "{{ 'x'.zfill(1000000000) }}", "{{ (7).to_bytes(1000000000) }}", "{{ when.strftime('%1000000000Y') }}",
    "{{ 'x' * 1000000000 }}", "{{ [1] * 1000000000 }}", "{{ 1000000000 * 'x' }}", "{{ 9 ** 9 ** 9 }}",
    "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    "{{ 0.5|round(1000000000, 'floor') }}", "{{ lipsum(n=100000) }}", "{{ range(10000000) }}",
    "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(60) }}",
    "{% for x in [amounts] recursive %}{{ loop([amounts]) }}{% endfor %}",
    "{{ amounts.append(1) }}", "{{ case.update(id=1) }}",
    "{{ cycler('a') }}", "{{ dict(a=1) }}", "{{ name.__class__ }}", "{{ name|attr('__class__') }}",
    "{{ [name]|map(attribute='__class__')|first }}", "{{ callable() }}", "{{ missing() }}", "{{ missing.x }}",
    "{% include 'x' %}", "{% import 'x' as x %}", "{% extends 'x' %}", "{% block b %}{% endblock %}",
    "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "{{ " + "[" * 300 + "]" * 300 + " }}" + "{{ 1 +" * 900, "{{ nested|string }}",
]  # fmt: skip


@pytest.mark.parametrize("template", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_templates_are_refused_and_take_little(template: str) -> None:
    nested: list = []
    for _ in range(5_000):
        nested = [nested]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            text_of(template, long=LONG, callable=lambda: "called", nested=nested)
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()
        while nested:
            nested = nested[0]


@pytest.mark.parametrize("value", ["{{ 7 * 7 }}", "{% for x in y %}", "<b>", "---\nroute: x\n---\n", "\0", "\ud800"])
def test_variables_are_text_and_nothing_else(value: str) -> None:
    assert text_of("a {{ name }} b", name=value) == f"a {value} b"


def test_front_matter_of_windows_editors_is_read() -> None:
    matter, source = split_front_matter("t", b"\xef\xbb\xbf---\r\nroute: fast\r\n---\r\nHello\r\n")
    assert (matter.route, source) == ("fast", "Hello\n")


@pytest.mark.parametrize(
    "content",
    [b"---\nroute: fast\nHello", b"---\n- list\n---\n", b"---\na: &a [1]\nb: *a\n---\n", 
     b"---\nroute: a\nroute: b\n---\n",
     b"---\n" + b"[" * 5_000 + b"\n---\n", b"---\ntemperature: hot\n---\n", b"---\nunknown: 1\n---\n", b"\xff\xfe"],
)  # fmt: skip
def test_broken_front_matter_is_told(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^t"):
        split_front_matter("t", content)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: ("---\n" + text).encode(errors="ignore")))
def test_any_bytes_are_a_prompt_or_a_designed_error(content: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(render(parse_prompt("t", 1, content, ENVIRONMENT), {}, cpu_seconds=0.5), str)


@given(st.text(alphabet=st.characters(exclude_characters="\r\ufeff", exclude_categories=["Cs"]), max_size=100))
def test_the_template_begins_after_the_front_matter(body: str) -> None:
    matter, source = split_front_matter("t", f"---\nroute: fast\ntemperature: 0.5\n---\n{body}".encode())
    assert (matter.route, matter.temperature, source) == ("fast", 0.5, body)
