"""Embeddings without a model: hashed words and character n-grams.

Each word and each of its 3- to 5-grams adds one signed weight to a place chosen by a hash (the hashing trick,
Weinberger and others 2009). Texts that share words, or parts of words, come out near each other.
"""

import re
import zlib
from functools import lru_cache

import numpy as np

WORD = re.compile(r"\w+")
NGRAM_SIZES = (3, 4, 5)
WORD_WEIGHT = 2.0
MAX_WORDS = 2_000


def embed_text(text: str, dimension: int) -> list[float]:
    """The text as `dimension` numbers of length one; a text without words is the zero vector."""
    vector = np.zeros(dimension, dtype=np.float64)
    for word in WORD.findall(text.lower())[:MAX_WORDS]:
        places, weights = word_features(word, dimension)
        np.add.at(vector, places, weights)
    length = float(np.linalg.norm(vector))
    normalised: list[float] = (vector / length if length else vector).tolist()
    return normalised


@lru_cache(maxsize=50_000)
def word_features(word: str, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and signed weights of one word; kept, since texts repeat their words."""
    marked = f"<{word}>"
    features = [(marked, WORD_WEIGHT)]
    for size in NGRAM_SIZES:
        features += [(marked[start : start + size], 1.0) for start in range(max(0, len(marked) - size + 1))]
    hashes = np.array([zlib.crc32(feature.encode()) for feature, _ in features], dtype=np.int64)
    weights = np.array([weight for _, weight in features]) * np.where(hashes & 1, 1.0, -1.0) / len(features) ** 0.5
    return (hashes >> 1) % dimension, weights
