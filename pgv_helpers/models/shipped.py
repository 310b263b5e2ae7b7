"""The vectors that came with the course: of its own documents, by the offline model."""

import hashlib
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

SHIPPED = Path(__file__).with_name("shipped.npy")
"""Records of key and vector, in half precision."""


def vector_key(url: str, model: str, text: str) -> bytes:
    """What a text's vector by the model at this URL is kept under."""
    return hashlib.sha256(f"{url}\n{model}\n{text}".encode()).digest()


@cache
def shipped_vectors() -> Mapping[bytes, np.ndarray]:
    """Key -> vector in half precision; see `unit`."""
    try:
        rows = np.load(SHIPPED, mmap_mode="r")
        return dict(zip(rows["key"].tolist(), rows["vector"]))
    except FileNotFoundError:
        return {}
    except (OSError, EOFError, ValueError, IndexError) as error:
        warnings.warn(
            f"{SHIPPED} is broken ({error}); texts are embedded anew. Install the course again.", stacklevel=3
        )
        return {}


def write_shipped(vectors: Mapping[bytes, np.ndarray]) -> None:
    """For developers: write `SHIPPED` anew."""
    dimension = len(next(iter(vectors.values())))
    rows = np.empty(len(vectors), [("key", "V32"), ("vector", "<f2", dimension)])
    rows["key"], rows["vector"] = list(map(np.void, vectors)), list(vectors.values())
    unfinished = SHIPPED.with_suffix(".unfinished.npy")
    np.save(unfinished, rows)
    unfinished.replace(SHIPPED)


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector in single precision, its length 1 again."""
    vector = vector.astype(np.float32)
    return vector / np.linalg.norm(vector)
