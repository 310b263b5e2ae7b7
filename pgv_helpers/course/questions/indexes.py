"""Exercise 04_indexes: indexes that are built right, used, and measured."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache, partial
from itertools import count

import numpy as np
from psycopg2 import sql

from pgv_helpers.bulk import bulk_load
from pgv_helpers.bulk import read_embeddings as stored_embeddings
from pgv_helpers.course import expect
from pgv_helpers.course.question import question
from pgv_helpers.datasets import clustered_vectors
from pgv_helpers.db import query
from pgv_helpers.distances import exact_neighbours, find_metric

question = partial(question, exercise="04_indexes")

DIMENSION = 32
ROWS = 3000
"""As many as it takes for PostgreSQL to prefer an index of its own accord."""

NEAREST = "SELECT id FROM {} ORDER BY embedding <=> %s LIMIT %s"


def vectors_and_queries(
    rng: np.random.Generator, number: int, queries: int, dimension: int = DIMENSION, *, spread: float = 0.8
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in 50 clusters, and held-out ones to search for.

    In clusters much narrower than by default an HNSW search with a small m may end in a wrong one.
    Their lengths differ, so that Euclidean distance and inner product rank otherwise than cosine distance.
    """
    chunks = clustered_vectors(number + queries, dimension, clusters=50, spread=spread, seed=int(rng.integers(2**31)))
    vectors = np.concatenate(list(chunks)) * rng.uniform(0.3, 3, size=(number + queries, 1)).astype(np.float32)
    return vectors[:number], vectors[number:]


def make_table(db, vectors: np.ndarray, table: str = "documents") -> None:
    """The table as the exercise describes it, analyzed; the ids count from 1."""
    statement = sql.SQL("CREATE TABLE {} (id integer PRIMARY KEY, embedding vector({}) NOT NULL)")
    query(db, statement.format(sql.Identifier(table), sql.Literal(vectors.shape[1])))
    bulk_load(db, table, {"id": np.arange(1, len(vectors) + 1), "embedding": vectors})
    query(db, sql.SQL("ANALYZE {}").format(sql.Identifier(table)))


@question(
    "indexes.create_hnsw",
    points=1,
    objective="build an HNSW index for an operator, with options",
    hints=[
        "An index serves the operator of its operator class; `<=>` is cosine distance.",
        "`CREATE INDEX ON … USING hnsw (column operator_class) WITH (option = value, …)`. Then commit.",
        "`CREATE INDEX ON documents USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 100)`",
    ],
)
def create_hnsw(learner, db, rng) -> Iterator[str]:
    vectors, (wanted,) = vectors_and_queries(rng, ROWS, 1)
    make_table(db, vectors)
    learner.call("create_hnsw", learner.conn)
    expect.committed(learner)
    options = {"m": "8", "ef_construction": "100"}
    name = expect.index(db, "documents", "hnsw", "vector_cosine_ops", options)
    yield "there is an HNSW index for cosine distance with these options, and it was committed"
    with db.cursor() as cur:
        expect.uses_index(db, cur.mogrify(NEAREST.format("documents"), [wanted, 5]).decode(), name)
    yield "PostgreSQL uses it for a search by `<=>`"


@question(
    "indexes.use_the_index",
    points=2,
    objective="write a search that its index can serve",
    hints=[
        "Which operator does the index's operator class serve? Of vectors of length 1 it ranks as `<=>` does.",
        "An index gives rows by rising distance: ORDER BY holds the bare operator, ascending, with nothing around it.",
        "`ORDER BY embedding <#> %s LIMIT %s`: the negative inner product, so that the most similar come first.",
    ],
)
def use_the_index(learner, db, rng) -> Iterator[str]:
    vectors, queries = vectors_and_queries(rng, ROWS, 3)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    make_table(db, vectors)
    query(db, "CREATE INDEX documents_ip ON documents USING hnsw (embedding vector_ip_ops)")
    definitions = "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1"
    before = query(db, definitions)
    for wanted in queries:
        limit = int(rng.integers(5, 15))
        returned = learner.call("search_fast", learner.conn, wanted, limit)
        expect.committed(learner)
        _expect_nearest(returned, vectors, wanted, limit)
        if not query(db, definitions).equals(before):
            raise expect.Wrong("The indexes of the table were changed. Search with the one that was there.")
    yield "the most similar come first, and the indexes are as they were"
    expect.search_uses_index(db, learner, "documents", "documents_ip", last=True)
    yield "the search uses the index"


