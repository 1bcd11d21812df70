"""Tokens that this server gives out and believes again: what they hold is signed, and told whom and how long it is for.

They hold what would else be a session's memory, so that any replica with the same key reads them. They are signed
(HMAC-SHA256, RFC 2104) and not hidden: what is in them came from the client that holds them.
"""

import hashlib
import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

MAX_LENGTH = 65_536
MAX_NONCES = 100_000


class Seal:
    """`purpose` keeps a token of one kind from being believed as one of another."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = hmac.digest(key, purpose.encode(), hashlib.sha256)

    def close(self, content: Mapping[str, Any], *, seconds: float) -> str:
        body = encode(to_json({**content, "until": int(time.time() + seconds)}))
        return f"{body}.{self._signature(body)}"

    def open(self, token: Any) -> dict[str, Any] | None:
        """What is in it; None for a token that is not ours, was changed, or is too old."""
        if not isinstance(token, str) or len(token) > MAX_LENGTH or not token.isascii():
            return None
        body, _, signature = token.rpartition(".")
        if not hmac.compare_digest(self._signature(body), signature):
            return None
        content: dict[str, Any] = from_json(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return content if content["until"] >= time.time() else None

    def _signature(self, body: str) -> str:
        return encode(hmac.digest(self._key, body.encode(), hashlib.sha256))


class Nonces:
    """What this process was shown already, so that a token is believed once; each is remembered as long as its token
    would be believed, `MAX_NONCES` at most."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()

    def first_use(self, nonce: str, *, until: float) -> bool:
        """`until` is the Unix time at which the token ends."""
        now = time.time()
        while self._seen and (len(self._seen) >= MAX_NONCES or next(iter(self._seen.values())) < now):
            self._seen.popitem(last=False)
        if nonce in self._seen:
            return False
        self._seen[nonce] = until
        return True


def encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
