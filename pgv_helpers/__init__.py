"""Helpers of the pgvector course. Each is imported when it is first used."""

from importlib import import_module

_HOMES = {
    "db": ["connect", "database_url", "query"],
    "models": ["openai_client", "async_openai_client", "embed", "get_embedding", "embedding_dimension"],
    "datasets": ["load_passages"],
    "course.notebook": ["check", "hint", "solution", "progress"],
    "plots": ["plot_map", "plot_vectors", "plot_bars", "plot_matrix"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
