"""The OpenAPI document holds: requests made from it never meet a fault of the server's own."""

import json
import re
from pathlib import Path

import httpx
import schemathesis
import schemathesis.specs.openapi.schemas  # while no other thread parses: Python 3.11 counts their depths together
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode

from lakemesh.testing import serve
from tests.judge import JUDGE
from tests.server import Server

EXAMPLES = 40 if JUDGE else 15


def test_generated_requests_find_no_server_error(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    # An erasure rewrites tables: forty of them take minutes, and tests/erasure looks at it closely.
    operations = [found.ok() for found in schema.exclude(path="/api/me/erase").get_all_operations()]
    assert {operation.path for operation in operations} >= {"/api/execute", "/api/execute/batch", "/api/agents/{name}"}
    for operation in operations:
        check(operation, GenerationMode.POSITIVE)
        if len(operation.body):  # without a body there is nothing to get wrong
            check(operation, GenerationMode.NEGATIVE)


def test_every_path_names_its_parameters(server: Server) -> None:
    """Generators refuse a document where one is missing."""
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for operation in operations.values():
            declared = [found["name"] for found in operation.get("parameters", ()) if found["in"] == "path"]
            assert declared == re.findall(r"{(\w+)}", path), path
    assert sum("{" in path for path in paths) >= 5


def test_every_reference_leads_to_a_component(tmp_path: Path, postgres: str) -> None:
    """On a server with a database, which has every route there is."""
    with serve({"echo": "echo"}, database=postgres) as full:
        text = full.http.get("/openapi.json").text
    named = set(re.findall(r'"\$ref": ?"#/components/schemas/(\w+)"', text))
    assert named <= set(json.loads(text)["components"]["schemas"])
    assert {"DecisionRequest", "AnswerRequest", "Problem"} <= named


def check(operation: schemathesis.APIOperation, mode: GenerationMode) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: Case) -> None:
        case.call_and_validate(checks=[not_a_server_error])

    send()
