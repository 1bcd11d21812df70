"""Better on purpose: golden cases, scorers, runs and the gates that decide on them; prompt optimization, promotion and
monitoring on top."""

from lakemesh.evaluation.cases import Case, Dataset, Expectations
from lakemesh.evaluation.gates import Gate, Verdict, check_gates
from lakemesh.evaluation.observation import Observation, Score, Scorer
from lakemesh.evaluation.suite import Suite, read_suite

__all__ = [
    "Case",
    "Dataset",
    "Expectations",
    "Gate",
    "Observation",
    "Score",
    "Scorer",
    "Suite",
    "Verdict",
    "check_gates",
    "read_suite",
]