@question(
    "indexes.search_many",
    points=2,
    objective="tune an index for one search, and nothing beyond it",
    hints=[
        "An HNSW scan returns no more rows than `hnsw.ef_search`, which is 40 unless you say more.",
        "`SET LOCAL` holds to the end of the transaction, so it has to be in the same `with conn:` as the search.",
        '`cur.execute("SET LOCAL hnsw.ef_search = %s", [max(limit, 40)])`, then the search, both in one '
        "`with conn, conn.cursor() as cur:`. Much more than `limit`, and PostgreSQL finds the index too dear.",
    ],
)
def search_many(learner, db, rng) -> Iterator[str]:
    vectors, queries = vectors_and_queries(rng, 2 * ROWS, 32, spread=1.2)
    make_table(db, vectors)
    query(
        db,
        """CREATE INDEX documents_cosine ON documents
           USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 32)""",
    )
    for wanted, limit in zip(queries, (int(rng.integers(50, 70)), int(rng.integers(105, 115)))):
        with expect.settings_kept(learner):
            returned = learner.call("search_many", learner.conn, wanted, limit)
            expect.committed(learner)
            local = any(re.search(r"\bSET\s+LOCAL\b", sent.text, re.I) for sent in learner.statements)
            if local and isinstance(returned, list) and len(returned) < limit:
                raise expect.Wrong(
                    f"The result holds {len(returned)} ids, which is too few: {limit} were asked for. SET LOCAL was "
                    "sent: does it ask for enough, and does the search run in the same transaction?"
                )
            _expect_nearest(returned, vectors, wanted, limit)
    yield "as many come back as were asked for, the nearest first"
    expect.search_uses_index(db, learner, "documents", "documents_cosine", last=True)
    yield "the search uses the index"
    few, found = queries[2:], []
    for wanted in few:
        found.append(learner.call("search_many", learner.conn, wanted, 3))
        _expect_nearest(found[-1], vectors, wanted, 3, recall=0)
    exact = exact_neighbours(vectors, few, 3)[0] + 1
    recall, usual = (
        expect.mean_recall(found, exact),
        expect.mean_recall([some[:3] for some in _search(db, "documents", few)], exact),
    )
    if recall < usual - 0.05:
        raise expect.Wrong(
            f"With the limit 3 the recall is {recall:.2f}, and with hnsw.ef_search = 40 it is {usual:.2f}: "
            "a small limit must not find less."
        )
    yield "a small limit finds no less than before"
    learner.set("hnsw.ef_search", int(rng.integers(50, 60)))
    with expect.settings_kept(learner):
        learner.call("search_many", learner.conn, wanted, 100)
        expect.committed(learner)
    yield "the session's settings are as they were, whatever they were"


