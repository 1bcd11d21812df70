"""Everything a deployment is made of, in the order in which it is made."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from lakemesh.config.loader import ConfigFile, parse_config, placeholders
from lakemesh.config.schema import Config
from lakemesh.config.store import FILES_BESIDE, require_optional
from lakemesh.deploy.resources.access import Permissions, SecretAcls, SecretScope
from lakemesh.deploy.resources.app import App, AppDeployment, AppSource, find_app, running_folder
from lakemesh.deploy.resources.base import Body, Resource, Target
from lakemesh.deploy.resources.catalog import Catalog, Grants, Schema, Volume
from lakemesh.deploy.resources.jobs import Job
from lakemesh.deploy.resources.observability import Alert, Dashboard
from lakemesh.deploy.resources.search import SearchEndpoint, SearchIndex
from lakemesh.deploy.resources.serving import GatewayLimits, ServingEndpoint
from lakemesh.deploy.resources.tables import Table, View
from lakemesh.deploy.resources.volume_files import VolumeFiles
from lakemesh.deploy.source import Source
from lakemesh.deploy.sources import Sources
from lakemesh.deploy.state import State, load_state
from lakemesh.errors import ConfigurationInvalid
from lakemesh.evaluation.production_tables import drift_table, precision_table, scores_table
from lakemesh.lakehouse.tables import TableSpec
from lakemesh.memory.tables import forgotten_table, memory_table
from lakemesh.telemetry.tables import table_specs, view_specs

CONFIG_FOLDER = "config"
KINDS = {
    "catalogs",
    "schemas",
    "volumes",
    "secret_scopes",
    "vector_search_endpoints",
    "vector_search_indexes",
    "model_serving_endpoints",
    "apps",
    "dashboards",
    "alerts",
    "jobs",
}


def desired_resources(target: Target, state: State | None = None) -> list[Resource]:
    """What others stand on comes first; configuration goes up right before the deployment that reads it, and what looks
    at the app follows. Raises `ConfigurationInvalid` for what cannot be deployed."""
    bundle = target.bundle
    unknown = sorted(set(bundle.resources) - KINDS)
    if unknown:
        raise ConfigurationInvalid([f"resources.{kind}: lakemesh does not deploy this kind" for kind in unknown])
    app, (key,) = bundle.app, bundle.resources["apps"]
    check_scopes(read_config(target), app)
    sources = opened_sources(target, state or load_state(target))
    source = AppSource(f"apps.{key}", source_of(target), sources, target)
    target.facts["workspace.file_path"] = source.folder
    return [
        *containers(target),
        *search_and_models(target),
        App(f"apps.{key}", app, target),
        *access(target),
        source,
        *files(target),
        AppDeployment(f"apps.{key}", app, source, sources, target),
        *(Job(f"jobs.{name}", body, target) for name, body in bundle.each("jobs")),
        *(Dashboard(f"dashboards.{name}", body, target) for name, body in bundle.each("dashboards")),
        *(Alert(f"alerts.{name}", body, target) for name, body in bundle.each("alerts")),
    ]


def source_of(target: Target) -> Source:
    config = target.fill(target.bundle.app.get("config") or {})
    return Source(target.bundle.folder, config, exclude=target.bundle.exclude)


def opened_sources(target: Target, state: State) -> Sources:
    return Sources(target, running=running_folder(find_app(target) or {}), releases=state.releases)


def check_scopes(config: Config, app: Body) -> None:
    """An app is given tokens of its users only for scopes it declares. Raises `ConfigurationInvalid`."""
    acting = sorted(name for name, agent in config.agents.items() if agent.on_behalf_of_user)
    if acting and not app.get("user_api_scopes"):
        fault = f"the agent {acting[0]!r} acts for its users, so the app has to declare user_api_scopes, such as [sql]"
        raise ConfigurationInvalid([f"resources.apps: {fault}"])


def files(target: Target) -> list[Resource]:
    """Configuration and prompts; prompts first, because the configuration may choose a new one."""
    config, folder = read_config(target), target.bundle.folder / CONFIG_FOLDER
    found = [
        VolumeFiles(config.prompts.volume, files_in(folder / "prompts"), target, versioned=True),
        VolumeFiles(config_volume(target), files_in(folder), target),
    ]
    return [resource for resource in found if resource.desired]


def config_volume(target: Target) -> str:
    return app_environment(target)["LAKEMESH_CONFIG"].rpartition("/")[0]


def containers(target: Target) -> Iterator[Resource]:
    bundle = target.bundle
    yield from (Catalog(f"catalogs.{key}", body, target) for key, body in bundle.each("catalogs"))
    yield from (Schema(f"schemas.{key}", body, target) for key, body in bundle.each("schemas"))
    yield from (Volume(f"volumes.{key}", body, target) for key, body in bundle.each("volumes"))
    yield from (SecretScope(f"secret_scopes.{key}", body, target) for key, body in bundle.each("secret_scopes"))
    config = read_config(target)
    yield from (Table(spec, target) for spec in tables(config))
    yield from (View.of(name, view.query, target) for name, view in view_specs(config.telemetry).items())


def tables(config: Config) -> list[TableSpec]:
    """Those the server writes, and those that `lakemesh monitor` does, which alerts look at."""
    memory = config.memory.table
    schema = config.telemetry.table("execution_scores").rpartition(".")[0]
    monitored = [scores_table(schema), drift_table(schema), precision_table(schema)]
    return [*table_specs(config.telemetry).values(), memory_table(memory), forgotten_table(memory), *monitored]


def search_and_models(target: Target) -> Iterator[Resource]:
    each = target.bundle.each
    yield from (
        SearchEndpoint(f"vector_search_endpoints.{key}", body, target) for key, body in each("vector_search_endpoints")
    )
    yield from (
        SearchIndex(f"vector_search_indexes.{key}", body, target) for key, body in each("vector_search_indexes")
    )
    yield from (
        ServingEndpoint(f"model_serving_endpoints.{key}", body, target) for key, body in each("model_serving_endpoints")
    )


def access(target: Target) -> Iterator[Resource]:
    """Who may do what: made after the app, whose service principal most of it is for."""
    each = target.bundle.each
    for kind, securable in {"catalogs": "catalog", "schemas": "schema", "volumes": "volume"}.items():
        yield from (Grants(securable, f"{kind}.{key}", body, target) for key, body in each(kind) if body.get("grants"))
    for key, body in each("secret_scopes"):
        if body.get("permissions"):
            yield SecretAcls(f"secret_scopes.{key}", body, target)
    for key, body in each("vector_search_endpoints"):
        if body.get("permissions"):
            endpoint = SearchEndpoint(key, body, target)
            yield Permissions(
                "vector-search-endpoints", f"vector_search_endpoints.{key}", body, endpoint.identifier, target
            )
    for key, body in each("model_serving_endpoints"):
        if body.get("permissions"):
            model = ServingEndpoint(key, body, target)
            yield Permissions("serving-endpoints", f"model_serving_endpoints.{key}", body, model.identifier, target)
    yield from zerobus_grants(target)
    yield from gateway_limits(target)
    for key, body in each("apps"):
        if body.get("permissions"):
            yield Permissions("apps", f"apps.{key}", body, partial(str, body["name"]), target)


def zerobus_grants(target: Target) -> Iterator[Resource]:
    """Zerobus asks for MODIFY and SELECT on the very table: what is granted on its schema does not count (Zerobus
    documentation, "configure service principal")."""
    config = read_config(target).telemetry
    (key,) = target.bundle.resources["apps"]
    grant = {
        "principal": f"${{resources.apps.{key}.service_principal_client_id}}",
        "privileges": ["MODIFY", "SELECT"],
    }
    for spec in table_specs(config).values() if "zerobus" in config.sink_names else ():
        address = f"tables.{spec.name.rpartition('.')[2]}"
        yield Grants("table", address, {"name": spec.name, "grants": [grant]}, target)


def gateway_limits(target: Target) -> Iterator[Resource]:
    """Budgets of a minute for everybody, as limits of the app's principal on each serving endpoint it uses: the
    platform refuses then what passed by the server. It knows minutes alone, and each endpoint by itself."""
    config = read_config(target)
    limit = gateway_limit(config)
    if limit is None:
        return
    (key,) = target.bundle.resources["apps"]
    principal = f"${{resources.apps.{key}.service_principal_client_id}}"
    rate_limit = {"key": "service_principal", "principal": principal, "renewal_period": "minute", **limit}
    for name in sorted({one.serving_endpoint for one in config.models.endpoints.values() if one.serving_endpoint}):
        yield GatewayLimits(f"ai_gateway.{name}", {"name": name, "rate_limits": [rate_limit]}, target)


def gateway_limit(config: Config) -> dict[str, int] | None:
    """The least of the budgets that hold for everybody's every minute, in the gateway's words."""
    found: dict[str, int] = {}
    for budget in config.budgets.limits.values():
        if budget.per != "all" or budget.period != "minute" or budget.users or budget.groups or budget.agents:
            continue
        for name, limit in (("calls", budget.steps), ("tokens", budget.tokens)):
            if limit is not None:
                found[name] = min(limit, found.get(name, limit))
    return found or None


def read_config(target: Target) -> Config:
    """The app's configuration as it will be on the target. Raises `ConfigurationInvalid`."""
    environment = app_environment(target)
    name = environment.get("LAKEMESH_ENVIRONMENT", target.bundle.target)
    folder = target.bundle.folder / CONFIG_FOLDER
    found = [folder / "lakemesh.yaml", folder / f"lakemesh.{name}.yaml"]
    if not found[0].is_file():
        raise ConfigurationInvalid([f"{CONFIG_FOLDER}/lakemesh.yaml: there is no such file"])
    if not found[1].is_file():
        require_optional(name, found[1].name)
    found[1:1] = [folder / beside for beside in FILES_BESIDE]
    files = [ConfigFile(file.name, file.read_bytes()) for file in found if file.is_file()]
    return parse_config(files, {**os.environ, **placeholders(files), **environment})


def app_environment(target: Target) -> dict[str, str]:
    """The variables of the app. What a `value_from` will be is not known here and stands for itself."""
    entries: list[Body] = target.fill(target.bundle.app.get("config") or {}).get("env") or []
    found = {str(entry["name"]): str(entry.get("value", entry.get("value_from", ""))) for entry in entries}
    if "LAKEMESH_CONFIG" not in found:
        raise ConfigurationInvalid(["resources.apps: config.env lacks LAKEMESH_CONFIG, the configuration's place"])
    return found


def files_in(folder: Path) -> Mapping[str, bytes]:
    if not folder.is_dir():
        return {}
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    return {file.name: file.read_bytes() for file in files}
