"""Loads a logged model with MLflow and goes on with a conversation: `python mlflow_model.py MODEL_URI CONVERSATION
SERVER`. Prints what it was given, as JSON; SERVER is asked too, as clients of MLflow's agent server do it."""

import json
import sys
import urllib.request

import mlflow
from mlflow.models import Model
from mlflow.types.responses import ResponsesAgentResponse, ResponsesAgentStreamEvent


def main(uri: str, conversation: str, server: str) -> None:
    model = mlflow.pyfunc.load_model(uri)
    logged = Model.load(uri)

    def request(text: str) -> dict:
        return {"input": [{"role": "user", "content": text}], "context": {"conversation_id": conversation}}

    predicted = model.predict(request("pieces by place"))
    streamed = list(model.predict_stream(request("and only in Rome")))
    answered = invoke(server, request("and what about Oslo?"))
    ResponsesAgentResponse(**answered)
    events = stream(server, {**request("pieces by place"), "stream": True})
    for event in events:
        ResponsesAgentStreamEvent(**event)
    try:
        model.predict(request("x" * 9_000))
        refusal = ""
    except Exception as error:
        refusal = f"{type(error).__name__}: {error}"
    told = {
        "predicted": predicted,
        "streamed": streamed,
        "answered": answered,
        "events": [event["type"] for event in events],
        "refusal": refusal,
        "policy": logged.auth_policy,
        "task": logged.metadata["task"],
        "inputs": logged.signature.inputs.input_names(),
        "flavor": logged.flavors["python_function"]["loader_module"],
    }
    sys.stdout.write("TOLD " + json.dumps(told, default=str) + "\n")


def post(server: str, body: dict):
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"{server}/invocations", data, {"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=60)


def invoke(server: str, body: dict) -> dict:
    with post(server, body) as response:
        return json.loads(response.read())


def stream(server: str, body: dict) -> list[dict]:
    """MLflow's agent server sends data alone, and so its clients read nothing else."""
    with post(server, body) as response:
        lines = [line.decode().rstrip("\n") for line in response]
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]


main(*sys.argv[1:])
