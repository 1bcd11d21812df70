"""Networks of companies: a proxy on the way out, and a certificate authority of their own."""

import asyncio
import contextlib
import datetime as dt
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lakemesh.deploy.scaffold import make_app
from tests.deploy.shell import Shell
from tests.emulator.served import Emulator, serve

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass
class Proxy:
    """A forward proxy (RFC 9112, section 3.2.2): requests name their whole address. It says what it was asked for."""

    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, address, version = (await reader.readline()).decode().split(" ", 2)
        self.asked.append(address)
        parts = urlsplit(address)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        beyond = await asyncio.open_connection(parts.hostname, parts.port)
        beyond[1].write(f"{method} {path} {version}Connection: close\r\n".encode())
        await passed_on((reader, writer), beyond)


async def passed_on(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter], far: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Both ways, until the far side ends."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65_536):
            target.write(chunk)
            await target.drain()

    there = asyncio.create_task(copy(near[0], far[1]))
    with contextlib.suppress(OSError):
        await copy(far[0], near[1])
    there.cancel()
    await asyncio.gather(there, return_exceptions=True)
    for writer in (far[1], near[1]):
        writer.close()


@contextlib.contextmanager
def listening(handler: Handler, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server in a thread of its own; its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    starting = asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(ended(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def ended(server: asyncio.Server) -> None:
    server.close()
    handlers = asyncio.all_tasks() - {asyncio.current_task()}
    for handler in handlers:
        handler.cancel()
    await asyncio.gather(*handlers, return_exceptions=True)


def signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """An authority's certificate as a file, and a server's context that it vouches for under the name localhost."""
    now = dt.datetime.now(dt.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("the company", "localhost")]
    made = []
    for key, name, authority in zip(keys, names, (True, False), strict=True):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "ca.pem").write_bytes(made[0])
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(private + made[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "ca.pem", context


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with serve(tmp_path_factory.mktemp("emulated")) as served:
        yield served


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    return make_app("shop", tmp_path)


def test_what_a_deployment_asks_goes_through_the_proxy(emulator: Emulator, app: Path) -> None:
    proxy = Proxy()
    with listening(proxy.handle) as port:
        shell = Shell(
            emulator, app, {"HTTP_PROXY": f"http://127.0.0.1:{port}", "http_proxy": f"http://127.0.0.1:{port}"}
        )
        emulator.clear()
        out, err = shell.start("plan").communicate(timeout=60)
    assert " to make, 0 to change" in out, out + err
    seen = [request["path"] for request in emulator.requests()]
    asked = [urlsplit(address).path for address in proxy.asked]
    assert sorted(asked) == sorted(path for path in seen if not path.startswith("/emulator/"))


def test_an_authority_of_the_company_is_trusted_when_it_is_named(emulator: Emulator, app: Path, tmp_path: Path) -> None:
    authority, context = signed(tmp_path)

    async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = urlsplit(emulator.url)
        await passed_on((reader, writer), await asyncio.open_connection(behind.hostname, behind.port))

    with listening(front, context) as port:
        unnamed = {"DATABRICKS_HOST": f"https://localhost:{port}"}
        process = Shell(emulator, app, unnamed).start("plan")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "certificate" in out + err
        assert "Traceback" not in out + err
        named = {**unnamed, "SSL_CERT_FILE": str(authority), "REQUESTS_CA_BUNDLE": str(authority)}
        out, err = Shell(emulator, app, named).start("plan").communicate(timeout=60)
    assert " to make, 0 to change" in out, out + err
