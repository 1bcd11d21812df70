"""The agent card: the agents as skills."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from lakemesh import __version__
from lakemesh.a2a.signing import JWKS_PATH, Signer
from lakemesh.engine.registry import AgentDescription, AgentRegistry
from lakemesh.schemas import Identity

DOOR = "a2a"
MODES = ("application/json", "text/plain")
SCHEMAS_URI = "urn:lakemesh:skill-schemas:1"
INTERFACES = (
    ("JSONRPC", "/a2a/rpc", "1.0"),
    ("HTTP+JSON", "/a2a", "1.0"),
    ("JSONRPC", "/a2a/rpc", "0.3"),
    ("HTTP+JSON", "/a2a", "0.3"),
)
MAX_CARDS = 64
CACHE_SECONDS = 60

Card = dict[str, Any]


class Cards:
    """Makes cards, and keeps the last few, since a signature costs more than the card."""

    def __init__(self, registry: AgentRegistry, *, schemes: Mapping[str, Card], signer: Signer | None) -> None:
        self._registry = registry
        self._schemes = schemes
        self._signer = signer
        self._made: OrderedDict[str, tuple[Sequence[AgentDescription], Card]] = OrderedDict()

    def make(self, identity: Identity, base_url: str) -> Card:
        """With the skills that `identity` may use."""
        agents = self._registry.visible_to(identity, DOOR)
        key = f"{base_url} {[agent.name for agent in agents]}"
        made = self._made.get(key)
        if made is not None and made[0] == agents:
            return made[1]
        card = make_card(agents, base_url=base_url, schemes=self._schemes)
        if self._signer is not None:
            card = self._signer.sign_card(card, base_url + JWKS_PATH)
        card = with_legacy_members(card)
        self._made[key] = (agents, card)
        if len(self._made) > MAX_CARDS:
            self._made.popitem(last=False)
        return card


def make_card(agents: Sequence[AgentDescription], *, base_url: str, schemes: Mapping[str, Card]) -> Card:
    """`schemes` are the ways to authenticate, in the protocol's form; any one of them is enough."""
    card: Card = {
        "name": "lakemesh",
        "description": "Agents on the lakehouse. Name a skill in the message's metadata as 'skill'.",
        "version": __version__,
        "supportedInterfaces": [
            {"url": base_url + path, "protocolBinding": binding, "protocolVersion": version}
            for binding, path, version in INTERFACES
        ],
        "capabilities": {
            "streaming": True,
            "pushNotifications": True,
            "extendedAgentCard": True,
            "extensions": [schemas_of(agents)],
        },
        "defaultInputModes": list(MODES),
        "defaultOutputModes": list(MODES),
        "skills": [skill_of(agent) for agent in agents],
    }
    if schemes:
        card["securitySchemes"] = dict(schemes)
        card["securityRequirements"] = [{"schemes": {name: {}}} for name in schemes]
    return card


def schemas_of(agents: Sequence[AgentDescription]) -> Card:
    """The JSON schemas of what the skills take and give, by skill, which the protocol has no place for."""
    return {
        "uri": SCHEMAS_URI,
        "description": "JSON schemas of each skill's input and output",
        "params": {agent.name: {"input": agent.input_schema, "output": agent.output_schema} for agent in agents},
    }


def skill_of(agent: AgentDescription) -> Card:
    return {
        "id": agent.name,
        "name": agent.name,
        "description": agent.description or agent.name,
        "tags": ["lakemesh"],
        "inputModes": list(MODES),
        "outputModes": list(MODES),
    }


def with_legacy_members(card: Card) -> Card:
    """The card with what readers of protocol 0.3 look for, beside what those of 1.0 do."""
    main = card["supportedInterfaces"][0]
    legacy = {
        "protocolVersion": "0.3.0",
        "url": main["url"],
        "preferredTransport": main["protocolBinding"],
        "additionalInterfaces": [
            {"url": other["url"], "transport": other["protocolBinding"]}
            for other in card["supportedInterfaces"]
            if other["protocolVersion"] == "0.3"
        ],
        "supportsAuthenticatedExtendedCard": True,
    }
    schemes = card.get("securitySchemes", {})
    if schemes:
        legacy["securitySchemes"] = {name: {**scheme, **legacy_scheme(scheme)} for name, scheme in schemes.items()}
        legacy["security"] = [{name: []} for name in schemes]
    return {**card, **legacy}


def legacy_scheme(scheme: Card) -> Card:
    if "openIdConnectSecurityScheme" in scheme:
        return {"type": "openIdConnect", **scheme["openIdConnectSecurityScheme"]}
    return {"type": "http", **scheme["httpAuthSecurityScheme"]}


def bearer_scheme() -> Card:
    return {"httpAuthSecurityScheme": {"scheme": "bearer"}}


def openid_scheme(issuer: str) -> Card:
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    return {"openIdConnectSecurityScheme": {"openIdConnectUrl": url}}


def encoded(card: Card) -> tuple[bytes, str]:
    """The card's bytes and their entity tag."""
    body = to_json(card)
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
