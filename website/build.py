"""The documentation as a site: `make docs`. Nothing is loaded from elsewhere when it is read, nor when it is built.

    python -m website.build FOLDER

writes what `mkdocs build` takes: the pages of `docs/`, the generated ones, those of the examples, and `mkdocs.yml`.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from website.figures import with_figures
from website.reference import PAGES

HERE = Path(__file__).parent
ROOT = HERE.parent
DOCS = ROOT / "docs"
NAMES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "reporting.md"}
"""Pages of the repository's root, and what they are called on the site."""
OTHERS = "More"
"""Where pages go that the navigation does not name yet."""


def navigation() -> list[dict[str, Any]]:
    """The sections of `nav.yml`, with every page of `docs/` in one of them."""
    sections: list[Any] = yaml.safe_load((HERE / "nav.yml").read_text())
    examples = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "examples").glob("*/README.md"))
    sections.append({"Examples": ["examples/README.md", *examples]})
    named = set(pages_of(sections))
    left = sorted({path.name for path in DOCS.glob("*.md")} - named)
    return [*sections, {OTHERS: left}] if left else sections


def pages_of(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for one in (nav.values() if isinstance(nav, dict) else nav) for page in pages_of(one)]


def write_source(folder: Path) -> Path:
    """The folder that mkdocs builds from; its configuration file."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder / "docs")
    for page in (folder / "docs").glob("*.md"):
        page.write_text(with_figures(page.read_text()))
    for name, write in PAGES.items():
        (folder / "docs" / name).write_text(write())
    shutil.copytree(ROOT / "examples", folder / "docs/examples", ignore=only_readmes)
    for name in NAMES:
        text = (ROOT / name).read_text()
        (folder / "docs" / NAMES[name]).write_text(text.replace("](docs/", "]("))
    config = yaml.safe_load((HERE / "mkdocs.yml").read_text())
    config["nav"] = navigation()
    config["plugins"][-1]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    file = folder / "mkdocs.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def only_readmes(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name != "README.md" and not (Path(folder) / name / "README.md").exists()]


if __name__ == "__main__":
    print(write_source(Path(sys.argv[1])))  # noqa: T201
