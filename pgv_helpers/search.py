"""Search in a table of documents: by vectors, by words, by both.

The table is one of `create_documents_table`, with the column that `add_full_text`
adds where words are searched. Each search is one statement, which `show_sql=True`
prints: one round trip, besides the embedding of the question, unless an approximate
index brings too few rows (see `nearest`).

Any of them takes a filter. Keywords stand for equality (`category="error"`; a list
for any of its values, None for no value), `where` for any other condition, with
its values in `parameters`: `where="published >= %s", parameters=[date]`. Where there
are parameters, a percent sign is written `%%`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import pandas
import psycopg2
from pandas.api.types import is_list_like
from pgvector import HalfVector, SparseVector, Vector
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pgv_helpers import settings
from pgv_helpers.db import query
from pgv_helpers.distances import MetricName, find_metric
from pgv_helpers.documents import require_model
from pgv_helpers.errors import DocumentError
from pgv_helpers.indexes import search_settings
from pgv_helpers.models import get_embedding
from pgv_helpers.tables import execute, identifiers, require_ready, table_columns, writing

Fusion = Literal["adaptive", "rrf", "weighted"]

RRF_K = 60
"""The constant of reciprocal rank fusion, as in the paper: Cormack, Clarke and Büttcher, SIGIR 2009."""

BM25_K1, BM25_B = 1.2, 0.75
"""How soon more of a word counts no more, and how much long documents are marked down: the usual values of
Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009."""

RAREST_WORDS = 6
"""A document is a candidate when it holds one of this many of the question's rarest words."""

SCORED_BY_WORDS = 200
"""So many of the candidates, the best ones if every word stood once, get their BM25."""

FUSED_DEPTH = 40
"""How many hits of each side are fused; as many as HNSW gives unless told otherwise."""

MOST_CANDIDATES = 1000
"""The largest value of `hnsw.ef_search`."""

LONGEST_NAME = 63
"""The bytes of a name in PostgreSQL, which cuts off the others."""

_ADD_WORDS = sql.SQL("""
    ALTER TABLE {table} ADD COLUMN words tsvector
        GENERATED ALWAYS AS (to_tsvector({language}, coalesce(title, '') || ' ' || content)) STORED;
    CREATE INDEX ON {table} USING gin (words)""")

_SAY_LANGUAGE = sql.SQL("COMMENT ON COLUMN {table}.words IS {language}")

# Each statement that writes documents appends its differences, so that writers never wait for one another.
# It appends them with the rights of who made the triggers, and none once the column of words was dropped.
_COUNT_WORDS = """
        INSERT INTO {statistics}
            SELECT lexeme, sum(sign), NULL
            FROM (%(changes)s) AS changes, unnest(words) GROUP BY lexeme HAVING sum(sign) <> 0
            UNION ALL
            SELECT '', sum(sign), sum(sign * (SELECT sum(cardinality(positions)) FROM unnest(words)))
            FROM (%(changes)s) AS changes HAVING count(*) > 0;"""
_ADDED, _REMOVED = "SELECT 1 AS sign, words FROM added", "SELECT -1 AS sign, words FROM removed"

_KEEP_STATISTICS = sql.SQL(f"""
    LOCK TABLE {{table}} IN SHARE ROW EXCLUSIVE MODE;
    CREATE TABLE IF NOT EXISTS {{statistics}} (word text, documents bigint, length bigint);
    CREATE INDEX IF NOT EXISTS {{index}} ON {{statistics}} (word);
    TRUNCATE {{statistics}};
    {_COUNT_WORDS % {"changes": "SELECT 1 AS sign, words FROM {table}"}}

    CREATE OR REPLACE FUNCTION {{statistics}}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $keep_statistics$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = TG_RELID AND attname = 'words') THEN
            NULL;
        ELSIF TG_OP = 'INSERT' THEN{_COUNT_WORDS % {"changes": _ADDED}}
        ELSIF TG_OP = 'UPDATE' THEN{_COUNT_WORDS % {"changes": f"{_ADDED} UNION ALL {_REMOVED}"}}
        ELSIF TG_OP = 'DELETE' THEN{_COUNT_WORDS % {"changes": _REMOVED}}
        ELSE
            TRUNCATE {{statistics}};
        END IF;
        RETURN NULL;
    END $keep_statistics$;
    CREATE OR REPLACE TRIGGER words_inserted AFTER INSERT ON {{table}}
        REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION {{statistics}}();
    CREATE OR REPLACE TRIGGER words_updated AFTER UPDATE ON {{table}}
        REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION {{statistics}}();
    CREATE OR REPLACE TRIGGER words_deleted AFTER DELETE ON {{table}}
        REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION {{statistics}}();
    CREATE OR REPLACE TRIGGER words_truncated AFTER TRUNCATE ON {{table}}
        FOR EACH STATEMENT EXECUTE FUNCTION {{statistics}}()""")


