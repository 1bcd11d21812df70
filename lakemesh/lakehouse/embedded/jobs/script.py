"""The process of a Python file: `python -m lakemesh.lakehouse.embedded.jobs.script <file> [argument ...]`."""

import ctypes
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2); only Linux has it."""


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it is killed."""
    library = ctypes.CDLL(None)
    if hasattr(library, "prctl"):
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
