"""Who may use an emulator: made when it is first started, so that there are no well-known credentials."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE = "emulator-accounts.json"
ADMIN = "admin@example.com"
PRINCIPAL = "emulator-client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Users by personal access token, service principals with their secrets, and who of them may do everything."""

    tokens: Mapping[str, str]
    principals: Mapping[str, str] = field(default_factory=dict)
    admins: frozenset[str] = frozenset({ADMIN, PRINCIPAL})

    @property
    def admin_token(self) -> str:
        return next(token for token, user in self.tokens.items() if user in self.admins)


def accounts_of(home: Path, token: str | None = None) -> Accounts:
    """Those of this home: an administrator's token and a service principal, kept in a file that only its owner reads.
    A `token` that is given takes the place of the one that was made."""
    file = home / FILE
    if file.is_file():
        kept = json.loads(file.read_text())
    else:
        kept = {"token": f"emulator-{secrets.token_urlsafe(24)}", "client_secret": secrets.token_urlsafe(24)}
        home.mkdir(parents=True, exist_ok=True)
        write_private(file, json.dumps(kept))
    return Accounts(tokens={token or kept["token"]: ADMIN}, principals={PRINCIPAL: kept["client_secret"]})


def write_private(file: Path, content: str) -> None:
    """For its owner's eyes, from the first byte on."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(content)
