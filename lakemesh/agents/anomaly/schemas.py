"""What is watched, and what an alert is."""

import re
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

BUCKET = re.compile(r"^(\d+)\s*(minutes?|hours?|days?)$")
SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400}
COLUMN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
TABLE = r"^[^.]+\.[^.]+\.[^.]+$"
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Kind = Literal["volume", "series", "freshness", "distribution", "rule"]
Severity = Literal["low", "medium", "high"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Proposal(Part):
    """What is proposed for an alert: the call of an agent or tool with this data, once a person has approved it. In
    texts of `data`, `{bucket_start}`, `{bucket_end}`, `{table}` and `{watch}` are filled in."""

    agent: str
    data: dict[str, Any] = {}
    description: str = Field(min_length=1, max_length=500)


class Check(Part):
    severity: Severity = "medium"
    proposal: Proposal | None = None


class SeriesCheck(Check):
    """An aggregate over each bucket, `count(*)` or another, beside what the series would go on as. `threshold` is in
    robust standard deviations; `direction` says which side is unusual."""

    value: str = Field(default="count(*)", min_length=1, max_length=1_000)
    threshold: float = Field(default=8.0, gt=0)
    direction: Literal["both", "more", "less"] = "both"


class FreshnessCheck(Check):
    """The newest row may be this old."""

    max_age: str = "2 hours"

    @property
    def seconds(self) -> int:
        return seconds_of(self.max_age)

    @field_validator("max_age")
    @classmethod
    def _is_a_time(cls, text: str) -> str:
        seconds_of(text)
        return text


class DistributionCheck(Check):
    """A column's values in the newest buckets beside those before: the population stability index, by tenths of a
    numeric column and by the values of another. Above 0.25 is usually called a shift."""

    column: str = Field(pattern=COLUMN)
    threshold: float = Field(default=0.25, gt=0)
    buckets: int = Field(default=24, ge=1, description="the newest, which are compared")
    before: int = Field(default=168, ge=1, description="those before, with which they are")
    least_rows: int = Field(default=100, ge=1)


class RuleCheck(Check):
    """Rows that should not be: a condition in SQL over the table's columns."""

    condition: str = Field(min_length=1, max_length=2_000)
    description: str = ""


class Watch(Part):
    """One table: `time` is the column by which its rows fall into buckets of the length `bucket`. Judged are the newest
    `judged` whole buckets that lie `delay` back, by `history` buckets before them; `seasons` are tried as lengths of
    seasons, in buckets. `evidence` are the columns of rows that alerts show, `segments` those whose values are looked
    through for what changed. After an alert of one check the next `quiet` buckets make none."""

    table: str = Field(pattern=TABLE)
    time: str = Field(pattern=COLUMN)
    where: str | None = Field(default=None, max_length=2_000)
    bucket: str = "1 hour"
    delay: str = "0 minutes"
    judged: int = Field(default=3, ge=1, le=100)
    history: int = Field(default=504, ge=12, le=20_000)
    seasons: list[int] | None = None
    quiet: int = Field(default=6, ge=0)
    evidence: list[str] = Field(default=[], max_length=20)
    segments: list[str] = Field(default=[], max_length=5)
    volume: SeriesCheck | None = None
    series: dict[str, SeriesCheck] = {}
    freshness: FreshnessCheck | None = None
    distribution: dict[str, DistributionCheck] = {}
    rules: dict[str, RuleCheck] = {}

    @property
    def bucket_seconds(self) -> int:
        return seconds_of(self.bucket)

    @property
    def delay_seconds(self) -> int:
        return seconds_of(self.delay)

    @property
    def season_buckets(self) -> list[int]:
        """A day and a week, unless configuration says others."""
        if self.seasons is not None:
            return self.seasons
        return [seconds // self.bucket_seconds for seconds in (86_400, 604_800) if self.bucket_seconds < seconds]

    @field_validator("bucket", "delay")
    @classmethod
    def _is_a_time(cls, text: str) -> str:
        seconds_of(text)
        return text

    @field_validator("evidence", "segments")
    @classmethod
    def _are_columns(cls, names: list[str]) -> list[str]:
        if faults := [name for name in names if not re.fullmatch(COLUMN, name)]:
            raise ValueError(f"columns are named by letters, digits and '_': {', '.join(map(repr, faults))}")
        return names

    @model_validator(mode="after")
    def _looks_at_something(self) -> Self:
        if not (self.volume or self.series or self.freshness or self.distribution or self.rules):
            raise ValueError("a watch has a check: volume, series, freshness, distribution or rules")
        if self.bucket_seconds == 0:
            raise ValueError("a bucket has a length")
        faults = [name for name in (*self.series, *self.distribution, *self.rules) if not ID.fullmatch(name)]
        if faults:
            raise ValueError(f"checks are named by letters, digits, '.', '-' and '_': {', '.join(map(repr, faults))}")
        return self


def seconds_of(text: str) -> int:
    """`15 minutes`, `1 hour`, `1 day`. Raises `ValueError`."""
    found = BUCKET.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r:.40} is no time; say it as '15 minutes', '1 hour' or '1 day'")
    return int(found[1]) * SECONDS[found[2].rstrip("s")]


class Webhook(Part):
    """`url` may hold a secret, so it is given by one of the environment's variables or a secret (`${NAME}`). With
    `secret` what is sent is signed, as messages of approvals are. `shape` is `json`, the alert itself, or `slack`."""

    url: str = Field(pattern=r"^https?://", repr=False)
    secret: str | None = Field(default=None, min_length=16, repr=False)
    shape: Literal["json", "slack"] = "json"


class Mail(Part):
    """Through an SMTP server, by TLS from the first byte (`tls`) or after STARTTLS."""

    host: str = Field(min_length=1, max_length=255)
    port: int = Field(default=587, ge=1, le=65_535)
    security: Literal["starttls", "tls"] = "starttls"
    user: str | None = None
    password: str | None = Field(default=None, repr=False)
    sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    to: list[str] = Field(min_length=1, max_length=50)


class Notify(Part):
    """`to_private` lets messages go to addresses that are not public, such as a mail server of one's own.
    `certificates` is a file of certificates of authorities to trust for mail, besides the system's."""

    webhooks: list[Webhook] = []
    mail: Mail | None = None
    to_private: bool = False
    certificates: str | None = None


class AnomalyOptions(Part):
    """`alerts` is the table that alerts are written to, made if it is not there."""

    watches: dict[str, Watch] = Field(min_length=1)
    alerts: str = Field(default="main.agents.alerts", pattern=TABLE)
    notify: Notify = Notify()
    max_alerts: int = Field(default=50, ge=1, le=1_000, description="of one run; the rest are counted")
    approval_seconds: float = Field(default=86_400.0, gt=0, description="how long a proposal waits for a person")


class Asked(Part):
    """`watch` alone is looked at, or all are; `now` stands for the moment, to look at the past."""

    watch: str | None = Field(default=None, max_length=64)
    now: datetime | None = None


class Alert(BaseModel):
    """`score` is in robust standard deviations of a series, the stability index of a distribution, the age in seconds
    where rows are late, the count of rows of a rule. `alert_id` is the same for the same thing, whoever finds it."""

    alert_id: str
    watch: str
    check: str
    kind: Kind
    severity: Severity
    table: str
    bucket_start: datetime
    bucket_end: datetime
    value: float
    expected: float | None = None
    score: float
    explanation: str
    evidence: list[dict[str, Any]] = []
    proposal: str | None = None


class Fault(BaseModel):
    watch: str
    check: str
    reason: str


class Outcome(BaseModel):
    """`action` is what became of the alert's proposal: `done`, `refused`, `nobody_asked`, or `failed`."""

    alert_id: str
    action: Literal["done", "refused", "nobody_asked", "failed"]
    detail: str = ""


class Report(BaseModel):
    """`alerts` are those that this run wrote; `known` is how many were found that had been written before. `left_out`
    counts those over `max_alerts`."""

    checked: int
    alerts: list[Alert]
    known: int = 0
    left_out: int = 0
    faults: list[Fault] = []
    not_notified: list[str] = []
    outcomes: list[Outcome] = []
