"""What operators decided of rollouts while the app runs: the file `.rollouts.json` beside the configuration.

It wins over the shares in configuration, so that starting, widening and taking back need no deployment.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from lakemesh.config.base import Section
from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.lakehouse.volumes import Volumes

FILE_NAME = ".rollouts.json"
MAX_HISTORY = 100

Action = Literal["start", "split", "promote", "abort"]


class Move(Section):
    """`at` is an ISO 8601 time in UTC, which also names the stage that begins with it."""

    at: str
    by: str
    action: Action
    share: Annotated[float, Field(ge=0, le=1)]
    why: str = ""


class Moves(Section):
    """By rollout, the newest last: it is in force."""

    rollouts: dict[str, list[Move]] = {}


def parse_moves(content: bytes) -> Moves:
    """Raises `InvalidRequest` with what is wrong."""
    try:
        return Moves.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidRequest(f"{FILE_NAME}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


class MovesFile:
    """The file in the volume of `config_path`."""

    def __init__(self, volumes: Volumes, config_path: str) -> None:
        self._volumes = volumes
        self._path = f"{config_path.rpartition('/')[0]}/{FILE_NAME}"

    async def read(self) -> Moves:
        """Raises `InvalidRequest` for what cannot be read, and what the volume raises."""
        try:
            return parse_moves(await self._volumes.read(self._path))
        except NotFound:
            return Moves()

    async def add(self, name: str, action: Action, share: float, *, by: str, why: str) -> Move:
        """Have it in force from the next time that servers read the file."""
        moves = await self.read()
        move = Move(at=datetime.now(UTC).isoformat(timespec="microseconds"), by=by, action=action, share=share, why=why)
        moves.rollouts[name] = [*moves.rollouts.get(name, []), move][-MAX_HISTORY:]
        content = moves.model_dump_json(indent=1, exclude_defaults=True).encode()
        await self._volumes.write(self._path, content, overwrite=True)
        return move
