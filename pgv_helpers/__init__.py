"""Helpers of the pgvector course. Each is imported when it is first used."""

from importlib import import_module

_HOMES = {
    "extras": ["require_extra"],
    "settings": ["chat_model", "embedding_model"],
    "db": ["connect", "database_url", "query"],
    "models": ["openai_client", "async_openai_client", "embed", "get_embedding", "embedding_dimension"],
    "datasets": [
        "load_passages",
        "load_python_docs",
        "load_documents",
        "load_questions",
        "embedded_text",
        "random_vectors",
        "clustered_vectors",
    ],
    "documents": [
        "create_documents_table",
        "table_model",
        "insert_document",
        "store_documents_batch",
        "upsert_documents",
        "delete_documents",
        "read_documents",
    ],
    "bulk": ["bulk_load", "read_embeddings"],
    "distances": ["exact_neighbours"],
    "indexes": ["create_index", "drop_index", "describe_indexes", "search_settings", "explain"],
    "search": ["add_full_text", "nearest", "search_documents", "full_text_search", "hybrid_search"],
    "evaluation": [
        "recall_at_k",
        "precision_at_k",
        "reciprocal_rank",
        "ndcg_at_k",
        "score_rankings",
        "summarise",
        "compare",
        "bootstrap_interval",
        "measure_latency",
        "evaluate_search",
        "sweep",
    ],
    "rag": [
        "split_into_chunks",
        "create_chunks_table",
        "index_document",
        "retrieve",
        "build_prompt",
        "answer",
        "answer_from",
        "cite",
        "evaluate_rag",
    ],
    "course.notebook": ["check", "hint", "solution", "progress"],
    "plots": [
        "plot_map",
        "plot_vectors",
        "plot_bars",
        "plot_matrix",
        "plot_scores",
        "plot_shares",
        "plot_neighbours",
        "plot_distributions",
        "plot_lines",
        "plot_fusion",
        "plot_cells",
        "plot_walk",
    ],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
