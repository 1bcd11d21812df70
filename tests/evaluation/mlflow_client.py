"""What MLflow does with us, in its own environment: `python mlflow_client.py WHAT ...` prints JSON."""

import json
import sys

import httpx
import mlflow
from mlflow.genai.scorers import Correctness, RegexMatch, ResponseLength, scorer


def evaluate(url: str) -> object:
    """MLflow's own evaluation of an agent behind our door, by a `predict_fn` that knows nothing of lakemesh."""

    def ask(message: str) -> str:
        sent = {"agent_name": "capital", "data": {"message": message}}
        return httpx.post(f"{url}/api/execute", json=sent).json()["result"]["text"].strip()

    @scorer
    def right(outputs: str, expectations: dict) -> bool:
        return outputs == expectations["expected_response"]

    data = [
        {"inputs": {"message": country}, "expectations": {"expected_response": city}}
        for country, city in {"France": "Paris", "Spain": "Madrid", "Atlantis": "nowhere"}.items()
    ]
    scorers = [right, RegexMatch(pattern="^[A-Z]"), ResponseLength(max_length=10), Correctness(model="openai:/judge")]
    found = mlflow.genai.evaluate(data=data, predict_fn=ask, scorers=scorers)
    return found.metrics


def read(run_id: str) -> object:
    """One of our runs, by MLflow's client."""
    [run] = [one for one in mlflow.search_runs(output_format="list") if one.data.tags.get("lakemesh.run_id") == run_id]
    traces = mlflow.search_traces(locations=[run.info.experiment_id], run_id=run.info.run_id, return_type="list")
    scores = [
        {
            "inputs": json.loads(trace.data.request),
            "scores": {one.name: one.value for one in trace.info.assessments if one.source.source_type != "HUMAN"},
            "faults": [one.name for one in trace.info.assessments if getattr(one, "error", None)],
        }
        for trace in traces
    ]
    return {"metrics": run.data.metrics, "tags": run.data.tags, "params": run.data.params, "traces": scores}


def predict(name: str, file: str) -> object:
    """A registered model's scores of rows in a JSON file."""
    import pandas as pd

    model = mlflow.pyfunc.load_model(f"models:/{name}/1")
    with open(file) as rows:
        frame = pd.DataFrame(json.load(rows))
    return [score.hex() for score in model.predict(frame).tolist()]


sys.stdout.write(
    "\n" + json.dumps({"evaluate": evaluate, "read": read, "predict": predict}[sys.argv[1]](*sys.argv[2:]))
)
