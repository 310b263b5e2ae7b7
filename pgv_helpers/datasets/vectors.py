"""Vectors that no model made, for measuring indexes: any number, any dimension, the same for the same seed."""

from collections.abc import Iterator

import numpy as np

from pgv_helpers.errors import CourseError

CHUNK_NUMBERS = 4_000_000
"""Numbers in a chunk unless its size is given: 16 MB."""


def random_vectors(n: int, dimension: int, *, seed: int = 0, chunk_size: int | None = None) -> Iterator[np.ndarray]:
    """Vectors of random direction, evenly spread over the unit sphere.

    They have no neighbours worth finding: in many dimensions all are about equally
    far from each other.

    Args:
        n: how many.
        dimension: numbers in each.
        seed: the same seed gives the same vectors, whatever the chunk size.
        chunk_size: vectors in a chunk, by default as many as fill 16 MB.

    Yields:
        Chunks: float32 of shape (at most chunk_size, dimension), each vector of length 1.
        `np.concatenate(list(…))` makes one array of them.

    Raises:
        CourseError: a number that cannot be, before anything is made.
    """
    return _chunks(n, dimension, 0, 1.0, seed, chunk_size)


def clustered_vectors(
    n: int, dimension: int, *, clusters: int = 100, spread: float = 0.5, seed: int = 0, chunk_size: int | None = None
) -> Iterator[np.ndarray]:
    """Vectors around random centres, as texts lie around subjects.

    Vectors of one seed share their centres. For held-out queries make a few more than
    you store, and keep the last ones back.

    Args:
        clusters: how many centres; each vector belongs to one at random.
        spread: how far from its centre a vector lies, centres being of length 1.

    The other arguments, the chunks and the errors are those of `random_vectors`.
    """
    if clusters < 1 or spread < 0:
        raise CourseError(f"There must be 1 cluster or more, not {clusters}, and spread 0 or more, not {spread}.")
    return _chunks(n, dimension, clusters, spread, seed, chunk_size)


def _chunks(
    n: int, dimension: int, clusters: int, spread: float, seed: int, chunk_size: int | None
) -> Iterator[np.ndarray]:
    if n < 0 or dimension < 1:
        raise CourseError(f"n must be 0 or more, and dimension 1 or more; they are {n} and {dimension}.")
    size = max(1, CHUNK_NUMBERS // dimension) if chunk_size is None else chunk_size
    if size < 1:
        raise CourseError(f"chunk_size must be 1 or more; it is {chunk_size}.")

    def generate() -> Iterator[np.ndarray]:
        # A stream of its own for each purpose, so that the chunk size changes nothing.
        for_centres, for_members, for_noise = (
            np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(3)
        )
        centres = _unit(for_centres.standard_normal((clusters, dimension), np.float32))
        for start in range(0, n, size):
            rows = min(size, n - start)
            vectors = for_noise.standard_normal((rows, dimension), np.float32)
            if clusters:
                vectors *= spread / np.sqrt(dimension)
                vectors += centres[for_members.integers(clusters, size=rows)]
            yield _unit(vectors)

    return generate()


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