def count_words_body(statistics: str) -> str:
    """The code that the triggers of `add_full_text` run.

    Args:
        statistics: the table of counts, as SQL.
    """
    names = dict.fromkeys(("table", "index", "statistics"), sql.SQL(statistics))
    return _KEEP_STATISTICS.format(**names).as_string(None).split("$keep_statistics$")[1]


_BY_VECTOR = sql.SQL("""
    SELECT {columns}, {column} {operator} {vector} AS distance{model}
    FROM {table}
    WHERE {column} IS NOT NULL{condition}
    ORDER BY {column} {operator} {vector}
    LIMIT {limit}""")

# Coverage is the share of the question's information that a document holds.
_BY_WORDS = sql.SQL("""
    WITH searched AS NOT MATERIALIZED (
        SELECT * FROM {table} WHERE true{condition}
    ), collection AS MATERIALIZED (
        SELECT sum(documents)::float8 AS documents, sum(length)::float8 / sum(documents) AS mean_length
        FROM {statistics} WHERE word = ''
    ), question AS MATERIALIZED (
        SELECT lexeme, quote_literal(lexeme)::tsquery AS word, known,
               ln(1 + (documents - known + 0.5) / (known + 0.5)) AS idf
        FROM collection,
             unnest(to_tsvector({language}, {text})),
             LATERAL (SELECT coalesce(sum(counted.documents), 0)::float8 AS known
                      FROM {statistics} AS counted WHERE counted.word = lexeme)
    ), rarest AS MATERIALIZED (
        SELECT string_agg(word::text, ' | ')::tsquery AS any_word
        FROM (SELECT word FROM question WHERE known > 0 ORDER BY known, lexeme LIMIT {rarest_words}) AS words
    ), candidates AS MATERIALIZED (
        SELECT searched.id, searched.words, information.held
        FROM searched, rarest, collection,
             LATERAL (SELECT sum(idf) AS held FROM question WHERE searched.words @@ word) AS information
        WHERE searched.words @@ rarest.any_word
        ORDER BY information.held
                 / (1 + {k1} * (1 - {b} + {b} * length(searched.words) / collection.mean_length)) DESC, id
        LIMIT {scored}
    ), by_words AS (
        SELECT id, held / (SELECT sum(idf) FROM question) AS coverage, score
        FROM candidates, collection,
             LATERAL (SELECT sum(cardinality(positions)) AS length FROM unnest(words)) AS document,
             LATERAL (SELECT sum(idf * ({k1} + 1) * times
                                 / (times + {k1} * (1 - {b} + {b} * document.length / mean_length))) AS score
                      FROM unnest(words) JOIN question USING (lexeme), LATERAL cardinality(positions) AS times) AS bm25
        ORDER BY score DESC, id
        LIMIT {depth}
    )""")

_HITS_BY_WORDS = sql.SQL("""{by_words}
    SELECT {columns}, by_words.score
    FROM by_words JOIN searched USING (id)
    ORDER BY by_words.score DESC, id""")

