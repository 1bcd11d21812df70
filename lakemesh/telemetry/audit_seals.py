"""Audit records that can be erased of a person without a gap in the chain.

Whose a record is, and its details, are under a key of that person (AES-256-GCM, NIST SP 800-38D). The chain is over
what is sealed, so it stays whole when the key is destroyed, and then nobody can tell any more. Keys are rows of a table
of their own; each process makes its own for each person and day (UTC), so that processes need not agree.
"""

import base64
import json
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import to_json

from lakemesh.telemetry.audit_chain import AuditRecord

NONCE_BYTES = 12
KEY_BYTES = 32
DAY_SECONDS = 86_400
SEALED = "sealed"
PERSON = "person:"
NOBODY = ("", "server")
"""Actors that are no person."""


class PersonKey(NamedTuple):
    time_ns: int
    key_id: str
    user: str
    key: bytes


class Seals:
    """The keys of one process. Used by one thread, that writes the chain."""

    def __init__(self) -> None:
        self._day = 0
        self._keys: dict[str, PersonKey] = {}
        self.unkept: list[PersonKey] = []
        """Keys that are not on disk yet: they go there in one commit with the first record under them."""

    def seal(self, record: AuditRecord) -> AuditRecord:
        """The record without a name, its details readable with the person's key alone."""
        if record.actor in NOBODY:
            return record
        person = self._key_of(record.actor)
        details = {SEALED: sealed(person, to_json(dict(record.details), fallback=str))}
        return record._replace(actor=person.key_id, details=details)

    def renew(self, user: str) -> None:
        """Let go of a person's key; the next record makes another. Called from any thread."""
        self._keys.pop(user, None)

    def _key_of(self, user: str) -> PersonKey:
        day = int(time.time()) // DAY_SECONDS
        if day != self._day:
            self._day, self._keys = day, {}
        person = self._keys.get(user)
        if person is None:
            person = PersonKey(time.time_ns(), f"{PERSON}{os.urandom(12).hex()}", user, os.urandom(KEY_BYTES))
            self._keys[user] = person
            self.unkept.append(person)
        return person


def sealed(person: PersonKey, content: bytes) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(person.key).encrypt(nonce, content, person.key_id.encode())).decode()


def opened(row: Mapping[str, Any], keys: Mapping[str, tuple[str, bytes]]) -> dict[str, Any]:
    """A row of the table with who it is about and what was done, if the person's key is still there. `keys` are users
    and keys by id."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    found = keys.get(str(row["actor"]))
    if found is None:
        return dict(row)
    user, key = found
    content = base64.b64decode(json.loads(row["details"])[SEALED])
    details = AESGCM(key).decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], str(row["actor"]).encode())
    return {**row, "actor": user, "details": details.decode()}
