"""What is public, and how it goes."""

import importlib
import warnings
from pathlib import Path

import pytest

import lakemesh
from lakemesh.deprecation import deprecated
from tests.api.signatures import SIGNATURES, public_names, signatures

DOCS = Path(__file__).parents[2] / "docs"


def test_signatures_are_those_that_were_written_down() -> None:
    assert signatures() == SIGNATURES.read_text(), "run python -m tests.api.signatures, and commit what changed"


def test_every_public_name_is_there_and_no_other() -> None:
    for name in lakemesh.__all__:
        assert getattr(lakemesh, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Agnet'"):
        _ = lakemesh.Agnet  # type: ignore[attr-defined]


def test_public_names_are_in_the_reference() -> None:
    reference = (DOCS / "api.md").read_text()
    names = [*public_names(importlib.import_module("lakemesh.agents")), *public_names(lakemesh)]
    homes = ("lakemesh.errors", "lakemesh.schemas")  # whose every name is there
    for name in names:
        value = getattr(lakemesh, name, None) or getattr(lakemesh.agents, name)
        module = getattr(value, "__module__", "")
        assert module in homes or name == "__version__" or f"::: {module}.{name}\n" in reference, name


@deprecated(since="0.2", instead="greet")
def hail(name: str) -> str:
    """Greets."""
    return f"hello {name}"


@deprecated(since="0.2", instead="greet")
async def hail_later(name: str) -> str:
    return f"hello {name}"


@pytest.mark.anyio
async def test_what_is_deprecated_works_and_warns_where_it_is_used() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert hail("ann") == "hello ann"
        assert await hail_later("bob") == "hello bob"
    assert [str(one.message).rpartition("; ")[2] for one in caught] == ["use greet."] * 2
    assert {one.filename for one in caught} == {__file__}
    assert hail.__doc__ == "Greets."
