"""Charts as pictures, by vl-convert (the extra `charts`)."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from lakemesh.errors import InvalidRequest

Format = Literal["png", "svg"]
SCALE = 2.0


def picture(spec: Mapping[str, Any], kind: Format = "png") -> bytes:
    """A specification's picture; it is drawn without the network. Raises `InvalidRequest` without vl-convert."""
    try:
        import vl_convert
    except ImportError:
        raise InvalidRequest("Pictures need vl-convert: pip install 'lakemesh[charts]'.") from None
    text = json.dumps(spec)
    if kind == "svg":
        drawn: str = vl_convert.vegalite_to_svg(text, allowed_base_urls=[])
        return drawn.encode()
    return bytes(vl_convert.vegalite_to_png(text, scale=SCALE, allowed_base_urls=[]))
