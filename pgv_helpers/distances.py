"""The distances that pgvector knows: one table, so that a search, its index and its measure cannot disagree."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pgv_helpers.errors import CourseError

MetricName = Literal["cosine", "l2", "inner_product", "l1", "hamming", "jaccard"]


@dataclass(frozen=True)
class Metric:
    """A distance.

    Attributes:
        name: as the helpers take it.
        operator: in SQL, between two vectors.
        operator_class: the end of an operator class's name, behind the type's: `vector_cosine_ops`.
        formula: the same by NumPy, in double precision.
    """

    name: MetricName
    operator: str
    operator_class: str
    formula: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def distances(self, queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Distances of each of the queries (m, dim) to each of the vectors (n, dim), of shape (m, n)."""
        return self.formula(np.asarray(queries, float), np.asarray(vectors, float))


def _l2(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    squares = (queries**2).sum(axis=1)[:, None] + (vectors**2).sum(axis=1) - 2 * queries @ vectors.T
    return np.sqrt(np.maximum(squares, 0))


def _cosine(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    with np.errstate(invalid="ignore"):  # of a zero vector it is NaN, as in pgvector
        return 1 - np.clip(queries @ vectors.T / lengths, -1, 1)


def _inner_product(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return -(queries @ vectors.T)


def _l1(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.stack([np.abs(vectors - query).sum(axis=1) for query in queries])


def _hamming(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.stack([(vectors != query).sum(axis=1) for query in queries])


def _jaccard(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    shared = queries @ vectors.T
    either = queries.sum(axis=1)[:, None] + vectors.sum(axis=1) - shared
    return np.where(shared > 0, 1 - shared / np.maximum(either, 1), 1.0)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("cosine", "<=>", "cosine_ops", _cosine),
        Metric("l2", "<->", "l2_ops", _l2),
        Metric("inner_product", "<#>", "ip_ops", _inner_product),
        Metric("l1", "<+>", "l1_ops", _l1),
        Metric("hamming", "<~>", "hamming_ops", _hamming),
        Metric("jaccard", "<%>", "jaccard_ops", _jaccard),
    )
}


def find_metric(name: str) -> Metric:
    """The metric of this name or with this operator.

    Raises:
        CourseError: there is none; the message lists them.
    """
    for metric in METRICS.values():
        if name in (metric.name, metric.operator):
            return metric
    known = ", ".join(f"{metric.name} ({metric.operator})" for metric in METRICS.values())
    raise CourseError(f"There is no distance {name!r}. pgvector has: {known}.")


def exact_neighbours(
    vectors: np.ndarray, queries: np.ndarray, k: int, metric: MetricName = "cosine", *, block_rows: int = 20_000
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest vectors of each query, found by comparing all of them.

    The vectors are compared a block at a time, so that the distances of a million fit into memory.

    Args:
        vectors: shape (n, dim).
        queries: shape (m, dim).

    Raises:
        CourseError: no such distance, k below 1, or shapes that do not go together.

    Returns:
        Rows of `vectors` and their distances, both of shape (m, min(k, n)), the nearest first, equal
        ones by row. A zero vector has no cosine distance: it comes last, infinitely far.
    """
    of = find_metric(metric).distances
    if k < 1:
        raise CourseError(f"k must be 1 or more; it is {k}.")
    if np.ndim(queries) != 2 or np.ndim(vectors) != 2 or np.shape(queries)[1] != np.shape(vectors)[1]:
        raise CourseError(
            f"queries has the shape {np.shape(queries)} and vectors {np.shape(vectors)}; they take the shapes (m, dim) "
            "and (n, dim), with the same dim."
        )
    rows = np.empty((len(queries), 0), int)
    nearest = np.empty((len(queries), 0))
    for start in range(0, len(vectors), block_rows):
        block = vectors[start : start + block_rows]
        distances = of(queries, block)
        distances = np.hstack([nearest, np.where(np.isnan(distances), np.inf, distances)])
        here = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        candidates = np.hstack([rows, here])
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        rows, nearest = np.take_along_axis(candidates, order, 1), np.take_along_axis(distances, order, 1)
    return rows, nearest
