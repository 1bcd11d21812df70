"""What the engine counts."""

from opentelemetry.metrics import Meter

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class EngineMetrics:
    """Executions by agent and outcome, their seconds, and refusals. Attributes are kept at hand: to make a dictionary
    costs as much as to count."""

    def __init__(self, meter: Meter) -> None:
        self._executions = meter.create_counter(
            "lakemesh.executions", "{execution}", "Executions, by agent and outcome"
        )
        self._seconds = meter.create_histogram(
            "lakemesh.execution", "s", "Seconds from start to answer", explicit_bucket_boundaries_advisory=BUCKETS
        )
        self._refusals = meter.create_counter("lakemesh.refusals", "{request}", "Requests refused before they ran")
        self._outcomes: dict[tuple[str, str], dict[str, str]] = {}
        self._agents: dict[str, dict[str, str]] = {}

    def executed(self, agent: str, outcome: str, seconds: float) -> None:
        labels = self._outcomes.get((agent, outcome))
        if labels is None:
            labels = self._outcomes[agent, outcome] = {"agent": agent, "outcome": outcome}
            self._agents[agent] = {"agent": agent}
        self._executions.add(1, labels)
        self._seconds.record(seconds, self._agents[agent])

    def refused(self, code: str) -> None:
        self._refusals.add(1, {"code": code})
