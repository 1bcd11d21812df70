"""Small files made large, in a process of its own when they are many megabytes.

delta-rs holds what it merges in memory, two to four times the files' size, and its allocator keeps much of that: a
server that compacted its telemetry every few minutes would be twice as large for good. A process gives all of it back.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltalake import DeltaTable

HERE_BYTES = 8 * 1024 * 1024
"""Up to this the table is compacted where it is: to start a process costs a quarter of a second."""
PROGRAM = """
import json, os, sys, threading
from deltalake import DeltaTable
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
print(json.dumps(DeltaTable(sys.argv[1]).optimize.compact(), default=str))
"""
"""It ends with whoever started it: its lock on the table is gone then."""


def compact(table: "DeltaTable") -> Mapping[str, Any]:
    """delta-rs' metrics. To be called by who has the table to himself; blocks. Raises what delta-rs raises, or
    `OSError`."""
    import pyarrow as pa

    if sum(pa.table(table.get_add_actions())["size_bytes"].to_pylist()) <= HERE_BYTES:
        metrics: Mapping[str, Any] = table.optimize.compact()
        return metrics
    metrics = in_a_process(table.table_uri)
    table.update_incremental()
    return metrics


def in_a_process(location: str) -> Mapping[str, Any]:
    command = [sys.executable, "-P", "-c", PROGRAM, location]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        said = process.stdout.read().strip().splitlines() or ["it said nothing"]
        code = process.wait()
    if code:
        raise OSError(f"the compaction ended with {code}: {said[-1]:.300}")
    metrics: Mapping[str, Any] = json.loads(said[-1])
    return metrics
