"""What the protocol's conformance suite expects a server to have, offered through the server's own factory."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from lakemesh.config.models import ModelsConfig
from lakemesh.config.schema import Config
from lakemesh.edge import Edge
from lakemesh.governance.identity import Authenticator
from lakemesh.mcp.changes import Change, Changes
from lakemesh.mcp.exchange import Exchange
from lakemesh.mcp.messages import INVALID_PARAMS, ProtocolError
from lakemesh.mcp.methods import Methods
from lakemesh.mcp.server import McpServer, mcp_routes
from lakemesh.schemas import Identity

PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
        "53de0000000c4944415408d763f8cfc0000000030001"
        "18dd8db00000000049454e44ae426082"
    )
).decode()
WAV = base64.b64encode(
    b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\0\0\0\0"
).decode()
NOTHING = {"type": "object", "properties": {}}
CONTACT_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
TITLED = [{"const": f"value{number}", "title": title} for number, title in enumerate(("First", "Second", "Third"), 1)]
OPTIONS = ["option1", "option2", "option3"]
ENUMS = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": OPTIONS},
        "titledSingle": {"type": "string", "oneOf": TITLED},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
        "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
    },
}
NAME = ("elicitation/create", {
    "message": "What is your name?",
    "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
})  # fmt: skip
CONFIRM = ("elicitation/create", {
    "message": "Please confirm",
    "requestedSchema": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
})  # fmt: skip
COLOR = ("elicitation/create", {
    "message": "Step 2: What is your favorite color?",
    "requestedSchema": {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]},
})  # fmt: skip
ROOTS: tuple[str, dict[str, Any]] = ("roots/list", {})

Arguments = Mapping[str, Any]
Tool = Callable[[Arguments, Exchange], Awaitable[dict[str, Any]]]


def sample(text: str, tokens: int = 100) -> tuple[str, dict[str, Any]]:
    message = {"role": "user", "content": {"type": "text", "text": text}}
    return ("sampling/createMessage", {"messages": [message], "maxTokens": tokens})


def said(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


def embedded(uri: str, text: str, media_type: str = "text/plain") -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": media_type, "text": text}}


def always(result: dict[str, Any]) -> Tool:
    async def tool(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
        return result

    return tool


async def with_logging(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        exchange.log("info", line)
        await asyncio.sleep(0.05)
    return said("logged")


async def with_progress(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    for progress in (0, 50, 100):
        exchange.progress(progress, 100)
        await asyncio.sleep(0.05)
    return said("done")


async def sampling(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    answers = await exchange.ask(answer=sample(arguments["prompt"]))
    return said(f"LLM response: {answers['answer']['content'].get('text', '')}")


async def elicitation(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    fields = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    schema = {"type": "object", "properties": fields, "required": ["username", "email"]}
    asked = ("elicitation/create", {"message": arguments["message"], "requestedSchema": schema})
    answers = await exchange.ask(user=asked)
    return said(f"User response: action={answers['user']['action']}, content={answers['user'].get('content')}")


def elicits(schema: dict[str, Any]) -> Tool:
    async def tool(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
        asked = ("elicitation/create", {"message": "Please fill this in", "requestedSchema": schema})
        answer = (await exchange.ask(user=asked))["user"]
        return said(f"Elicitation completed: action={answer['action']}, content={answer.get('content')}")

    return tool


async def reconnection(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    exchange.hang_up()
    await asyncio.sleep(0.1)
    return said("Reconnection test completed")


async def input_name(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    answers = await exchange.ask(user_name=NAME)
    return said(f"Hello, {answers['user_name'].get('content', {}).get('name')}!")


async def input_sample(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    answers = await exchange.ask(capital_question=sample("What is the capital of France?"))
    return said(str(answers["capital_question"]["content"]))


async def input_roots(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    answers = await exchange.ask(client_roots=ROOTS)
    return said(f"Roots: {answers['client_roots']['roots']}")


async def input_state(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    await exchange.ask(confirm=CONFIRM)
    return said("state-ok")


async def input_many(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    answers = await exchange.ask(user_name=NAME, greeting=sample("Generate a greeting", 50), client_roots=ROOTS)
    return said(f"Got {sorted(answers)}")


async def input_rounds(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    first = await exchange.ask(step1=("elicitation/create", {**NAME[1], "message": "Step 1: What is your name?"}))
    second = await exchange.ask(step2=COLOR)
    return said(f"{first['step1'].get('content')} {second['step2'].get('content')}")


async def input_of_capabilities(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    possible = {"sampling": sample("Say hello"), "elicitation": NAME, "roots": ROOTS}
    await exchange.ask(**{name: asked for name, asked in possible.items() if name in exchange.capabilities})
    return said("asked what could be asked")


async def missing_capability(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    await exchange.ask(needed=sample("Hello"))
    return said("sampled")


async def says_mirrored(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
    return said(str(arguments.get("region")))


class Everything:
    """A provider that has one of each."""

    instructions = "A fixture for tests."

    def __init__(self) -> None:
        self.changes = Changes()
        self._cancelled = 0
        self._tools: dict[str, tuple[dict[str, Any], Tool]] = {
            "test_simple_text": (NOTHING, always(said("This is a simple text response for testing."))),
            "test_image_content": (
                NOTHING,
                always({"content": [{"type": "image", "data": PNG, "mimeType": "image/png"}]}),
            ),
            "test_audio_content": (
                NOTHING,
                always({"content": [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]}),
            ),
            "test_embedded_resource": (
                NOTHING,
                always({"content": [embedded("test://embedded-resource", "This is an embedded resource content.")]}),
            ),
            "test_multiple_content_types": (
                NOTHING,
                always(
                    {
                        "content": [
                            {"type": "text", "text": "Multiple content types test:"},
                            {"type": "image", "data": PNG, "mimeType": "image/png"},
                            embedded(
                                "test://mixed-content-resource", '{"test":"data","value":123}', "application/json"
                            ),
                        ]
                    }
                ),
            ),
            "test_error_handling": (
                NOTHING,
                always({**said("This tool intentionally returns an error for testing"), "isError": True}),
            ),
            "test_tool_with_logging": (NOTHING, with_logging),
            "test_logging_tool": (NOTHING, with_logging),
            "test_tool_with_progress": (NOTHING, with_progress),
            "test_sampling": (text_argument("prompt"), sampling),
            "test_elicitation": (text_argument("message"), elicitation),
            "test_elicitation_sep1034_defaults": (NOTHING, elicits(DEFAULTS)),
            "test_elicitation_sep1330_enums": (NOTHING, elicits(ENUMS)),
            "test_reconnection": (NOTHING, reconnection),
            "json_schema_2020_12_tool": (CONTACT_SCHEMA, always(said("ok"))),
            "test_input_required_result_elicitation": (NOTHING, input_name),
            "test_input_required_result_sampling": (NOTHING, input_sample),
            "test_input_required_result_list_roots": (NOTHING, input_roots),
            "test_input_required_result_request_state": (NOTHING, input_state),
            "test_input_required_result_tampered_state": (NOTHING, input_state),
            "test_input_required_result_multiple_inputs": (NOTHING, input_many),
            "test_input_required_result_multi_round": (NOTHING, input_rounds),
            "test_input_required_result_capabilities": (NOTHING, input_of_capabilities),
            "test_missing_capability": (NOTHING, missing_capability),
            "test_streaming_elicitation": (NOTHING, input_name),
            "test_trigger_tool_change": (NOTHING, self._changed("tools")),
            "test_trigger_prompt_change": (NOTHING, self._changed("prompts")),
            "test_slow": (NOTHING, self._slow),
            "test_cancelled": (NOTHING, self._count_cancelled),
            "test_headers": (
                {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
                says_mirrored,
            ),
        }

    async def _slow(self, arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            self._cancelled += 1
        return said("never")

    async def _count_cancelled(self, arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
        return said(str(self._cancelled))

    def _changed(self, kind: Any) -> Tool:
        async def tool(arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
            self.changes.tell(Change(kind))
            return said("changed")

        return tool

    def note_request(self, identity: Identity) -> None:
        """Nothing is counted here."""

    async def tools(self, identity: Identity) -> Sequence[dict[str, Any]]:
        return [
            {"name": name, "description": name.replace("_", " "), "inputSchema": schema}
            for name, (schema, _) in self._tools.items()
        ]

    async def tool_schema(self, name: str, identity: Identity) -> Mapping[str, Any]:
        return self._tools[name][0] if name in self._tools else {}

    async def call_tool(self, name: str, arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
        if name not in self._tools:
            raise ProtocolError(INVALID_PARAMS, f"There is no tool {name!r}.")
        return await self._tools[name][1](arguments, exchange)

    async def prompts(self, identity: Identity) -> Sequence[dict[str, Any]]:
        arguments = {
            "test_simple_prompt": [],
            "test_prompt_with_arguments": ["arg1", "arg2"],
            "test_prompt_with_embedded_resource": ["resourceUri"],
            "test_prompt_with_image": [],
            "test_input_required_result_prompt": [],
        }
        return [
            {
                "name": name,
                "description": name.replace("_", " "),
                "arguments": [{"name": argument, "required": True} for argument in known],
            }
            for name, known in arguments.items()
        ]

    async def prompt(self, name: str, arguments: Arguments, exchange: Exchange) -> dict[str, Any]:
        content: list[dict[str, Any]]
        if name == "test_simple_prompt":
            content = [{"type": "text", "text": "This is a simple prompt for testing."}]
        elif name == "test_prompt_with_arguments":
            given = f"arg1='{arguments.get('arg1')}', arg2='{arguments.get('arg2')}'"
            content = [{"type": "text", "text": f"Prompt with arguments: {given}"}]
        elif name == "test_prompt_with_embedded_resource":
            content = [
                embedded(str(arguments.get("resourceUri")), "Embedded resource content for testing."),
                {"type": "text", "text": "Please process the embedded resource above."},
            ]
        elif name == "test_prompt_with_image":
            content = [
                {"type": "image", "data": PNG, "mimeType": "image/png"},
                {"type": "text", "text": "Please analyze the image above."},
            ]
        elif name == "test_input_required_result_prompt":
            schema = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
            asked = {"message": "What context should the prompt use?", "requestedSchema": schema}
            answers = await exchange.ask(user_context=("elicitation/create", asked))
            content = [{"type": "text", "text": f"Context: {answers['user_context'].get('content')}"}]
        else:
            raise ProtocolError(INVALID_PARAMS, f"There is no prompt {name!r}.")
        return {"messages": [{"role": "user", "content": part} for part in content]}

    async def resources(self, identity: Identity) -> Sequence[dict[str, Any]]:
        return [
            {"uri": f"test://{name}", "name": name, "description": name.replace("-", " "), "mimeType": media_type}
            for name, media_type in (
                ("static-text", "text/plain"),
                ("static-binary", "image/png"),
                ("watched-resource", "text/plain"),
            )
        ]

    async def resource_templates(self, identity: Identity) -> Sequence[dict[str, Any]]:
        template = "test://template/{id}/data"
        return [{"uriTemplate": template, "name": "template", "description": "data", "mimeType": "application/json"}]

    async def resource(self, uri: str, exchange: Exchange) -> dict[str, Any]:
        parts = uri.removeprefix("test://").split("/")
        if uri == "test://static-text":
            found = {"mimeType": "text/plain", "text": "This is the content of the static text resource."}
        elif uri == "test://static-binary":
            found = {"mimeType": "image/png", "blob": PNG}
        elif uri == "test://watched-resource":
            found = {"mimeType": "text/plain", "text": "watched"}
        elif len(parts) == 3 and (parts[0], parts[2]) == ("template", "data"):
            data = f'{{"id":"{parts[1]}","templateTest":true,"data":"Data for ID: {parts[1]}"}}'
            found = {"mimeType": "application/json", "text": data}
        else:
            raise ProtocolError(INVALID_PARAMS, "There is no such resource.", uri=uri)
        return {"contents": [{"uri": uri, **found}]}

    async def complete(self, reference: Arguments, argument: Arguments, identity: Identity) -> Sequence[str]:
        return [word for word in ("paris", "park", "party") if word.startswith(str(argument.get("value", "")))]


def text_argument(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}


def create_app() -> ASGIApp:
    """The fixture behind the product's own server and edge."""
    key = b"a key of the tests, and of nothing else"
    methods = Methods(Everything(), key=key)
    routes = mcp_routes(McpServer(methods, key=key))
    config = Config(agents={}, models=ModelsConfig(endpoints={}, routes={}))
    authenticator = Authenticator(config.auth, behind_platform_proxy=False)
    return Edge(Starlette(routes=routes), authenticator=authenticator, config=config)


app = create_app()
