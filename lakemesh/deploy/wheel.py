"""The installed lakemesh as a wheel again, so that an app carries the version it was made and tested with.

The format is that of the Python packaging specifications ("binary distribution format"): a zip of the package, its
metadata and a record of every file's digest.
"""

import base64
import hashlib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import lakemesh
from lakemesh import __version__

NAME = f"lakemesh-{__version__}-py3-none-any.whl"
WHEEL = "Wheel-Version: 1.0\nGenerator: lakemesh\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_wheel(folder: Path) -> Path:
    """The same bytes for the same lakemesh, wherever it is made. Raises `PackageNotFoundError` when lakemesh runs
    without being installed."""
    installed = distribution("lakemesh")
    info = f"lakemesh-{__version__}.dist-info"
    contents = package_files(Path(lakemesh.__file__).parent)
    contents |= {
        f"{info}/METADATA": (installed.read_text("METADATA") or "").encode(),
        f"{info}/WHEEL": WHEEL.encode(),
        f"{info}/entry_points.txt": (installed.read_text("entry_points.txt") or "").encode(),
    }
    record = "".join(f"{name},{digest(content)},{len(content)}\n" for name, content in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return folder / NAME


def package_files(package: Path) -> dict[str, bytes]:
    names = {path.relative_to(package): path for path in sorted(package.rglob("*")) if path.is_file()}
    return {
        f"lakemesh/{name.as_posix()}": path.read_bytes()
        for name, path in names.items()
        if not any(part.startswith((".", "__pycache__")) for part in name.parts)
    }


def digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
