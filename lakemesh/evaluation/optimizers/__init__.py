"""Other ways to look for a better prompt than GEPA's own core: DSPy's and MLflow's optimizers, TextGrad, and examples
of good answers. Each is a small adapter to a library that is imported when it is asked for."""

from lakemesh.evaluation.optimizers.workbench import OPTIMIZERS, search_by

__all__ = ["OPTIMIZERS", "search_by"]