_HITS_BY_BOTH = sql.SQL("""{by_words}, by_vector AS MATERIALIZED ({by_vector}
    ), fused AS (
        SELECT id, by_words.score, coalesce(by_words.coverage, 0) AS coverage,
               row_number() OVER (ORDER BY by_words.score DESC NULLS LAST, id) AS place_by_words,
               coalesce(nullif(1 - coalesce(by_vector.distance, searched.embedding <=> {vector}), 'NaN'), 0)
                   AS similarity,
               nullif(by_vector.distance, 'NaN') AS distance,
               row_number() OVER (ORDER BY by_vector.distance, id) AS place_by_vector
        FROM by_words FULL OUTER JOIN by_vector USING (id) JOIN searched USING (id)
    ), scored AS (
        SELECT id, ({score})::float8 AS score FROM fused
    )
    SELECT {columns}, scored.score, (SELECT count(*) FROM by_vector) AS neighbours, {model} AS model
    FROM scored JOIN searched USING (id)
    ORDER BY scored.score DESC, id
    LIMIT {limit}""")

_SCORES = {
    "adaptive": """
        similarity + power(coverage * max(coverage) OVER () / greatest(max(similarity) OVER (), 0.01), 3)""",
    "rrf": """
        CASE WHEN score IS NULL THEN 0 ELSE 1.0 / ({rrf_k} + place_by_words) END
        + CASE WHEN distance IS NULL THEN 0 ELSE 1.0 / ({rrf_k} + place_by_vector) END""",
    "weighted": """
        {weight} * CASE WHEN distance IS NULL THEN 0 ELSE coalesce(
            (max(distance) OVER () - distance) / nullif(max(distance) OVER () - min(distance) OVER (), 0), 1) END
        + (1 - {weight}) * CASE WHEN score IS NULL THEN 0 ELSE coalesce(
            (score - min(score) OVER ()) / nullif(max(score) OVER () - min(score) OVER (), 0), 1) END""",
}

# Known where the triggers of this very table keep these counts. Those of a table that was renamed, or put in the
# place of another, do not, and its words would be looked up in counts that are not its own.
_LANGUAGE = sql.SQL("""coalesce((
            SELECT col_description(attrelid, attnum)
            FROM pg_attribute JOIN pg_trigger ON tgrelid = attrelid JOIN pg_proc ON pg_proc.oid = tgfoid
            WHERE attrelid = to_regclass({table}) AND attname = 'words'
              AND tgname = 'words_inserted' AND proname = {statistics}), 'unknown')::regconfig""")

_COMMENT = sql.SQL("""(
        SELECT col_description(attrelid, attnum) FROM pg_attribute
        WHERE attrelid = to_regclass({table}) AND attname = {column})""")


def add_full_text(
    conn: Connection, table: str = "documents", *, language: str = "english", show_sql: bool = False
) -> None:
    """Give a table of documents the column `words`, a tsvector of title and content, and count its words.

    The column is generated, with a GIN index; one of type tsvector that you made yourself
    stays as it is. The counts stand in a table of their own, `<table>_words`: each word
    with the number of documents that hold it, and the empty word with the number of all.
    Triggers keep it in step with every statement on the table that inserts, updates,
    deletes or truncates, by appending the differences. (A write to a single partition
    goes past them.) After a great many small writes call this again: it counts anew.
    Call it again, too, after renaming the table.

    Whoever may write documents may do so without rights to the counts; whoever searches
    for words needs SELECT on both tables. The counts are of all rows, also of those that
    row-level security hides.

    Args:
        language: a text search configuration, which says how words are stemmed and which are left out.

    Raises:
        DocumentError: there is no such table or language, the column was made for another language or is
            no tsvector, or the name of the counts is taken or too long.
    """
    with writing(conn) as cur:
        keep_words(cur, table, language, show_sql)


