"""Time ranges in the words of questions, told from a day: `last month`, `Q2 2025`, `since March`."""

import re
from collections.abc import Iterator
from datetime import date, timedelta

from lakemesh.agents.analyst.plan import Grain, TimeRange

MONTHS = "january february march april may june july august september october november december".split()  # noqa: SIM905
MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS)
UNIT = r"(day|week|month|quarter|year)"
PATTERNS: tuple[tuple[str, str], ...] = (
    ("date", r"(?:on )?(\d{4})-(\d\d)-(\d\d)"),
    ("quarter", r"q([1-4])(?: (?:of )?(\d{4}))?"),
    ("half", r"(first|second) half of (\d{4})"),
    ("month", rf"({MONTH})(?: (?:of )?(\d{{4}}))?"),
    ("last_several", rf"(?:the )?(?:last|past|previous) (\d{{1,3}}) {UNIT}s"),
    ("relative", rf"(?:the )?(last|past|previous|this|current) {UNIT}"),
    ("to_date", r"(?:year|ytd)(?: to date)"),
    ("day", r"(today|yesterday)"),
    ("year", r"((?:19|20)\d\d)"),
)
RANGE = re.compile("|".join(f"(?P<{kind}>\\b(?:{pattern})\\b)" for kind, pattern in PATTERNS))
BEFORE_MAY = re.compile(r"\b(in|since|for|of|and|from|to|until|before|after|during|about|vs|versus)\s+$")
BOUND = re.compile(r"(since|from|after|before|until|till)(?: the)?(?: (?:start|beginning|end) of)?$")


def find_ranges(text: str, today: date) -> Iterator[tuple[int, int, TimeRange]]:
    """Each range with its place in `text`, which is in lower case. `since`, `before` and the like before one open it to
    one side; a month or quarter without a year is the newest that has begun."""
    for match in RANGE.finditer(text):
        kind = match.lastgroup or ""
        if match.group(0) == "may" and not BEFORE_MAY.search(text[: match.start()]):
            continue  # the verb
        try:
            pattern = next(pattern for name, pattern in PATTERNS if name == kind)
            found = range_of(kind, re.fullmatch(pattern, match.group(0)), today)
        except (ValueError, OverflowError):
            continue
        start, bound = match.start(), BOUND.search(text[: match.start()].rstrip())
        if bound is not None:
            start = bound.start()
            found = opened(found, bound.group(1), today, text[match.end() :])
        yield start, match.end(), found


def opened(found: TimeRange, word: str, today: date, after: str) -> TimeRange:
    label = f"{word} {found.label}"
    if word in ("before", "until", "till"):
        end = found.start if word == "before" else found.end
        return TimeRange(start=date(1900, 1, 1), end=end, label=label, grain=found.grain)
    if word == "from" and re.match(r"\s*(to|until|till|through)\b", after):
        return found  # the other end follows
    start = found.end if word == "after" else found.start
    return TimeRange(start=start, end=max(start, today) + timedelta(days=1), label=label, grain=found.grain)


def range_of(kind: str, match: "re.Match[str] | None", today: date) -> TimeRange:
    """Raises `ValueError` for a day that is none."""
    assert match is not None
    label, groups = match.group(0), match.groups()
    if kind == "date":
        return span(date(*(int(one) for one in groups[:3])), "day", label)
    if kind == "year":
        return span(date(int(groups[0]), 1, 1), "year", label)
    if kind == "half":
        start = date(int(groups[1]), 1 if groups[0] == "first" else 7, 1)
        return TimeRange(start=start, end=shifted(start, "month", 6), label=label, grain="month")
    if kind in ("month", "quarter"):
        if kind == "month":
            number = next(place for place, name in enumerate(MONTHS, 1) if name.startswith(groups[0]))
        else:
            number = int(groups[0]) * 3 - 2
        year = int(groups[1]) if groups[1] else today.year - (date(today.year, number, 1) > today)
        return span(date(year, number, 1), "month" if kind == "month" else "quarter", label)
    if kind == "last_several":
        grain = grain_of(groups[1])
        end = today + timedelta(days=1) if grain == "day" else beginning(today, grain)
        return TimeRange(start=shifted(end, grain, -int(groups[0])), end=end, label=label, grain=grain)
    if kind == "relative":
        grain = grain_of(groups[1])
        now = beginning(today, grain)
        return span(now if groups[0] in ("this", "current") else shifted(now, grain, -1), grain, label)
    if kind == "day":
        return span(today if groups[0] == "today" else today - timedelta(days=1), "day", label)
    return TimeRange(start=date(today.year, 1, 1), end=today + timedelta(days=1), label=label, grain="year")


def span(start: date, grain: Grain, label: str) -> TimeRange:
    return TimeRange(start=start, end=shifted(start, grain, 1), label=label, grain=grain)


def beginning(day: date, grain: Grain) -> date:
    if grain == "week":
        return day - timedelta(days=day.weekday())
    if grain == "quarter":
        return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
    return day.replace(**({"year": {"month": 1, "day": 1}, "month": {"day": 1}}.get(grain, {})))


def shifted(day: date, grain: Grain, count: int) -> date:
    """So many grains later, for a day that begins one."""
    if grain in ("day", "week"):
        return day + timedelta(days=count * (7 if grain == "week" else 1))
    months = day.year * 12 + day.month - 1 + count * {"month": 1, "quarter": 3, "year": 12}[grain]
    return date(months // 12, months % 12 + 1, day.day)


def grain_of(word: str) -> Grain:
    grains: dict[str, Grain] = {one: one for one in ("day", "week", "month", "quarter", "year")}
    return grains[word]
