"""What must not be written down: card numbers, e-mail addresses, tokens, passwords.

Every pattern is linear in the length of the text: quantifiers are possessive, so that nothing is tried twice, and what
may be scanned in vain is bounded. Text is cut before it is searched, with a margin that still shows the whole of what
begins before the cut.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

PatternName = Literal["card_number", "email", "token"]

REDACTED = "[redacted]"
MARGIN = 512
"""Characters read beyond the cut: longer than any pattern needs to be recognized."""
MAX_NAME_CHARACTERS = 256

# Thirteen to nineteen digits (ISO/IEC 7812-1), in groups or not; `card_spans` judges the whole run of groups.
CARD = r"(?P<card>(?<![0-9])(?=[0-9](?:[ .\-]{0,2}[0-9]){12})[0-9]++(?:[ .\-]{1,2}[0-9]++)*+)"
EMAIL = r"(?P<email>(?<![\w.+\-])[\w.+\-]++@[\w\-]++(?:\.[\w\-]++)++)"
JWT = r"(?P<jwt>eyJ[\w\-]{8,}+(?:\.{1,2}[\w\-]++)*+)"
CREDENTIAL = r"(?P<credential>(?<![A-Za-z0-9])(?i:bearer|basic)[ \t:=]{1,4}+[\"']?[\w.~+/=\-]{8,}+)"
PREFIXED = (
    r"(?P<prefixed>(?<![A-Za-z0-9])(?:"
    r"(?:dapi|dkea|gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|sk-|[rs]k_(?:live|test)_|hf_|npm_|pypi-|AIza)[\w\-]{16,}+"
    r"|dose[0-9a-f]{16,}+|A[KS]IA[0-9A-Z]{16}(?![0-9A-Za-z])"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\w+/=\s\\]*+))"
)
AUTHORITY = r"(?P<authority>://[^\s/?#\"'<>\\]++)"
NAMES_OF_SECRETS = (
    r"pass(?:word|wd|phrase)|secret|credential|authorization|token|cookie"
    r"|(?:api|private|access|account)[_.\-]?key|connection[_.\-]?string|(?<![a-z])(?:pwd|dsn)(?![a-z])"
)
NAMED = (
    rf"(?P<named>(?P<name>(?i:{NAMES_OF_SECRETS})[\w.\-]{{0,32}}+)(?P<between>\\{{0,3}}[\"']?\s{{0,2}}+[:=]\s{{0,2}}+)"
    r"(?P<value>\"(?:[^\"\\]|\\.)*+\"?|\\{1,3}\"[^\"]*+\"?|'[^']*+'?|[\[{][^\]}]*+[\]}]?"
    r"|(?:(?i:bearer|basic|digest|negotiate)\s{1,2}+)?[^\s,;&\"'{}\[\]<>]++))"
)
# What pydantic quotes in its errors is a caller's.
QUOTED = r"(?P<quoted>(?<=input_value=)[^\n]{0,256}?(?=, input_type=))"
INPUT_VALUE = re.compile(QUOTED)

PATTERNS: dict[PatternName, Sequence[str]] = {
    "card_number": (CARD,),
    "email": (EMAIL,),
    "token": (AUTHORITY, QUOTED, NAMED, JWT, CREDENTIAL, PREFIXED),
}
# What a text must contain for its patterns to be worth trying, as `folded` has it: plain searches over a whole batch
# cost a thirtieth of the patterns.
HINTS: dict[PatternName, Sequence[bytes]] = {
    "card_number": (b"0000000000000", b"00 00", b"00-00", b"00.00", b"00  00", b"0 0 0 0"),
    "email": (b"@",),
    "token": (
        b"eyj", b"bearer", b"basic", b"dapi", b"dkea", b"dose", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_",
        b"github_pat_", b"glpat-", b"xox", b"sk-", b"k_live_", b"k_test_", b"hf_", b"npm_", b"pypi-", b"aiza",
        b"akia", b"asia", b"://", b"passw", b"passphrase", b"secret", b"credential", b"authorization", b"token",
        b"cookie", b"key", b"connection", b"pwd", b"dsn", b"input_value=",
    ),
}  # fmt: skip
FOLD = bytes(ord("0") if 48 <= byte <= 57 else byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
NO_DIGITS = bytes(byte for byte in range(256) if not 48 <= byte <= 57)
DIGIT_VALUES = bytes(byte - 48 if 48 <= byte <= 57 else 0 for byte in range(256))
DOUBLED = bytes(sum(divmod(2 * byte, 10)) if byte < 10 else 0 for byte in range(256))
OPENING_QUOTE = re.compile(r"\\{0,3}\"|'")
PLAIN_VALUE = re.compile(r"(?i:null|none|true|false|)")
NUMBER = re.compile(r"-?[0-9.]{1,20}")
MAX_CARD_CHARACTERS = 64
CARD_SHAPES = frozenset(
    {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4), (4, 4, 5), (6, 13), (6, 10), (4, 4, 4, 1)}
)


class TextRedactor:
    """Takes out of text what the named patterns find."""

    def __init__(self, patterns: Sequence[PatternName]) -> None:
        parts = [part for name in patterns for part in PATTERNS[name]]
        self._find = re.compile("|".join(parts) or r"(?!)").finditer
        self.hints = [hint for name in patterns for hint in HINTS[name]]

    def is_suspicious(self, text: str) -> bool:
        plain = folded(text.encode(errors="replace"))
        return any(hint in plain for hint in self.hints)

    def redact(self, text: str, limit: int) -> str:
        """The text without what the patterns find; cut, with its length told, when it is longer than `limit`."""
        cut = text[: limit + MARGIN]
        cut = self._redact(cut, limit) if self.is_suspicious(cut) else cut[:limit]
        return cut if len(text) <= limit else f"{cut}… ({len(text)} characters)"

    def _redact(self, text: str, limit: int) -> str:
        """The part of `text` before `limit`; what begins there is recognized by what follows."""
        kept: list[str] = []
        at = 0
        for match in self._find(text):
            for start, end, replacement in REPLACEMENTS[match.lastgroup or ""](match):
                if start >= limit:
                    break
                kept += (text[at:start], replacement)
                at = end
        kept.append(text[at:limit])
        return "".join(kept)


Replacement = tuple[int, int, str]


def card_spans(match: re.Match[str]) -> list[Replacement]:
    """The card numbers in a run of digit groups: a group of its own, neighbours that are grouped as cards are, or the
    whole run when it is parted by blanks or dashes alone."""
    text, offset = match[0], match.start()
    groups = [(part.start(), part.end()) for part in re.finditer(r"[0-9]+", text)]
    if len(groups) > 1 and len(text) <= MAX_CARD_CHARACTERS and "." not in text and is_card(text):
        return [(offset, match.end(), "[card number]")]
    if len(groups) == 1 and is_within_hex(match):
        return []
    found: list[Replacement] = []
    index = 0
    while index < len(groups):
        count = card_groups(text, groups[index : index + 5])
        if count:
            found.append((offset + groups[index][0], offset + groups[index + count - 1][1], "[card number]"))
        index += count or 1
    return found


def card_groups(text: str, groups: Sequence[tuple[int, int]]) -> int:
    """How many of the first groups are one card number; 0 when they are none."""
    sizes = tuple(end - start for start, end in groups)
    if sizes[0] >= 13 and is_card(text[groups[0][0] : groups[0][1]]):
        return 1
    for count in range(len(groups), 1, -1):
        if sizes[:count] in CARD_SHAPES and is_card(text[groups[0][0] : groups[count - 1][1]]):
            return count
    return 0


def is_card(text: str) -> bool:
    """Whether the digits in `text` are as many as a card has and end in the right check digit."""
    digits = text.replace(" ", "").replace("-", "").replace(".", "")
    return 13 <= len(digits) <= 19 and passes_luhn(digits)


def is_within_hex(match: re.Match[str]) -> bool:
    """Whether the digits are a part of a hexadecimal id, such as a trace's."""
    text = match.string
    before = re.search(r"[0-9a-zA-Z]*\Z", text[max(0, match.start() - 40) : match.start()])
    after = re.match(r"[0-9a-zA-Z]*", text[match.end() : match.end() + 40])
    around = (before[0] if before else "") + (after[0] if after else "")
    return bool(around) and re.fullmatch(r"[0-9a-fA-F]+", around) is not None


