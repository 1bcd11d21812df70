"""What observing costs, and how much telemetry can carry.

Claims: a span's way into the buffer costs at most 1.3 times what the SDK's batch processor with an exporter that does
nothing adds; a backlog drains to Delta at 50,000 spans a second; from a span's creation to Delta, with the durable
spool, it takes at most 0.6 of the processor time of the simple way (queue, thread, JSON lines, load) at 1.4 times its
throughput; a steady 2,000 spans a second lose nothing, and the server answers as many requests with them as without,
be the sink healthy, slow or dead. `before_answer` has its price told. Spans carry ten attributes.
`LAKEMESH_BENCH_SECONDS` shortens the steady run (60 s).
"""

import asyncio
import http.server
import json
import os
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.json as pj
import uvloop
from deltalake import write_deltalake
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from benchmarks.execute import BODY
from benchmarks.report import Row, report
from benchmarks.server_process import ServerProcess, server_process
from benchmarks.span_source import make_spans
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.jobs.http_load import LoadResult, post, run_load
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.telemetry import Telemetry
from lakemesh.telemetry.sampling import HeadSampling
from lakemesh.telemetry.spans import FlatteningProcessor
from lakemesh.telemetry.tracer import LeanTracer

SPANS = 50_000
ROUNDS = 5
STEADY_PER_SECOND = 2_000
STEADY_SECONDS = float(os.environ.get("LAKEMESH_BENCH_SECONDS", "60"))
CONNECTIONS, REQUESTS, EFFECT_ROUNDS = 16, 3_000, 5
CONFIG = """
agents:
  echo: {class: lakemesh.agents.echo:EchoAgent}
models:
  endpoints: {offline: {serving_endpoint: offline}}
  routes: {quality: {endpoints: [offline]}, embeddings: {endpoints: [offline]}}
"""


