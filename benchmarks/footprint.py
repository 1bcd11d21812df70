"""What a server takes: seconds until it is ready with every door on, and memory then and after minutes of full load.

Claims: ready within 1.5 s (the median of three starts) and within 220 MB; within 250 MB after ten minutes of full load,
each request's span and row brought to Delta. `LAKEMESH_BENCH_SECONDS` shortens the load (600 s). pandas takes 50 MB in
any process in which it is installed, as pyarrow imports it: what a deployment installs has none, so it is left out.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.execute import CONFIG, measure
from benchmarks.report import Row, report
from benchmarks.server_process import ServerProcess, lakemesh_process

STARTS = 3
LOAD_SECONDS = float(os.environ.get("LAKEMESH_BENCH_SECONDS", "600"))
SETTLED_SECONDS = 5.0


@contextmanager
def started() -> Iterator[tuple[ServerProcess, float]]:
    """A server on an empty folder, and how many seconds it took to be ready."""
    with tempfile.TemporaryDirectory() as folder:
        config, absent = Path(folder, "config"), Path(folder, "absent", "pandas")
        config.mkdir()
        absent.mkdir(parents=True)
        (config / "lakemesh.yaml").write_text(CONFIG)
        (absent / "__init__.py").write_text("raise ImportError('left out')\n")
        environment = {
            "LAKEMESH_HOME": f"{folder}/home",
            "LAKEMESH_CONFIG_FOLDER": str(config),
            "PYTHONPATH": f"{absent.parent}:{os.environ.get('PYTHONPATH', '')}",
        }
        began = time.perf_counter()
        with lakemesh_process(environment) as server:
            yield server, time.perf_counter() - began


def main() -> None:
    seconds, processor, ready = [], [], []
    for _ in range(STARTS):
        with started() as (server, took):
            seconds.append(took)
            processor.append(server.cpu_seconds())
            ready.append(server.resident_mb())
    with started() as (server, _):
        time.sleep(SETTLED_SECONDS)
        settled, highest = server.resident_mb(), 0.0
        end = time.monotonic() + LOAD_SECONDS
        requests = 0
        while time.monotonic() < end:
            requests += measure(server, "/api/execute")[0].requests
            highest = max(highest, server.resident_mb())
        loaded = server.resident_mb()
    report(
        "footprint",
        "Start-up and memory",
        [
            Row("ready, s", statistics.median(seconds), "<= 1.5", f"{min(seconds):.2f}..{max(seconds):.2f}"),
            Row("processor seconds until ready", statistics.median(processor)),
            Row("resident when ready, MB", statistics.median(ready), "<= 220"),
            Row(f"resident {SETTLED_SECONDS:.0f} s later, MB", settled),
            Row(f"resident after {LOAD_SECONDS:.0f} s of full load, MB", loaded, "<= 250"),
            Row("the highest meanwhile, MB", highest),
            Row("requests answered", requests),
        ],
    )


if __name__ == "__main__":
    main()
