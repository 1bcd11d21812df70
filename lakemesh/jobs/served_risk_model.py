"""What MLflow runs to serve a registered risk model ("models from code": the source is logged, nothing is pickled)."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from lakemesh.agents.fraud.features import FEATURES
from lakemesh.agents.fraud.risk_model import RiskModel


class ServedRiskModel(PythonModel):
    """Reads the model's file, and scores rows of features."""

    def load_context(self, context: Any) -> None:
        self.model = RiskModel.model_validate_json(Path(context.artifacts["risk_model"]).read_text())

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return self.model.scores(model_input[list(FEATURES)].to_numpy(dtype=np.float64))


set_model(ServedRiskModel())
