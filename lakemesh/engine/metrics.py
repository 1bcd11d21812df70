"""What the engine counts, for `/metrics`."""

from prometheus_client import CollectorRegistry, Counter, Histogram

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class EngineMetrics:
    """Counters and a latency histogram. Children are kept at hand: looking one up by label costs more than
    counting does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._executions = Counter(
            "lakemesh_executions", "Executions, by agent and outcome", ["agent", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "lakemesh_execution_seconds", "Seconds from start to answer", ["agent"], buckets=BUCKETS, registry=registry
        )
        self._refusals = Counter("lakemesh_refusals", "Requests refused before they ran", ["code"], registry=registry)
        self._outcomes: dict[tuple[str, str], Counter] = {}
        self._latencies: dict[str, Histogram] = {}

    def executed(self, agent: str, outcome: str, seconds: float) -> None:
        counter = self._outcomes.get((agent, outcome))
        if counter is None:
            counter = self._outcomes[agent, outcome] = self._executions.labels(agent, outcome)
        histogram = self._latencies.get(agent)
        if histogram is None:
            histogram = self._latencies[agent] = self._seconds.labels(agent)
        counter.inc()
        histogram.observe(seconds)

    def refused(self, code: str) -> None:
        self._refusals.labels(code).inc()
