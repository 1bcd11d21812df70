"""Which server a command asks: one at a URL, or the app deployed to a target of this folder's bundle."""

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from lakemesh.cli.target import CURRENT, connect, default_host, open_target
from lakemesh.errors import InvalidRequest, LakemeshError, Unavailable

if TYPE_CHECKING:
    import httpx

    from lakemesh.cli.opened import Deployment

APP_HOST = re.compile(r"^https://[^/]+\.databricksapps\.com$")
"""Where the platform serves apps (Databricks Apps documentation)."""

Url = Annotated[str | None, typer.Option(help="A server to ask, such as http://127.0.0.1:8000.")]
Token = Annotated[
    str | None, typer.Option(envvar="LAKEMESH_TOKEN", help="Sent to that server as a bearer token.", show_envvar=True)
]
Deployed = Annotated[str | None, typer.Option("--environment", "-e", help="Ask the app deployed to this target.")]
Profile = Annotated[str | None, typer.Option(help="With -e: a profile of ~/.databrickscfg.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedOptions:
    """The app whose volumes and tables are read: this machine's, or a deployed one."""

    environment: Deployed = None
    profile: Profile = None

    def deployment(self) -> "Deployment | None":
        """None for this machine."""
        return deployment_of(self.environment, self.profile) if self.environment else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOptions(DeployedOptions):
    """The server that is asked: this folder's own, one at a URL, or a deployed one."""

    url: Url = None
    token: Token = None

    def server(self) -> "Server | None":
        """None for this folder's own."""
        return server_of(self.url, self.token, self.environment, self.profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(AskedOptions):
    """With the server that is told of a change, and waited for."""

    wait: Annotated[
        float, typer.Option("--wait", min=0, help="With --url or -e: seconds to wait until the server serves by it.")
    ] = 0


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    def ask(self, method: str, path: str, *, timeout_seconds: float, **sent: Any) -> Any:
        """The JSON of an answer. Raises `Unavailable`, or `LakemeshError` with what the server says is wrong."""
        import httpx

        headers = {**self.headers, **sent.pop("headers", {})}
        try:
            answer = httpx.request(method, self.url + path, headers=headers, timeout=timeout_seconds, **sent)
            content = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"{self.url} did not answer as a lakemesh server does: {reason}") from None
        if answer.is_error:
            title = content.get("title") if isinstance(content, dict) else None
            raise told_by_server(problem_of(answer, content), title)
        return content


def told_by_server(detail: str, title: str | None) -> LakemeshError:
    """The server's error, under the title that it has there."""
    error = LakemeshError(detail)
    error.title = title or "The server says"  # type: ignore[misc]  # a class's own everywhere else
    return error


def server_of(url: str | None, token: str | None, environment: str | None, profile: str | None) -> Server | None:
    """None when neither a URL nor a target is given. A workspace's credentials are only sent to its own apps."""
    from lakemesh.deploy.verify import app_url

    if url and environment:
        raise InvalidRequest("Give either --url or --environment.")
    if environment:
        target = open_target(environment, CURRENT, None, profile)
        return Server(app_url(target), dict(target.client.config.authenticate()))
    if url is None:
        return None
    url = url.rstrip("/")
    if token is None and (headers := own_app_headers(url, profile)):
        return Server(url, headers)
    return Server(url, {"Authorization": f"Bearer {token}"} if token else {})


def own_app_headers(url: str, profile: str | None) -> dict[str, str]:
    """The workspace's credentials, where the URL is that of one of its own apps, which the workspace says; else none.
    Nothing is asked for a URL that could not be an app's."""
    host = os.environ.get("DATABRICKS_HOST") or default_host()
    if host is None or not (same_origin(url, host) or APP_HOST.search(url)):
        return {}
    client, user = connect(profile)
    if not any((app.url or "").rstrip("/") == url for app in client.apps.list()):
        return {}
    typer.echo(f"{url} as {user}", err=True)
    return dict(client.config.authenticate())


def same_origin(url: str, host: str) -> bool:
    one, other = (urlsplit(text if "://" in text else f"https://{text}") for text in (url, host))
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)


def deployment_of(environment: str, profile: str | None) -> "Deployment":
    """What this machine reads what the deployed app reads with, by the rights of who asks."""
    from lakemesh.config.settings import Settings
    from lakemesh.deploy.desired import app_environment
    from lakemesh.deploy.resources.catalog import warehouse_id

    target = open_target(environment, CURRENT, None, profile)
    found = app_environment(target)
    _, _, token = target.client.config.authenticate()["Authorization"].partition(" ")
    settings = Settings(
        workspace="databricks",
        config=found["LAKEMESH_CONFIG"],
        environment=found.get("LAKEMESH_ENVIRONMENT", environment),
        DATABRICKS_HOST=target.client.config.host,
        DATABRICKS_TOKEN=token,
        DATABRICKS_CLIENT_ID=None,
        DATABRICKS_CLIENT_SECRET=None,
        LAKEMESH_WAREHOUSE_ID=warehouse_id(target),
    )
    return settings, {**os.environ, **found}


def problem_of(answer: "httpx.Response", content: Any) -> str:
    """What a server says is wrong, with every field it names; the platform's proxy says it in words of its own."""
    if not isinstance(content, dict):
        return f"{answer.status_code} {answer.reason_phrase}"
    said = str(content.get("detail") or content.get("message") or answer.reason_phrase)
    if answer.status_code == 401:
        said += " Give --token, or ask the deployed app with -e."
    fields = [f"{fault.get('path')}: {fault.get('message')}" for fault in content.get("errors") or ()]
    return "\n  ".join([said, *fields])
