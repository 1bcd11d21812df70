"""Decision trees as arrays: a model file without code, and a prediction without scikit-learn.

Every node has a place. A row goes to `left` while its feature is at most the threshold, else to the place after `left`;
a leaf's `left` is itself and its threshold infinite, so that all trees may be walked the same number of steps.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_validator

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]

MAX_ARRAY_BYTES = 256 * 2**20
MAX_DEPTH = 64
BLOCK_CELLS = 2_000_000
"""Row and tree pairs walked at once."""


def packed(kind: str) -> Any:
    """A field for an array: in files little-endian bytes, deflated, in base64; here of 64 bits, since a place in an
    array of fewer is widened each time something is looked up by it."""
    wide = np.float64 if "f" in kind else np.int64

    def unpack(value: Any) -> NDArray[Any]:
        if isinstance(value, np.ndarray):
            return value.astype(wide)
        try:
            inflater = zlib.decompressobj()
            content = inflater.decompress(base64.b64decode(value, validate=True), MAX_ARRAY_BYTES)
            if inflater.unconsumed_tail or not inflater.eof:
                raise ValueError("an array is cut short or too large")
            return np.frombuffer(content, dtype=kind).astype(wide)
        except (binascii.Error, zlib.error, TypeError) as error:
            raise ValueError(f"no array: {error}") from None

    def pack(value: NDArray[Any]) -> str:
        return base64.b64encode(zlib.compress(np.ascontiguousarray(value, dtype=kind).tobytes())).decode()

    return Annotated[Any, BeforeValidator(unpack), PlainSerializer(pack)]


class Trees(BaseModel):
    """`value` is what a leaf adds, a probability or log-odds; inner nodes have theirs too, so that a path says what
    each step changed, in log-odds (`log_odds`). `combine` says whether leaves are averaged into a probability, as a
    random forest does, or summed into log-odds from `baseline` on, as boosting does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["trees"] = "trees"
    combine: Literal["mean", "sum"]
    baseline: float = 0.0
    depth: int
    roots: packed("<i4")  # type: ignore[valid-type]
    feature: packed("<i2")  # type: ignore[valid-type]
    threshold: packed("<f8")  # type: ignore[valid-type]
    left: packed("<i4")  # type: ignore[valid-type]
    value: packed("<f8")  # type: ignore[valid-type]
    log_odds: packed("<f8")  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _can_be_walked(self) -> Self:
        """No step leaves the arrays or goes back, whatever the file says."""
        count = len(self.left)
        if not count or not len(self.roots) or not 0 <= self.depth <= MAX_DEPTH:
            raise ValueError("there are no trees, or too deep ones")
        if any(len(one) != count for one in (self.feature, self.threshold, self.value, self.log_odds)):
            raise ValueError("the arrays of the trees differ in length")
        places = np.arange(count)
        leaf = self.left == places
        inner = (self.left > places) & (self.left < count - 1)
        if not (leaf | inner).all() or not np.isposinf(self.threshold[leaf]).all() or self.roots.min() < 0:
            raise ValueError("a tree's branches lead nowhere")
        if self.roots.max() >= count or self.feature.min() < 0 or not np.isfinite(self.value).all():
            raise ValueError("a tree's numbers are out of range")
        return self

    @property
    def features(self) -> int:
        """How many features a row has to have at least."""
        return int(self.feature.max()) + 1

    def walk(self, rows: Numbers) -> list[Integers]:
        """The nodes that each row passes in each tree: one array, rows by trees, for each step."""
        first = np.arange(len(rows))[:, None] * rows.shape[1]
        flat = np.ascontiguousarray(rows).ravel()
        nodes = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        path = [nodes]
        for _ in range(self.depth):
            right = flat.take(self.feature.take(nodes) + first) > self.threshold.take(nodes)
            nodes = self.left.take(nodes) + right
            path.append(nodes)
        return path

    def scores(self, rows: Numbers) -> Numbers:
        """Probabilities, one for each row."""
        block = max(1, BLOCK_CELLS // len(self.roots))
        parts = [self._combined(self.walk(rows[start : start + block])[-1]) for start in range(0, len(rows), block)]
        return np.concatenate(parts) if parts else np.empty(0)

    def explained(self, row: Numbers) -> tuple[float, Numbers]:
        """The probability of one row, and by how much the steps on each feature moved its log-odds on the average
        tree's path (Saabas, 2014); for boosting these sum up to the log-odds less the average of the training rows."""
        path = np.concatenate(self.walk(row[None, :]))
        log_odds = self.log_odds.take(path)
        moved = np.bincount(
            self.feature.take(path[:-1]).ravel(), (log_odds[1:] - log_odds[:-1]).ravel(), minlength=len(row)
        )
        weight = len(self.roots) if self.combine == "mean" else 1
        return float(self._combined(path[-1:])[0]), moved / weight

    def _combined(self, leaves: Integers) -> Numbers:
        values: Numbers = self.value.take(leaves)
        return values.mean(axis=1) if self.combine == "mean" else sigmoid(values.sum(axis=1) + self.baseline)


def sigmoid(log_odds: Numbers) -> Numbers:
    return 1.0 / (1.0 + np.exp(-np.clip(log_odds, -700.0, 700.0)))


def join(trees: Sequence[dict[str, NDArray[Any]]]) -> dict[str, Any]:
    """The arrays of several trees behind one another: `feature`, `threshold`, `left`, `right` (-1 at leaves), `value`
    and `log_odds` of each, its root first. Children come to stand beside one another and after their parents."""
    starts = np.cumsum([0, *(len(tree["left"]) for tree in trees)])
    ordered = [side_by_side(tree) for tree in trees]
    joined = {name: np.concatenate([tree[name] for tree in ordered]) for name in ordered[0] if name != "depth"}
    joined["left"] = np.concatenate([tree["left"] + start for tree, start in zip(ordered, starts, strict=False)])
    return {**joined, "roots": starts[:-1], "depth": max(int(tree["depth"]) for tree in ordered)}


def side_by_side(tree: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """One tree, level by level."""
    order: list[int] = [0]
    lefts: list[int] = []
    depths = [0]
    for place, node in enumerate(order):
        if tree["left"][node] < 0:
            lefts.append(place)
            continue
        lefts.append(len(order))
        order += [int(tree["left"][node]), int(tree["right"][node])]
        depths += [depths[place] + 1] * 2
    chosen = np.array(order)
    leaf = tree["left"][chosen] < 0
    return {
        "depth": max(depths),
        "left": np.array(lefts),
        "feature": np.where(leaf, 0, tree["feature"][chosen]),
        "threshold": np.where(leaf, np.inf, tree["threshold"][chosen]),
        "value": tree["value"][chosen],
        "log_odds": tree["log_odds"][chosen],
    }
