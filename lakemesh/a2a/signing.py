"""What this server signs: its cards and its push notifications, with one EC P-256 key."""

import hashlib
import time
import uuid
from typing import Any

from lakemesh.config.a2a import A2aConfig

JWKS_PATH = "/.well-known/jwks.json"
NOTIFICATION_SECONDS = 300


class Signer:
    """Raises `ValueError` for a key that is none."""

    def __init__(self, key: str, key_id: str, *, issuer: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        private = load_pem_private_key(key.encode(), None)
        if not isinstance(private, EllipticCurvePrivateKey) or not isinstance(private.curve, SECP256R1):
            raise ValueError("a2a.signing_key is no EC P-256 key")
        self._private = private
        self._pem = key
        self._key_id = key_id
        self._issuer = issuer

    def sign_card(self, card: dict[str, Any], jwks_url: str) -> dict[str, Any]:
        """The card with its signature (A2A 1.0, section 8.4: JWS over canonical JSON)."""
        from a2a.types.a2a_pb2 import AgentCard
        from a2a.utils.signing import create_agent_card_signer
        from google.protobuf.json_format import MessageToDict, ParseDict

        message = ParseDict(card, AgentCard(), ignore_unknown_fields=True)
        header: Any = {"alg": "ES256", "typ": "JOSE", "kid": self._key_id, "jku": jwks_url}
        signed = create_agent_card_signer(self._pem, header)(message)
        return {**card, "signatures": [MessageToDict(signature) for signature in signed.signatures]}

    def sign_notification(self, body: bytes, *, audience: str, task_id: str) -> str:
        """A JWT for the receiver at `audience`, good for this body alone and for five minutes."""
        import jwt

        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "iat": now,
            "exp": now + NOTIFICATION_SECONDS,
            "jti": uuid.uuid4().hex,
            "taskId": task_id,
            "request_body_sha256": hashlib.sha256(body).hexdigest(),
        }
        return jwt.encode(claims, self._private, algorithm="ES256", headers={"kid": self._key_id})

    def jwks(self) -> dict[str, Any]:
        """The public key (RFC 7517), for those who check signatures."""
        from jwt.algorithms import ECAlgorithm

        public: dict[str, Any] = ECAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self._key_id, "use": "sig", "alg": "ES256"}]}


def open_signer(config: A2aConfig) -> Signer | None:
    if config.signing_key is None:
        return None
    return Signer(config.signing_key, config.signing_key_id, issuer=config.public_url or "lakemesh")
