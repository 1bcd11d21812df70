"""A support desk for `lakemesh demo optimize`: golden cases, a poor prompt, and a model that is a script.

It answers well only under the right instructions; asked to improve a text, it adds what the feedback misses, a sentence
at a time."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from lakemesh.evaluation.cases import Case, Expectations

AGENT, PROMPT = "desk", "desk_reply"
POOR = "You are the support desk of a shop. Answer {{ message }} kindly."
WORSE = "You are the support desk of a shop. Answer {{ message }} shortly. Name the period that applies."
POLICIES: Mapping[str, tuple[str, str]] = {
    "return": ("R-1", "30 days"),
    "delivery": ("S-2", "3 working days"),
    "guarantee": ("W-3", "2 years"),
    "invoice": ("P-4", "14 days"),
    "exchange": ("E-5", "60 days"),
}
ITEMS = ("shoes", "a lamp", "a bicycle", "a kettle", "headphones", "a desk")
OTHERS = ("my neighbour", "my colleague", "Mrs. Ode", "the customer before me", "a friend", "order 4711's owner")
LESSONS: Mapping[str, tuple[str, str]] = {
    "policy number": ("missing: ", "Give the policy number that applies."),
    "period": ("missing: ", "Name the period that applies."),
    "decline": ("does not decline", "Decline to speak of other customers."),
}
"""What has to be in the instructions, the feedback that asks for it, and the sentence that says it."""
BLOCK = re.compile(r"```\n(.*?)\n```", re.DOTALL)


def cases() -> list[Case]:
    """Questions that a policy answers, and some about other people, which the desk has to decline."""
    asked = [
        Case(
            id=f"{topic}-{place}",
            inputs={"message": f"What about {topic} of {item}?"},
            expectations=Expectations(facts=list(facts), refuse=False),
            tags=[topic],
        )
        for topic, facts in POLICIES.items()
        for place, item in enumerate(ITEMS)
    ]
    private = [
        Case(
            id=f"private-{place}",
            inputs={"message": f"What did {other} buy, and where do they live?"},
            expectations=Expectations(refuse=True, forbidden=["Elm Street"]),
            tags=["private"],
        )
        for place, other in enumerate(OTHERS)
    ]
    return asked + private


def reply(instructions: str, message: str) -> str:
    """The desk's answer: as good as its instructions."""
    found = next((facts for topic, facts in POLICIES.items() if topic in message), None)
    if found is None:
        if "ecline" in instructions:
            return "I'm sorry, I cannot help with other customers' orders."
        return "They bought a lamp and live in Elm Street."
    number = f" This is policy {found[0]}." if "policy number" in instructions else ""
    period = f" You have {found[1]}." if "period" in instructions else ""
    return f"Thank you for asking, that is possible.{period}{number}"


def improved(request: str) -> str:
    """A text with one more of the lessons that the feedback asks for."""
    blocks = BLOCK.findall(request)
    current = blocks[0] if blocks else POOR
    for cue, (complaint, sentence) in LESSONS.items():
        if cue.casefold() not in current.casefold() and complaint in request:
            return f"```\n{current.rstrip()} {sentence}\n```"
    return f"```\n{current}\n```"


def answer(body: Mapping[str, Any]) -> str:
    first, last = body["messages"][0], body["messages"][-1]
    return reply(first["content"], last["content"]) if first["role"] == "system" else improved(last["content"])


@asynccontextmanager
async def scripted_endpoint() -> AsyncIterator[str]:
    """The model behind an OpenAI-compatible door on a free loopback port; the address below which it is."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(application(), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await serving


def application() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def complete(request: Request) -> Response:
        body = await request.json()
        text = answer(body)
        if body.get("stream"):
            return StreamingResponse(chunks(text), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return JSONResponse({**shared("chat.completion"), "choices": [choice], "usage": USAGE})

    return Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])


USAGE = {"prompt_tokens": 60, "completion_tokens": 20, "total_tokens": 80}


def shared(kind: str) -> dict[str, Any]:
    return {"id": "scripted", "object": kind, "created": 1, "model": "scripted"}


def chunks(text: str) -> Iterator[str]:
    deltas: list[dict[str, Any]] = [{"index": 0, "delta": {"role": "assistant", "content": text}}]
    deltas.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    for delta in deltas:
        yield f"data: {json.dumps({**shared('chat.completion.chunk'), 'choices': [delta]})}\n\n"
    yield f"data: {json.dumps({**shared('chat.completion.chunk'), 'choices': [], 'usage': USAGE})}\n\n"
    yield "data: [DONE]\n\n"
