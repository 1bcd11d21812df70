"""What commands about a deployment have in common: their options, the workspace, and saying which one it is.

Credentials are found as every Databricks tool finds them: `DATABRICKS_HOST` and what goes with it, or a profile.
"""

import configparser
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.errors import ConfigurationInvalid, InvalidRequest, WorkspaceUnavailable

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

    from lakemesh.deploy.lease import Lease
    from lakemesh.deploy.resources.base import Target

HTTP_SECONDS = 60
RETRY_SECONDS = 60
REACH_SECONDS = 10.0

CURRENT = Path()
NO_CREDENTIALS = (
    "Set DATABRICKS_HOST and DATABRICKS_TOKEN, or sign in with `databricks auth login` and name the --profile; "
    "`lakemesh workspace` emulates a workspace without an account."
)
WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """Which target of which app, on which workspace."""

    environment: Annotated[str, typer.Option("--environment", "-e", help="The bundle's target.")] = "dev"
    folder: Annotated[Path, typer.Option(help="The app's folder.")] = CURRENT
    var: Annotated[
        list[str] | None, typer.Option("--var", help="A variable of the bundle, NAME=VALUE; repeatable.")
    ] = None
    profile: Annotated[str | None, typer.Option(help="A profile of ~/.databrickscfg.")] = None

    def open(self, *, migrate: bool = False) -> "Target":
        """Raises what `open_target` raises."""
        return open_target(self.environment, self.folder, self.var, self.profile, migrate=migrate)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockOptions:
    """How a command that changes the target deals with another that does."""

    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for another run to end.")] = WAIT_SECONDS
    force_lock: Annotated[
        bool, typer.Option("--force-lock", help="Take over from another run, which has surely ended.")
    ] = False

    def lease(self, target: "Target", command: str) -> "Lease":
        from lakemesh.deploy.lease import Lease

        return Lease(target, command=f"lakemesh {command}", wait_seconds=self.wait, force=self.force_lock)


def open_target(
    environment: str, folder: Path, variables: Sequence[str] | None, profile: str | None, *, migrate: bool = False
) -> "Target":
    """The bundle's target on the workspace the credentials lead to, which is said. Raises `ConfigurationInvalid` and
    `WorkspaceUnavailable`."""
    from lakemesh.deploy.bundle import load_bundle
    from lakemesh.deploy.resources.base import Target

    given = given_variables(variables or (), os.environ)
    client, user = connect(profile)
    bundle = load_bundle(folder, environment, variables=given, user=user)
    typer.echo(f"{client.config.host} as {user}, target {bundle.target}, app {bundle.app['name']}", err=True)
    return Target(client=client, bundle=bundle, user=user, migrate=migrate, say=say)


def say(text: str) -> None:
    typer.echo(f"  {text}", err=True)


def connect(profile: str | None) -> tuple["WorkspaceClient", str]:
    """A client, and the name of who it acts for. Raises `WorkspaceUnavailable` within `REACH_SECONDS` when there is
    nothing at the address: the SDK itself asks for minutes."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.core import Config

    from lakemesh import __version__
    from lakemesh.lakehouse.databricks.translation import translate

    chosen = profile_settings(profile) if profile else {}
    reach(chosen.get("host") or os.environ.get("DATABRICKS_HOST") or default_host())
    try:
        config = Config(
            profile=profile,
            product="lakemesh",
            product_version=__version__,
            http_timeout_seconds=HTTP_SECONDS,
            retry_timeout_seconds=RETRY_SECONDS,
            disable_experimental_files_api_client=True,
            **chosen,
        )
        client = WorkspaceClient(config=config)
        return client, str(client.current_user.me().user_name)
    except ValueError as error:  # the SDK's way to say that it found no credentials
        raise ConfigurationInvalid([f"Databricks credentials: {first_sentence(error)}. {NO_CREDENTIALS}"]) from None
    except TimeoutError:
        raise WorkspaceUnavailable("The workspace does not answer.") from None
    except Exception as error:  # a boundary: what the SDK raises becomes what we raise
        raise translate(error) from error


def first_sentence(error: ValueError) -> str:
    """Of the SDK's, which goes on with an address and its whole configuration."""
    return (
        re.split(r", please check|\. Config:", str(error).splitlines()[0])[0].removeprefix("default auth: ").rstrip(".")
    )


def profile_settings(profile: str) -> dict[str, Any]:
    """What the profile says, which wins over the environment: the SDK would mix the two. Raises
    `ConfigurationInvalid` when there is no such profile."""
    known = read_profiles()
    if profile not in known:
        have = ", ".join(known) or "none"
        raise ConfigurationInvalid([f"--profile {profile}: {profiles_file()} has no such profile; it has {have}"])
    return dict(known[profile])


def profiles_file() -> Path:
    return Path(os.environ.get("DATABRICKS_CONFIG_FILE") or "~/.databrickscfg").expanduser()


def read_profiles() -> dict[str, Mapping[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, default_section="\0")
    try:
        parser.read(profiles_file())
    except configparser.Error as error:
        raise ConfigurationInvalid([f"{profiles_file()}: {str(error).splitlines()[0]}"]) from None
    return {name: dict(parser[name]) for name in parser.sections()}


def default_host() -> str | None:
    name = os.environ.get("DATABRICKS_CONFIG_PROFILE", "DEFAULT")
    return read_profiles().get(name, {}).get("host")


def reach(host: str | None) -> None:
    """Any answer will do. Proxies and certificates of the environment are used (HTTPS_PROXY, SSL_CERT_FILE)."""
    import httpx

    if not host:
        return
    address = host if "://" in host else f"https://{host}"
    try:
        httpx.get(f"{address.rstrip('/')}/.well-known/databricks-config", timeout=REACH_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise WorkspaceUnavailable(f"There is no workspace to be reached at {address}: {reason}.") from None


def given_variables(pairs: Sequence[str], environment: Any) -> dict[str, str]:
    """`--var NAME=VALUE`, over `BUNDLE_VAR_<name>` as the Databricks CLI reads it, over the warehouse that lakemesh's
    other commands use."""
    prefix = "BUNDLE_VAR_"
    given = {name.removeprefix(prefix): value for name, value in environment.items() if name.startswith(prefix)}
    warehouse = environment.get("LAKEMESH_WAREHOUSE_ID") or environment.get("DATABRICKS_WAREHOUSE_ID")
    if warehouse:
        given.setdefault("warehouse_id", warehouse)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidRequest(f"--var {pair!r} is not NAME=VALUE.")
        given[name] = value
    return given
