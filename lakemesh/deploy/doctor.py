"""Whether a workspace has what a deployment needs, before anything is deployed; each finding with what mends it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lakemesh.config.schema import Config
from lakemesh.deploy.desired import check_scopes, read_config
from lakemesh.deploy.lease import current_holder
from lakemesh.deploy.resources.app import find_app
from lakemesh.deploy.resources.base import Target, absolute
from lakemesh.deploy.resources.catalog import run_statement, warehouse_id
from lakemesh.deploy.source import Source
from lakemesh.errors import ConfigurationInvalid, LakemeshError, NotFound

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` is a command or a setting, empty when nothing is wrong."""

    level: Level
    about: str
    said: str
    mend: str = ""


def examine(target: Target, source: Source) -> Iterator[Finding]:
    """Every check, in the order in which a deployment would meet its fault. None changes anything."""
    for about, check in CHECKS.items():
        try:
            yield from check(target, source)
        except ConfigurationInvalid as error:
            yield Finding("fault", about, "; ".join(error.errors), "lakemesh config check")
        except LakemeshError as error:
            yield Finding("fault", about, f"{error.title}: {error.detail}")


def folder(target: Target, source: Source) -> Iterator[Finding]:
    root = absolute(target.bundle.root_path)
    if root.startswith("/Workspace/Shared/"):
        mend = "workspace.root_path: /Workspace/Users/${var.deployer}/.bundle/${bundle.name}/${bundle.target}"
        yield Finding("warning", "folder", f"everybody may write to {root}, which jobs run from", mend)
    else:
        yield Finding("ok", "folder", root)
    if "@" in target.user and target.bundle.target == "prod":
        said = f"production is deployed by {target.user}; a service principal outlives people"
        yield Finding("warning", "deployer", said, "databricks auth login --profile of the service principal, in CI")
    busy = current_holder(target)
    if busy:
        yield Finding("warning", "lock", f"being changed by {busy}", "wait, or lakemesh apply --force-lock")


def configuration(target: Target, source: Source) -> Iterator[Finding]:
    config = read_config(target)
    check_scopes(config, target.bundle.app)
    yield Finding("ok", "configuration", f"{len(config.agents)} agents")
    yield Finding("ok", "source", f"{len(source.files())} files")
    if not any(agent.on_behalf_of_user for agent in config.agents.values()):
        return
    app = find_app(target) or {}
    effective = set(app.get("effective_user_api_scopes") or ())
    missing = sorted(set(target.bundle.app.get("user_api_scopes") or ()) - effective)
    if app and missing:
        said = (
            f"the app may not ask its users for {', '.join(missing)} yet; is user authorization on in this workspace?"
        )
        yield Finding("warning", "scopes", said, "Settings > Development > Apps, then lakemesh apply")


def warehouse(target: Target, source: Source) -> Iterator[Finding]:
    wanted = warehouse_id(target)
    try:
        found = target.do("GET", f"/api/2.0/sql/warehouses/{wanted}")
    except NotFound:
        known = [f"{item['id']} ({item.get('name')})" for item in warehouses(target)]
        said = f"there is no SQL warehouse {wanted!r}; there are {', '.join(known) or 'none'}"
        yield Finding("fault", "warehouse", said, "--var warehouse_id=<id>, or databricks warehouses create")
        return
    user = run_statement(target, "SELECT current_user()")[0][0]
    yield Finding("ok", "warehouse", f"{found.get('name')} is {found.get('state')}, statements run as {user}")
    minutes = int(found.get("auto_stop_mins") or 0)
    if not minutes and "auto_stop_mins" in found:
        mend = f"databricks warehouses edit {wanted} --auto-stop-mins 10"
        yield Finding("warning", "warehouse", "it never stops by itself, which costs day and night", mend)


def warehouses(target: Target) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = target.do("GET", "/api/2.0/sql/warehouses").get("warehouses") or []
    return found


def catalog(target: Target, source: Source) -> Iterator[Finding]:
    for key, declared in target.bundle.each("catalogs"):
        body = target.fill(declared)
        name = str(body["name"])
        found = target.find(f"/api/2.1/unity-catalog/catalogs/{name}")
        if found is None:
            yield missing_catalog(target, name, str(body.get("storage_root") or ""))
            continue
        held = privileges(target, name)
        needed = {"CREATE_SCHEMA", "MANAGE"} if held is not None and found.get("owner") != target.user else set()
        lacking = sorted(needed - (held or set()) if "ALL_PRIVILEGES" not in (held or set()) else needed & {"MANAGE"})
        if lacking and held is not None and "MANAGE" not in held:
            grants = ", ".join(word.replace("_", " ") for word in lacking)
            mend = f"its owner: GRANT {grants} ON CATALOG `{name}` TO `{target.user}`"
            yield Finding("fault", f"catalogs.{key}", f"{name} is there, and you lack {grants} on it", mend)
        else:
            yield Finding("ok", f"catalogs.{key}", f"{name} is there")


