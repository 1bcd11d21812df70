"""Answers that are finished and not yet read by their callers."""

from collections.abc import Callable

from lakemesh.errors import Overloaded
from lakemesh.schemas import AgentOutput, Completed, Event, Failed

COUNTED_BYTES = 65_536
"""Answers up to this size are not counted: connections bound their number."""
REFUSAL = "The answer is there, but too many long answers wait for clients that do not read them; send it again later."


class UnreadAnswers:
    """All long answers that wait for a reader, in at most `max_bytes` together. One more is refused, so that clients
    which do not read take no memory from those that do."""

    def __init__(self) -> None:
        self.max_bytes = 0
        self._bytes = 0

    def take(self, output: AgentOutput) -> Callable[[], None]:
        """Count an answer until the function that is returned is called. Raises `Overloaded`."""
        size = len(output.body)
        if size <= COUNTED_BYTES:
            return _nothing
        if self._bytes + size > self.max_bytes:
            members = {key: output.metadata.get(key) for key in ("execution_id", "trace_id")}
            raise Overloaded(REFUSAL, retry_after_seconds=5.0, **members)
        self._bytes += size

        def release() -> None:
            self._bytes -= size

        return release

    def counted(self, event: Event) -> Event:
        """The event, or the refusal in place of an answer that finds no room. To be paired with `release`."""
        if isinstance(event, Completed):
            try:
                self.take(event.output)
            except Overloaded as error:
                return Failed(error=error.to_problem())
        return event

    def release(self, event: Event | None) -> None:
        """An event that `counted` returned has been read, or nobody will read it."""
        if isinstance(event, Completed) and len(event.output.body) > COUNTED_BYTES:
            self._bytes -= len(event.output.body)


def _nothing() -> None:
    pass