def keep_words(cur: Cursor, table: str, language: str, show_sql: bool = False) -> None:
    """What `add_full_text` does, in a transaction of the caller's."""
    statistics = f"{table}_words"
    if len(f"{statistics}_word".encode()) > LONGEST_NAME:
        raise DocumentError(
            f"The name {table!r} is too long: with _words_word behind it, which the index of the counts is called, "
            f"PostgreSQL would cut it off at {LONGEST_NAME} bytes."
        )
    table_columns(cur.connection, table)
    find = """
        SELECT nspname, atttypid::regtype::text, col_description(attrelid, attnum),
               (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
                WHERE attrelid = to_regclass(format('%%I.%%I', nspname, %s)) AND attnum > 0)
        FROM pg_class
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'words'
        WHERE pg_class.oid = to_regclass(quote_ident(%s))"""
    cur.execute(find, [statistics, table])
    schema, type, made_for, counts = cur.fetchone()
    if type not in (None, "tsvector"):
        raise DocumentError(f"{table!r} has another column named words, of the type {type}. Rename it.")
    if counts not in (None, ["word", "documents", "length"]):
        raise DocumentError(f"There is something else named {statistics!r}, where the counts would stand. Rename it.")
    known = query(cur.connection, "SELECT cfgname FROM pg_ts_config ORDER BY cfgname").cfgname.tolist()
    if language not in known:
        raise DocumentError(f"PostgreSQL has no language {language!r}; it has: {', '.join(known)}.")
    if made_for not in (None, language):
        raise DocumentError(
            f"The words of {table!r} were made for {made_for!r}, not {language!r}. To make them anew, first: "
            f"ALTER TABLE {sql.Identifier(table).as_string(cur)} DROP COLUMN words;"
        )
    names = {
        "table": sql.Identifier(schema, table),
        "statistics": sql.Identifier(schema, statistics),
        "index": sql.Identifier(f"{statistics}_word"),
        "language": sql.Literal(language),
    }
    if type is None:
        execute(cur, _ADD_WORDS.format(**names), show_sql=show_sql)
    if made_for is None:
        execute(cur, _SAY_LANGUAGE.format(**names), show_sql=show_sql)
    execute(cur, _KEEP_STATISTICS.format(**names), show_sql=show_sql)


def nearest(
    conn: Connection,
    question: str | np.ndarray | Vector | HalfVector | SparseVector,
    limit: int = 10,
    *,
    table: str = "documents",
    column: str = "embedding",
    metric: MetricName = "cosine",
    columns: Sequence[str] = ("id", "title", "content"),
    where: str | sql.Composable | None = None,
    parameters: Sequence | Mapping | None = None,
    as_dicts: bool = False,
    show_sql: bool = False,
    **equal: Any,
) -> pandas.DataFrame | list[dict[str, Any]]:
    """The nearest neighbours of a question, among all rows or those that a filter leaves.

    When an approximate index brings fewer rows than were asked for, the search is run
    once more with more candidates and an iterative scan, which goes on behind the rows
    that the filter threw out (up to `hnsw.max_scan_tuples`). There may still be fewer.

    Args:
        question: a text, which the table's model embeds, or a vector of shape (dimension,): numbers, or bool for bits.
        metric: the distance, by name or operator.
        columns: of the result, before the distance.
        where, parameters, equal: the filter; see above.
        as_dicts: a list of dictionaries instead of a DataFrame.

    Returns:
        `columns` and distance; at most `limit` rows, the nearest first. Of the inner product the
        distance is the negative one.

    Raises:
        DocumentError: a table or column that is not there, vectors of another model or dimension, a
            filter that PostgreSQL cannot take.
        ModelError: the text cannot be embedded.
    """
    of_text = isinstance(question, str)
    limit = _limit(limit)
    statement = _BY_VECTOR.format(
        columns=identifiers(_columns(columns, "distance")),
        column=sql.Identifier(column),
        operator=sql.SQL(find_metric(metric).operator),
        vector=_vector(question),
        model=sql.SQL(", {} AS model").format(_commented(table, column)) if of_text else sql.SQL(""),
        table=sql.Identifier(table),
        condition=_condition(conn, where, parameters, equal),
        limit=sql.Literal(limit),
    )
    hits = _search(conn, table, statement, show_sql)
    if len(hits) < limit:
        with _looking_harder(conn, limit):
            hits = _search(conn, table, statement, False)
        hits = hits.sort_values("distance", kind="stable", ignore_index=True)  # a relaxed scan is not in order
    if of_text:
        hits = _checked_model(conn, table, hits)
    return hits.to_dict("records") if as_dicts else hits


