"""`lakemesh chat`: a conversation with an agent, in a terminal."""

import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lakemesh.cli.option_groups import grouped
from lakemesh.cli.server import AskedOptions, told_by_server
from lakemesh.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from lakemesh.client import Client, ServerEvent

MESSAGE_FIELDS = ("message", "text", "question", "query", "input", "prompt", "task", "request")
SHOWN_CHARACTERS = 200


@grouped
def chat(
    agent: Annotated[
        str | None, typer.Argument(help="The agent's name; the first that takes a text by default.")
    ] = None,
    message: Annotated[
        list[str] | None, typer.Option("--message", "-m", help="Say this and end; may be repeated.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="Go on with this session; a new one by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every event as one JSON object a line.")] = False,
    *,
    chosen: AskedOptions,
) -> None:
    """Talk with an agent that takes a text: streamed, in one session, with the tools it uses. Ctrl-D ends it."""
    session = session or secrets.token_hex(8)
    with client_of(chosen) as client:
        name, field = talker(client.agents(), agent)
        talk = Talk(client, name, field, session, as_json=as_json)
        talk.note(f"{name}, session {session}")
        for text in message if message else typed():
            talk.say(text)


@contextmanager
def client_of(chosen: AskedOptions) -> "Iterator[Client]":
    """The server that is named, or one of this folder for as long as it is needed."""
    from lakemesh.client import Client

    server = chosen.server()
    if server is not None:
        with Client(server.url, headers=server.headers) as client:
            yield client
        return
    from lakemesh.cli.opened import keep_content, say_where
    from lakemesh.config.settings import Settings
    from lakemesh.testing.server import threaded_server

    settings = Settings()
    say_where(settings)
    keep_content(settings)
    with threaded_server(settings) as running, Client(running.url, token=chosen.token) as client:
        yield client


def talker(agents: list[dict[str, Any]], wanted: str | None) -> tuple[str, str]:
    """The agent's name, and the field of its input that takes a text. Raises `InvalidRequest`."""
    fields = {one["name"]: message_field(one["input_schema"]) for one in agents}
    able = [name for name, field in fields.items() if field is not None]
    if wanted is None:
        wanted = next((name for name in able if name != "echo"), next(iter(able), None))
    field = fields.get(wanted or "")
    if wanted is None or field is None:
        raise InvalidRequest(
            f"{f'{wanted!r} is no agent here that takes' if wanted else 'No agent here takes'} a text; there are: "
            f"{', '.join(able) or 'none'}. `lakemesh execute` takes any input."
        )
    return wanted, field


def message_field(schema: Mapping[str, Any]) -> str | None:
    """The member that takes a text, when nothing else is required."""
    members = schema.get("properties", {})
    texts = [name for name in MESSAGE_FIELDS if takes_text(members.get(name, {}))]
    return texts[0] if texts and set(schema.get("required", ())) <= {texts[0]} else None


def takes_text(member: Mapping[str, Any]) -> bool:
    return any(one.get("type") == "string" for one in (member, *member.get("anyOf", ())))


def typed() -> Iterator[str]:
    """Lines as they are typed, or as they come from a pipe."""
    asking = sys.stdin.isatty()
    while True:
        if asking:
            typer.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


class Talk:
    """One session: what the agent says goes to stdout, what it does on the way to stderr."""

    def __init__(self, client: "Client", agent: str, field: str, session: str, *, as_json: bool) -> None:
        self._client = client
        self._agent, self._field, self._session = agent, field, session
        self._as_json = as_json
        self._aside = Console(stderr=True, highlight=False, soft_wrap=True)
        self._execution: str | None = None
        self._streamed = False

    def note(self, text: str) -> None:
        self._aside.print(text, style="dim", markup=False)

    def say(self, text: str) -> None:
        """One turn. Raises `LakemeshError` with what the server says, `Unavailable` when there is none."""
        import httpx

        from lakemesh.client import ServerError

        self._streamed = False
        try:
            for event in self._client.stream(self._agent, {self._field: text}, session_id=self._session):
                self._show(event)
        except ServerError as error:
            raise told_by_server(str(error).removeprefix(f"{error.code}: "), error.problem.get("title")) from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{self._client.http.base_url} did not answer: {error}") from None

    def _show(self, event: "ServerEvent") -> None:
        if self._as_json:
            typer.echo(json.dumps({"type": event.type, **event.data}, default=str))
        if event.type == "started":
            self._execution = event.data.get("execution_id")
        elif event.type == "asked":
            self._answer(event.data)
        elif self._as_json:
            return
        elif event.type == "text_delta":
            self._streamed = True
            typer.echo(event.data["text"], nl=False)
        elif event.type == "tool_called":
            self.note(f"  {event.data['name']}({short(event.data.get('arguments'))})")
        elif event.type == "tool_returned":
            self.note(f"  -> {short(event.data.get('result', event.data.get('error')))}")
        elif event.type == "completed":
            self._complete(event.data)

    def _complete(self, output: Mapping[str, Any]) -> None:
        typer.echo("" if self._streamed else words_of(output.get("result")))
        metadata = output.get("metadata") or {}
        facts = [f"{metadata.get('latency_ms', 0):,.0f} ms", f"trace {str(metadata.get('trace_id'))[:12]}"]
        self.note("  ".join([*facts, *(f"degraded: {reason}" for reason in metadata.get("degraded") or ())]))

    def _answer(self, question: Mapping[str, Any]) -> None:
        """What an agent asks while it runs; nothing is an answer too, it declines."""
        self.note(f"{self._agent} asks: {question.get('message') or question.get('question')}")
        if question.get("schema"):
            self.note(f"  as JSON that fits {json.dumps(question['schema'])}")
        text = next(typed(), "")
        try:
            value = json.loads(text) if text else None
        except ValueError:
            value = text
        self._client.answer(str(self._execution), str(question["question_id"]), value)


def words_of(result: Any) -> str:
    """A result's only text, or the result as JSON."""
    if isinstance(result, str):
        return result
    if isinstance(result, Mapping):
        texts = [value for name, value in result.items() if name in ("answer", "text", "message") and value]
        if len(texts) == 1 and isinstance(texts[0], str):
            return texts[0]
    return json.dumps(result, indent=2, ensure_ascii=False, default=str)


def short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
