"""The forecast on series whose shape is known."""

import math
import random

import pytest

from lakemesh.agents.anomaly.checks import stability_index
from lakemesh.agents.anomaly.seasonal import forecast


def daily(hours: int, *, noise: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [200 + 100 * math.sin(hour * math.tau / 24) + chance.gauss(0, noise) for hour in range(hours)]


def test_a_season_is_found_and_goes_on() -> None:
    series = daily(24 * 21 + 3, noise=5)
    found = forecast(series[:-3], 3, seasons=[24, 168])
    assert found is not None
    assert found.season in (24, 168)
    assert found.expected == pytest.approx(series[-3:], abs=25)
    assert max(abs(found.score(index, value)) for index, value in enumerate(series[-3:])) < 5
    assert found.score(1, series[-2] * 2) > 8
    assert found.score(1, 0.0) < -8


def test_anomalies_of_the_past_do_not_count_as_normal() -> None:
    series = daily(24 * 21, noise=5)
    for hour in range(100, 104):
        series[hour] = 5_000
    found = forecast(series, 1, seasons=[24])
    assert found is not None
    assert found.expected[0] == pytest.approx(200, abs=25)
    assert found.score(0, 500) > 8


def test_what_has_no_season_goes_on_at_its_level() -> None:
    chance = random.Random(7)
    found = forecast([chance.gauss(10, 1) for _ in range(200)], 2, seasons=[24])
    assert found is not None
    assert found.season is None
    assert found.expected[0] == pytest.approx(10, abs=1)
    assert found.score(0, 40) > 8


def test_a_constant_series_makes_no_alert_of_a_hairs_breadth() -> None:
    series = [100.0, 100.0, 101.0] * 40
    found = forecast(series, 1)
    assert found is not None
    assert abs(found.score(0, 101.0)) < 8


def test_a_short_history_tells_nothing() -> None:
    assert forecast([1.0] * 11, 1) is None


def test_the_stability_index() -> None:
    assert stability_index([50, 50], [500, 500]) == 0
    assert stability_index([90, 10], [50, 50]) == pytest.approx(0.4 * math.log(5 / 9) * -1 + 0.4 * math.log(5))
    assert stability_index([100, 0], [90, 10]) > 0.25
