from pathlib import Path

import pytest

from lakemesh.client import ServerError
from lakemesh.testing import serve

HERE = Path(__file__).parent


def test_it_answers_from_the_table() -> None:
    with serve(HERE / "config", tables={"main.travel.flights": HERE / "data/flights.csv"}) as server:
        assert server.execute("delays", {"carrier": "Nord"}).result == {"flights": 2, "minutes": 20.0}
        with pytest.raises(ServerError, match="not_found: There are no flights of 'x'"):
            server.execute("delays", {"carrier": "x"})
