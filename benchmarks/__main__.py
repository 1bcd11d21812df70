"""`python -m benchmarks [NAME ...]`: every benchmark, or the named ones, one after the other."""

import importlib
import pkgutil
import sys
from pathlib import Path

SUPPORT = {
    "__main__",
    "a2a_peer",
    "counting_agent",
    "durable_peer",
    "mcp_peer",
    "peers",
    "report",
    "server_process",
    "span_source",
}


def main() -> None:
    found = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    names = sys.argv[1:] or [name for name in found if name not in SUPPORT]
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


main()
