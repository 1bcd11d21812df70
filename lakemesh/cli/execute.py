"""`lakemesh execute`: run one agent, in this process or on a server."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lakemesh.cli.server import Deployed, Profile, Server, Token, Url, server_of
from lakemesh.errors import InvalidRequest


def execute(
    agent: Annotated[str, typer.Argument(help="The agent's name.")],
    data: Annotated[str, typer.Argument(help="Its input as JSON, or @FILE.")] = "{}",
    url: Url = None,
    token: Token = None,
    environment: Deployed = None,
    profile: Profile = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait for the answer.")] = None,
) -> None:
    """Run one agent and print its answer as JSON."""
    payload = read_json(data)
    server = server_of(url, token, environment, profile)
    if server is None:
        answer = asyncio.run(execute_here(agent, payload, timeout))
    else:
        answer = execute_there(server, agent, payload, timeout)
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def read_json(argument: str) -> Any:
    """The JSON of an argument, or of the file it names with `@`. Raises `InvalidRequest`."""
    try:
        text = Path(argument[1:]).read_text() if argument.startswith("@") else argument
        return json.loads(text)
    except OSError as error:
        raise InvalidRequest(f"The data's file {argument[1:]} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise InvalidRequest(f"The data is not JSON: {error}") from None


async def execute_here(agent: str, data: Any, timeout_seconds: float | None) -> Any:
    from pydantic_core import to_jsonable_python

    from lakemesh.cli.opened import keep_content, say_where
    from lakemesh.composition.services import open_services
    from lakemesh.config.settings import Settings
    from lakemesh.governance.identity import LOCAL
    from lakemesh.schemas import AgentInput

    settings = Settings()
    say_where(settings)
    keep_content(settings)
    async with open_services(settings) as services:
        request = AgentInput(agent_name=agent, data=data, timeout_seconds=timeout_seconds)
        output = await services.router.execute(request, identity=LOCAL, door="cli")
        return to_jsonable_python(output.to_dict())


def execute_there(server: Server, agent: str, data: Any, timeout_seconds: float | None) -> Any:
    headers = {} if timeout_seconds is None else {"X-Request-Timeout": str(timeout_seconds)}
    body = {"agent_name": agent, "data": data}
    longest = (timeout_seconds or 60.0) + 5.0
    return server.ask("POST", "/api/execute", json=body, headers=headers, timeout_seconds=longest)
