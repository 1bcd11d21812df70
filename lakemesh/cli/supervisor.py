"""`lakemesh serve --workers N`: several server processes on one port, watched by the one that was called.

The listening socket is opened once and inherited, so that connections wait in one queue, and none is lost while a
worker is replaced. SIGHUP has every worker read its configuration again, SIGUSR2 replaces them one after the other,
each when its successor is ready, SIGTERM drains all.
"""

import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog
import typer

from lakemesh.config.settings import Settings

logger = structlog.get_logger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""One that lived so long was no failure to start."""
READY_SECONDS = 120.0
KILL_AFTER_DRAIN_SECONDS = 5.0
LISTENER, READY, PARENT = "LAKEMESH_LISTENER_FD", "LAKEMESH_READY_FD", "LAKEMESH_PARENT_FD"


@dataclass(eq=False)
class Worker:
    """One server process. `ready` ends with True when it serves, with False when it ended before that."""

    process: asyncio.subprocess.Process
    started_at: float
    ready: "asyncio.Future[bool]"
    expected_to_end: bool = False

    @property
    def serves(self) -> bool:
        return self.ready.done() and self.ready.result() and self.process.returncode is None


class Supervisor:
    """Keeps `count` workers running until it is told to stop."""

    def __init__(self, settings: Settings, listener: socket.socket, *, count: int) -> None:
        self._settings = settings
        self._listener = listener
        self._count = count
        self._workers: list[Worker] = []
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._stopping = asyncio.Event()
        self._rolling = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._key = settings.sealing_key.get_secret_value() if settings.sealing_key else secrets.token_urlsafe(32)

    async def run(self, greeting: str) -> int:
        """The exit code: of the worker that could not start, when the first ones do not; 0 after an orderly end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._forward, signal.SIGHUP)
        loop.add_signal_handler(signal.SIGUSR2, self._begin, self._replace_all)
        started = [await self._start() for _ in range(self._count)]
        if not all(await asyncio.gather(*(self._serves(worker) for worker in started))):
            await self._stop()
            return next((one.process.returncode for one in started if (one.process.returncode or 0) > 0), 1) or 1
        typer.echo(greeting, err=True)
        for worker in started:
            self._watch(worker)
        await self._stopping.wait()
        await self._stop()
        return 0

    async def _start(self) -> Worker:
        read, write = os.pipe()
        passed = {LISTENER: self._listener.fileno(), READY: write, PARENT: self._lifeline_read}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "lakemesh.cli",
                "serve",
                pass_fds=tuple(passed.values()),
                env={
                    **os.environ,
                    **{name: str(number) for name, number in passed.items()},
                    "LAKEMESH_HOST": self._settings.host,
                    "LAKEMESH_WORKERS": "1",
                    "LAKEMESH_SEALING_KEY": self._key,
                },
                start_new_session=True,  # Ctrl-C is the supervisor's to hand on
            )
        finally:
            os.close(write)
        loop = asyncio.get_running_loop()
        worker = Worker(process, time.monotonic(), loop.create_future())

        def told() -> None:
            loop.remove_reader(read)
            worker.ready.set_result(os.read(read, 1) != b"")
            os.close(read)

        loop.add_reader(read, told)
        self._workers.append(worker)
        return worker

    async def _serves(self, worker: Worker) -> bool:
        """Wait until it does; False when it ended, was too slow, or everything is to stop."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        either: list[asyncio.Future[Any]] = [worker.ready, stopping]
        try:
            await asyncio.wait(either, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if worker.ready.done() and worker.ready.result():
            return True
        if worker.ready.done():
            await worker.process.wait()
        return False

    def _watch(self, worker: Worker) -> None:
        self._begin(self._restarted, worker)

    async def _restarted(self, worker: Worker) -> None:
        """Wait until it ends, and put another in its place unless that was wanted."""
        backoff = 0.0
        while True:
            code = await worker.process.wait()
            self._workers.remove(worker)
            if worker.expected_to_end or self._stopping.is_set():
                return
            steady = time.monotonic() - worker.started_at > STEADY_SECONDS
            backoff = FIRST_BACKOFF_SECONDS if steady or not backoff else min(backoff * 2, MAX_BACKOFF_SECONDS)
            logger.error("worker ended and is restarted", pid=worker.process.pid, code=code, backoff_seconds=backoff)
            await asyncio.sleep(backoff)
            if self._stopping.is_set():
                return
            worker = await self._start()

    async def _replace_all(self) -> None:
        """One after the other; the rest stay as they are when a successor does not become ready."""
        async with self._rolling:
            for former in list(self._workers):
                successor = await self._start()
                if not await self._serves(successor):
                    logger.error("a new worker did not start; the former ones go on", pid=successor.process.pid)
                    await self._end(successor)
                    self._workers.remove(successor)
                    return
                self._watch(successor)
                await self._end(former)
            logger.info("workers replaced")

    def _begin(self, work: "Callable[..., Coroutine[Any, Any, None]]", *arguments: Any) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work(*arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _forward(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.serves:  # one that still starts would die of it, and reads everything anyway
                worker.process.send_signal(number)

    async def _end(self, worker: Worker) -> None:
        """As the platform ends a server; killed when it takes longer than its drain."""
        worker.expected_to_end = True
        if worker.process.returncode is not None:
            return
        worker.process.terminate()
        try:
            async with asyncio.timeout(self._settings.drain_seconds + KILL_AFTER_DRAIN_SECONDS):
                await worker.process.wait()
        except TimeoutError:
            logger.error("worker did not end in time and is killed", pid=worker.process.pid)
            worker.process.kill()
            await worker.process.wait()

    async def _stop(self) -> None:
        self._stopping.set()
        await asyncio.gather(*(self._end(worker) for worker in list(self._workers)))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def inherited_listener() -> socket.socket | None:
    """The socket a supervisor opened for this process."""
    number = os.environ.get(LISTENER)
    if number is None:
        return None
    listener = socket.socket(fileno=int(number))
    listener.set_inheritable(False)
    return listener


def tell_ready() -> None:
    """Tell the supervisor that this worker serves, and end when the supervisor does, however it does."""
    if (number := os.environ.get(READY)) is None:
        return
    os.write(int(number), b"1")
    os.close(int(number))
    parent = int(os.environ[PARENT])

    def orphaned() -> None:
        asyncio.get_running_loop().remove_reader(parent)
        os.kill(os.getpid(), signal.SIGTERM)

    asyncio.get_running_loop().add_reader(parent, orphaned)
