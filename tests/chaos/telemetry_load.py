"""Emit numbered spans for ever and say after each flush how many are safe. Run by test_telemetry.py, to be killed."""

import asyncio
import sys
from pathlib import Path

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.telemetry import Telemetry


async def main(home: Path, name: str) -> None:
    workspace = await open_workspace(home / "workspace")
    config = TelemetryConfig(batch_size=50, flush_seconds=0.02, log_level=None)
    telemetry = Telemetry(config, workspace=workspace, folder=home / "telemetry")
    await telemetry.start()
    number = 0
    while True:
        for _ in range(100):
            telemetry.tracer.start_span(name, attributes={"number": number}).end()
            number += 1
        if await telemetry.flush():
            print(number, flush=True)  # noqa: T201


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
