"""Texts as vectors: in requests an endpoint takes, and with the text at fault named when it takes one not."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from lakemesh.errors import ModelRefused, ModelUnavailable
from lakemesh.lakehouse.endpoints import EmbeddingAnswer

EmbedBatch = Callable[[Sequence[str]], Awaitable[EmbeddingAnswer]]

HARMLESS = "a text"
"""What any embedding model takes: an endpoint that refuses this too is not told apart by the texts it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """One vector per text, in order, and the model all of them are of: keep it beside them, since vectors of different
    models do not compare."""

    vectors: list[list[float]]
    model: str


async def embed_all(texts: Sequence[str], embed: EmbedBatch, *, batch: int, batch_bytes: int) -> list[list[float]]:
    """The vectors of all texts, in order. Raises `ModelRefused` with the positions of the texts the endpoint refuses,
    found by halving, and `ModelUnavailable` when it refuses any text."""
    vectors: list[list[float]] = []
    refused: dict[int, ModelRefused] = {}
    for start, end in batches(texts, batch, batch_bytes):
        try:
            vectors += (await embed(texts[start:end])).vectors
        except ModelRefused as error:
            await _require_working(embed, error)
            refused |= await _find_refused(texts, start, end, embed, error)
    if refused:
        first = refused[min(refused)]
        detail = f"{len(refused)} of {len(texts)} texts are refused by the embedding model ({first.detail})"
        raise ModelRefused(detail, reason=first.reason, positions=sorted(refused))
    return vectors


def batches(texts: Sequence[str], most: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Start and end of each request: up to `most` texts and `most_bytes` of UTF-8, but one text at least."""
    start = size = 0
    for place, text in enumerate(texts):
        length = len(text.encode("utf-8", "replace"))
        if place > start and (place - start >= most or size + length > most_bytes):
            yield start, place
            start, size = place, 0
        size += length
    if start < len(texts):
        yield start, len(texts)


async def _require_working(embed: EmbedBatch, error: ModelRefused) -> None:
    try:
        await embed([HARMLESS])
    except ModelRefused:
        raise ModelUnavailable(f"The embedding endpoint refuses every text ({error.detail})") from None


async def _find_refused(
    texts: Sequence[str], start: int, end: int, embed: EmbedBatch, error: ModelRefused
) -> dict[int, ModelRefused]:
    """The texts at fault among those of a refused request."""
    if end - start == 1:
        return {start: error}
    refused: dict[int, ModelRefused] = {}
    middle = (start + end) // 2
    for low, high in ((start, middle), (middle, end)):
        try:
            await embed(texts[low:high])
        except ModelRefused as half:
            refused |= await _find_refused(texts, low, high, embed, half)
    return refused
