"""Text to vectors: any number of texts, in batches, each text paid for once."""

import re
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from tqdm import tqdm

from pgv_helpers import settings
from pgv_helpers.errors import ModelError
from pgv_helpers.models.client import base_url, explained_errors, openai_client, server
from pgv_helpers.models.shipped import shipped_vectors, unit, vector_key, write_shipped

if TYPE_CHECKING:
    import openai

DIMENSIONS = {
    settings.OFFLINE_EMBEDDING_MODEL: 384,
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
"""Lengths of the vectors of well-known models."""

REQUEST_TEXTS = {"openai": 512, "compatible": 32, "offline": 64}
"""Texts in a request. OpenAI takes 2048; common servers take as few as 32."""
REQUEST_BYTES = 300_000
"""OpenAI takes 300,000 tokens in a request, and a token is at least one byte."""
PROGRESS_FROM = 200
"""A progress bar appears from this many texts on."""

_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")

T = TypeVar("T")


def embed(texts: Sequence[str], *, model: str | None = None, progress: bool | None = None) -> np.ndarray:
    """Vectors of texts, float32 of shape (n, dimension), in the order of the texts.

    Takes a list, a tuple, a pandas Series, an array, a generator: anything that
    yields texts. Equal texts are embedded once, and what has been embedded is
    kept in `PGV_HOME`/cache, for each URL and model: the same call again sends
    nothing. The offline model's vectors of the course's own documents came with it, in
    half precision. No texts give shape (0, `embedding_dimension(model)`). `model` is the settings' unless
    given; `progress` shows a bar, by default from 200 texts on that are not in
    the cache.

    Raises ModelError, before anything is sent, for a text that is empty or no
    text at all; and for whatever the model's server refuses.
    """
    texts = _checked(texts)
    model = model or settings.embedding_model()
    if not texts:
        return np.empty((0, embedding_dimension(model)), np.float32)
    url = base_url()
    keys = [vector_key(url, model, text) for text in texts]
    wanted = dict(zip(keys, texts))
    shipped = shipped_vectors()
    vectors = {key: unit(shipped[key]) for key in wanted if key in shipped}
    vectors |= _with_cache(lambda cache: _read(cache, [key for key in wanted if key not in vectors]), otherwise={})
    missing = {key: text for key, text in wanted.items() if key not in vectors}

    if missing:
        vectors |= _send(missing, model, progress)
    lengths = sorted({len(vector) for vector in vectors.values()})
    if len(lengths) > 1:
        raise ModelError(
            f"The model {model!r} gave vectors of {lengths[0]} numbers and of "
            f"{lengths[-1]}: another model now has this name. Delete {_cache_path()} "
            "and run this again."
        )
    return np.stack([vectors[key] for key in keys])


def get_embedding(text: str, *, model: str | None = None) -> np.ndarray:
    """Vector of one text, float32 of shape (dimension,). See `embed`, also for the errors."""
    if not isinstance(text, str):
        raise ModelError(f"get_embedding() takes one text, not {_shown(text)}. For several texts call embed().")
    return embed([text], model=model)[0]


def embedding_dimension(model: str | None = None) -> int:
    """How many numbers a vector of the model has; `model` is the settings' unless given.

    Known for OpenAI's models and the offline one; of any other, one word is
    embedded to see. Raises ModelError if that fails.
    """
    model = model or settings.embedding_model()
    return DIMENSIONS.get(model) or len(get_embedding("dimension", model=model))


def _checked(texts: Iterable[str]) -> list[str]:
    """The texts as a list, once each is known to be one that can be embedded."""
    if isinstance(texts, str):
        raise ModelError(
            "embed() takes a list of texts, not a single one. Write embed([text]), "
            "or get_embedding(text) for one vector."
        )
    if isinstance(texts, Mapping) or hasattr(texts, "columns") or not hasattr(texts, "__iter__"):
        raise ModelError(
            f"embed() takes a list of texts, not {_shown(texts)}. Of a table or a "
            'dictionary choose one column: embed(table["text"]).'
        )
    texts = list(texts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            fault = "is not a text. Convert it with str(), or leave it out"
        elif not text.strip():
            fault = "is empty. Leave it out"
        elif _HALF_CHARACTER.search(text):
            fault = 'has half a character (a lone surrogate). Repair it with text.encode("utf-8", "replace").decode()'
        else:
            continue
        raise ModelError(f"texts[{i}] {fault}: {_shown(text)}")
    return texts


def _shown(value: object) -> str:
    if isinstance(value, str) or np.isscalar(value) or value is None:
        return f"{value!r:.60}"
    return f"a {type(value).__name__}"


# Requests ------------------------------------------------------------------------------


def _requests(texts: Mapping[bytes, str]) -> Iterator[list[bytes]]:
    """Keys of the texts, in requests of a size that the provider takes."""
    most = REQUEST_TEXTS[settings.provider()]
    batch: list[bytes] = []
    size = 0
    for key, text in texts.items():
        length = len(text.encode())
        if batch and (len(batch) == most or size + length > REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += length
    if batch:
        yield batch


def _send(texts: Mapping[bytes, str], model: str, progress: bool | None) -> dict[bytes, np.ndarray]:
    """Vectors of the texts from the provider; each request's go to the cache at once."""
    vectors: dict[bytes, np.ndarray] = {}
    show = len(texts) >= PROGRESS_FROM if progress is None else progress
    with (
        explained_errors(model),
        openai_client() as client,
        tqdm(total=len(texts), desc="embedding", unit=" texts", leave=False, disable=not show) as bar,
    ):
        for batch in _requests(texts):
            fresh = dict(zip(batch, _request(client, [texts[key] for key in batch], model)))
            _with_cache(lambda cache: _write(cache, fresh), otherwise=None)
            vectors |= fresh
            bar.update(len(batch))
    return vectors


def _request(client: "openai.OpenAI", texts: list[str], model: str) -> np.ndarray:
    try:
        answer = client.embeddings.create(input=texts, model=model)
        vectors = np.array([item.embedding for item in sorted(answer.data, key=lambda item: item.index)], np.float32)
    except (AttributeError, TypeError, ValueError):  # no JSON, no vectors, or of several lengths
        vectors = np.empty((0, 0))
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise ModelError(
            f"{server()} was asked for {len(texts)} vectors and did not give them. Does "
            f"OPENAI_BASE_URL lead to an OpenAI-compatible server, as a rule with /v1 at "
            f"its end, and is {model!r} an embedding model?"
        )
    return vectors


# Shipped with the course ---------------------------------------------------------------


def ship(texts: Iterable[str]) -> None:
    """For developers: write the vectors that come with the course anew, with the offline model's of these texts."""
    if base_url() != settings.OFFLINE_URL:
        raise ModelError("These are the offline model's vectors: unset OPENAI_API_KEY and OPENAI_BASE_URL.")
    model = settings.OFFLINE_EMBEDDING_MODEL
    write_shipped(_send({vector_key(settings.OFFLINE_URL, model, text): text for text in texts}, model, progress=True))


# Cache ---------------------------------------------------------------------------------


def _cache_path() -> Path:
    return settings.home() / "cache" / "embeddings.sqlite"


def _with_cache(work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
    """Do the work in one transaction of the cache; with no usable cache, `otherwise`.

    A connection for each transaction costs a millisecond and makes threads,
    forks and other processes none of our concern. A broken file is set aside.
    """
    path = _cache_path()
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=30)) as cache, cache:
                cache.execute("PRAGMA journal_mode = WAL")
                cache.execute("PRAGMA synchronous = NORMAL")
                cache.execute("CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
                return work(cache)
        except (sqlite3.OperationalError, OSError):
            # Two processes that create the file lock each other out for a moment: once more.
            # Read-only or full, it stays so: without a cache all is slower, not wrong.
            time.sleep(0.01)
        except sqlite3.DatabaseError as error:
            aside = path.with_name(f"embeddings.broken-{time.time_ns()}.sqlite")
            try:
                for end in ("", "-wal", "-shm"):
                    if (file := path.with_name(path.name + end)).exists():
                        file.replace(aside.with_name(aside.name + end))
            except OSError:
                return otherwise
            warnings.warn(
                f"The cache of embeddings was broken ({error}); it is now {aside}, and texts are embedded anew.",
                stacklevel=3,
            )
    return otherwise


def _read(cache: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, np.ndarray]:
    found: dict[bytes, np.ndarray] = {}
    for start in range(0, len(keys), 500):  # SQLite limits the parameters of a statement
        some = keys[start : start + 500]
        rows = cache.execute(f"SELECT key, vector FROM embeddings WHERE key IN ({','.join('?' * len(some))})", some)
        found |= {key: np.frombuffer(vector, "<f4") for key, vector in rows}
    return found


def _write(cache: sqlite3.Connection, vectors: Mapping[bytes, np.ndarray]) -> None:
    cache.executemany(
        "INSERT OR REPLACE INTO embeddings VALUES (?, ?)",
        [(key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()],
    )
