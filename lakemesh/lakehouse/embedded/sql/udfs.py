"""Functions of Spark that DuckDB has no form of, in Python: exact, and slower than DuckDB's own."""

import json
import re
import zlib
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote_plus, unquote_plus, urlsplit

if TYPE_CHECKING:
    import duckdb

EXACT = Context(prec=100)


def decimal_operation(
    operator: str, left: str | None, right: str | None, scale: int, precision: int, safe: bool
) -> str | None:
    """`left operator right` rounded half up to the scale. Raises for what does not fit, or gives None when safe."""
    if left is None or right is None:
        return None
    try:
        one, other = Decimal(left), Decimal(right)
        if operator == "/":
            if not other:
                raise ValueError("[DIVIDE_BY_ZERO] Division by zero. Use `try_divide` to get NULL instead.")
            found = EXACT.divide(one, other)
        elif operator == "*":
            found = EXACT.multiply(one, other)
        else:
            found = EXACT.add(one, other) if operator == "+" else EXACT.subtract(one, other)
        rounded = found.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP, context=EXACT)
        if len(rounded.as_tuple().digits) > precision and rounded:
            raise ValueError("[NUMERIC_VALUE_OUT_OF_RANGE] The result has more digits than its DECIMAL holds.")
        return format(rounded, "f")
    except (ValueError, DivisionByZero, InvalidOperation):
        if safe:
            return None
        raise


def bround(value: str | None, scale: int) -> str | None:
    if value is None:
        return None
    return format(Decimal(value).quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_EVEN, context=EXACT), "f")


def real_text(value: float | None) -> str | None:
    """A double as Java writes it: the shortest digits, with an exponent below 0.001 and from 10 million on."""
    if value is None:
        return None
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        plain = format(Decimal(repr(value)), "f")
        return plain if "." in plain else plain + ".0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    first, rest = str(digits[0]), "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{first}.{rest}E{int(exponent) + len(digits) - 1}"


def conv(text: str | None, source: int | None, target: int | None) -> str | None:
    if text is None or source is None or target is None or not (2 <= source <= 36 and 2 <= abs(target) <= 36):
        return None
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    found = re.match(rf"\s*(-?)([{digits[:source]}]*)", text.lower())
    if found is None or not text.strip():
        return None
    number = int(found[2] or "0", source)
    number = min(-number % 2**64 if found[1] else number, 2**64 - 1)
    negative = target < 0 and number >= 2**63
    number = 2**64 - number if negative else number
    out = ""
    while True:
        number, digit = divmod(number, abs(target))
        out = digits[digit] + out
        if not number:
            return ("-" if negative else "") + out.upper()


def soundex(text: str | None) -> str | None:
    if not text or not text[0].isascii() or not text[0].isalpha():
        return text
    codes = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "01230127022455012623017202", strict=True))
    out, last = text[0].upper(), codes[text[0].upper()]
    for letter in text[1:].upper():
        code = codes.get(letter)
        if code is None:
            last = "0"
        elif code == "7":
            continue
        else:
            if code not in ("0", last):
                out += code
            last = code
    return (out + "000")[:4]


def crc32(content: bytes | None) -> int | None:
    return None if content is None else zlib.crc32(content)


def luhn_check(text: str | None) -> bool | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        return False
    digits = [int(digit) for digit in reversed(text)]
    return sum(digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits)) % 10 == 0


def mask(text: str | None) -> str | None:
    if text is None:
        return None
    return "".join("X" if c.isupper() else "x" if c.islower() else "n" if c.isdigit() else c for c in text)


def parse_url(url: str | None, part: str | None, key: str | None) -> str | None:
    if url is None or part is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if part == "QUERY" and key is not None:
        found = parse_qs(parts.query, keep_blank_values=True).get(key)
        return found[0] if found else None
    return {
        "HOST": parts.hostname,
        "PATH": parts.path,
        "QUERY": parts.query or None,
        "REF": parts.fragment or None,
        "PROTOCOL": parts.scheme or None,
        "AUTHORITY": parts.netloc or None,
        "FILE": parts.path + (f"?{parts.query}" if parts.query else ""),
        "USERINFO": parts.netloc.rpartition("@")[0] or None,
    }.get(part)


def url_encode(text: str | None) -> str | None:
    return None if text is None else quote_plus(text, safe="*-._").replace("~", "%7E")


def url_decode(text: str | None) -> str | None:
    return None if text is None else unquote_plus(text)


def initcap(text: str | None) -> str | None:
    return None if text is None else " ".join(word[:1].upper() + word[1:].lower() for word in text.split(" "))


def format_number(value: str | None, places: int | None) -> str | None:
    if value is None or places is None or places < 0:
        return None
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN, context=EXACT)
    return format(rounded, f",.{places}f")


def split(text: str | None, pattern: str | None, limit: int | None) -> list[str] | None:
    """As Java's: a limit above zero is the most parts."""
    if text is None or pattern is None or limit is None:
        return None
    if not pattern:
        return list(text)[: limit if limit > 0 else None]
    return (
        re.split(pattern, text, maxsplit=limit - 1) if limit > 1 else [text] if limit == 1 else re.split(pattern, text)
    )


