"""What MLflow runs to load a model ("models from code"): it is copied into the model."""

from mlflow.models import set_model

from lakemesh.model_serving.responses_agent import LakemeshAgent

set_model(LakemeshAgent())
