"""A package as a model of MLflow's: its code, what it is installed with, and what it may reach."""

import sys
import sysconfig
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

import lakemesh
from lakemesh.config.schema import Config
from lakemesh.errors import InvalidRequest
from lakemesh.model_serving.package import ARTIFACT
from lakemesh.model_serving.resources import Access, Resource

if TYPE_CHECKING:
    from mlflow.models.auth_policy import AuthPolicy

EXTRAS = ("", "databricks", "postgres")
ENTRY = Path(__file__).with_name("entry.py")


def log_model(
    package: Path,
    *,
    agent: str,
    access: Access,
    code: Sequence[Path],
    requirements: Sequence[str],
    registered_name: str | None = None,
    example: Mapping[str, Any] | None = None,
) -> Any:
    """MLflow's `ModelInfo`. MLflow asks the agent `example`, or "Hello!", before it takes the model. Raises
    `InvalidRequest` without MLflow."""
    require_mlflow()
    import mlflow

    return mlflow.pyfunc.log_model(
        name=agent,
        python_model=str(ENTRY),
        artifacts={ARTIFACT: str(package)},
        code_paths=[str(path) for path in code],
        pip_requirements=list(requirements),
        auth_policy=auth_policy_of(access),
        registered_model_name=registered_name,
        input_example=dict(example) if example is not None else None,
    )


def require_mlflow() -> None:
    """Raises `InvalidRequest`."""
    try:
        found = import_module("mlflow.pyfunc")
    except ImportError:
        found = None
    if not hasattr(found, "ResponsesAgent"):
        raise InvalidRequest("MLflow is not installed here; 'pip install mlflow' beside lakemesh.")


def auth_policy_of(access: Access) -> "AuthPolicy":
    from mlflow.models.auth_policy import AuthPolicy, SystemAuthPolicy, UserAuthPolicy

    return AuthPolicy(
        system_auth_policy=SystemAuthPolicy([resource_of(one) for one in access.resources]),
        user_auth_policy=UserAuthPolicy(list(access.scopes)) if access.scopes else None,
    )


def resource_of(resource: Resource) -> Any:
    from mlflow.models import resources

    kinds = {
        "serving_endpoint": resources.DatabricksServingEndpoint,
        "genie_space": resources.DatabricksGenieSpace,
        "sql_warehouse": resources.DatabricksSQLWarehouse,
        "lakebase": resources.DatabricksLakebase,
        "function": resources.DatabricksFunction,
        "table": resources.DatabricksTable,
        "vector_search_index": resources.DatabricksVectorSearchIndex,
    }
    return kinds[resource.kind](resource.name)


def code_of(access: Access, config: Config) -> tuple[list[Path], list[str]]:
    """The folders and files of code that the agents are made of, lakemesh's first, and the distributions of those that
    are installed."""
    installed = Path(sysconfig.get_paths()["purelib"])
    folders, distributions = [Path(lakemesh.__file__).parent], []
    for name in access.agents:
        agent = config.agents[name]
        module = (agent.class_path or agent.function or "").partition(":")[0].split(".")[0]
        if ":" not in (agent.class_path or agent.function or "") or module == "lakemesh":
            continue
        file = Path(sys.modules[module].__file__ or "")
        if file.is_relative_to(installed):
            distributions += packages_distributions().get(module, [])
        else:
            folders.append(file.parent if file.name == "__init__.py" else file)
    return list(dict.fromkeys(folders)), sorted(set(distributions))


def requirements_of(distributions: Sequence[str]) -> list[str]:
    """What lakemesh stands on here, in the versions that are installed, MLflow, and what the agents' code came in."""
    names = {Requirement(one).name for one in requires("lakemesh") or () if is_wanted(Requirement(one))}
    return [f"{name}=={version(name)}" for name in sorted({*names, *distributions, "mlflow"}) if is_installed(name)]


def is_wanted(requirement: Requirement) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in EXTRAS)


def is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False
