"""`lakemesh model`: an agent as a model, for Model Serving."""

import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lakemesh.cli.server import Profile
from lakemesh.cli.target import connect
from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakemesh.config.loader import ConfigFile
    from lakemesh.config.schema import Config
    from lakemesh.config.settings import Settings
    from lakemesh.model_serving.resources import Access

DEPLOY_SECONDS = 1_800.0

model = typer.Typer(no_args_is_help=True, help="An agent as a model, for Model Serving.")

AgentName = Annotated[str, typer.Argument(help="The agent, as configuration names it.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a model is made from."""

    settings: "Settings"
    config: "Config"
    files: "Sequence[ConfigFile]"
    prompts: "Mapping[str, bytes]"
    access: "Access"
    secrets: "Mapping[str, str]" = field(repr=False)
    """By the variables that stand for them in a package."""


@model.callback()
def root() -> None:
    pass


@model.command("log")
def log(
    agent: AgentName,
    name: Annotated[str | None, typer.Option(help="Register it as catalog.schema.model.")] = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow's experiment.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's server; MLFLOW_TRACKING_URI or a folder.")] = None,
    example: Annotated[str | None, typer.Option(help="A request, JSON, that the model is tried with.")] = None,
) -> None:
    """Package an agent as an MLflow ResponsesAgent, with the resources and scopes that its configuration says it needs,
    and log it."""
    from lakemesh.model_serving.log import code_of, log_model, require_mlflow, requirements_of
    from lakemesh.model_serving.package import write_package

    require_mlflow()
    import mlflow

    sources = asyncio.run(read(agent))
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    if name and mlflow.get_tracking_uri().startswith("databricks"):
        mlflow.set_registry_uri("databricks-uc")
    if experiment:
        mlflow.set_experiment(experiment)
    code, distributions = code_of(sources.access, sources.config)
    os.environ.update(sources.secrets)  # for the request that the model is tried with, in this process
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "lakemesh"
        write_package(package, agent, sources.files, sources.access, prompts=sources.prompts)
        info = log_model(
            package,
            agent=agent,
            access=sources.access,
            code=code,
            requirements=requirements_of(distributions),
            registered_name=name,
            example=example_of(example),
        )
    show(sources.access)
    typer.echo(f"model: {info.model_uri}")
    if info.registered_model_version:
        typer.echo(f"version: {info.registered_model_version} of {name}")


@model.command("deploy")
def deploy(
    agent: AgentName,
    name: Annotated[str, typer.Option(help="The registered model, catalog.schema.model.")],
    version: Annotated[int, typer.Option(min=1, help="Its version.")],
    endpoint: Annotated[str | None, typer.Option(help="The endpoint's name; the agent's unless given.")] = None,
    var: Annotated[list[str] | None, typer.Option(help="A variable of the process, NAME=VALUE; repeatable.")] = None,
    size: Annotated[Literal["Small", "Medium", "Large"], typer.Option(help="Of the serving compute.")] = "Small",
    always_on: Annotated[bool, typer.Option("--always-on", help="Do not scale to zero.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it serves; 0 does not.")] = DEPLOY_SECONDS,
    profile: Profile = None,
) -> None:
    """Serve a logged version: by databricks-agents where it is installed, else by the workspace's own API."""
    from lakemesh.model_serving.deploy import Deployment, agents_sdk, deploy_model

    sources = asyncio.run(read(agent))
    client, _ = connect(profile)
    deployment = Deployment(
        model=name,
        version=version,
        endpoint=endpoint or agent,
        environment=environment(sources, var or ()),
        scale_to_zero=not always_on,
        size=size,
    )
    made = deploy_model(deployment, client, wait_seconds=wait, sdk=agents_sdk())
    typer.echo(f"endpoint: {client.config.host}/serving-endpoints/{made}/invocations")


async def read(agent: str) -> Sources:
    """Raises what the configuration or the workspace has wrong, and `UnknownAgent`."""
    from lakemesh.composition.services import open_workspace
    from lakemesh.config.settings import Settings
    from lakemesh.config.store import ConfigStore
    from lakemesh.model_serving.package import read_prompts, variables_of
    from lakemesh.model_serving.resources import access_of

    settings = Settings()
    workspace = await open_workspace(settings)
    try:
        secrets = workspace.read_secret
        read_file = workspace.volumes.read
        store = ConfigStore(
            settings.config, settings.environment, read=read_file, variables=os.environ, secrets=secrets
        )
        config, files = await store.load(), await store.read_files()
        access = access_of(agent, config, settings)
        prompts = await read_prompts(workspace, config)
        values, named = await store.values(files), variables_of(files, access).secrets
    finally:
        await workspace.close()
    secrets_of = {name: values.get(f"secrets.{place.replace('/', '.', 1)}", "") for name, place in named.items()}
    return Sources(settings=settings, config=config, files=files, prompts=prompts, access=access, secrets=secrets_of)


def environment(sources: Sources, pairs: Sequence[str]) -> dict[str, str]:
    """Of the serving process. A secret of the configuration is named to the platform, which fills it in; a variable
    that has no default must be given, since what it holds here may be a secret."""
    from lakemesh.model_serving.package import environment_of, variables_of

    variables = variables_of(sources.files, sources.access)
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidRequest(f"--var {pair!r} is not NAME=VALUE.")
        given[name] = value
    if missing := [name for name in variables.needed if name not in given]:
        told = ", ".join(missing)
        raise InvalidRequest(f"The configuration needs {told}; give each with --var NAME=VALUE.")
    secrets = {name: f"{{{{secrets/{place}}}}}" for name, place in variables.secrets.items()}
    return environment_of(sources.settings) | secrets | given


def example_of(text: str | None) -> Any:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        raise InvalidRequest("--example is a JSON object, as /api/responses takes it.") from None
    return found


def show(access: "Access") -> None:
    for resource in access.resources:
        typer.echo(f"resource: {resource.kind} {resource.name}")
    for scope in access.scopes:
        typer.echo(f"scope: {scope}")