class NoExporter(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def sdk_tracer(*processors: SpanProcessor) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider.get_tracer("benchmark")


def hot_path() -> list[Row]:
    """Processor microseconds of the calling thread per span, in turn, the lowest of the rounds."""
    batching = BatchSpanProcessor(NoExporter(), max_queue_size=1_000_000)
    kept: list[Any] = []
    tracers = {
        "bare": sdk_tracer(),
        "batch": sdk_tracer(batching),
        "flat": sdk_tracer(FlatteningProcessor(kept.append)),
        "lean": LeanTracer("benchmark", None, sampling=HeadSampling(ratio=1.0), put=kept.append),
    }
    best = dict.fromkeys(tracers, float("inf"))
    for _ in range(2 * ROUNDS):
        for name, tracer in tracers.items():
            started = time.thread_time()
            make_spans(tracer, 10_000)
            best[name] = min(best[name], (time.thread_time() - started) / 10_000 * 1e6)
            kept.clear()
    batching.shutdown()
    added, peer = best["flat"] - best["bare"], best["batch"] - best["bare"]
    return [
        Row("added per span: flat records / batch processor", added / peer, "<= 1.3"),
        Row("span with our tracer / SDK span with batch processor", best["lean"] / best["batch"]),
        *(Row(f"span, {name}, µs", value) for name, value in best.items()),
    ]


def options(**more: Any) -> TelemetryConfig:
    return TelemetryConfig(buffer_size=1_000_000, spool_megabytes=2_000, log_level=None, **more)


async def with_telemetry(
    config: TelemetryConfig, work: Callable[[Telemetry], Awaitable[list[Row]]], *, start: bool = True
) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = await open_workspace(Path(folder, "home"))
        telemetry = Telemetry(config, workspace=workspace, folder=Path(folder, "telemetry"))
        if start:
            await telemetry.start()
        try:
            return await work(telemetry)
        finally:
            await telemetry.close(timeout_seconds=60)
            await workspace.close()


async def drain(telemetry: Telemetry) -> list[Row]:
    """Batches in the spool → Delta. Not started yet, so that the backlog builds up."""
    assert telemetry._pipeline is not None
    make_spans(telemetry.tracer, 4 * SPANS)
    await telemetry._pipeline._spooler.spool_all()
    await telemetry.start()
    started = time.perf_counter()
    assert await telemetry.flush()
    seconds = time.perf_counter() - started
    return [Row("backlog to Delta, spans/s", 4 * SPANS / seconds, ">= 50000")]


async def end_to_end_ours(telemetry: Telemetry, tracer: Tracer) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(SPANS // 1_000):
        make_spans(tracer, 1_000)
        await asyncio.sleep(0)
    assert await telemetry.flush()
    assert telemetry.health()["delivered_records"] >= SPANS
    return time.process_time() - cpu, time.perf_counter() - wall


class QueueToFile(SpanProcessor):
    """The simple way: a queue, a thread, a line of JSON per span."""

    def __init__(self, file: Path) -> None:
        self._queue: queue.Queue[ReadableSpan | None] = queue.Queue()
        self._file = file
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        self._queue.put(span)

    def _write(self) -> None:
        with self._file.open("w") as lines:
            while (span := self._queue.get()) is not None:
                lines.write(json.dumps(line_of(span)) + "\n")

    def shutdown(self) -> None:
        self._queue.put(None)
        self._thread.join()


def line_of(span: ReadableSpan) -> dict[str, Any]:
    assert span.context is not None
    return {
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "kind": span.kind.name,
        "start_time_unix_nano": span.start_time,
        "end_time_unix_nano": span.end_time,
        "attributes": json.dumps(dict(span.attributes or {})),
        "status": span.status.status_code.name,
        "resource": json.dumps(dict(span.resource.attributes)),
    }


def end_to_end_simple() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = time.process_time(), time.perf_counter()
        processor = QueueToFile(Path(folder, "spans.jsonl"))
        make_spans(sdk_tracer(processor), SPANS)
        processor.shutdown()
        write_deltalake(f"{folder}/table", pj.read_json(f"{folder}/spans.jsonl"))
        return time.process_time() - cpu, time.perf_counter() - wall


async def end_to_end() -> list[Row]:
    figures: dict[str, list[tuple[float, float]]] = {"ours": [], "ours with SDK spans": [], "simple": []}

    async def ours(telemetry: Telemetry) -> list[Row]:
        figures["ours"].append(await end_to_end_ours(telemetry, telemetry.tracer))
        return []

    async def ours_by_sdk(telemetry: Telemetry) -> list[Row]:
        tracer = telemetry.tracer_provider.get_tracer("benchmark")
        figures["ours with SDK spans"].append(await end_to_end_ours(telemetry, tracer))
        return []

    for _ in range(ROUNDS):
        await with_telemetry(options(), ours)
        await with_telemetry(options(), ours_by_sdk)
        figures["simple"].append(await asyncio.to_thread(end_to_end_simple))
    cpu = {name: statistics.median(value[0] for value in values) for name, values in figures.items()}
    wall = {name: statistics.median(value[1] for value in values) for name, values in figures.items()}
    return [
        Row("end to end, CPU per span: ours / simple way", cpu["ours"] / cpu["simple"], "<= 0.6"),
        Row("end to end, throughput: ours / simple way", wall["simple"] / wall["ours"], ">= 1.4"),
        Row("the same with the SDK's spans, CPU", cpu["ours with SDK spans"] / cpu["simple"]),
        Row("the same with the SDK's spans, throughput", wall["simple"] / wall["ours with SDK spans"]),
        *(Row(f"end to end, {name}, CPU µs a span", value / SPANS * 1e6) for name, value in cpu.items()),
    ]


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1024**2


async def steady(telemetry: Telemetry) -> list[Row]:
    make_spans(telemetry.tracer, 10_000)
    await telemetry.flush()
    before = resident_mb()
    cpu, sent, started = time.process_time(), 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < STEADY_SECONDS:
        due = int(elapsed * STEADY_PER_SECOND) - sent
        make_spans(telemetry.tracer, due)
        sent += due
        await asyncio.sleep(0.01)
    cpu = time.process_time() - cpu
    assert await telemetry.flush()
    grown = resident_mb() - before
    dropped = sum(telemetry.health()["dropped"].values())
    return [
        Row(f"steady {STEADY_PER_SECOND}/s for {STEADY_SECONDS:.0f} s: spans dropped", dropped, "<= 0"),
        Row("steady: memory grown, MB", grown, "<= 64"),
        Row("steady: share of one processor", cpu / STEADY_SECONDS),
    ]


class SlowCollector(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(5)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def slow_collector() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowCollector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


def requests_per_second(server: ServerProcess, *, spans: int) -> float:
    uvloop.run(run_load(server.port, [[post(f"/spans/{spans}", b"")]], timeout_seconds=10))
    return load(server, connections=CONNECTIONS, requests=REQUESTS).per_second


def load(server: ServerProcess, *, connections: int, requests: int) -> LoadResult:
    work = [[post("/api/execute", BODY)] * requests for _ in range(connections)]
    result = uvloop.run(run_load(server.port, work, timeout_seconds=120))
    assert result.errors == 0
    return result


def price_of_waiting() -> list[Row]:
    """`before_answer: true` against without, rounds in turn: what one caller waits longer, and what many get done when
    their answers wait for the same write."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        choices = {"without": "{}", "with": "{before_answer: true}"}
        servers = {name: stack.enter_context(observed_server(folder / name, text)) for name, text in choices.items()}
        one: dict[str, list[float]] = {name: [] for name in servers}
        many: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(EFFECT_ROUNDS):
            for name, server in servers.items():
                one[name].append(load(server, connections=1, requests=200).percentile_ms(50))
                many[name].append(load(server, connections=256, requests=50).per_second)
    alone, together = ({name: statistics.median(values) for name, values in each.items()} for each in (one, many))
    return [
        Row("before_answer: p50 of one caller, ms", alone["with"]),
        Row("without it, ms", alone["without"]),
        Row("before_answer: requests/s of 256 callers / without it", together["with"] / together["without"]),
    ]


def effect_on_requests() -> list[Row]:
    """One server per state of the sink, rounds in turn, each with and without the steady spans. The requests' own
    spans and rows come on top of those, so the last row tells what all of it costs a server that is never idle."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(slow_collector())
        sinks = {
            "off": "{enabled: false}",
            "healthy": "{sinks: [delta]}",
            "slow": f"{{sinks: [otlp], otlp: {{endpoint: 'http://127.0.0.1:{port}'}}}}",
            "dead": "{sinks: [otlp], otlp: {endpoint: 'http://127.0.0.1:9'}}",
        }
        servers = {name: stack.enter_context(observed_server(folder / name, sink)) for name, sink in sinks.items()}
        for server in servers.values():
            requests_per_second(server, spans=0)
        quiet: dict[str, list[float]] = {name: [] for name in sinks}
        steady: dict[str, list[float]] = {name: [] for name in sinks}
        for _ in range(EFFECT_ROUNDS):
            for name, server in servers.items():
                quiet[name].append(requests_per_second(server, spans=0))
                steady[name].append(requests_per_second(server, spans=STEADY_PER_SECOND))
    effect = {name: statistics.median(b / a for a, b in zip(quiet[name], steady[name], strict=True)) for name in sinks}
    median = {name: statistics.median(values) for name, values in quiet.items()}
    return [
        *(
            Row(f"requests/s with {STEADY_PER_SECOND} spans/s / without, sink {name}", effect[name], ">= 0.95")
            for name in ("healthy", "slow", "dead")
        ),
        Row("requests/s: sink slow / healthy", median["slow"] / median["healthy"], ">= 0.95"),
        Row("requests/s: sink dead / healthy", median["dead"] / median["healthy"], ">= 0.95"),
        Row("requests/s: every request observed, sink healthy / telemetry off", median["healthy"] / median["off"]),
    ]


@contextmanager
def observed_server(folder: Path, telemetry: str) -> Iterator[ServerProcess]:
    config = folder / "config"
    config.mkdir(parents=True)
    (config / "lakemesh.yaml").write_text(f"{CONFIG}telemetry: {telemetry}\n")
    environment = {"LAKEMESH_HOME": str(folder / "home"), "LAKEMESH_CONFIG_FOLDER": str(config)}
    with server_process("benchmarks.span_source:app", environment) as server:
        yield server


def main() -> None:
    rows = hot_path()
    rows += asyncio.run(with_telemetry(options(), drain, start=False))
    rows += asyncio.run(end_to_end())
    rows += asyncio.run(with_telemetry(options(), steady))
    rows += price_of_waiting()
    rows += effect_on_requests()
    report("telemetry", "What telemetry costs and carries", rows)


if __name__ == "__main__":
    main()