def xxhash64(content: bytes, seed: int) -> int:
    """https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, as Spark's XxHash64Function."""
    mask64 = 2**64 - 1
    p1, p2, p3, p4, p5 = (
        0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5,
    )  # fmt: skip

    def rotate(value: int, by: int) -> int:
        return ((value << by) | (value >> (64 - by))) & mask64

    def mix(accumulator: int, lane: int) -> int:
        return rotate((accumulator + lane * p2) & mask64, 31) * p1 & mask64

    length, place = len(content), 0
    if length >= 32:
        lanes = [(seed + p1 + p2) & mask64, (seed + p2) & mask64, seed & mask64, (seed - p1) & mask64]
        while place + 32 <= length:
            for lane in range(4):
                word = int.from_bytes(content[place + 8 * lane : place + 8 * lane + 8], "little")
                lanes[lane] = mix(lanes[lane], word)
            place += 32
        found = sum(rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & mask64
        for lane in lanes:
            found = ((found ^ mix(0, lane)) * p1 + p4) & mask64
    else:
        found = (seed + p5) & mask64
    found = (found + length) & mask64
    while place + 8 <= length:
        found = (rotate(found ^ mix(0, int.from_bytes(content[place : place + 8], "little")), 27) * p1 + p4) & mask64
        place += 8
    if place + 4 <= length:
        found = (
            rotate(found ^ int.from_bytes(content[place : place + 4], "little") * p1 & mask64, 23) * p2 + p3
        ) & mask64
        place += 4
    for byte in content[place:]:
        found = rotate(found ^ byte * p5 & mask64, 11) * p1 & mask64
    found = (found ^ found >> 33) * p2 & mask64
    found = (found ^ found >> 29) * p3 & mask64
    found ^= found >> 32
    return found - 2**64 if found >= 2**63 else found


def xxhash64_text(text: str | None) -> int:
    return 42 if text is None else xxhash64(text.encode(), 42)


def canonical_json(text: str | None) -> str | None:
    """A VARIANT as text: no spaces, and keys in order, as Spark keeps them."""
    if text is None:
        return None
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


FUNCTIONS: tuple[tuple[str, Callable[..., Any], list[str], str], ...] = (
    ("spark_decimal", decimal_operation, ["VARCHAR", "VARCHAR", "VARCHAR", "INTEGER", "INTEGER", "BOOLEAN"], "VARCHAR"),
    ("spark_bround", bround, ["VARCHAR", "INTEGER"], "VARCHAR"),
    ("spark_real", real_text, ["DOUBLE"], "VARCHAR"),
    ("spark_conv", conv, ["VARCHAR", "INTEGER", "INTEGER"], "VARCHAR"),
    ("spark_soundex", soundex, ["VARCHAR"], "VARCHAR"),
    ("spark_crc32", crc32, ["BLOB"], "BIGINT"),
    ("spark_luhn", luhn_check, ["VARCHAR"], "BOOLEAN"),
    ("spark_mask", mask, ["VARCHAR"], "VARCHAR"),
    ("spark_parse_url", parse_url, ["VARCHAR", "VARCHAR", "VARCHAR"], "VARCHAR"),
    ("spark_url_encode", url_encode, ["VARCHAR"], "VARCHAR"),
    ("spark_url_decode", url_decode, ["VARCHAR"], "VARCHAR"),
    ("spark_initcap", initcap, ["VARCHAR"], "VARCHAR"),
    ("spark_format_number", format_number, ["VARCHAR", "INTEGER"], "VARCHAR"),
    ("spark_split", split, ["VARCHAR", "VARCHAR", "INTEGER"], "VARCHAR[]"),
    ("spark_json", canonical_json, ["VARCHAR"], "VARCHAR"),
    ("spark_xxhash64", xxhash64_text, ["VARCHAR"], "BIGINT"),
)

MACROS = (
    "spark_real_text(x) AS CASE WHEN x = 0 OR (abs(x) >= 0.001 AND abs(x) < 10000000) THEN CAST(x AS VARCHAR)"
    " ELSE spark_real(CAST(x AS DOUBLE)) END",
    "spark_variant_text(x) AS CASE WHEN left(ltrim(x), 1) IN ('{', '[') THEN spark_json(x)"
    " ELSE json_extract_string(x, '$') END",
    # Most parts are plain text; only what may be an object or an array is looked at again.
    "spark_part(d, p) AS CASE WHEN left(json_extract_string(d, p), 1) IN ('{', '[')"
    " THEN spark_variant_text(json_extract(d, p)) ELSE json_extract_string(d, p) END",
    "spark_moment_text(x) AS strftime(x, '%Y-%m-%d %H:%M:%S') ||"
    " CASE WHEN epoch_us(x) % 1000000 = 0 THEN '' ELSE rtrim(strftime(x, '.%f'), '0') END",
)


def register(connection: "duckdb.DuckDBPyConnection") -> None:
    """Make the functions known to a database."""
    for name, function, parameters, returns in FUNCTIONS:
        connection.create_function(name, function, parameters, returns, null_handling="special")  # type: ignore[call-overload]
    for macro in MACROS:
        connection.execute(f"CREATE MACRO {macro}")
