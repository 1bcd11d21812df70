"""`lakemesh dev`: serve a folder that is being worked on."""

import os
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

PYTHON = frozenset({".py"})
CONFIGURATION = frozenset({".yaml", ".yml", ".txt", ".md", ".j2"})
STOP_SECONDS = 15.0


def dev(
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8000,
    browser: Annotated[bool, typer.Option(help="Open the console.")] = True,
) -> None:
    """Serve, start anew when Python code changes, and take changed configuration and prompts at once. Refreshing waits
    for nobody, and a server that does not start is tried again with the next change."""
    from watchfiles import PythonFilter, watch

    from lakemesh.composition.services import require_config
    from lakemesh.config.settings import Settings

    settings = Settings()
    require_config(settings)
    folder = Path.cwd()
    url = f"http://127.0.0.1:{port}/"
    server = start(port)
    typer.echo(f"Watching {folder}; the console is at {url}. Stop with Ctrl-C.", err=True)
    if browser:
        webbrowser.open(url)
    try:
        for changes in watch(folder, watch_filter=PythonFilter(extra_extensions=sorted(CONFIGURATION))):
            files = [Path(path) for _, path in changes]
            if needs_start(files) or server.poll() is not None:
                typer.echo(f"{named(files, folder)} changed: starting anew", err=True)
                stop(server)
                server = start(port)
            else:
                typer.echo(f"{named(files, folder)} changed: reading again", err=True)
                server.send_signal(signal.SIGHUP)
    except KeyboardInterrupt:
        pass
    finally:
        stop(server)


def needs_start(files: Iterable[Path]) -> bool:
    """Whether code changed; configuration and prompts are taken by a server that runs."""
    return any(file.suffix in PYTHON for file in files)


def named(files: list[Path], folder: Path) -> str:
    first = files[0].relative_to(folder) if files[0].is_relative_to(folder) else files[0]
    return str(first) if len(files) == 1 else f"{first} and {len(files) - 1} more"


def start(port: int) -> "subprocess.Popen[bytes]":
    """A server whose traces have what agents were asked and answered, where the configuration leaves it to that
    variable, as the scaffold's does: it is one's own machine."""
    command = [sys.executable, "-m", "lakemesh.cli", "serve", "--port", str(port)]
    path = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    environment = {"LAKEMESH_CAPTURE_CONTENT": "true", **os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603


def stop(server: "subprocess.Popen[bytes]") -> None:
    """As the platform ends it; killed when it takes too long."""
    if server.poll() is not None:
        return
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