def search_documents(
    conn: Connection,
    query: str,
    category: str | None = None,
    limit: int = 5,
    *,
    table: str = "documents",
    show_sql: bool = False,
) -> pandas.DataFrame:
    """The documents nearest in meaning, all or those of one category: `nearest` as most programs need it.

    Returns:
        Columns id, title, content, category, distance; at most `limit` rows, the nearest first.

    Raises:
        DocumentError, ModelError: as `nearest`.
    """
    only = {} if category is None else {"category": category}
    columns = ("id", "title", "content", "category")
    return nearest(conn, query, limit, table=table, columns=columns, show_sql=show_sql, **only)


def full_text_search(
    conn: Connection,
    query: str,
    limit: int = 10,
    *,
    table: str = "documents",
    columns: Sequence[str] = ("id", "title", "content"),
    where: str | sql.Composable | None = None,
    parameters: Sequence | Mapping | None = None,
    show_sql: bool = False,
    **equal: Any,
) -> pandas.DataFrame:
    """The documents that hold the question's words, ranked by BM25.

    A word counts the more the fewer documents hold it. Candidates hold one of the six
    rarest words of the question; BM25 is computed for those two hundred that would be
    best if every word stood in them once (or `limit`, if that is more). The length of a
    document is the number of its words without stop words; of one word PostgreSQL counts
    at most 255. A question without a word that PostgreSQL keeps finds nothing, and
    so do operators and quotes: the question is text, not a language.

    Args:
        where, parameters, equal: the filter; see above.

    Returns:
        `columns` and score; at most `limit` rows, the best first, equal ones by id.

    Raises:
        DocumentError: a table or column that is not there, or `add_full_text` has not been called for it.
    """
    statement = _HITS_BY_WORDS.format(
        by_words=_by_words(table, query, _limit(limit), _condition(conn, where, parameters, equal)),
        columns=_searched(columns),
    )
    return _search(conn, table, statement, show_sql)


def hybrid_search(
    conn: Connection,
    query: str,
    limit: int = 5,
    *,
    method: Fusion = "adaptive",
    semantic_weight: float = 0.7,
    table: str = "documents",
    columns: Sequence[str] = ("id", "title", "content"),
    where: str | sql.Composable | None = None,
    parameters: Sequence | Mapping | None = None,
    show_sql: bool = False,
    **equal: Any,
) -> pandas.DataFrame:
    """The best of what vectors and words find: forty hits of each side, or `limit` if that is more.

    A hit of either side survives, and for one that only words found the cosine
    similarity is computed. How the two become one score:

    - "adaptive": similarity + (coverage · trust)³. Coverage is the share of the question's
      information (the sum of its words' inverse document frequencies) that the document holds;
      trust, by how much the best coverage exceeds the best similarity. So words decide when they
      cover the question and nothing is near, and vectors when it is a paraphrase.
    - "rrf": reciprocal rank fusion, the sum of 1 / (60 + place) over the two lists.
    - "weighted": the scores of each list, brought to 0…1 for this question (a hit that a list
      does not have counts 0 there), added by `semantic_weight` and the rest.

    A question without words that PostgreSQL keeps is searched by its vector alone.

    Args:
        method: "adaptive", "rrf" or "weighted".
        semantic_weight: of the vectors, from 0 to 1, for the method "weighted".
        where, parameters, equal: the filter, for both sides; see above.

    Returns:
        `columns` and score; at most `limit` rows, the best first, equal ones by id.

    Raises:
        DocumentError, ModelError: as the two searches, or an unknown method.
    """
    if method not in _SCORES:
        raise DocumentError(f"method is {method!r}; it takes one of: {', '.join(get_args(Fusion))}.")
    if not 0 <= semantic_weight <= 1:
        raise DocumentError(f"semantic_weight is {semantic_weight}; it goes from 0 (words alone) to 1 (vectors alone).")
    limit, vector = _limit(limit), _vector(query)
    depth = max(limit, FUSED_DEPTH)
    statement = _HITS_BY_BOTH.format(
        vector=vector,
        by_words=_by_words(table, query, depth, _condition(conn, where, parameters, equal)),
        by_vector=_BY_VECTOR.format(
            table=sql.SQL("searched"),
            columns=sql.Identifier("id"),
            column=sql.Identifier("embedding"),
            operator=sql.SQL("<=>"),
            vector=vector,
            model=sql.SQL(""),
            condition=sql.SQL(""),
            limit=sql.Literal(depth),
        ),
        score=sql.SQL(_SCORES[method]).format(rrf_k=sql.Literal(RRF_K), weight=sql.Literal(float(semantic_weight))),
        columns=_searched(columns),
        model=_commented(table, "embedding"),
        limit=sql.Literal(limit),
    )
    hits = _search(conn, table, statement, show_sql)
    if hits.empty or hits.iloc[0, -2] < depth:
        with _looking_harder(conn, depth):
            hits = _search(conn, table, statement, False)
    return _checked_model(conn, table, hits).iloc[:, :-1]


