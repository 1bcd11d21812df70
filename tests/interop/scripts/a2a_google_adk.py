"""Google ADK's remote agent at work against a server: text, an error, several turns in one conversation."""

import asyncio
import json
import sys

from google.adk.agents.remote_a2a_agent import RemoteA2aAgent
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.genai import types


async def main(url: str, legacy: bool) -> dict:
    async def ask(skill: str, *texts: str) -> list[str]:
        remote = RemoteA2aAgent(
            "remote",
            f"{url}/.well-known/agent-card.json",
            use_legacy=legacy,
            a2a_request_meta_provider=lambda context, message: {"skill": skill},
        )
        sessions = InMemorySessionService()
        runner = Runner(app_name="app", agent=remote, session_service=sessions)
        session = await sessions.create_session(app_name="app", user_id="u")
        said = []
        for text in texts:
            content = types.Content(role="user", parts=[types.Part(text=text)])
            answer = []
            async for event in runner.run_async(user_id="u", session_id=session.id, new_message=content):
                # Of an artifact in pieces ADK calls the pieces partial, and keeps the last of them alone.
                answer += [part.text for part in (event.content.parts if event.content else None) or [] if part.text]
                if event.error_message:
                    answer.append(event.error_message)
            said.append("".join(answer))
        return said

    return {
        "poet": await ask("poet", "write"),
        "json": await ask("writer", '{"words": ["a", "b"]}'),
        "failed": await ask("trouble", '{"mode": "designed"}'),
    }


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2] == "legacy"))))