def passes_luhn(text: str) -> bool:
    """The check digit of payment card numbers (ISO/IEC 7812-1, annex B)."""
    digits = text.encode("ascii", "ignore").translate(DIGIT_VALUES, NO_DIGITS)[::-1]
    return (sum(digits[::2]) + sum(digits[1::2].translate(DOUBLED))) % 10 == 0


def is_card_number(number: float) -> bool:
    """Whether a number is one of the issuers of payment cards (first digit 2 to 6): times in nanoseconds, which are as
    long, begin with 1."""
    text = str(int(number)) if number == number and abs(number) < 1e19 and number == int(number) else ""
    return text[:1] in tuple("23456") and is_card(text)


def whole(replacement: str) -> Callable[[re.Match[str]], list[Replacement]]:
    return lambda match: [(match.start(), match.end(), replacement)]


def jwt_span(match: re.Match[str]) -> list[Replacement]:
    """Base64 of a JSON object is a token only with the parts of one, as far as the text goes."""
    is_token = "." in match[0] or match.end() == len(match.string)
    return [(match.start(), match.end(), "[token]")] if is_token else []


def credential_span(match: re.Match[str]) -> list[Replacement]:
    """`Basic` is a word of plain English too: what follows it is a credential unless it is a word."""
    words = match[0].rstrip(".")
    if words[:5].lower() == "basic" and words[6:].isalpha() and words[6:].islower():
        return []
    return [(match.start(), match.start() + len(words), "[token]")]


