"""What the course searches: passages with judged questions, Python's documentation, and vectors of no texts."""

from pgv_helpers.datasets.judged import DatasetName, embedded_text, load_documents, load_passages, load_questions
from pgv_helpers.datasets.python_docs import load_python_docs
from pgv_helpers.datasets.vectors import clustered_vectors, random_vectors

__all__ = [
    "DatasetName", "clustered_vectors", "embedded_text", "load_documents", "load_passages", "load_python_docs",
    "load_questions", "random_vectors",
]  # fmt: skip
