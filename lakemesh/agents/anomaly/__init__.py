"""`anomaly`: watches tables, writes what is unusual down once, tells of it, and proposes what to do."""

from lakemesh.agents.anomaly.watcher import AnomalyAgent

__all__ = ["AnomalyAgent"]
