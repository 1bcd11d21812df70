"""Who asks a served model."""

import hashlib
from typing import TYPE_CHECKING

from cachetools import TTLCache

from lakemesh.config.settings import Settings
from lakemesh.errors import Unauthenticated
from lakemesh.governance.identity import LOCAL
from lakemesh.schemas import Identity

if TYPE_CHECKING:
    pass

MODEL = Identity(user="model", kind="service")
"""Everybody who may query the endpoint, where the platform hands over no token."""

KNOWN_USERS, KNOWN_SECONDS = 1_000, 900.0


class Users:
    """Names the caller by the token that Model Serving hands over, as the workspace knows it. What a request says of
    its user counts for nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: TTLCache[str, str] = TTLCache(KNOWN_USERS, KNOWN_SECONDS)

    def caller(self) -> Identity:
        """To be asked in the thread that the platform calls the model in. Raises `Unauthenticated` for a token that the
        workspace does not know."""
        if not self._settings.in_model_serving:
            return LOCAL
        token = invokers_token()
        if token is None:
            return MODEL
        key = hashlib.sha256(token.encode()).hexdigest()
        user = self._known.get(key)
        if user is None:
            user = self._known[key] = user_of(token, self._settings)
        return Identity(user=user, token=token)


def invokers_token() -> str | None:
    """The caller's token, cut down to the scopes that the model declares; None where the model declares none."""
    from databricks.sdk.credentials_provider import ModelServingAuthProvider

    provider = ModelServingAuthProvider(ModelServingAuthProvider.USER_CREDENTIALS)
    try:
        found = provider.get_databricks_host_token()
    except RuntimeError:  # the SDK's way to say that nobody's token is there
        return None
    return found[1] if found else None


def user_of(token: str, settings: Settings) -> str:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.core import Config

    from lakemesh.lakehouse.databricks.workspace import HTTP_SECONDS, RETRY_SECONDS

    try:
        config = Config(
            host=settings.databricks_host,
            token=token,
            auth_type="pat",
            http_timeout_seconds=HTTP_SECONDS,
            retry_timeout_seconds=RETRY_SECONDS,
        )
        user = WorkspaceClient(config=config).current_user.me().user_name
    except Exception as error:  # a boundary: whatever the SDK raises, nothing vouches for the caller
        raise Unauthenticated("The workspace does not know the caller's token.") from error
    if not user:
        raise Unauthenticated("The workspace names no user for the caller's token.")
    return str(user)
