"""A suite: which agent, which cases, which scorers, which gates. One YAML file."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lakemesh.config.loader import ConfigFile, read_yaml
from lakemesh.errors import ConfigurationInvalid, NotFound
from lakemesh.evaluation.cases import Split
from lakemesh.evaluation.gates import Gate
from lakemesh.evaluation.judges import JudgeConfig
from lakemesh.evaluation.policies import FreezePolicy, LateLabels, OptimizePolicy
from lakemesh.evaluation.scorers import AnyScorer
from lakemesh.suggestions import did_you_mean


class Suite(BaseModel):
    """`dataset` is a JSONL file beside the suite or a table (`catalog.schema.table`, `@version` for an earlier one).
    `splits` and `tags` choose among its cases. Runs stop asking at `max_cost_usd`, of agents and judges together;
    what was not run then fails every gate. `freeze` and `labels` are for `lakemesh monitor`: when to take a prompt
    back, and where labels are that come late; `optimize` is for `lakemesh nightly`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="", pattern=r"^[\w.-]{0,100}$")
    agent: str
    dataset: str
    splits: list[Split] = ["train", "validation", "holdout"]
    tags: list[str] = []
    repeats: int = Field(default=1, ge=1, le=100)
    concurrency: int = Field(default=8, ge=1, le=256)
    timeout_seconds: float = Field(default=60.0, gt=0)
    max_cost_usd: float | None = Field(default=None, gt=0)
    seed: int = 0
    scorers: list[AnyScorer | JudgeConfig] = Field(min_length=1)
    gates: list[Gate] = []
    freeze: list[FreezePolicy] = []
    labels: LateLabels | None = None
    optimize: OptimizePolicy | None = None

    @field_validator("scorers")
    @classmethod
    def _names_differ(cls, scorers: list[Any]) -> list[Any]:
        names = [metric_name(one) for one in scorers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two scorers give the metric {twice[0]!r}; name one of them")
        return scorers

    @model_validator(mode="after")
    def _rules_name_metrics(self) -> "Suite":
        names = [metric_name(one) for one in self.scorers]
        for kind, rules in (("gate", self.gates), ("freeze policy", self.freeze)):
            for rule in rules:
                if rule.metric not in names:
                    raise ValueError(f"a {kind} names the metric {rule.metric!r}{did_you_mean(rule.metric, names)}")
        return self


def metric_name(scorer: Any) -> str:
    if isinstance(scorer, JudgeConfig):
        return scorer.name or scorer.kind
    return str(scorer.metric)


def read_suite(path: Path) -> Suite:
    """Raises `NotFound`, and `ConfigurationInvalid` with every fault. A dataset's file is looked for beside it."""
    if not path.is_file():
        raise NotFound(f"There is no suite {path}.")
    faults: list[str] = []
    content = read_yaml(ConfigFile(path.name, path.read_bytes()), faults)
    if faults:
        raise ConfigurationInvalid(faults)
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise ConfigurationInvalid(
            [f"{path.name}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        ) from None
    beside = path.parent / suite.dataset
    dataset = str(beside) if beside.is_file() else suite.dataset
    return suite.model_copy(update={"name": suite.name or path.stem, "dataset": dataset})
