"""What is said of an approval outside of the server, and how what comes back is known to be an answer to it.

Messages have the shape of Slack's incoming webhooks, and what comes back that of its interactive messages. Both are
signed in Slack's way: HMAC-SHA256 over `v0:TIMESTAMP:BODY` (Slack API, "Verifying requests from Slack").
"""

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs
from uuid import UUID

from pydantic import BaseModel, ValidationError

from lakemesh.errors import InvalidRequest, PermissionDenied, Unauthenticated

Verb = Literal["approve", "refuse"]
VERBS: tuple[Verb, ...] = ("approve", "refuse")
MAX_AGE_SECONDS = 300
"""How old a signed request may be, as Slack recommends."""
MAX_SHOWN = 2_500
"""Characters of a block's text; Slack takes 3,000."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button that somebody pressed: `user` is who it was there."""

    approval_id: UUID
    verb: Verb
    user: str


def signature_of(secret: str, timestamp: str, body: bytes) -> str:
    said = b"v0:" + timestamp.encode() + b":" + body
    return "v0=" + hmac.new(secret.encode(), said, hashlib.sha256).hexdigest()


def signed_headers(secret: str, body: bytes) -> dict[str, str]:
    """What a message of ours is sent with."""
    timestamp = str(int(time.time()))
    return {
        "Content-Type": "application/json",
        "X-Lakemesh-Request-Timestamp": timestamp,
        "X-Lakemesh-Signature": signature_of(secret, timestamp, body),
    }


def require_signed(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raises `Unauthenticated` for a request that was not signed by this secret, or was long ago."""
    timestamp = headers.get("x-slack-request-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp[:12])) > MAX_AGE_SECONDS:
        raise Unauthenticated("The request's timestamp is missing, or it is too old.")
    expected = signature_of(secret, timestamp, body)
    if not hmac.compare_digest(expected.encode(), headers.get("x-slack-signature", "").encode()):
        raise Unauthenticated("The request is not signed by the webhook's secret.")


def decision_token(secret: str, approval_id: UUID, verb: Verb, expires_at: int) -> str:
    """One decision on one approval, until it is over (Unix seconds)."""
    said = f"{approval_id}.{verb}.{expires_at}"
    return f"{said}.{hmac.new(secret.encode(), f'approval {said}'.encode(), hashlib.sha256).hexdigest()}"


def read_decision(secret: str, token: str) -> tuple[UUID, Verb]:
    """Raises `PermissionDenied` for one that was not made by `decision_token`, or is over."""
    parts = token.split(".")
    try:
        approval_id, verb, expires_at = UUID(parts[0]), parts[1], int(parts[2])
    except (IndexError, ValueError):
        raise PermissionDenied("The link is not one of this server's.") from None
    known = next((one for one in VERBS if one == verb), None)
    if known is None or not hmac.compare_digest(
        decision_token(secret, approval_id, known, expires_at).encode(), token.encode()
    ):
        raise PermissionDenied("The link is not one of this server's.")
    if expires_at < time.time():
        raise PermissionDenied("The link's time is over.")
    return approval_id, known


class SlackUser(BaseModel):
    id: str


class SlackAction(BaseModel):
    value: str


class SlackPayload(BaseModel):
    """What is read of an interaction's payload."""

    user: SlackUser
    actions: Sequence[SlackAction]


def read_pressed(secret: str, body: bytes) -> Pressed:
    """The button of a signed interaction (`payload=...`, form-encoded). Raises `InvalidRequest` and
    `PermissionDenied`."""
    try:
        (payload,) = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)["payload"]
        said = SlackPayload.model_validate_json(payload)
        (action,) = said.actions
    except (UnicodeDecodeError, KeyError, ValueError, ValidationError):
        raise InvalidRequest("The body is no interaction with one button: payload=<JSON>.") from None
    approval_id, verb = read_decision(secret, action.value)
    return Pressed(approval_id, verb, said.user.id)


def message_of(shown: Mapping[str, Any], links: Mapping[Verb, str], buttons: Mapping[Verb, str]) -> dict[str, Any]:
    """An approval, as `PendingApproval.to_dict` has it, for Slack. `links` lead to the console; `buttons` are values
    that come back."""
    title = f"{shown['asked_by']} asks for an approval: {shown['action']}"
    facts = {
        "Agent": " < ".join(shown["agents"]),
        "Asked by": shown["asked_by"],
        "Rule": shown["rule"],
        "Cost": None if shown["cost_usd"] is None else f"{shown['cost_usd']:.2f} USD",
        "Text from": ", ".join(shown["origins"]),
        "Until": f"{shown['expires_at']:%Y-%m-%d %H:%M} UTC",
    }
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": plain(title)},
        {"type": "section", "fields": [plain(f"{name}: {value}", 1_900) for name, value in facts.items() if value]},
    ]
    if shown["diff"]:
        blocks.append({"type": "section", "text": plain(shown["diff"])})
    elements = [
        {"type": "button", "text": plain(verb.capitalize()), "action_id": verb, "value": value}
        for verb, value in buttons.items()
    ]
    elements += [
        {
            "type": "button",
            "text": plain(f"{verb.capitalize()} in the console"),
            "action_id": f"open_{verb}",
            "url": url,
        }
        for verb, url in links.items()
    ]
    if elements:
        blocks.append({"type": "actions", "elements": elements})
    return {"text": title[:MAX_SHOWN], "blocks": blocks}


def plain(text: str, limit: int = MAX_SHOWN) -> dict[str, Any]:
    """Text that is shown as it is: what agents say is no markup and mentions nobody."""
    return {"type": "plain_text", "text": text if len(text) <= limit else f"{text[:limit]} …", "emoji": False}
