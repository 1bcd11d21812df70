"""Golden cases: what is put to an agent and what is expected of it, in versions and splits.

A case is in the split that the digest of its inputs says, so correcting what is expected of it, adding others or
reordering them never moves it from the hold-out into what optimization learns from.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakemesh.errors import InvalidRequest, NotFound

Split = Literal["train", "validation", "holdout"]
SHARES: tuple[tuple[Split, float], ...] = (("train", 0.4), ("validation", 0.3), ("holdout", 0.3))
MAX_FILE_BYTES = 256 * 2**20


class Expectations(BaseModel):
    """What a good answer is. Scorers use what they need; a case need not have all of it. `fields` are by dotted path
    in the result, `facts` and `guidelines` are sentences for judges, `tools` are names in the order of their calls,
    `forbidden` are texts that may not be in the answer, `refuse` whether the agent has to decline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: Any = None
    fields: dict[str, Any] = {}
    facts: list[str] = []
    tools: list[str] | None = None
    forbidden: list[str] = []
    guidelines: list[str] = []
    refuse: bool | None = None

    @property
    def has_output(self) -> bool:
        return "output" in self.model_fields_set


class Case(BaseModel):
    """`inputs` is the agent's `data`. Without an `id` the digest of its inputs is its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(default="", max_length=200)
    inputs: dict[str, Any]
    expectations: Expectations = Expectations()
    tags: list[str] = []
    source: str = ""

    @property
    def key(self) -> str:
        return self.id or digest(self.inputs)[:16]

    @property
    def split(self) -> Split:
        place = int(digest(self.inputs)[:12], 16) / 16**12
        for split, share in SHARES:
            place -= share
            if place < 0:
                return split
        return SHARES[-1][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """`version` is the digest of all cases: two of the same version are the same, whatever their order."""

    name: str
    cases: tuple[Case, ...]

    @property
    def version(self) -> str:
        return digest(sorted(digest(case.model_dump(mode="json", exclude_unset=True)) for case in self.cases))[:16]

    def of(self, *splits: Split) -> "Dataset":
        """Only the cases of these splits."""
        return Dataset(name=self.name, cases=tuple(case for case in self.cases if case.split in splits))

    def tagged(self, tags: Sequence[str]) -> "Dataset":
        """Only the cases that have one of `tags`; all when there are none."""
        kept = tuple(case for case in self.cases if not tags or set(tags) & set(case.tags))
        return Dataset(name=self.name, cases=kept)


def digest(value: Any) -> str:
    """SHA-256 of a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def make_dataset(name: str, cases: Iterable[Case]) -> Dataset:
    """Raises `InvalidRequest` for two cases of one name: one of them would be counted for the other."""
    found: dict[str, Case] = {}
    for case in cases:
        if case.key in found:
            raise InvalidRequest(f"{name}: the case {case.key!r} is there twice; give one of them another id.")
        found[case.key] = case
    return Dataset(name=name, cases=tuple(found.values()))


def read_jsonl(path: Path) -> Dataset:
    """A case a line. Raises `NotFound`, and `InvalidRequest` with the line that is wrong."""
    if not path.is_file():
        raise NotFound(f"There is no file {path} with golden cases.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InvalidRequest(f"{path} is larger than {MAX_FILE_BYTES} bytes; keep the cases in a table.")
    lines = enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)
    return make_dataset(path.stem, [parse_case(line, f"{path}, line {number}") for number, line in lines if line])


def parse_case(text: str, where: str) -> Case:
    try:
        return Case.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the case"
        raise InvalidRequest(f"{where}: {place}: {fault['msg']}") from None


def as_json(case: Case) -> str:
    return case.model_dump_json(exclude_defaults=True)


def write_jsonl(path: Path, cases: Iterable[Case]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(as_json(case) + "\n" for case in cases), encoding="utf-8")
