"""The OpenAPI document: what FastAPI makes of the routes, with everything a client generator needs in it.

Every reference leads to a component of the document, every path names its parameters, and errors are problem details
under their own media type.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from lakemesh.services.responses.request import ResponsesRequest
from lakemesh.services.schemas import (
    AnswerRequest,
    BatchRequest,
    DecisionRequest,
    ErasureRequest,
    ExecuteRequest,
    FeedbackRequest,
    Problem,
    WebSocketCancel,
    WebSocketEvent,
    WebSocketRun,
)

MODELS: Sequence[type[BaseModel]] = (
    ResponsesRequest,
    ExecuteRequest,
    BatchRequest,
    Problem,
    AnswerRequest,
    DecisionRequest,
    ErasureRequest,
    FeedbackRequest,
    WebSocketRun,
    WebSocketCancel,
    WebSocketEvent,
)
"""What no route has as FastAPI's own body or answer."""
PATH_PARAMETER = re.compile(r"\{(\w+)\}")
REFERENCE = "#/components/schemas/{model}"
DESCRIPTION = """
`POST /api/execute` answers in JSON, or with `Accept: text/event-stream` as server-sent events. Errors are problem
details (RFC 9457, `Problem`) with a stable `code`.

A WebSocket at `/api/ws` carries many executions: the client sends `WebSocketRun` and `WebSocketCancel`, the server
`WebSocketEvent`, the last one of an id being `completed` or `failed`.
"""


def reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def publish(api: FastAPI, schemes: Mapping[str, Mapping[str, Any]]) -> None:
    """Have `api` serve the document. `schemes` are the ways to authenticate, any one of which is enough."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = make_document(api, schemes)
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]


def make_document(api: FastAPI, schemes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    document = get_openapi(
        title=api.title, version=api.version, summary=api.summary, description=DESCRIPTION, routes=api.routes
    )
    components = document.setdefault("components", {})
    _, found = models_json_schema([(model, "validation") for model in MODELS], ref_template=REFERENCE)
    schemas = {**found["$defs"], **components.get("schemas", {})}
    components["schemas"] = {name: without_null_defaults(schema) for name, schema in schemas.items()}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["parameters"] = [*path_parameters(path, operation), *operation.get("parameters", ())]
    if schemes:
        components["securitySchemes"] = dict(schemes)
        document["security"] = [{name: []} for name in schemes]
    return document


def path_parameters(path: str, operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that the path names and nothing declares: handlers that read the request themselves."""
    declared = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
    named = [name for name in PATH_PARAMETER.findall(path) if name not in declared]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in named]


def without_null_defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Generators take a member with a default for one that is always there, which null says nothing of."""
    members = {
        name: {key: value for key, value in member.items() if key != "default" or value is not None}
        for name, member in schema.get("properties", {}).items()
    }
    return {**schema, "properties": members} if members else dict(schema)


def security_schemes(*, bearer: bool, issuers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How callers authenticate, as OpenAPI says it: with tokens of the configuration, or of an OpenID provider."""
    schemes: dict[str, dict[str, Any]] = {"bearer": {"type": "http", "scheme": "bearer"}} if bearer else {}
    for place, issuer in enumerate(issuers):
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        schemes[f"openid{place or ''}"] = {"type": "openIdConnect", "openIdConnectUrl": url}
    return schemes