@question(
    "indexes.mend_library",
    points=3,
    objective="find what is wrong with an index and with the search that should use it",
    hints=[
        "IVFFlat looks for the centres of its lists among the rows that are there when it is built.",
        "Cosine similarity is 1 minus cosine distance; the index needs the operator class of that distance. "
        "And an index serves ORDER BY only where the bare operator stands, ascending.",
        "Insert first, then `CREATE INDEX … USING ivfflat (embedding vector_cosine_ops) WITH (lists = 50)`. "
        "Search with `SELECT id, 1 - (embedding <=> %(vector)s) … ORDER BY embedding <=> %(vector)s LIMIT %(limit)s`.",
    ],
)
def mend_library(learner, db, rng) -> Iterator[str]:
    vectors, queries = vectors_and_queries(rng, ROWS, 40, spread=0.5)
    learner.call("build_library", learner.conn, list(zip(range(1, ROWS + 1), vectors)))
    expect.committed(learner)
    expect.columns(db, "library", {"id": "integer", "embedding": f"vector({DIMENSION})"})
    expect.unique(db, "library", ["id"], primary=True)
    expect.count(db, "library", ROWS, learner)
    ids, stored = stored_embeddings(db, "library")
    expect.equal(sorted(ids.tolist()), list(range(1, ROWS + 1)), "The column id")
    expect.close(stored[np.argsort(ids)], vectors, "The column embedding", tolerance=0)
    yield "the table holds the rows"
    name = expect.index(db, "library", "ivfflat", "vector_cosine_ops", {"lists": "50"})
    yield "it has an IVFFlat index of 50 lists for cosine distance"
    query(db, "ANALYZE library")
    exact = exact_neighbours(vectors, queries, 10)[0] + 1
    found = _search(db, "library", queries)
    recall = expect.mean_recall(found, exact)
    if recall < 0.8:
        raise expect.Wrong(
            f"The index finds {recall:.0%} of the ten nearest: its lists do not suit the rows. "
            "Which rows were there when it was built?"
        )
    yield "its lists suit the rows"
    # A list may hold fewer than ten rows, and then fewer come back, whoever searches.
    full = [row for row, some in enumerate(found) if len(some) == 10][:10]
    found = []
    for wanted in queries[full]:
        returned = learner.call("search_library", learner.conn, wanted, 10)
        expect.committed(learner)
        expect.tuples(returned, {"id": (int, np.integer), "similarity": float}, "The result")
        expect.has_length(returned, 10, "The result", "rows")
        _expect_similarities(returned, vectors, wanted)
        found.append([id for id, _ in returned])
        _expect_nearest(found[-1], vectors, wanted, 10, recall=0)  # of one query a probe may miss most
    expect.recall(found, exact[full], 0.6, "The search")
    yield "the search returns the nearest with their cosine similarities"
    expect.search_uses_index(db, learner, "library", name)
    yield "the search uses the index"


