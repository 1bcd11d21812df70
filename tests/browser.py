"""A headless Chromium, driven over its DevTools protocol: what a person sees, types and presses."""

import base64
import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on PATH")
OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]
LISTENING = re.compile(r"DevTools listening on (ws://\S+)")
WAIT_SECONDS = 90.0


class Page:
    """One tab. `problems` are what its scripts and its security policy complained of."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket = socket
        self._session = session
        self._numbers = itertools.count(1)
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, "sessionId": self._session}))
        while True:
            message = json.loads(self._socket.recv(timeout=WAIT_SECONDS))
            self._note(message)
            if message.get("id") == number and message.get("sessionId") == self._session:
                assert "error" not in message, message
                return message["result"]

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        if message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The first value of the expression that is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if value := self.evaluate(expression):
                return value
            time.sleep(0.05)
        raise AssertionError(f"{expression} did not become true; the page shows: {self.text()[:1500]}")

    def wait_for_text(self, *texts: str) -> str:
        """The page's text once it has all of these."""
        for text in texts:
            self.wait_for(f"document.querySelector('main')?.innerText.includes({json.dumps(text)})")
        return self.text()

    def text(self) -> str:
        return " ".join(str(self.evaluate("document.querySelector('main')?.innerText || ''")).split())

    def click(self, selector: str, text: str = "") -> None:
        """A click on the first element of the selector that has the text."""
        every = f"[...document.querySelectorAll({json.dumps(selector)})]"
        found = f"{every}.find((e) => e.innerText.includes({json.dumps(text)}))"
        self.wait_for(f"Boolean({found})")
        self.evaluate(f"{found}.click()")

    def type(self, selector: str, text: str) -> None:
        self.wait_for(f"Boolean(document.querySelector({json.dumps(selector)}))")
        field = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{field}.focus(); {field}.select?.()")  # what stands there is replaced
        self.send("Input.insertText", text=text)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            codes = {"Enter": 13, "Tab": 9, "ArrowDown": 40}
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes.get(key, 0), **text
            )

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """The size of the window, and the theme."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.send("Emulation.setEmulatedMedia", features=[scheme, motion])

    def picture(self, file: Path) -> None:
        content = self.send("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(content))


class Browser:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1_000_000)

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=WAIT_SECONDS))
            if message.get("id") == number:
                return message["result"]

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A tab with a profile of its own: no other tab's storage."""
        context = self._send("Target.createBrowserContext")["browserContextId"]
        target = self._send("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        try:
            yield Page(self._socket, session)
        finally:
            self._send("Target.disposeBrowserContext", browserContextId=context)


@contextmanager
def running_browser(profile: Path) -> Iterator[Browser]:
    command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        address = next(found[1] for line in process.stderr if (found := LISTENING.search(line)))
        with connect(address, max_size=64 * 1024 * 1024) as socket:
            yield Browser(socket)
    finally:
        process.terminate()
        process.wait(30)
