"""What the fraud agents take and give."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def as_utc(value: datetime) -> datetime:
    """Times without a zone are UTC."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time lies outside of the years 1 to 9999") from None


MAX_AMOUNT = 1e9
Identifier = Annotated[int, Field(ge=0, lt=2**62)]


class Transaction(BaseModel):
    """One card transaction, at the moment it is to be decided."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transaction_id: Identifier
    tx_datetime: Annotated[datetime, AfterValidator(as_utc)]
    customer_id: Identifier
    terminal_id: Identifier
    amount: float = Field(ge=0, le=MAX_AMOUNT, allow_inf_nan=False)


class Contribution(BaseModel):
    """How much one feature moved the score, in log-odds against an average transaction."""

    feature: str
    value: float
    contribution: float


class RiskScore(BaseModel):
    """The probability of fraud that the model sees, and what speaks for it most."""

    score: float = Field(ge=0, le=1)
    model_version: int
    contributions: list[Contribution]


class Case(BaseModel):
    """A flagged transaction of the past. `source` says who it was decided for: this caller, or another."""

    source: Literal["yours", "shared"] = "yours"
    memory_id: str
    similarity: float
    text: str
    decision: str | None = None


class FraudAssessment(BaseModel):
    """The answer of `fraud_detector`. `fraud_score` is the risk model's; language models explain it and never
    change it."""

    fraud_score: float = Field(ge=0, le=1)
    decision: Literal["approve", "review", "block"]
    reasons: list[str]
    narrative: str | None = None
    similar_cases: list[Case] = []


class Facts(BaseModel):
    """What a narrative is to be about: plain statements, most important first."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field(min_length=1, max_length=200)
    facts: list[Annotated[str, Field(max_length=1_000)]] = Field(min_length=1, max_length=50)


class Narrative(BaseModel):
    text: str