def _by_words(table: str, text: str, depth: int, condition: sql.Composable) -> sql.Composed:
    if not isinstance(text, str):
        raise DocumentError(f"A question of words is a text, not {text!r:.60}")
    statistics = f"{table}_words"
    return _BY_WORDS.format(
        statistics=sql.Identifier(statistics),
        language=_LANGUAGE.format(table=_quoted(table), statistics=sql.Literal(statistics)),
        text=sql.Literal(text),
        rarest_words=sql.Literal(RAREST_WORDS),
        k1=sql.Literal(BM25_K1),
        b=sql.Literal(BM25_B),
        table=sql.Identifier(table),
        condition=condition,
        scored=sql.Literal(max(SCORED_BY_WORDS, depth)),
        depth=sql.Literal(depth),
    )


def _commented(table: str, column: str) -> sql.Composed:
    """What stands as a comment on a column: its model."""
    return _COMMENT.format(table=_quoted(table), column=sql.Literal(column))


def _quoted(table: str) -> sql.Composed:
    return sql.SQL("quote_ident({})").format(sql.Literal(table))


def _columns(names: Sequence[str], added: str) -> list[str]:
    """The columns of a result to which the search adds one of its own."""
    if isinstance(names, str) or not len(names) or not all(isinstance(name, str) for name in names):
        raise DocumentError(f"columns is a list of names, such as ['id', 'title'], not {names!r:.60}.")
    if added in names:
        raise DocumentError(f"The result has a column {added!r} of its own. Leave it out of columns.")
    return list(names)


def _searched(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier("searched", name) for name in _columns(columns, "score"))


def _condition(
    conn: Connection,
    where: str | sql.Composable | None,
    parameters: Sequence | Mapping | None,
    equal: Mapping[str, Any],
) -> sql.Composed:
    """The filter, with its values bound, as the end of a WHERE clause."""
    require_ready(conn)
    conditions = []
    if where is not None:
        with conn.cursor() as cur:
            try:
                conditions.append(sql.SQL(cur.mogrify(where, _pythons(parameters)).decode()))
            except (IndexError, KeyError, TypeError, ValueError, psycopg2.ProgrammingError) as error:
                raise DocumentError(
                    f"The filter {where!r:.200} and its parameters {parameters!r:.200} do not go together: {error}. "
                    "Each %s takes the next value of a list; write %% for a percent sign where there are parameters."
                ) from None
    for name, value in equal.items():
        conditions.append(_equals(sql.Identifier(name), value))
    return sql.Composed(sql.SQL(" AND ({})").format(condition) for condition in conditions)


def _equals(column: sql.Identifier, value: Any) -> sql.Composed:
    """A condition that holds where the column has the value, or one of several; None stands for NULL."""
    if isinstance(value, Mapping) or not is_list_like(value):
        return sql.SQL("{} IS NULL" if value is None else "{} = {}").format(column, sql.Literal(_pythons(value)))
    values = list(value)
    stored = [sql.Literal(_pythons(each)) for each in values if each is not None]
    among = sql.SQL("{} IN ({})").format(column, sql.SQL(", ").join(stored)) if stored else sql.SQL("false")
    return sql.SQL("{} OR {} IS NULL").format(among, column) if len(stored) < len(values) else among


