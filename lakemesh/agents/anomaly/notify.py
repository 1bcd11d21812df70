"""Who is told of alerts, and how: webhooks, signed, and e-mail over TLS. Nobody is told personal data."""

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage

import httpx
import structlog
from pydantic_core import to_json

from lakemesh.agents.anomaly.schemas import Alert, Mail, Notify, Webhook
from lakemesh.errors import InvalidRequest, LakemeshError
from lakemesh.governance.approval_messages import plain, signed_headers
from lakemesh.outgoing import checked, is_public, resolve
from lakemesh.redaction import PatternName, TextRedactor

logger = structlog.get_logger(__name__)

SEND_SECONDS = 20.0
MAX_TEXT = 4_000
REDACTED: tuple[PatternName, ...] = ("card_number", "email", "token")
SYMBOLS = {"low": "⚪", "medium": "🟠", "high": "🔴"}


class Notifier:
    def __init__(self, config: Notify) -> None:
        self._config = config

    @property
    def destinations(self) -> list[str]:
        """The hosts that alerts are sent to, for policies."""
        hosts = [httpx.URL(webhook.url).host for webhook in self._config.webhooks]
        return hosts + ([self._config.mail.host] if self._config.mail else [])

    async def tell(self, alerts: Sequence[Alert]) -> list[str]:
        """Everybody, of all the alerts; what could not be done, in words. Nothing is told twice within one call."""
        if not alerts:
            return []
        faults = [fault for webhook in self._config.webhooks for fault in await self._post(webhook, alerts)]
        if self._config.mail is not None:
            faults += await self._mail(self._config.mail, alerts)
        return faults

    async def _post(self, webhook: Webhook, alerts: Sequence[Alert]) -> list[str]:
        """To the address that was checked, and to no other: redirects are not followed."""
        faults = []
        async with httpx.AsyncClient(timeout=SEND_SECONDS, follow_redirects=False, trust_env=False) as client:
            for alert in alerts:
                body = body_of(alert, webhook)
                try:
                    place = await checked(webhook.url, allow_private=self._config.to_private)
                    headers = {**place.headers, **headers_of(body, webhook.secret), "Idempotency-Key": alert.alert_id}
                    answer = await client.post(place.url, content=body, headers=headers, extensions=place.extensions)
                    if not answer.is_success:
                        faults.append(f"The webhook at {httpx.URL(webhook.url).host} answered {answer.status_code}.")
                except (httpx.HTTPError, InvalidRequest) as error:
                    faults.append(
                        f"The webhook at {httpx.URL(webhook.url).host} was not reached: {type(error).__name__}."
                    )
        return faults

    async def _mail(self, mail: Mail, alerts: Sequence[Alert]) -> list[str]:
        try:
            addresses = await resolve(mail.host, mail.port)
            if not self._config.to_private and not all(map(is_public, addresses)):
                raise InvalidRequest("The mail server's address is not public; to_private lets it be.")
            async with asyncio.timeout(SEND_SECONDS):
                await asyncio.to_thread(send, mail, message_of(mail, alerts), addresses[0], self._config.certificates)
        except LakemeshError as error:
            return [f"No mail was sent: {error.detail}"]
        except (OSError, smtplib.SMTPException, TimeoutError) as error:
            return [f"The mail server {mail.host} did not take the mail: {type(error).__name__}."]
        return []


def body_of(alert: Alert, webhook: Webhook) -> bytes:
    """JSON: the alert, or what Slack shows, as plain text: rows are no markup and mention nobody."""
    if webhook.shape == "json":
        return to_json({"type": "lakemesh.alert", "alert": alert.model_dump(mode="json")})
    return to_json({"text": title_of(alert), "blocks": [{"type": "section", "text": plain(text_of(alert))}]})


def headers_of(body: bytes, secret: str | None) -> dict[str, str]:
    return signed_headers(secret, body) if secret is not None else {"Content-Type": "application/json"}


def title_of(alert: Alert) -> str:
    return f"{SYMBOLS[alert.severity]} {alert.watch}: {alert.check} at {alert.bucket_start:%Y-%m-%d %H:%M} UTC"


def text_of(alert: Alert) -> str:
    lines = [title_of(alert), alert.explanation, f"Table: {alert.table}"]
    lines += [", ".join(f"{name}={value}" for name, value in row.items()) for row in alert.evidence]
    if alert.proposal:
        lines.append(f"Proposed: {alert.proposal}")
    return TextRedactor(REDACTED).redact("\n".join(lines), MAX_TEXT)


def message_of(mail: Mail, alerts: Sequence[Alert]) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = mail.sender, ", ".join(mail.to)
    message["Subject"] = title_of(alerts[0]) + (f" and {len(alerts) - 1} more" if len(alerts) > 1 else "")
    message.set_content("\n\n".join(map(text_of, alerts)))
    return message


def send(mail: Mail, message: EmailMessage, address: str, certificates: str | None) -> None:
    """Blocks. To the address that was checked, whose certificate is for the name that was asked for."""
    context = ssl.create_default_context()
    if certificates is not None:
        context.load_verify_locations(certificates)
    server: smtplib.SMTP = (Tls if mail.security == "tls" else Plain)(mail.host, context)
    with server:
        server.connect(address, mail.port)
        if mail.security == "starttls":
            server.starttls(context=context)
        if mail.user is not None:
            server.login(mail.user, mail.password or "")
        server.send_message(message)


class Plain(smtplib.SMTP):
    """Connects to an address and knows the server by its name, which STARTTLS checks."""

    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        super().__init__(timeout=SEND_SECONDS)
        self._host = name


class Tls(smtplib.SMTP_SSL):
    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        super().__init__(timeout=SEND_SECONDS, context=context)
        self._host = name
