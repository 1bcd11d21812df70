"""Pictures of every page of the console, in both themes, for a desk and for a phone.

    python -m tests.services.console_pictures FOLDER [PAGE ...]

They are for looking at; the documentation shows some of them.
"""

import sys
import tempfile
from pathlib import Path

import httpx

from tests.browser import Page, running_browser
from tests.server import Server
from tests.services.console_world import console_server, write_history

LOOKS = {"desk-light": (1280, False), "desk-dark": (1280, True), "phone-light": (390, False), "phone-dark": (390, True)}


def ask(server: Server, agent: str, data: dict, session: str | None = None) -> dict:
    body = {"agent": agent, "data": data, **({"session_id": session} if session else {})}
    return httpx.post(f"{server.url}/api/execute", json=body, timeout=30).json()


def chat(page: Page) -> None:
    page.click("#message")
    page.type("#message", "The contract was signed on the 20th. What is 30 days later?")
    page.press("Enter")
    page.wait_for_text("into your calendar", "tokens")


def pages_of(server: Server) -> dict[str, tuple[str, object]]:
    answer = ask(server, "assistant", {"message": "What is 30 days after the 20th?"}, "visit")
    ask(server, "assistant", {"message": "Thanks"}, "visit")
    failed = ask(server, "trouble", {"mode": "raise"})
    trace, execution = answer["metadata"]["trace_id"], answer["metadata"]["execution_id"]
    httpx.post(f"{server.url}/api/feedback", json={"execution_id": execution, "value": 1, "comment": "Right."})
    return {
        "overview": ("overview", "By agent"),
        "chat": ("chat/assistant", chat),
        "agents": ("agents", "assistant"),
        "try": ("agents/writer", "Input schema"),
        "executions": ("executions", "add_days"),
        "failed": ("executions?failed=true", "agent_failed"),
        "execution": (f"executions/{execution}", "Input"),
        "sessions": ("sessions", "visit"),
        "conversation": ("sessions/visit?user=local", "Thanks"),
        "trace": (f"traces/{trace}", "Began after"),
        "failure": (f"traces/{failed['trace_id']}", "ValueError"),
        "dashboards": ("dashboards", "Telemetry health"),
        "health": ("health", "This server"),
    }


def main(folder: Path, wanted: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        write_history(Path(home))
        with console_server(Path(home)) as server, running_browser(Path(home) / "profile") as browser:
            pages = pages_of(server)
            for look, (width, dark) in LOOKS.items():
                with browser.page() as page:
                    page.look(width=width, height=900 if width > 700 else 844, dark=dark)
                    for name in wanted or pages:
                        hash_, until = pages[name]
                        page.open(f"{server.url}/#{hash_}")
                        if callable(until):
                            until(page)
                        else:
                            page.wait_for_text(str(until))
                        if name == "dashboards":
                            page.wait_for("document.querySelectorAll('.vega canvas').length >= 5")
                        page.picture(folder / f"{name}-{look}.png")
                        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                            print(f"{name} at {look} is wider than the window")  # noqa: T201
                    for problem in page.problems:
                        print(look, problem)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