def missing_catalog(target: Target, name: str, storage_root: str) -> Finding:
    if storage_root:
        return Finding("ok", "catalog", f"{name} will be made at {storage_root}")
    try:
        metastore = target.do("GET", "/api/2.1/unity-catalog/metastore_summary")
    except LakemeshError:
        metastore = {}
    if metastore and not metastore.get("storage_root"):
        said = f"{name} has to be made, and the metastore has no storage of its own"
        return Finding("fault", "catalog", said, "--var storage_root=<external location>, or --var catalog=<existing>")
    return Finding("ok", "catalog", f"{name} will be made")


def privileges(target: Target, name: str) -> set[str] | None:
    """What the deployer effectively holds on the catalog; None when it cannot be asked."""
    path = f"/api/2.1/unity-catalog/effective-permissions/catalog/{name}"
    try:
        found = target.do("GET", path, query={"principal": target.user})
    except LakemeshError:
        return None
    return {
        str(item["privilege"]).upper().replace(" ", "_")
        for assignment in found.get("privilege_assignments") or ()
        for item in assignment.get("privileges") or ()
    }


def models(target: Target, source: Source) -> Iterator[Finding]:
    """The serving endpoints the app asks for, and those its configuration names."""
    resources = target.fill(list(target.bundle.app.get("resources") or ()))
    asked = {str(item["serving_endpoint"]["name"]) for item in resources if "serving_endpoint" in item}
    own = {str(target.fill(body)["name"]) for _, body in target.bundle.each("model_serving_endpoints")}
    for name in sorted(asked | named_endpoints(read_config(target))):
        if name in own:
            continue
        found = target.find(f"/api/2.0/serving-endpoints/{name}")
        if found is None:
            mend = (
                "--var chat_endpoint=<name> (or fast_endpoint, embedding_endpoint); databricks serving-endpoints list"
            )
            yield Finding("fault", "models", f"this workspace has no serving endpoint {name!r}", mend)
        elif name not in asked:
            said = f"the configuration uses {name!r}, which the app may not query"
            yield Finding("fault", "models", said, "add it to resources of the app in resources/app.yml")
        else:
            yield Finding("ok", "models", f"{name} is {found.get('state', {}).get('ready', 'there')}")


def named_endpoints(config: Config) -> set[str]:
    named = (getattr(endpoint, "serving_endpoint", None) for endpoint in config.models.endpoints.values())
    return {str(name) for name in named if name}


def app(target: Target, source: Source) -> Iterator[Finding]:
    name = target.bundle.app["name"]
    found = find_app(target)
    if found is None:
        target.do("GET", "/api/2.0/apps")  # Apps are on, and the deployer may see them
        yield Finding("ok", "app", f"{name} will be made")
        return
    state = str((found.get("compute_status") or {}).get("state"))
    running = str((found.get("app_status") or {}).get("state"))
    if state == "DELETING":
        yield Finding("fault", "app", f"{name} is still being deleted", "wait some minutes")
    elif running == "RUNNING":
        yield Finding("ok", "app", f"{name} is RUNNING")
    else:
        yield Finding("warning", "app", f"{name} is {running}, its compute {state}", "lakemesh apply, or lakemesh logs")


def search(target: Target, source: Source) -> Iterator[Finding]:
    found = target.do("GET", "/api/2.0/vector-search/endpoints").get("endpoints") or ()
    states = {item["name"]: (item.get("endpoint_status") or {}).get("state") for item in found}
    for _, declared in target.bundle.each("vector_search_endpoints"):
        name = str(target.fill(declared)["name"])
        yield Finding("ok", "search", f"{name} is {states[name]}" if name in states else f"{name} will be made")


def secrets(target: Target, source: Source) -> Iterator[Finding]:
    """Keys the app's resources name: an app is not made without them."""
    for resource in target.fill(list(target.bundle.app.get("resources") or ())):
        secret: Mapping[str, Any] = resource.get("secret") or {}
        if not secret:
            continue
        scope, key = secret["scope"], secret["key"]
        mend = f"databricks secrets put-secret {scope} {key}"
        try:
            listed = target.do("GET", "/api/2.0/secrets/list", query={"scope": scope}).get("secrets") or ()
        except NotFound:
            yield Finding(
                "fault", "secrets", f"there is no scope {scope!r}", f"databricks secrets create-scope {scope}"
            )
            continue
        there = any(item["key"] == key for item in listed)
        yield Finding("ok" if there else "fault", "secrets", f"{scope}/{key}", "" if there else mend)


CHECKS: Mapping[str, Callable[[Target, Source], Iterator[Finding]]] = {
    "folder": folder,
    "configuration": configuration,
    "warehouse": warehouse,
    "catalog": catalog,
    "models": models,
    "search": search,
    "secrets": secrets,
    "app": app,
}
