"""The risk model in Unity Catalog, through MLflow: what a Model Serving endpoint serves.

The registered model is the same file that serves in process, read by the same code, so both give the same numbers.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lakemesh import __version__
from lakemesh.agents.fraud.features import FEATURES
from lakemesh.agents.fraud.risk_model import RiskModel
from lakemesh.errors import Unavailable


def register_model(model: RiskModel, name: str) -> int:
    """The new version's number in the registry. Where that is, MLflow's own settings say (`MLFLOW_TRACKING_URI`,
    `MLFLOW_REGISTRY_URI`, such as `databricks-uc`). Raises `Unavailable` without MLflow."""
    if find_spec("mlflow") is None:
        raise Unavailable("Registering a model needs MLflow; install it with: pip install mlflow.")
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_name=f"risk-v{model.version}"):
        file = Path(folder, "risk_model.json")
        file.write_text(model.model_dump_json())
        mlflow.log_params({"kind": model.kind, "version": model.version, **model.trained_on})
        mlflow.log_metrics({metric: value for metric, value in model.metrics.items() if np.isfinite(value)})
        logged = mlflow.pyfunc.log_model(
            name="risk_model",
            python_model=str(Path(__file__).with_name("served_risk_model.py")),
            artifacts={"risk_model": str(file)},
            signature=ModelSignature(
                Schema([ColSpec(DataType.double, feature) for feature in FEATURES]), Schema([ColSpec(DataType.double)])
            ),
            pip_requirements=[f"lakemesh=={__version__}"],
            registered_model_name=name,
        )
    return int(logged.registered_model_version)
