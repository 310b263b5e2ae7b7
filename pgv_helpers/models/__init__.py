"""Text to vectors and question to answer, always through the official openai client."""

from pgv_helpers.models.client import async_openai_client, openai_client
from pgv_helpers.models.embed import embed, embedding_dimension, get_embedding

__all__ = ["async_openai_client", "embed", "embedding_dimension", "get_embedding", "openai_client"]
