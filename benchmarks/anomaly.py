"""How many labelled anomalies of series the forecast of `anomaly` finds, and how many of its alerts are about one.

`python -m benchmarks.anomaly [FOLDER]`: FOLDER has the Numenta Anomaly Benchmark (`data`, `labels` of numenta/NAB);
without one, series are made with a seed. Values are averaged by hour, which is how the agent sees a table. Everything
judges causally: every 12 hours the next 12 are judged by the 21 days before. After an alert comes a day without. An
alert is right inside of a labelled window; a window is found by one alert. Each method's threshold is the best (F1) of
every other series, and the figures are of the others, which no threshold has seen.

Beside it: a static z-score (mean and deviation of the first 15 %, Numenta's probation), and river's HalfSpaceTrees
where it is installed.
"""

import csv
import json
import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.report import Row, report
from lakemesh.agents.anomaly.schemas import SeriesCheck
from lakemesh.agents.anomaly.seasonal import forecast

HOUR = 3_600
DAY, STEP, HISTORY, LEAST = 24, 12, 21 * 24, 48
PROBATION = 0.15
THRESHOLDS = [0.1 * 1.12**power for power in range(60)]
"""0.1 to about 90."""
MADE, MADE_DAYS = 40, 42

Scores = list[float]


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    hours: Sequence[int]
    values: Sequence[float]
    windows: Sequence[tuple[float, float]]


def read(folder: Path) -> list[Series]:
    """Numenta's, by name."""
    labels: Mapping[str, list[list[str]]] = json.loads((folder / "labels/combined_windows.json").read_text())
    found = []
    for name, windows in sorted(labels.items()):
        with (folder / "data" / name).open() as file:
            rows = [(moment(row[0]), float(row[1])) for row in list(csv.reader(file))[1:]]
        by_hour: dict[int, list[float]] = {}
        for at, value in rows:
            by_hour.setdefault(int(at // HOUR), []).append(value)
        hours = sorted(by_hour)
        means = [sum(by_hour[hour]) / len(by_hour[hour]) for hour in hours]
        found.append(Series(name, hours, means, [(moment(begin), moment(end)) for begin, end in windows]))
    return found


def moment(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def made(seed: int) -> Series:
    """A daily and weekly course, noise of long tails, a trend, and one to three anomalies: gone, less, much more."""
    chance = random.Random(seed)
    level, swing, noise = chance.uniform(50, 500), chance.uniform(0.1, 0.6), chance.uniform(0.02, 0.08)
    hours = list(range(MADE_DAYS * DAY))
    values = []
    for hour in hours:
        weekend = 0.7 if hour // DAY % 7 >= 5 else 1.0
        course = level * weekend * (1 + swing * math.sin(hour * math.tau / DAY)) * (1 + 0.1 * hour / len(hours))
        values.append(max(0.0, course + level * noise * chance.gauss(0, 1) * (3 if chance.random() < 0.01 else 1)))
    windows = []
    for _ in range(chance.randint(1, 3)):
        begin, length = chance.randrange(LEAST * 4, len(hours) - 48), chance.randint(2, 12)
        factor = chance.choice([0.0, 0.3, 2.0, 3.0])
        for hour in range(begin, begin + length):
            values[hour] *= factor
        windows.append((begin * float(HOUR), (begin + length) * float(HOUR)))
    return Series(f"made {seed}", hours, values, windows)


def seasonal(values: Sequence[float]) -> Scores:
    scores = [0.0] * len(values)
    for begin in range(LEAST, len(values), STEP):
        count = min(STEP, len(values) - begin)
        found = forecast(values[max(0, begin - HISTORY) : begin], count, seasons=[DAY, 7 * DAY])
        if found is not None:
            for index in range(count):
                scores[begin + index] = abs(found.score(index, values[begin + index]))
    return scores


def static(values: Sequence[float]) -> Scores:
    first = np.asarray(values[: max(2, int(PROBATION * len(values)))])
    deviation = float(first.std()) or 1.0
    begin = len(first)
    return [0.0] * begin + [abs(value - float(first.mean())) / deviation for value in values[begin:]]


def half_space_trees(values: Sequence[float]) -> Scores:
    """river's, on the value and the hour of the day, scaled as they come; -ln(1 - score), for the thresholds."""
    from river import anomaly, compose, preprocessing

    model = compose.Pipeline(
        preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(n_trees=50, height=8, window_size=72, seed=1)
    )
    scores = []
    for hour, value in enumerate(values):
        features = {"value": value, "hour": float(hour % DAY)}
        scores.append(min(-math.log(max(1.0 - model.score_one(features), 1e-12)), 50.0) if hour >= LEAST else 0.0)
        model.learn_one(features)
    return scores


@dataclass(frozen=True, slots=True)
class Found:
    right: int
    alerts: int
    windows_found: int
    windows: int

    @property
    def precision(self) -> float:
        return self.right / max(self.alerts, 1)

    @property
    def recall(self) -> float:
        return self.windows_found / max(self.windows, 1)

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)


def judged(series: Sequence[Series], scores: Mapping[str, Scores], threshold: float) -> Found:
    right = alerts = windows_found = 0
    for one in series:
        hit: set[int] = set()
        last = -math.inf
        for hour, score in zip(one.hours, scores[one.name], strict=True):
            if score < threshold or hour - last <= DAY:
                continue
            last, alerts = hour, alerts + 1
            inside = [index for index, (begin, end) in enumerate(one.windows) if begin - HOUR < hour * HOUR <= end]
            right += bool(inside)
            hit.update(inside)
        windows_found += len(hit)
    return Found(right, alerts, windows_found, sum(len(one.windows) for one in series))


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 and Path(sys.argv[1]).is_dir() else None
    series = read(folder) if folder else [made(seed) for seed in range(MADE)]
    methods: dict[str, Callable[[Sequence[float]], Scores]] = {"anomaly": seasonal, "static z-score": static}
    try:
        import river  # noqa: F401

        methods["HalfSpaceTrees (river)"] = half_space_trees
    except ModuleNotFoundError:
        print("river is not installed: without its HalfSpaceTrees")
    rows: list[Row] = []
    for name, method in methods.items():
        begun = time.process_time()
        scores = {one.name: method(one.values) for one in series}
        seconds = time.process_time() - begun
        chosen = max(THRESHOLDS, key=lambda threshold: judged(series[::2], scores, threshold).f1)
        found = {"": judged(series[1::2], scores, chosen)}
        if name == "anomaly":
            found[", default threshold, all series"] = judged(series, scores, SeriesCheck().threshold)
        for what, one in found.items():
            told = f"{one.right} of {one.alerts} alerts, {one.windows_found} of {one.windows} windows"
            rows.append(Row(f"{name}{what}: precision", one.precision, spread=told))
            rows.append(Row(f"{name}{what}: recall", one.recall))
            rows.append(Row(f"{name}{what}: F1", one.f1))
        rows.append(Row(f"{name}: CPU seconds for {sum(len(one.values) for one in series)} hours", seconds))
    of = "Numenta's series" if folder else f"{MADE} made series"
    report("anomaly" if folder else "anomaly_made", f"Anomalies of {of}, half of them unseen", rows)


if __name__ == "__main__":
    main()
