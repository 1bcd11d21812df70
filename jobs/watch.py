"""The job `watch`: one run of the agent that watches tables. Parameters: the folder of the app's source, the agent's
name, then the environment that the app has, NAME=VALUE each. Databricks gives the job its own credentials."""

import os
import sys


def main(source: str, agent: str, *environment: str) -> None:
    os.chdir(source)
    sys.path.insert(0, source)
    for pair in environment:
        name, _, value = pair.partition("=")
        os.environ[name] = value
    import asyncio
    import json

    from lakemesh.cli.execute import execute_here

    sys.stdout.write(json.dumps(asyncio.run(execute_here(agent, {}, None)), indent=2))


main(*sys.argv[1:])
