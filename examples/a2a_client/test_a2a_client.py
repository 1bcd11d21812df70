import asyncio
from pathlib import Path

from call_weather import ask

from lakemesh.testing import serve


def test_the_official_client_gets_a_forecast() -> None:
    with serve(Path(__file__).parent / "config") as server:
        assert asyncio.run(ask(server.url, "Oslo")) == {"city": "Oslo", "degrees": 9.0}
        [done] = server.executions("weather")
        assert done.door == "a2a"
