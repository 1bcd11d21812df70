"""The nightly job: `lakemesh nightly` over the app's suites. Parameters: the folder of the app's source, then the
environment that the app has, NAME=VALUE each. Databricks gives the job its own credentials."""

import os
import sys


def main(source: str, *environment: str) -> None:
    os.chdir(source)
    sys.path.insert(0, source)
    for pair in environment:
        name, _, value = pair.partition("=")
        os.environ[name] = value
    import asyncio
    from pathlib import Path

    from lakemesh.cli.nightly import read_suites, run_all

    sys.exit(asyncio.run(run_all(read_suites(Path("evaluation")))))


main(*sys.argv[1:])