def authority_span(match: re.Match[str]) -> list[Replacement]:
    """`user:password@` of a URL."""
    user, at, _ = match[0][3:].rpartition("@")
    return [(match.start() + 3, match.start() + 3 + len(user), "[credentials]")] if at else []


def named_span(match: re.Match[str]) -> list[Replacement]:
    """The value after a name such as `password`. Counts of tokens are no tokens."""
    value = match["value"]
    is_count = "token" in match["name"].lower() and NUMBER.fullmatch(value.rstrip("."))
    if PLAIN_VALUE.fullmatch(value) or is_count:
        return []
    quote = OPENING_QUOTE.match(value)
    mark = quote[0] if quote else ""
    end = match.start("value") + len(value if mark else value.rstrip(".)"))
    return [(match.start("value"), end, f"{mark}{REDACTED}{mark}")]


REPLACEMENTS: dict[str, Callable[[re.Match[str]], list[Replacement]]] = {
    "card": card_spans,
    "email": whole("[e-mail]"),
    "jwt": jwt_span,
    "credential": credential_span,
    "prefixed": whole("[token]"),
    "authority": authority_span,
    "quoted": whole(REDACTED),
    "named": named_span,
}


class NameMatcher:
    """Whether a key is one of those whose values are taken out. Patterns are names with `*` for any part of them;
    case makes no difference."""

    def __init__(self, patterns: Sequence[str]) -> None:
        pieces = [".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns]
        compiled = re.compile("|".join(pieces) or r"(?!)", re.IGNORECASE | re.DOTALL)
        self._matches = lru_cache(maxsize=4_096)(lambda name: compiled.fullmatch(name) is not None)

    def __call__(self, name: str) -> bool:
        # `gen_ai.*` are OpenTelemetry's names: `gen_ai.token.type` is a label.
        return not name.startswith("gen_ai.") and bool(self._matches(name[:MAX_NAME_CHARACTERS]))


def hides(name: str, value: object) -> bool:
    """Whether a value under a name that matched is a secret: counts of tokens, switches and nothing are not."""
    if value is None or isinstance(value, bool):
        return False
    return not (isinstance(value, int | float) and "token" in name.lower())


def without_input_values(text: str) -> str:
    """Text of an exception without the callers' values that pydantic quotes in its own."""
    return INPUT_VALUE.sub(REDACTED, text)


def folded(text: bytes) -> bytes:
    """`text` with every digit as 0 and every letter as a small one, to look for hints in."""
    return text.translate(FOLD)
