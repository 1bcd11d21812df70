"""The pictures of the console that the pages show, taken from a running one: `make pictures`."""

import shutil
import tempfile
from pathlib import Path

from tests.services import console_pictures
from website.diagrams import PICTURES

SHOWN = {
    "console-overview.png": "overview-desk-light.png",
    "console-trace.png": "trace-desk-light.png",
    "console-chat.png": "chat-phone-dark.png",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        console_pictures.main(Path(folder), ["overview", "trace", "chat"])
        for name, taken in SHOWN.items():
            shutil.copyfile(Path(folder, taken), PICTURES / name)


if __name__ == "__main__":
    main()