@question(
    "indexes.smallest_ef_search",
    points=3,
    objective="measure recall against exact search, and choose a setting by it",
    hints=[
        "Recall needs the exact neighbours, and the index does not know them: how does PostgreSQL search without it?",
        "`SET LOCAL enable_indexscan = off` in the same transaction makes a search exact; then switch it on again, and "
        "for each candidate, the smallest first, `SET LOCAL hnsw.ef_search = …`.",
        "The recall of a query is `len(set(found) & set(exact)) / 10`. Take the mean over the queries, and return the "
        "first candidate of `sorted(candidates)` whose mean is 0.95 or more.",
    ],
)
def smallest_ef_search(learner, db, rng) -> Iterator[str]:
    # Random vectors and an index with few edges, so that the recall has a long way to go.
    vectors = rng.normal(size=(ROWS, DIMENSION)).astype(np.float32)
    queries = rng.normal(size=(80, DIMENSION)).astype(np.float32)
    make_table(db, vectors)
    query(db, "CREATE INDEX ON documents USING hnsw (embedding vector_cosine_ops) WITH (m = 5, ef_construction = 15)")
    exact = exact_neighbours(vectors, queries, 10)[0] + 1
    found = _search(db, "documents", queries, 100)
    of_five, of_ten = ([expect.mean_recall([some], [near[:k]]) for some, near in zip(found, exact)] for k in (5, 10))
    # Those that find the first five more surely than the ten, and the easiest first: some do not speak for all.
    chosen = np.argsort(np.subtract(of_ten, of_five), kind="stable")[:40]
    chosen = sorted(chosen, key=lambda row: -of_ten[row])
    queries, exact = queries[chosen], exact[chosen]

    @cache
    def recall(ef_search: int) -> float:
        return expect.mean_recall(_search(db, "documents", queries, ef_search), exact)

    # The one to find, and the nearest below that misses the limit by a little more than a few ties may add.
    right = bisect_left(range(250), 0.95, lo=10, key=recall)
    below = next(value for value in range(right, 0, -2) if recall(value) < 0.944)
    right = next(value for value in count(right, 2) if recall(value) > 0.956)
    # Who takes the default, 40, for exact finds the fifth enough.
    candidates = [int(rng.integers(5, 15)), right + 20, below, below // 2, int(rng.integers(40, 44)), right + 8, right]
    with expect.settings_kept(learner):
        returned = learner.call("smallest_ef_search", learner.conn, queries, candidates)
        expect.committed(learner)
        _expect_int(returned, "The result")
        if returned not in candidates:
            raise expect.Wrong(f"The result is {returned}, which is none of the candidates.")
        returned = int(returned)  # psycopg2 does not know NumPy's
        yield "the result is one of the candidates"
        if recall(returned) < 0.944:
            raise expect.Wrong(
                f"With ef_search = {returned} the recall is {recall(returned):.3f}, and 0.95 is asked for. Is the "
                "exact search without the index, the other one with it, both for the ten nearest of every query, "
                "and the limit 0.95?"
            )
        yield "its recall against exact search is high enough"
        if any(recall(smaller) > 0.956 for smaller in candidates if smaller < returned):
            raise expect.Wrong(f"The result is {returned}, and a smaller candidate reaches the recall as well.")
        yield "no smaller one is"
    yield "the session's settings are as they were"


@question(
    "indexes.long_vectors",
    points=2,
    changes=["index_long"],
    objective="index vectors of more than 2000 dimensions, in half precision",
    hints=[
        "An index on halfvec takes up to 4000 dimensions, and an index may be on an expression.",
        "The expression is a cast, in parentheses of its own: `((embedding::halfvec(2048)) halfvec_cosine_ops)`. "
        "A search has to write the same expression.",
        "`ORDER BY embedding::halfvec(2048) <=> %s::halfvec(2048) LIMIT %s`",
    ],
)
def long_vectors(learner, db, rng) -> Iterator[str]:
    vectors, queries = vectors_and_queries(rng, 600, 3, 2048)
    make_table(db, vectors, "long_documents")
    learner.call("index_long", learner.conn)
    expect.committed(learner)
    expect.columns(db, "long_documents", {"id": "integer", "embedding": "vector(2048)"})
    name = expect.index(db, "long_documents", "hnsw", "halfvec_cosine_ops")
    yield "there is an HNSW index in half precision, and the column is as it was"
    for wanted in queries:
        limit = int(rng.integers(5, 15))
        returned = learner.call("search_long", learner.conn, wanted, limit)
        expect.committed(learner)
        # Half precision has eleven bits, so that what is almost as near may come first.
        _expect_nearest(returned, vectors, wanted, limit, tolerance=1e-3)
    yield "the search returns the nearest first"
    expect.search_uses_index(db, learner, "long_documents", name, "SET LOCAL enable_seqscan = off")
    yield "the search can use the index"


@question(
    "indexes.rerank",
    points=3,
    objective="search by bits, and rank what was found by the vectors",
    hints=[
        "Two steps: many candidates by `<~>` on the bits, then the best of them by `<=>` on the vectors.",
        "The inner query orders by the very expression of the index and has `LIMIT %(candidates)s`; it hands on "
        "`id` and `embedding` to the outer one.",
        "`SELECT id FROM (SELECT id, embedding FROM documents ORDER BY binary_quantize(embedding)::bit(128) <~> "
        "binary_quantize(%(vector)s::vector) LIMIT %(candidates)s) AS found ORDER BY embedding <=> %(vector)s "
        "LIMIT %(limit)s`",
    ],
)
def rerank(learner, db, rng) -> Iterator[str]:
    vectors, queries = vectors_and_queries(rng, ROWS, 20, 128)
    make_table(db, vectors)
    query(
        db,
        """CREATE INDEX documents_bits ON documents
           USING hnsw ((binary_quantize(embedding)::bit(128)) bit_hamming_ops)""",
    )
    found = []
    for wanted in queries:
        returned = learner.call("search_rerank", learner.conn, wanted, 40, 10)
        expect.committed(learner)
        _expect_nearest(returned, vectors, wanted, 10, recall=0)
        found.append(returned)
    yield "what comes back is in the order of the cosine distance"
    _expect_candidates(db, learner, 40)
    few = int(rng.integers(15, 30))
    learner.call("search_rerank", learner.conn, queries[0], few, 10)
    _expect_candidates(db, learner, few)
    yield "the index on the bits gives as many candidates as were asked for"
    expect.recall(found, exact_neighbours(vectors, queries, 10)[0] + 1, 0.75, "With 40 candidates")
    yield "the best of them come back, nearly all of the true nearest"


def _expect_int(value, what: str) -> None:
    """A whole number, Python's or NumPy's."""
    if not isinstance(value, np.integer):
        expect.is_a(value, int, what)


def _expect_nearest(
    returned, vectors: np.ndarray, wanted: np.ndarray, limit: int, *, recall: float = 0.4, tolerance: float = 1e-6
) -> None:
    """A list of ids, the nearest by cosine distance first, and enough of the true nearest among them."""
    expect.is_a(returned, list, "The result")
    for item in returned:
        _expect_int(item, "Each id of the result")
    expect.has_length(returned, limit, "The result", "ids", asked=True)
    if strange := [id for id in returned if not 1 <= id <= len(vectors)]:
        raise expect.Wrong(f"The result holds {strange[0]}, which is the id of no row.")
    if len(set(returned)) < len(returned):
        raise expect.Wrong("The result holds an id twice.")
    distances = find_metric("cosine").distances(wanted[None], vectors)[0]
    of_returned = distances[np.array(returned) - 1]
    if (np.diff(of_returned) < 0).all() and of_returned[-1] > np.median(distances):
        raise expect.Wrong("The result begins with the farthest of all. A distance is small where vectors are alike.")
    if limit > 4 and (np.diff(of_returned) < -tolerance).any():
        for name, other in (("l2", "Euclidean distance"), ("inner_product", "the negative inner product")):
            if (np.diff(find_metric(name).distances(wanted[None], vectors[np.array(returned) - 1])[0]) >= -1e-3).all():
                raise expect.Wrong(f"The result is ranked by {other}, not by cosine distance.")
    expect.ordered(of_returned, "The result, by cosine distance,", tolerance=tolerance)
    if expect.mean_recall([returned], [np.argsort(distances)[:limit] + 1]) < recall:
        raise expect.Wrong("The result is in order, and most of the nearest are missing: is every row searched?")


def _expect_similarities(returned: list[tuple], vectors: np.ndarray, wanted: np.ndarray) -> None:
    """The numbers beside the ids are cosine similarities, not those of another measure."""
    rows = [id - 1 for id, _ in returned if isinstance(id, int) and 1 <= id <= len(vectors)]
    distances = {name: find_metric(name).distances(wanted[None], vectors[rows])[0] for name in ("cosine", "l2")}
    others = {
        "cosine distances": distances["cosine"],
        "1 minus Euclidean distances": 1 - distances["l2"],
        "Euclidean distances": distances["l2"],
    }
    numbers = [number for _, number in returned]
    for name, measured in others.items():
        if np.shape(numbers) == measured.shape and np.allclose(numbers, measured, rtol=1e-3, atol=1e-3):
            raise expect.Wrong(f"The numbers beside the ids are {name}, not cosine similarities.")
    if len(rows) == len(numbers):
        expect.close(numbers, 1 - distances["cosine"], "The list of similarities", tolerance=1e-4)


def _search(db, table: str, queries: np.ndarray, ef_search: int = 40) -> list[list[int]]:
    """The ten nearest of each query, as the database finds them."""
    found = []
    with db.cursor() as cur:
        cur.execute("SET hnsw.ef_search = %s", [ef_search])
        for wanted in queries:
            cur.execute(NEAREST.format(table), [wanted, 10])
            found.append([id for (id,) in cur.fetchall()])
    return found


def _expect_candidates(db, learner, number: int) -> None:
    """A LIMIT lets so many rows of the index on the bits through."""
    above = {}
    for depth, node in expect.search_uses_index(db, learner, "documents", "documents_bits").nodes:
        above[depth] = node
        if node.get("Index Name") == "documents_bits":
            break
    taken = next(
        int(above[d]["Actual Rows"]) for d in range(depth, -1, -1) if above[d]["Node Type"] == "Limit" or not d
    )
    if taken != number:
        raise expect.Wrong(f"The index gives {taken} candidates, and {number} were asked for.")
