"""One vector index in memory: exact search by numpy, approximate search by usearch beyond a size."""

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.columns import filter_mask, grown, make_column
from lakemesh.lakehouse.indexes import Filters, IndexSpec, Match

if TYPE_CHECKING:
    import usearch.index

Vector = NDArray[np.float32]

EXACT_UP_TO = 50_000
FUSION = 60  # reciprocal rank fusion's constant (Cormack, Clarke and Buettcher 2009)


class VectorIndex:
    """Rows by primary key, each with a normalised vector, so that a dot product is the cosine.

    Filtered searches are always exact: a graph search with a filter loses most of its recall, while comparing the
    rows that pass costs less than the graph would. Not thread-safe; its owner serialises writers against readers.
    """

    def __init__(self, spec: IndexSpec) -> None:
        self.spec = spec
        self._row_of: dict[str, int] = {}
        self._keys: list[str] = []
        self._alive = np.zeros(1_024, dtype=bool)
        self._vectors: Vector = np.zeros((1_024, spec.dimension), dtype=np.float32)
        self._columns = {name: make_column(kind) for name, kind in spec.columns.items()}
        self._graph: usearch.index.Index | None = None
        self._building = threading.Lock()
        self._adding = threading.Lock()

    def __len__(self) -> int:
        return len(self._row_of)

    def keys(self) -> list[str]:
        return list(self._row_of)

    def has(self, key: str) -> bool:
        return key in self._row_of

    def value(self, key: str, column: str) -> Any:
        """Of a row that is there."""
        return self._columns[column].get(self._row_of[key])

    def vector(self, key: str) -> Vector:
        """Of a row that is there."""
        found: Vector = self._vectors[self._row_of[key]]
        return found

    def upsert(self, key: str, vector: Sequence[float], values: Mapping[str, Any]) -> None:
        """A replaced row gets a new place; the old one dies, so that no reader sees half of each."""
        self.delete(key)
        row = len(self._keys)
        self._alive = grown(self._alive, row + 1, False)
        self._vectors = grown(self._vectors, row + 1, 0.0)
        self._vectors[row] = vector
        for name, column in self._columns.items():
            column.set(row, values.get(name))
        self._alive[row] = True
        self._keys.append(key)  # last: a search in another thread looks at as many rows as there are keys
        self._row_of[key] = row
        with self._adding:
            if self._graph is not None:
                self._graph.add(row, self._vectors[row])

    def delete(self, key: str) -> None:
        row = self._row_of.pop(key, None)
        if row is not None:
            self._alive[row] = False

    def search(
        self, vector: Sequence[float], top_k: int, filters: Filters | None, columns: Sequence[str] | None
    ) -> list[Match]:
        """The nearest rows, best first."""
        wanted = self._wanted_columns(columns)
        query = normalised(vector, self.spec.dimension)
        rows, scores = self._nearest(query, top_k, filters)
        return [
            Match(float(score), {name: self._columns[name].get(int(row)) for name in wanted})
            for row, score in zip(rows, scores, strict=True)
        ]

    def fuse(
        self,
        vector: Sequence[float],
        keys: Sequence[str],
        top_k: int,
        filters: Filters | None,
        columns: Sequence[str] | None,
    ) -> list[Match]:
        """Hybrid search: the ranks by meaning and the ranks of `keys` (by words, best first) added up
        reciprocally. Scores stay cosines; the order is the fused one."""
        wanted = self._wanted_columns(columns)
        query = normalised(vector, self.spec.dimension)
        nearest, _ = self._nearest(query, max(top_k * 5, 50), filters)
        mask = self._mask(filters)
        by_words = [row for key in keys if (row := self._row_of.get(key)) is not None and mask[row]]
        ranks: dict[int, float] = {}
        for ranked in (nearest, by_words):
            for place, row in enumerate(ranked):
                ranks[int(row)] = ranks.get(int(row), 0.0) + 1.0 / (FUSION + place)
        best = sorted(ranks, key=lambda row: -ranks[row])[:top_k]
        return [
            Match(float(self._vectors[row] @ query), {name: self._columns[name].get(row) for name in wanted})
            for row in best
        ]

    def build_graph(self) -> None:
        """Build the approximate index, when there are enough rows for one. Blocks for seconds: call it from a
        worker thread; searches stay exact until it is there."""
        if self._graph is not None or len(self) <= EXACT_UP_TO or not self._building.acquire(blocking=False):
            return
        try:
            from usearch.index import Index

            graph = Index(ndim=self.spec.dimension, metric="ip", dtype="f16", connectivity=32, expansion_search=256)
            size = len(self._keys)
            graph.add(np.arange(size), self._vectors[:size])
            with self._adding:
                for row in range(size, len(self._keys)):  # what came in while it was built
                    graph.add(row, self._vectors[row])
                self._graph = graph
        finally:
            self._building.release()

    def _nearest(self, query: Vector, top_k: int, filters: Filters | None) -> tuple[NDArray[Any], Vector]:
        if not filters and self._graph is not None:
            rows = self._near_in_graph(self._graph, query, top_k)
        elif not filters and len(self) == len(self._keys):
            return top(self._vectors[: len(self._keys)] @ query, top_k)
        else:
            rows = np.flatnonzero(self._mask(filters))
        places, scores = top(self._vectors[rows] @ query, top_k)
        return rows[places], scores

    def _near_in_graph(self, graph: "usearch.index.Index", query: Vector, top_k: int) -> NDArray[np.int64]:
        """Rows near the query. Dead ones stay in the graph, so it is asked for more until enough live ones come."""
        wanted = 2 * top_k
        while True:
            found = graph.search(query, min(wanted, len(self._keys))).keys.astype(np.int64)
            live: NDArray[np.int64] = found[self._alive[found]]
            if len(live) >= top_k or wanted >= len(self._keys):
                return live
            wanted *= 4

    def _mask(self, filters: Filters | None) -> NDArray[np.bool_]:
        size = len(self._keys)
        return self._alive[:size] & filter_mask(self._columns, filters or {}, size)

    def _wanted_columns(self, columns: Sequence[str] | None) -> Sequence[str]:
        unknown = set(columns or ()) - set(self._columns)
        if unknown:
            raise InvalidRequest(f"The index has no column {sorted(unknown)[0]!r:.60}.")
        return list(self._columns) if columns is None else columns


def top(scores: Vector, top_k: int) -> tuple[NDArray[Any], Vector]:
    """Places and values of the `top_k` largest scores, largest first."""
    count = min(top_k, len(scores))
    if count == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    places = np.argpartition(scores, -count)[-count:]
    places = places[np.argsort(-scores[places], kind="stable")]
    return places, scores[places]


def normalised(vector: Sequence[float], dimension: int) -> Vector:
    """The vector at length one. Raises `InvalidRequest` for another dimension or for values that are no numbers."""
    try:
        array = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidRequest(f"A vector is a list of {dimension} numbers.") from None
    if array.shape != (dimension,):
        raise InvalidRequest(f"The index holds vectors of {dimension} numbers, not of shape {array.shape}.")
    length = float(np.linalg.norm(array))
    if not np.isfinite(length):
        raise InvalidRequest("A vector holds numbers that are not finite.")
    return array / length if length else array
