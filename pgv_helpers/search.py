"""Search in a table of documents: by words, by vectors, by both.

The table is one of `create_documents_table`, with the column that `add_full_text`
adds where words are searched. Each search is one statement, which `show_sql=True`
prints, and leaves nothing behind in the database.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pandas
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pgv_helpers.db import query
from pgv_helpers.documents import require_model
from pgv_helpers.errors import DocumentError
from pgv_helpers.indexes import search_settings
from pgv_helpers.models import get_embedding
from pgv_helpers.tables import execute, table_columns, writing

RRF_K = 60
"""The constant of reciprocal rank fusion, as in the paper: Cormack, Clarke and Büttcher, SIGIR 2009."""

FUSED_DEPTH = 50
"""How many hits of each side are fused."""

MOST_CANDIDATES = 1000
"""The largest value of `hnsw.ef_search`."""

_ADD_FULL_TEXT = sql.SQL("""
    ALTER TABLE {table} ADD COLUMN words tsvector
        GENERATED ALWAYS AS (to_tsvector('english', coalesce(title, '') || ' ' || content)) STORED;
    CREATE INDEX ON {table} USING gin (words)""")

_BY_WORDS = sql.SQL("""
    SELECT id, title, content, ts_rank(words, any_word, 1) AS score
    FROM {table},
         (SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS any_word
          FROM unnest(to_tsvector('english', %(text)s))) AS question
    WHERE words @@ any_word
    ORDER BY score DESC, id
    LIMIT {limit}""")

_BY_VECTOR = sql.SQL("""
    SELECT id, title, content, embedding <=> %(vector)s AS distance
    FROM {table}
    WHERE embedding IS NOT NULL
    ORDER BY embedding <=> %(vector)s
    LIMIT {limit}""")

_BY_BOTH = sql.SQL("""
    WITH by_words AS (
        SELECT id, row_number() OVER (ORDER BY score DESC, id) AS place FROM ({by_words}) AS hits
    ), by_vector AS (
        SELECT id, row_number() OVER (ORDER BY distance, id) AS place FROM ({by_vector}) AS hits
    ), fused AS (
        SELECT id, coalesce(1.0 / ({rrf_k} + by_words.place), 0)
                   + coalesce(1.0 / ({rrf_k} + by_vector.place), 0) AS score
        FROM by_words FULL OUTER JOIN by_vector USING (id)
    )
    SELECT id, title, content, score
    FROM fused JOIN {table} USING (id)
    ORDER BY score DESC, id
    LIMIT {limit}""")


def add_full_text(conn: Connection, table: str, *, show_sql: bool = False) -> None:
    """Give a table of documents the column `words`, a tsvector of title and content, with a GIN index.

    The column is generated: PostgreSQL keeps it in step. A table that has it stays as it is.

    Raises:
        DocumentError: there is no such table.
    """
    if not _has_full_text(conn, table):
        with writing(conn) as cur:
            execute(cur, _ADD_FULL_TEXT.format(table=sql.Identifier(table)), show_sql=show_sql)


def full_text_search(
    conn: Connection, table: str, text: str, k: int = 10, *, show_sql: bool = False
) -> pandas.DataFrame:
    """The k documents that `ts_rank` puts first among those with any of the question's words.

    Words are joined by OR, and the score is divided by one plus the logarithm of the
    document's length. A question without a word that PostgreSQL keeps finds nothing.

    Returns:
        Columns id, title, content, score; at most k rows, the best first.

    Raises:
        DocumentError: there is no such table, or `add_full_text` has not been called for it.
    """
    _require_full_text(conn, table)
    return _search(conn, _limited(_BY_WORDS, table, k), {"text": text}, show_sql)


def vector_search(
    conn: Connection, table: str, question: str | np.ndarray, k: int = 10, *, show_sql: bool = False
) -> pandas.DataFrame:
    """The k nearest neighbours of a question by cosine distance.

    HNSW gives at most `hnsw.ef_search` rows, 40 unless you say otherwise; for a larger k it is raised
    for this search (up to pgvector's 1,000). With an approximate index there may still be fewer than k.

    Args:
        question: a text, which the table's model embeds, or its vector of shape (dimension,).

    Returns:
        Columns id, title, content, distance; at most k rows, the nearest first.

    Raises:
        DocumentError: there is no such table, or it holds vectors of another model.
        ModelError: the text cannot be embedded.
    """
    statement, vector = _limited(_BY_VECTOR, table, k), _vector(conn, table, question)
    with _enough_candidates(conn, k):
        return _search(conn, statement, {"vector": vector}, show_sql)


def hybrid_search(conn: Connection, table: str, text: str, k: int = 10, *, show_sql: bool = False) -> pandas.DataFrame:
    """The k best documents by reciprocal rank fusion of `full_text_search` and `vector_search`.

    A document's score is the sum of 1 / (60 + its place) over the two lists of fifty;
    one that stands in a single list counts there.

    Returns:
        Columns id, title, content, score; at most k rows, the best first.

    Raises:
        DocumentError, ModelError: as the two searches.
    """
    _require_full_text(conn, table)
    depth = max(k, FUSED_DEPTH)
    statement = _BY_BOTH.format(
        by_words=_limited(_BY_WORDS, table, depth),
        by_vector=_limited(_BY_VECTOR, table, depth),
        rrf_k=sql.Literal(RRF_K),
        table=sql.Identifier(table),
        limit=_limit(k),
    )
    vector = _vector(conn, table, text)
    with _enough_candidates(conn, depth):
        return _search(conn, statement, {"text": text, "vector": vector}, show_sql)


@contextmanager
def _enough_candidates(conn: Connection, rows: int) -> Iterator[None]:
    """An HNSW index may return this many rows. What the caller has set stays, unless it is too little."""
    rows = min(rows, MOST_CANDIDATES)
    # The vector loads pgvector, which knows the setting.
    candidates = int(query(conn, "SELECT current_setting('hnsw.ef_search'), '[0]'::vector").iloc[0, 0])
    with search_settings(conn, ef_search=rows) if candidates < rows else nullcontext():
        yield


def _has_full_text(conn: Connection, table: str) -> bool:
    table_columns(conn, table)
    find = "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s)) AND attname = 'words'"
    return len(query(conn, find, [table])) > 0


def _require_full_text(conn: Connection, table: str) -> None:
    if not _has_full_text(conn, table):
        raise DocumentError(f"{table!r} has no column of words to search. Add it once: add_full_text(conn, {table!r}).")


def _vector(conn: Connection, table: str, question: str | np.ndarray) -> np.ndarray:
    if isinstance(question, str):
        require_model(conn, table)
        return get_embedding(question)
    vector = np.asarray(question.to_numpy() if hasattr(question, "to_numpy") else question, np.float32)
    dimension = table_columns(conn, table)["embedding"].dimension or vector.size
    if vector.shape != (dimension,) or not np.isfinite(vector).all() or not vector.any():
        raise DocumentError(
            f"A question is a text, or one vector of {dimension} finite numbers that are not all 0. "
            f"This one has the shape {vector.shape}: {question!r:.60}"
        )
    return vector


def _limited(statement: sql.SQL, table: str, limit: int) -> sql.Composed:
    return statement.format(table=sql.Identifier(table), limit=_limit(limit))


def _limit(k: int) -> sql.Literal:
    if k < 0:
        raise DocumentError(f"k must be 0 or more; it is {k}.")
    return sql.Literal(int(k))


def _search(conn: Connection, statement: sql.Composed, parameters: dict, show_sql: bool) -> pandas.DataFrame:
    if "\0" in (text := parameters.get("text", "")) or text != text.encode(errors="ignore").decode():
        raise DocumentError(f"A question with a NUL or half a character cannot be asked: {text!r:.60}")
    if show_sql:
        with conn.cursor() as cur:
            print(cur.mogrify(statement, parameters).decode())
    return query(conn, statement, parameters)
