"""The OpenAPI document of this version, every route included: `python clients/javascript/openapi.py FILE`."""

import json
import sys
from pathlib import Path

from lakemesh.testing import serve


def document() -> dict[str, object]:
    with serve({"echo": "echo"}, database="embedded") as server:
        found: dict[str, object] = server.http.get("/openapi.json").json()
        return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(document(), indent=1))
