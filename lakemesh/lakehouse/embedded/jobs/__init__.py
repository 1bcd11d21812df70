"""Jobs of a laptop and of the emulator: a run is a process of its own, which outlives the server that started it."""

from lakemesh.lakehouse.embedded.jobs.port import LocalJobs
from lakemesh.lakehouse.embedded.jobs.runs import LocalRuns, Order

__all__ = ["LocalJobs", "LocalRuns", "Order"]
