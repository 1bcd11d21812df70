"""Reads the traces of an MLflow server with MLflow's own client: `python mlflow_client.py ADDRESS`."""

import json
import sys
import time

import mlflow

WAIT_SECONDS = 60.0


def main(address: str) -> None:
    mlflow.set_tracking_uri(address)
    deadline = time.monotonic() + WAIT_SECONDS
    while not (traces := mlflow.search_traces(locations=["0"], return_type="list")):
        assert time.monotonic() < deadline, "no trace arrived"
        time.sleep(0.2)
    [trace] = traces
    spans = [[span.name, span.span_type, span.inputs, span.outputs] for span in trace.data.spans]
    sys.stdout.write(
        json.dumps({"metadata": trace.info.trace_metadata, "tokens": trace.info.token_usage, "spans": spans})
    )


main(sys.argv[1])