def _pythons(value: Any) -> Any:
    """A value, or each of several, as Python's own: psycopg2 does not know NumPy's numbers."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {name: _pythons(each) for name, each in value.items()}
    return type(value)(map(_pythons, value)) if type(value) in (list, tuple) else value


def _vector(question: str | np.ndarray | Vector | HalfVector | SparseVector) -> sql.Literal:
    if isinstance(question, str):
        return sql.Literal(get_embedding(question))
    if isinstance(question, (Vector, HalfVector, SparseVector)):
        return sql.Literal(question)
    vector = np.asarray(question)
    if vector.ndim == 1 and vector.dtype == bool:
        return sql.Literal("".join("01"[bit] for bit in vector.astype(int)))
    try:
        vector = vector.astype(np.float32)
    except (TypeError, ValueError):
        vector = np.empty(0)
    if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
        raise DocumentError(f"A question is a text, or one vector of finite numbers, not {question!r:.60}")
    return sql.Literal(vector)


def _limit(rows: int) -> int:
    if not hasattr(rows, "__index__") or rows < 0:
        raise DocumentError(f"limit must be a whole number, 0 or more; it is {rows!r}.")
    return int(rows)


def _search(conn: Connection, table: str, statement: sql.Composed, show_sql: bool) -> pandas.DataFrame:
    """Run a search; what the server cannot do is told as a DocumentError, and a transaction that began here ends."""
    require_ready(conn)
    alone = conn.info.transaction_status == TRANSACTION_STATUS_IDLE
    try:
        text = statement.as_string(conn)
        text.encode()
    except ValueError as error:
        raise DocumentError(f"A text with a NUL or half a character cannot be searched for: {error}") from None
    except psycopg2.ProgrammingError as error:
        raise DocumentError(
            f"A value of the filter is of no type that psycopg2 knows: {error}. Give it as a text."
        ) from None
    if show_sql:
        print(text)
    try:
        return query(conn, text)
    except psycopg2.Error as error:
        if error.pgcode is None or error.pgcode[:2] not in ("0A", "22", "42", "54"):
            raise
        refused = _refused(table, error)
    if alone and not conn.autocommit:
        conn.rollback()
    elif not conn.autocommit:
        refused = DocumentError(f"{refused}\nThe open transaction ended with it. To go on: conn.rollback()")
    raise refused


def _refused(table: str, error: psycopg2.Error) -> DocumentError:
    said = error.diag.message_primary
    without_words = (
        f'relation "{table}_words" does not exist',
        "column searched.words does not exist",
        'text search configuration "unknown" does not exist',
    )
    if said in without_words:
        return DocumentError(
            f"{table!r} has no column of words to search, or was renamed since. Add it: add_full_text(conn, {table!r})."
        )
    if said == f'relation "{table}" does not exist':
        return DocumentError(
            f"There is no table {table!r} here ({said}). Look for a typing error, connect to the schema that has it, "
            f"or create it: create_documents_table(conn, {table!r})."
        )
    if "different vector dimensions" in said:
        return DocumentError(
            f"{table!r} holds vectors of another dimension than the question ({said}): another model made them. "
            "table_model(conn, table) says which; set PGV_EMBEDDING_MODEL to it, or embed the table anew."
        )
    return DocumentError(f"PostgreSQL cannot search {table!r} so: {said}. {error.diag.message_hint or ''}".strip())


@contextmanager
def _looking_harder(conn: Connection, rows: int) -> Iterator[None]:
    """More candidates, and an approximate index goes on when a filter leaves too few."""
    candidates = int(query(conn, "SELECT current_setting('hnsw.ef_search')").iloc[0, 0])
    rows = min(max(rows, candidates), MOST_CANDIDATES)
    with search_settings(conn, ef_search=rows, iterative_scan="relaxed_order"):
        yield


def _checked_model(conn: Connection, table: str, hits: pandas.DataFrame) -> pandas.DataFrame:
    """The hits without the last column, the table's model, once it is known to be the settings'."""
    if (models := hits.iloc[:, -1]).notna().any() and models[0] != settings.embedding_model():
        require_model(conn, table)
    return hits.iloc[:, :-1]
