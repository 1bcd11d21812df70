"""Literals of dates and moments, datetime patterns and interval literals."""

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.values import unsupported

MOMENT = re.compile(
    r"(?P<y>\d{4})(-(?P<m>\d{1,2})(-(?P<d>\d{1,2})([ T](?P<H>\d{1,2}):"
    r"(?P<M>\d{1,2})(:(?P<S>\d{1,2})(\.(?P<f>\d{0,9}))?)?)?)?)?"
    r"\s*(?P<zone>Z|UTC|[+-]\d{1,2}(:\d{2})?|[A-Za-z_]+/[A-Za-z_/]+)?"
)
OFFSET = re.compile(r"([+-])(\d{1,2})(?::(\d{2}))?")


def parse_date(text: str) -> date:
    found = re.fullmatch(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[ T].*)?)?)?", text.strip())
    try:
        if found:
            return date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        pass
    raise InvalidRequest(f"[INVALID_TYPED_LITERAL] {text!r:.60} is not a DATE.")


def parse_moment(text: str) -> tuple[datetime, bool]:
    """The moment, in UTC where the text has a zone; whether it has one."""
    found = MOMENT.fullmatch(text.strip())
    try:
        if found:
            parts = [int(found[key] or default) for key, default in zip("ymdHMS", (0, 1, 1, 0, 0, 0), strict=True)]
            micros = int((found["f"] or "").ljust(6, "0")[:6])
            naive = datetime(*parts, micros)  # type: ignore[arg-type, call-arg]
            return (in_utc(naive, found["zone"]), True) if found["zone"] else (naive, False)
    except (ValueError, ZoneInfoNotFoundError):
        pass
    raise InvalidRequest(f"[INVALID_TYPED_LITERAL] {text!r:.60} is not a TIMESTAMP.")


def in_utc(naive: datetime, zone: str) -> datetime:
    if zone in ("Z", "UTC"):
        return naive
    if offset := OFFSET.fullmatch(zone):
        zone = f"{offset[1]}{int(offset[2]):02}:{offset[3] or '00'}"
        return datetime.fromisoformat(f"{naive.isoformat()}{zone}").astimezone(UTC).replace(tzinfo=None)
    return naive.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None)


LETTERS = {
    "yyyy": "%Y", "y": "%Y", "uuuu": "%Y", "yy": "%y", "MM": "%m", "M": "%-m", "MMM": "%b", "MMMM": "%B", "dd": "%d",
    "d": "%-d",
    "D": "%-j", "DDD": "%j", "HH": "%H", "H": "%-H", "hh": "%I", "h": "%-I", "mm": "%M", "m": "%-M", "ss": "%S",
    "s": "%-S", "SSS": "%g", "SSSSSS": "%f", "a": "%p", "E": "%a", "EE": "%a", "EEE": "%a", "EEEE": "%A",
}  # fmt: skip
PIECES = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")


def strftime_format(pattern: str) -> list[str]:
    """Spark's datetime pattern in pieces: those that begin with `%` are DuckDB's specifiers, `Q` is the quarter, the
    rest is text. Raises `InvalidRequest` for letters that are not translated."""
    pieces: list[str] = []
    position = 0
    while position < len(pattern):
        found = PIECES.match(pattern, position)
        if found is None:
            raise InvalidRequest(f"[INVALID_DATETIME_PATTERN] {pattern!r:.60} is not a datetime pattern.")
        position = found.end()
        piece = found[0]
        if found[1] is not None:
            pieces.append("=" + (found[1].replace("''", "'") or "'"))
        elif found[2] is None:
            pieces.append("=" + piece)
        elif piece in ("Q", "q"):
            pieces.append("Q")
        elif piece in LETTERS:
            pieces.append(LETTERS[piece])
        else:
            raise unsupported(f"the datetime pattern letters {piece!r}")
    return pieces


def interval_text(value: str, unit: str) -> tuple[int, int]:
    """Months and microseconds of `INTERVAL 'value' unit`, where the unit may be a span such as DAY TO SECOND."""
    sign = -1 if value.strip().startswith("-") else 1
    text = value.strip().lstrip("+-")
    first, _, last = unit.partition(" TO ")
    fault = InvalidRequest(f"[INVALID_INTERVAL_FORMAT] {value!r:.60} is not an interval of {unit}.")
    try:
        if first in ("YEAR", "MONTH"):
            years, _, months = (
                text.partition("-") if last else ((text, "", "0") if first == "YEAR" else ("0", "", text))
            )
            return sign * (int(years) * 12 + int(months or 0)), 0
        return 0, sign * _micros(text, first, last)
    except (ValueError, IndexError):
        raise fault from None


SECONDS = {"WEEK": 604_800, "DAY": 86_400, "HOUR": 3_600, "MINUTE": 60, "SECOND": 1}


def _micros(text: str, first: str, last: str) -> int:
    if not last:
        whole, _, fraction = text.partition(".")
        if fraction and first != "SECOND":
            raise ValueError(text)
        return int(whole or 0) * SECONDS[first] * 1_000_000 + int((fraction or "0").ljust(6, "0")[:6]) * SECONDS[first]
    units = ["DAY", "HOUR", "MINUTE", "SECOND"]
    wanted = units[units.index(first) : units.index(last) + 1]
    parts = re.split(r"[ :]", text)
    if len(parts) != len(wanted):
        raise ValueError(text)
    return sum(_micros(part, unit, "") for part, unit in zip(parts, wanted, strict=True))
