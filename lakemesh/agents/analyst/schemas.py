"""What the analyst is configured with, what it is asked, and what it answers."""

from datetime import date
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lakemesh.agents.analyst.charts import Chart
from lakemesh.agents.analyst.routing import RoutingWeights
from lakemesh.agents.analyst.semantic_model import Name, SemanticModel
from lakemesh.lakehouse.genie import Rating


class Domain(BaseModel):
    """What one domain is about, and who answers for it: a Genie space, or a semantic model over the warehouse. With
    both, the space where there is Genie, and the model elsewhere."""

    model_config = ConfigDict(extra="forbid")

    description: str = Field(min_length=3, max_length=2_000)
    examples: list[str] = Field(default=[], max_length=100, description="questions that it answers")
    space_id: str | None = Field(default=None, min_length=1, max_length=100)
    semantic_model: SemanticModel | None = None

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.space_id is None and self.semantic_model is None:
            raise ValueError("a domain has a 'space_id', a 'semantic_model' or both")
        return self

    @property
    def units(self) -> dict[str, str]:
        """Of the metrics that have one."""
        metrics = self.semantic_model.metrics if self.semantic_model is not None else {}
        return {name: metric.unit for name, metric in metrics.items() if metric.unit is not None}

    @property
    def text(self) -> str:
        words = self.semantic_model.words() if self.semantic_model is not None else ""
        return " ; ".join([self.description, *self.examples, words])


class AnalystOptions(BaseModel):
    """`share` is how much of the time that is left the domains may take; what is left after it is for the answer.
    `today` is the day relative times are told from, the current one (UTC) when it is not given."""

    model_config = ConfigDict(extra="forbid")

    domains: dict[Name, Domain] = Field(min_length=1, max_length=100)
    route: str = Field(default="quality", description="of the model that writes the answer's text")
    row_limit: int = Field(default=1_000, ge=1, le=10_000)
    preferences: bool = Field(default=False, description="remember how each user likes to be answered")
    embedding_route: str = Field(default="embeddings", description="embeds for routing, if there is such a route")
    routing: RoutingWeights = RoutingWeights()
    share: float = Field(default=0.7, gt=0, lt=1)
    today: date | None = None


class Question(BaseModel):
    """A question in plain words. Questions of one `session_id` follow up on each other. With a `rating` it is none: it
    says what the user thinks of the last answer of the session, which the Genie spaces that gave it are told."""

    question: str = Field(min_length=1, max_length=2_000)
    rating: Rating | None = None


class DomainAnswer(BaseModel):
    """One query of a domain, and its rows; or the `error` (a code) with which the domain failed."""

    domain: str
    sql: str | None = None
    columns: list[str] = []
    types: list[str] = []
    units: dict[str, str] = {}
    rows: list[list[Any]] = []
    truncated: bool = False
    text: str | None = None
    suggested_questions: list[str] = []
    error: str | None = None
    chart: Chart | None = None


class DomainScore(BaseModel):
    """`lexical` by words, `embedding` by meaning (a cosine), where a model embeds."""

    domain: str
    score: float
    lexical: float
    embedding: float | None = None


class Analysis(BaseModel):
    """`text` says nothing that the rows do not: `removed` are the sentences of a model that had numbers without
    support. `refused`: no domain answers the question. `unclear`: it may mean several things, and nobody could be
    asked which. `noted`: it was no question but a preference, which is remembered."""

    status: Literal["answered", "refused", "unclear", "noted"]
    text: str
    answers: list[DomainAnswer] = []
    scores: list[DomainScore] = []
    removed: list[str] = []
