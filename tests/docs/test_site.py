"""The documentation as a site: what it is made of here, and what it is once it was built."""

import os
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest

from tests.environments import environment_with
from tests.judge import judged
from website.build import DOCS, OTHERS, navigation, pages_of, write_source
from website.diagrams import DIAGRAMS, PICTURES, svg
from website.figures import MARK, with_figures

ROOT = Path(__file__).parents[2]
START = "index.html"


def test_every_page_is_in_the_navigation_and_nothing_else() -> None:
    nav = navigation()
    pages = pages_of(nav)
    assert len(pages) == len(set(pages))
    assert {path.name for path in DOCS.glob("*.md")} <= set(pages)
    left = next((section[OTHERS] for section in nav if OTHERS in section), [])
    assert len(left) <= 8, f"these pages have no place in website/nav.yml: {left}"


def test_diagrams_are_as_they_are_drawn() -> None:
    for name, diagram in DIAGRAMS.items():
        assert (PICTURES / f"{name}.svg").read_text() == svg(diagram), "run python -m website.diagrams"


def test_every_concept_has_its_picture() -> None:
    text = (DOCS / "concepts.md").read_text()
    assert set(re.findall(r"pictures/([\w-]+)\.svg", text)) == set(DIAGRAMS)
    assert text.count("\n## ") == len(DIAGRAMS)


def test_figures_are_those_of_the_benchmarks() -> None:
    for page in ("comparison.md", "operations.md"):
        text = (DOCS / page).read_text()
        assert MARK.search(text)
        assert "| DurableAgentServer, p50 ms |" in with_figures(text)


class Links(HTMLParser):
    """Where a page leads, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.leads: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in found:
            self.leads.append(found["href"])
        if "src" in found:
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(found.get("href", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Links]:
    """Every page of the built site, by its path."""
    python = environment_with("site", "-r", str(ROOT / "website/requirements.txt"))
    folder = tmp_path_factory.mktemp("site")
    config = write_source(folder / "source")
    done = subprocess.run(
        [python, "-m", "mkdocs", "build", "--strict", "-f", config],
        capture_output=True, text=True, timeout=300, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    built = folder / "source/site"
    pages = {}
    for path in built.rglob("*.html"):
        links = Links()
        links.feed(path.read_text())
        pages[str(path.relative_to(built))] = links
    return pages


@judged
def test_every_page_is_two_clicks_from_the_index(site: dict[str, Links]) -> None:
    def leads(page: str) -> set[str]:
        return {urldefrag(urljoin(page, link)).url for link in site[page].leads if not urlsplit(link).scheme} & set(
            site
        )

    near = leads(START)
    reached = {START} | near | {far for page in near for far in leads(page)}
    assert set(site) - reached <= {"404.html"}


@judged
def test_nothing_is_loaded_from_elsewhere(site: dict[str, Links]) -> None:
    assert {load for page in site.values() for load in page.loads if urlsplit(load).netloc} == set()
