"""What an agent reaches of the workspace, told from its options before it runs."""

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Parts of the workspace by name, beside the model endpoints and agents that options name. Of `tables` those whose
    names are known; which tables a query reads that a caller writes is not."""

    warehouse: bool = False
    memory: bool = False
    genie_spaces: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()


def together(needs: Iterable[Needs]) -> Needs:
    """What all of them reach."""
    every = list(needs)
    sets = [one.name for one in fields(Needs) if one.name not in ("warehouse", "memory")]
    united = {name: frozenset[str]().union(*(getattr(one, name) for one in every)) for name in sets}
    return Needs(warehouse=any(one.warehouse for one in every), memory=any(one.memory for one in every), **united)
