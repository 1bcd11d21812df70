"""Which versions operators chose while the app runs: the file `.selections.json` in the prompts' volume.

It wins over configuration for the prompts it names, so that a promotion or a rollback needs no deployment. Its name
begins with a dot, so that a deployment does not carry one machine's choices to another workspace.
"""

from pydantic import Field, ValidationError

from lakemesh.config.base import Section
from lakemesh.config.prompts import PromptSelection
from lakemesh.errors import InvalidRequest

FILE_NAME = ".selections.json"
MAX_HISTORY = 100


class Move(Section):
    """One change of what serves, and what served before it. `at` is an ISO 8601 time in UTC."""

    at: str
    by: str
    action: str
    why: str = ""
    before: PromptSelection


class Chosen(Section):
    """`selection` is in force; `history` is how it came to be, the newest move last."""

    selection: PromptSelection
    history: list[Move] = Field(default=[], max_length=MAX_HISTORY)


class Selections(Section):
    prompts: dict[str, Chosen] = {}


def parse_selections(content: bytes) -> Selections:
    """Raises `InvalidRequest` with what is wrong."""
    try:
        return Selections.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidRequest(f"{FILE_NAME}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
