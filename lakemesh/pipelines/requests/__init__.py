"""Common requests in English as a definition, without a model.

A request is a list of clauses, parted by commas and semicolons: where rows come from, when the pipeline runs, what is
done with bad rows, which rows are kept as the latest or as history, and what is summed up. What is not said is assumed,
and every assumption is listed in the definition. A change of a pipeline is an edit of that list.
"""

import re
from collections.abc import Mapping

from lakemesh.errors import InvalidRequest
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.graph import graph_of
from lakemesh.pipelines.requests.assembly import build
from lakemesh.pipelines.requests.reading import Columns, Reading, not_understood
from lakemesh.pipelines.requests.results import read_result
from lakemesh.pipelines.requests.rows import read_changes, read_deletes, read_duplicates, read_filter, read_rule
from lakemesh.pipelines.requests.sources import read_sources, take_schedule

__all__ = ["changed_definition", "definition_of", "refused_words"]

MOST_CHARACTERS = 2_000
REFUSED = re.compile(
    r"\b(delete|truncate|erase|wipe|drop (?:the )?(?:table|schema|catalog|database)|grant|revoke|disable|password"
    r"|credential|secret|token|shell|python code|email .* to|send .* to http)\b"
)
READERS = (read_rule, read_changes, read_deletes, read_duplicates, read_filter, read_result)
DELETE_WORDS = re.compile(r"\bapply deletes when [a-z_ ]+ (?:is|=) '?\w+'?")


def definition_of(
    request: str,
    *,
    catalog: str = "main",
    schema: str | None = None,
    known: Mapping[str, Columns] | None = None,
) -> PipelineDefinition:
    """The definition a request asks for. `known` has the columns (name to type) of what it names, such as `orders`.
    Raises `InvalidRequest` for what is not understood, naming the clause, and for what a pipeline must not do."""
    clauses = clauses_of(request)
    reading = Reading(catalog, schema or "", {name.lower(): columns for name, columns in (known or {}).items()})
    clauses = [rest for clause in clauses if (rest := take_schedule(clause, reading))]
    waiting = [clause for clause in clauses if not read_sources(clause, reading)]
    if not reading.entities:
        raise InvalidRequest("Say where rows come from, such as 'orders and customers from CSV files'.")
    for clause in waiting:
        if not any(read(clause, reading) for read in READERS):
            raise not_understood(clause)
    return build(request, reading)


def clauses_of(request: str) -> list[str]:
    """Raises `InvalidRequest` for what is no plain English, and for what a pipeline must not do."""
    text = " ".join(request.lower().replace(".csv", " csv").split()).rstrip(".")
    if not text.isascii() or len(text) > MOST_CHARACTERS:
        raise InvalidRequest(
            f"A request is at most {MOST_CHARACTERS:,} characters of plain English; write the others as a definition."
        )
    if words := refused_words(text):
        raise InvalidRequest(f"A pipeline only adds tables; {words!r} is not for it.")
    parted = re.split(r",(?![\w.-]+:\d)|;| and then |(?<= files) and (?=[a-z]\w* from )", text)
    return [clause.strip().removeprefix("and ").removeprefix("then ") for clause in parted]


def refused_words(text: str) -> str | None:
    """What a request asks for that no pipeline does, whoever reads it; None when there is nothing."""
    found = REFUSED.search(DELETE_WORDS.sub("", text.lower()))
    return found[0] if found else None


def changed_definition(
    before: PipelineDefinition, request: str, *, known: Mapping[str, Columns] | None = None
) -> PipelineDefinition:
    """What becomes of a pipeline that was asked for in English: clauses are added (`add weekly revenue by country`,
    `drop rows without id`, `every day instead`) and taken away (`remove daily revenue by country`). Raises
    `InvalidRequest` as `definition_of` does, and for a pipeline whose definition says more than its request."""
    if " from " in request and not request.lower().startswith(("add ", "also ")):
        made = definition_of(request, catalog=before.catalog, schema=before.schema_, known=known)
        return made.model_copy(update={"name": before.name})
    clauses = clauses_of(before.description)
    require_asked_for(before, known)
    for clause in clauses_of(request):
        if removed := re.fullmatch(r"(?:remove|no longer|without) (?:the )?(.+)", clause):
            if removed[1] not in clauses:
                raise InvalidRequest(f"{removed[1]!r:.120} is not among what was asked for: {', '.join(clauses)}.")
            clauses.remove(removed[1])
        else:
            clauses.append(re.sub(r"^(?:add|also) | instead$", "", clause))
    made = definition_of(", ".join(clauses), catalog=before.catalog, schema=before.schema_, known=known)
    return made.model_copy(update={"name": before.name})


def require_asked_for(before: PipelineDefinition, known: Mapping[str, Columns] | None) -> None:
    asked = definition_of(before.description, catalog=before.catalog, schema=before.schema_, known=known)
    if graph_of(asked) != graph_of(before):
        raise InvalidRequest(f"{before.name} is more than its request says; change its definition instead.")
