"""A logged model behind an endpoint: by databricks-agents where it is installed, else by the SDK."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from lakemesh.lakehouse.databricks.translation import translate

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

SIZES = ("Small", "Medium", "Large")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One version of a registered model. `environment` are the variables of its process; `{{secrets/scope/key}}` is
    filled by the platform."""

    model: str
    version: int
    endpoint: str
    environment: Mapping[str, str]
    scale_to_zero: bool = True
    size: Literal["Small", "Medium", "Large"] = "Small"


def agents_sdk() -> Any:
    """The module of databricks-agents; None where it is not installed."""
    try:
        return import_module("databricks.agents")
    except ImportError:
        return None


def deploy_model(deployment: Deployment, client: "WorkspaceClient", *, wait_seconds: float, sdk: Any = None) -> str:
    """The endpoint's name, once it serves the version, or at once with `wait_seconds` of 0. `sdk` is databricks-agents,
    which also sets up its review app and feedback. Raises what the workspace refuses."""
    try:
        if sdk is not None:
            made = sdk.deploy(
                deployment.model,
                deployment.version,
                scale_to_zero=deployment.scale_to_zero,
                environment_vars=dict(deployment.environment),
                endpoint_name=deployment.endpoint,
                workload_size=deployment.size,
            )
            return str(made.endpoint_name)
        return by_workspace_client(deployment, client, wait_seconds=wait_seconds)
    except Exception as error:  # a boundary: what the SDKs raise becomes what we raise
        raise translate(error) from error


def by_workspace_client(deployment: Deployment, client: "WorkspaceClient", *, wait_seconds: float) -> str:
    """Makes the endpoint, or has it serve this version in place of the one before."""
    from databricks.sdk.errors import NotFound
    from databricks.sdk.service.serving import (
        EndpointCoreConfigInput,
        Route,
        ServedEntityInput,
        TrafficConfig,
    )

    served = f"{deployment.model.rpartition('.')[2]}-{deployment.version}"
    entity = ServedEntityInput(
        name=served,
        entity_name=deployment.model,
        entity_version=str(deployment.version),
        environment_vars=dict(deployment.environment),
        scale_to_zero_enabled=deployment.scale_to_zero,
        workload_size=deployment.size,
    )
    traffic = TrafficConfig(routes=[Route(served_model_name=served, traffic_percentage=100)])
    name = deployment.endpoint
    try:
        client.serving_endpoints.get(name)
    except NotFound:
        config = EndpointCoreConfigInput(name=name, served_entities=[entity], traffic_config=traffic)
        waiting = client.serving_endpoints.create(name, config=config)
    else:
        waiting = client.serving_endpoints.update_config(name, served_entities=[entity], traffic_config=traffic)
    if wait_seconds > 0:
        waiting.result(timeout=timedelta(seconds=wait_seconds))
    return name
