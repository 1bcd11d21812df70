"""TLS in front of a PostgreSQL that speaks none, as Lakebase demands it.

A client begins with an SSLRequest; the answer is one byte, `S`, and the TLS handshake follows on the same connection
(PostgreSQL documentation, "Message Flow", SSL session encryption). What comes after it is passed on as it is.
"""

import asyncio
import datetime as dt
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
CHUNK_BYTES = 65_536
HANDSHAKE_SECONDS = 10.0


class TlsFront:
    """Listens on a loopback port and passes what it hears, decrypted, to the server's Unix socket."""

    def __init__(self, socket_path: Path, context: ssl.SSLContext) -> None:
        self._socket_path = socket_path
        self._context = context
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.port = 0

    @classmethod
    async def listen(cls, host: str, folder: Path) -> "TlsFront":
        """In front of the server whose data lie in `folder`."""
        lines = await asyncio.to_thread((folder / "postmaster.pid").read_text)
        port, socket_folder = lines.splitlines()[3:5]
        front = cls(Path(socket_folder) / f".s.PGSQL.{port}", await asyncio.to_thread(self_signed_context, host))
        front._server = await asyncio.start_server(front._accept, host, 0)
        front.port = front._server.sockets[0].getsockname()[1]
        return front

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                        return  # without encryption nobody comes in
                    writer.write(b"S")
                    await writer.start_tls(self._context)
                await self._pass_on(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(self._socket_path))
        try:
            ways = [
                asyncio.ensure_future(copy(reader, inner_writer)),
                asyncio.ensure_future(copy(inner_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            inner_writer.close()


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK_BYTES):
        target.write(chunk)
        await target.drain()


def self_signed_context(host: str) -> ssl.SSLContext:
    """A server's TLS context with a certificate made now, whose key never stays on disk."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(private + certificate.public_bytes(serialization.Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    return context
