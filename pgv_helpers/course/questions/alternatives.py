"""Exercise 09_alternatives: NumPy, FAISS and Chroma beside pgvector, and what moves in from them.

A learner's function takes and returns data, so each makes its index or collection anew.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import psycopg2
import psycopg2.errors
from psycopg2.extras import Json, execute_values

from pgv_helpers.course import expect
from pgv_helpers.course.question import question
from pgv_helpers.course.questions.crud import HOSTILE, texts
from pgv_helpers.db import query
from pgv_helpers.distances import find_metric

question = partial(question, exercise="09_alternatives")

DIMENSION = 8
"""Of the vectors, where a question does not draw it."""

FIRST_ID = 10**6
"""Ids begin here, so that no number of a row is an id."""

OTHER_METRICS = {"l2": "Euclidean distance", "inner_product": "the inner product"}

DEFAULT_M, DEFAULT_EF_CONSTRUCTION, DEFAULT_EF_SEARCH = 32, 40, 16
"""FAISS's own."""

NEAR_ENOUGH = 0.08
"""How far apart the recall of two graphs may be that have the same settings: more than twice what was ever seen."""


@question(
    "alternatives.nearest_kept",
    points=3,
    objective="search exactly with NumPy, under a filter",
    hints=[
        "The filter comes first: `ids[keep]` and `vectors[keep]` belong together, row by row. The cosine similarity is "
        "the inner product divided by the lengths.",
        "`argpartition` wants to know how many, and there may be fewer rows than `k`. Its highest are in no order.",
        "`similarity = kept @ question / np.linalg.norm(kept, axis=1)`, then `np.argsort(-similarity)[:k]`, which also "
        "does for few rows, and `ids[keep][best].tolist()`.",
    ],
)
def nearest_kept(learner, db, rng) -> Iterator[str]:
    number = int(rng.integers(4_000, 5_000))
    ids, vectors = _draw_ids(rng, number), _draw_vectors(rng, number)

    def expect_found(kept: int, k: int, what: str) -> None:
        wanted = _draw_vectors(rng, 1)[0]
        keep = np.zeros(number, bool)
        keep[rng.choice(number, kept, replace=False)] = True
        found = learner.call("nearest_kept", ids, vectors, wanted, keep, k)
        _expect_ids(found, ids.tolist(), what)
        allowed = dict(zip(ids[keep].tolist(), vectors[keep]))
        if left_out := [id for id in found if id not in allowed]:
            if set(found[: len(allowed)]) == set(allowed):
                raise expect.Wrong(
                    f"{what} holds {len(found)} ids, also of rows that are not kept. A mask puts them last; where few "
                    "are kept, they come all the same."
                )
            raise expect.Wrong(
                f"{what} holds the id {left_out[0]}, whose row is not kept. What is counted among the kept rows is no "
                "number of a row of all."
            )
        if len(found) < min(k, len(allowed)):
            raise expect.Wrong(
                f"{what} holds {len(found)} ids, although more rows are kept. Filter first, then take the nearest."
            )
        _expect_nearest(found, allowed, wanted, k, what)

    # So many that argpartition leaves them unsorted on any machine.
    expect_found(number // 4, int(rng.integers(400, 500)), "The result")
    yield "the nearest of the kept rows come, the nearest first, by cosine distance"
    expect_found(9, 9, "The result where k rows are kept")
    expect_found(4, 9, "The result where fewer than k rows are kept")
    yield "where no more than k rows are kept, all of them come"
    nothing = learner.call("nearest_kept", ids, vectors, vectors[0], np.zeros(number, bool), 5)
    expect.equal(nothing, [], "The result where no row is kept")
    yield "where none is kept, the list is empty"


@question(
    "alternatives.search_hnsw",
    points=3,
    objective="build and search an HNSW index of FAISS, and give it its settings",
    hints=[
        "The inner product is the cosine similarity of vectors of length 1. FAISS answers with numbers of rows.",
        "`index.hnsw.efConstruction` counts while vectors are added, `index.hnsw.efSearch` while it searches: set each "
        "before that. Where there are fewer vectors than `k`, FAISS fills up with the row -1.",
        "`faiss.IndexHNSWFlat(vectors.shape[1], m, faiss.METRIC_INNER_PRODUCT)`; `[[int(ids[row]) for row in rows if "
        "row >= 0] for rows in index.search(questions, k)[1]]`.",
    ],
)
def search_hnsw(learner, db, rng) -> Iterator[str]:
    expect.packages("alternatives")
    k, dimension = 10, 32
    ids, vectors, questions = (
        _draw_ids(rng, 2_000),
        _draw_vectors(rng, 2_000, dimension),
        _draw_vectors(rng, 500, dimension),
    )

    distances = {name: find_metric(name).distances(questions, vectors) for name in ("cosine", *OTHER_METRICS)}
    exact = {name: ids[np.argpartition(numbers, k)[:, :k]].tolist() for name, numbers in distances.items()}

    def recall_of(m: int, ef_construction: int, ef_search: int) -> float:
        rows = _search_graph(vectors, questions, k, m, ef_construction, ef_search)
        return expect.mean_recall(ids[rows].tolist(), exact["cosine"])

    def expect_found(m: int, ef_construction: int, ef_search: int) -> None:
        found = learner.call("search_hnsw", ids, vectors, questions, m, ef_construction, ef_search, k)
        what = f"The result with ef_search {ef_search}"
        _expect_lists(found, ids.tolist(), questions, k, what)
        _expect_cosine(found, exact, what)
        _expect_ranked(found, dict(zip(ids.tolist(), vectors)), questions, what)
        recall = expect.mean_recall(found, exact["cosine"])
        _expect_settings(recall, (m, ef_construction, ef_search), recall_of)

    # So low that each of the three settings has its share in what is missed.
    expect_found(int(rng.integers(6, 8)), 6, 40)
    yield "each question has the ids of its neighbours, the nearest first, by cosine distance"
    expect_found(int(rng.integers(10, 13)), 8, 200)
    yield "as many neighbours are found as with a graph of these settings, and no more"
    few = int(rng.integers(3, 7))
    found = learner.call("search_hnsw", ids[:few], vectors[:few], questions[:5], 16, 64, 40, k)
    _expect_lists(found, ids[:few].tolist(), questions[:5], few, f"The result for {few} vectors")
    _expect_ranked(found, dict(zip(ids[:few].tolist(), vectors)), questions, f"The result for {few} vectors")
    yield "where there are fewer vectors than k, each of them is found once"


@question(
    "alternatives.search_chroma",
    points=3,
    objective="search a collection of Chroma by cosine distance, under a filter",
    hints=[
        "Three things to say when a collection is made: its name, which must not be taken, its space, and that the "
        "vectors come from you. In one process all clients of the memory share their collections.",
        'Ids are texts, and metadata hold Python\'s own ints: `{"year": int(year)}`. '
        '`where={"year": {"$gte": since}}` filters.',
        '`configuration={"hnsw": {"space": "cosine"}}`; `found = collection.query(query_embeddings=question, '
        'n_results=k, where=…, include=["documents"])`, then `found["ids"][0]` and `found["documents"][0]`. Delete the '
        "collection before you return.",
    ],
)
def search_chroma(learner, db, rng) -> Iterator[str]:
    expect.packages("alternatives")
    given: set[int] = set()

    def expect_found(years: np.ndarray, since: int, k: int, what: str) -> None:
        ids, vectors, contents = _draw_ids(rng, 90), _draw_vectors(rng, 90), texts(rng, 90)
        contents[0], wanted = HOSTILE, _draw_vectors(rng, 1)[0]
        found = learner.call("search_chroma", ids, contents, years, vectors, wanted, since, k)
        expect.tuples(found, {"id": (int, np.integer), "text": str}, what)
        text_of = dict(zip(ids.tolist(), contents))
        for id, text in found:
            if id not in text_of:
                if -1 <= id < len(ids):
                    raise expect.Wrong(
                        f"{what} holds {id}, which is no id that was given. It looks like the number of a row."
                    )
                earlier = "is one of a call before" if id in given else "was not given in this call"
                raise expect.Wrong(
                    f"{what} holds the id {id}, which {earlier}: does the collection hold what was added to it "
                    "earlier? Each call needs an empty one."
                )
            if text != text_of[id]:
                raise expect.Wrong(f"{what} has another text beside the id {id} than was given with it.")
        year_of = dict(zip(ids.tolist(), years.tolist()))
        if early := [year_of[id] for id, _ in found if year_of[id] < since]:
            raise expect.Wrong(f"{what} holds a text of {early[0]}, and {since} was the first year asked for.")
        allowed = {id: vector for id, vector in zip(ids.tolist(), vectors) if year_of[id] >= since}
        later = {id: vector for id, vector in allowed.items() if year_of[id] > since}
        if (
            len(later) < len(allowed)
            and [id for id, _ in found] == _ranked(later, wanted)[:k] != _ranked(allowed, wanted)[:k]
        ):
            raise expect.Wrong(f"{what} lacks what is of the year {since} itself, which belongs to it.")
        if allowed and not found:
            raise expect.Wrong(
                f"Nothing passes the filter, although texts of {since} or later were given. Chroma compares a number "
                "with numbers only: is the year an int in the metadata, under the name that `where` has?"
            )
        if len(found) < min(k, len(allowed)):
            raise expect.Wrong(
                f"{what} holds {len(found)} texts, although more are of {since} or later. Chroma returns 10 unless "
                "`n_results` says how many, and a filter afterwards makes fewer of them."
            )
        _expect_nearest([id for id, _ in found], allowed, wanted, k, what)
        given.update(ids.tolist())

    years = rng.permutation(np.arange(90) % 30 + 1990)
    expect_found(years, int(rng.integers(1995, 2003)), 12, "The result")
    yield "the nearest texts come with their ids, the nearest first, by cosine distance"
    expect_found(rng.permutation(years), int(rng.integers(1995, 2003)), 12, "The result of a second call")
    yield "a second call with other texts knows nothing of the first"
    expect_found(rng.permutation(years), 2018, 5, "The result for a rare filter")
    expect_found(rng.permutation(years), 2019, 5, "The result where fewer than k pass the filter")
    yield "the filter comes before the k nearest, and lets the first year pass"
    expect_found(rng.permutation(years) - 100, 1990, 5, "The result where nothing passes the filter")
    yield "where nothing passes, the list is empty"


@question(
    "alternatives.move_in",
    points=4,
    changes=["move_in"],
    objective="move a collection of Chroma into a table, all or nothing",
    hints=[
        "`with conn, conn.cursor() as cur:` around all of it: DROP and CREATE belong to a transaction like any INSERT.",
        '`stored["embeddings"].shape[1]` is the dimension. `Json(metadata)` makes a dict a jsonb; `Json(None)` is the '
        "JSON null, which is not NULL.",
        "`DROP TABLE IF EXISTS passages`, `CREATE TABLE passages (… embedding vector(%s))`, `execute_values` with "
        "`zip` of the four lists, `CREATE INDEX ON passages USING hnsw (embedding vector_cosine_ops)`.",
    ],
)
def move_in(learner, db, rng) -> Iterator[str]:
    first, second, third = (
        _draw_collection(rng, dimension) for dimension in rng.permutation(range(3, 60))[:3].tolist()
    )
    returned = learner.call("move_in", learner.conn, first)
    expect.committed(learner)
    _expect_passages(db, first)
    yield "there is a table passages, with the right columns and types, and it was committed"
    expect.count(db, "passages", len(first["ids"]), learner)
    _expect_moved(db, first)
    yield "each passage is as it was, and what was missing is NULL"
    expect.index(db, "passages", "hnsw", "vector_cosine_ops")
    yield "it has an HNSW index for cosine distance"
    expect.is_a(returned, int, "The result")
    expect.equal(returned, len(first["ids"]), "The number of passages that is returned")
    yield "the result says how many"
    learner.call("move_in", learner.conn, second)
    expect.committed(learner)
    _expect_passages(db, second)
    expect.count(db, "passages", len(second["ids"]), learner)
    _expect_moved(db, second)
    expect.index(db, "passages", "hnsw", "vector_cosine_ops")
    yield "a table passages that was there is replaced"
    rows = "SELECT passages::text AS row FROM passages ORDER BY 1"
    before = query(db, rows)

    def expect_kept(broken: dict[str, Any], what: str) -> None:
        error = learner.error("move_in", learner.conn, broken)
        kept = False
        with suppress(psycopg2.errors.UndefinedTable):
            kept = query(db, rows).equals(before)
        if error and not kept:
            raise expect.Wrong(
                f"After {what[:1].lower()}{what[1:]} the table passages that was there is gone. DROP, CREATE, the rows "
                "and the index belong to one transaction; bulk_load and create_index commit their own."
            )
        _expect_told(learner, error, what)
        expect.index(db, "passages", "hnsw", "vector_cosine_ops")

    third["embeddings"][-1, 0] = np.nan
    expect_kept(third, "A vector with NaN")
    yield "after a vector with NaN the table that was there stays as it was, and the caller learns of it"
    expect_kept(_draw_collection(rng, 2_001, 12), "An index that could not be built (2,001 dimensions)")
    yield "nor does it change when it is the index that fails"


@question(
    "alternatives.create_marks",
    points=2,
    changes=["create_marks"],  # a foreign key puts triggers on the table that it points to
    objective="let a foreign key keep marks and passages in step",
    hints=[
        "What ties a row to one of another table, and what becomes of it when that one goes?",
        "`REFERENCES passages ON DELETE CASCADE`. A primary key of two columns says that no pair occurs twice, and "
        "that neither is NULL.",
        "`PRIMARY KEY (reader, passage)` on a line of its own, after both columns. Then commit.",
    ],
)
def create_marks(learner, db, rng) -> Iterator[str]:
    _make_passages(db, rng, 12)
    with expect.unchanged(db, ["passages"], "Making the table marks"):
        learner.call("create_marks", learner.conn)
    expect.committed(learner)
    expect.columns(db, "marks", {"reader": "text", "passage": "bigint"})
    yield "there is a table marks with the right columns, and it was committed"

    def mark(reader: str | None, passage: int | None) -> None:
        query(db, "INSERT INTO marks (reader, passage) VALUES (%s, %s)", [reader, passage])

    def expect_refused(reader: str | None, passage: int | None, what: str) -> None:
        with suppress(psycopg2.IntegrityError):
            mark(reader, passage)
            raise expect.Wrong(f"{what} is accepted.")

    first, second, third, stranger = *rng.permutation(query(db, "SELECT id FROM passages").id)[:3].tolist(), 1
    ada, ben = texts(rng, 2)
    try:
        for reader, passage in ((ada, first), (ada, second), (ben, first), (ben, third)):
            mark(reader, passage)
    except psycopg2.errors.UniqueViolation:
        raise expect.Wrong(
            "A reader marks several passages, and a passage has several readers: one of the two is refused. It is the "
            "pair of both that occurs once."
        ) from None
    except psycopg2.Error as error:
        raise expect.Wrong(f"A mark of a passage is refused: {error.diag.message_primary}.") from None
    yield "a reader marks several passages, and several readers the same"
    expect_refused(ada, first, "The same mark a second time")
    expect_refused(None, first, "A mark without a reader")
    expect_refused(ada, None, "A mark without a passage")
    yield "the same mark twice is refused, and so is one without a reader or a passage"
    expect_refused(ada, stranger, "A mark of a passage that does not exist")
    yield "so is a mark of a passage that does not exist"
    try:
        query(db, "DELETE FROM passages WHERE id = %s", [first])
    except psycopg2.IntegrityError as error:
        said = error.diag.message_primary
        raise expect.Wrong(f"A passage cannot be deleted with its marks, which are to go with it: {said}.") from None
    expect.rows(db, "SELECT reader, passage FROM marks", [], [(ada, second), (ben, third)], "What is left of the marks")
    yield "with a passage its marks go, and no others"
    query(db, "DROP TABLE marks, passages")
    error = learner.error("create_marks", learner.conn)
    _expect_told(learner, error, "That there is no table passages")
    if query(db, "SELECT to_regclass('marks') AS marks").marks[0]:
        raise expect.Wrong("After the error the table marks is there. All of it belongs to one transaction.")
    yield "where there is no table passages nothing is made, and the caller learns of it"


@question(
    "alternatives.search_marks",
    points=2,
    objective="search among what belongs to somebody, with a join",
    hints=[
        "A join gives the marks their vectors. Which of them count, and in which order?",
        "`FROM marks JOIN passages ON passages.id = passage`, with the reader in the WHERE and the distance in the "
        "ORDER BY, each bound.",
        "`SELECT passages.id FROM … WHERE reader = %s ORDER BY embedding <=> %s LIMIT %s`, and of each row that "
        "comes the first value.",
    ],
)
def search_marks(learner, db, rng) -> Iterator[str]:
    vectors = _make_passages(db, rng, 1_000)
    ids = list(vectors)
    ada, ben = texts(rng, 2)
    few, embedding = int(rng.integers(2, 4)), _draw_vectors(rng, 1)[0]
    near = _ranked(vectors, embedding)
    # Of the very nearest some are nobody's and some are another's, or several readers'; ben's are the farthest of all.
    marks = {ada: [*near[3:40:3], *near[5:20:5]], ben: near[-12:], HOSTILE: near[4 : 4 + few]}
    alike = ["AnnA", " Ann_", "Ann_", "ann_"]
    marks |= {reader: near[place:60:4] for place, reader in enumerate(alike)}
    query(db, "CREATE TABLE marks (reader text, passage bigint REFERENCES passages, PRIMARY KEY (reader, passage))")
    rows = [(reader, id) for reader, marked in marks.items() for id in dict.fromkeys(marked)]
    with db.cursor() as cur:
        execute_values(cur, "INSERT INTO marks VALUES %s", rows)

    def expect_found(reader: str, k: int, what: str) -> None:
        found = learner.call("search_marks", learner.conn, reader, embedding, k)
        _expect_ids(found, ids, what)
        allowed = {id: vectors[id] for id in marks.get(reader, [])}
        if strange := [id for id in found if id not in allowed]:
            if reader in alike and all(id in near[:60] for id in found):
                raise expect.Wrong(
                    f"{what} holds a mark of another reader, whose name only resembles this one. Compare with =, and "
                    "change nothing in the name."
                )
            raise expect.Wrong(f"{what} holds the passage {strange[0]}, which this reader has not marked.")
        if len(found) < min(k, len(allowed)):
            raise expect.Wrong(
                f"{what} holds {len(found)} passages, although the reader has marked more. The limit counts among the "
                "marks, not among all passages."
            )
        if len(set(found)) < len(found):
            raise expect.Wrong(f"{what} holds a passage twice: each row of the one table meets several of the other.")
        _expect_nearest(found, allowed, embedding, k, what)
        expect.statements(learner, "SELECT")

    expect_found(ada, int(rng.integers(4, 7)), "The result")
    expect_found(ben, int(rng.integers(4, 7)), "The result for another reader")
    yield "the nearest of a reader's own marks come, the nearest first, in one statement"
    expect_found(HOSTILE, few + 3, "The result for a reader of few marks")
    for reader in alike:
        expect_found(reader, 15, f"The result for the reader {reader!r}")
    yield "where a reader has marked fewer than k, all come; a reader's name may be any text"
    expect_found("nobody", 3, "The result for a reader without marks")
    yield "a reader without marks gets an empty list"


@question(
    "alternatives.replace_passage",
    points=3,
    changes=["replace_passage"],
    objective="change a passage, its vector and its history in one transaction, with all that belongs to it",
    hints=[
        "A row that is deleted takes its marks along, even if it is inserted anew. Which statement changes a row in "
        "its place?",
        "The old text has to be in the history before it is gone, and nobody may change it in between: `INSERT INTO "
        "history (passage, content) SELECT id, content FROM passages WHERE id = %s FOR UPDATE`.",
        "Both in one `with conn, conn.cursor() as cur:`. After an UPDATE `cur.rowcount` says how many rows there were.",
    ],
)
def replace_passage(learner, db, rng) -> Iterator[str]:
    vectors = _make_passages(db, rng, 8)
    ids = rng.permutation(list(vectors)).tolist()
    query(db, "CREATE TABLE marks (reader text, passage bigint REFERENCES passages ON DELETE CASCADE)")
    query(db, "CREATE TABLE history (passage bigint NOT NULL, content text, replaced timestamptz DEFAULT now())")
    with db.cursor() as cur:
        execute_values(cur, "INSERT INTO marks VALUES %s", list(zip(texts(rng, 8), ids)))
    twice, untold, empty = ids[:3]
    query(db, "UPDATE passages SET content = NULL WHERE id = %s", [untold])
    query(db, "UPDATE passages SET content = '' WHERE id = %s", [empty])
    old = query(db, "SELECT content FROM passages WHERE id = %s", [twice]).content[0]
    newer, told, filled = texts(rng, 3)
    history: list[tuple[int, str | None]] = []
    began = query(db, "SELECT clock_timestamp()::text AS now").now[0]
    for id, before, after in (
        (twice, old, HOSTILE),
        (twice, HOSTILE, newer),
        (untold, None, told),
        (empty, "", filled),
    ):
        vector = _draw_vectors(rng, 1)[0]
        others = query(db, "SELECT id, content, embedding::text FROM passages WHERE id <> %s ORDER BY id", [id])
        kept = query(db, "SELECT id, metadata::text FROM passages ORDER BY id")
        with expect.unchanged(db, ["marks"], "A passage is replaced, and its marks are to stay"):
            returned = learner.call("replace_passage", learner.conn, id, after, vector)
        if returned is False and not before:
            raise expect.Wrong(
                f"The passage is there, and {'has no text (NULL)' if before is None else 'its text is empty'}: the "
                "result is False. Whether a row came says if there is one, not its text."
            )
        expect.committed(learner)
        expect.rows(
            db, "SELECT id, content FROM passages WHERE id = %s", [id], [(id, after)], "The text of the passage"
        )
        stored = query(db, "SELECT embedding FROM passages WHERE id = %s", [id]).embedding[0].to_numpy()
        expect.close(stored, vector, "The vector of the passage")
        if not query(db, "SELECT id, metadata::text FROM passages ORDER BY id").equals(kept):
            raise expect.Wrong("The metadata of a passage have changed. Change no more than its text and its vector.")
        if not query(db, "SELECT id, content, embedding::text FROM passages WHERE id <> %s ORDER BY id", [id]).equals(
            others
        ):
            raise expect.Wrong("Another passage has changed as well.")
        found = query(db, "SELECT passage, content FROM history")
        if (id, after) in found.itertuples(index=False, name=None):
            raise expect.Wrong("The history holds the new text. It is the old one that would be lost.")
        history.append((id, before))
        expect.count(db, "history", len(history), learner)
        said = query(db, "SELECT content FROM history WHERE passage = %s AND content IS NOT NULL", [untold])
        if len(said):
            raise expect.Wrong(f"The old text of a passage that had none is {said.content[0]!r}; it should be NULL.")
        earlier = [(passage, "NULL" if text is None else text) for passage, text in history]
        expect.rows(db, "SELECT passage, COALESCE(content, 'NULL') FROM history", [], earlier, "The table history")
        untimely = "SELECT passage FROM history WHERE (replaced BETWEEN %s AND clock_timestamp()) IS NOT TRUE"
        timed = any(re.search(r"'\d{4}-\d\d-\d\d", sent.text) for sent in learner.statements)
        if timed or len(query(db, untimely, [began])):
            raise expect.Wrong(
                "The column replaced is not filled by the database. Leave it out of the INSERT: its default is the "
                "time of the transaction."
            )
        if returned is not True:
            raise expect.Wrong(f"After a passage was replaced the result should be True; it is {returned!r}.")
        if after == HOSTILE:
            yield "the passage has its new text and vector, and nothing else has changed, neither metadata nor marks"
    yield "the old text is in the history, a row for each time, be it empty or NULL"
    unknown = FIRST_ID - int(rng.integers(1, 100))
    with expect.unchanged(db, ["passages", "marks", "history"], "Where there is no such passage"):
        returned = learner.call("replace_passage", learner.conn, unknown, newer, vector)
    if returned is not False:
        raise expect.Wrong(f"Where there is no such passage the result should be False; it is {returned!r}.")
    expect.committed(learner)
    yield "where there is no such passage nothing is written, and the result is False"
    broken = vector.copy()
    broken[3] = np.nan
    with expect.unchanged(db, ["passages", "marks", "history"], "After a vector with NaN"):
        error = learner.error("replace_passage", learner.conn, id, "another text", broken)
    _expect_told(learner, error, "A vector with NaN")
    yield "after a vector with NaN neither the passage nor the history has changed, and the caller learns of it"
    query(db, "ALTER TABLE history ADD CHECK (false) NOT VALID")
    with expect.unchanged(db, ["passages", "marks", "history"], "When the history takes no row"):
        error = learner.error("replace_passage", learner.conn, id, "another text", vector)
    _expect_told(learner, error, "A history that takes no row")
    yield "nor when it is the history that fails"


# -- what is given ----------------------------------------------------------------------


def _draw_ids(rng: np.random.Generator, number: int) -> np.ndarray:
    """Different ids in no order, above FIRST_ID; no two calls are likely to draw the same."""
    return rng.permutation(np.unique(rng.integers(FIRST_ID, 2**50, 2 * number)))[:number]


def _draw_vectors(rng: np.random.Generator, number: int, dimension: int = DIMENSION) -> np.ndarray:
    """Vectors of lengths so different that each metric ranks otherwise."""
    vectors = rng.normal(size=(number, dimension)) * rng.uniform(0.3, 3, (number, 1))
    return vectors.astype(np.float32)


def _draw_metadata(rng: np.random.Generator, place: int) -> dict | None:
    """What Chroma may hold beside a passage: keys that differ from row to row, or nothing."""
    return [
        {"category": texts(rng, 1)[0], "year": int(rng.integers(1900, 2030))},
        None,
        {"tags": texts(rng, 2), "draft": bool(rng.integers(2))},
        {HOSTILE: HOSTILE, "größe": float(rng.normal())},
        {"category": texts(rng, 1)[0]},
    ][place % 5]


def _draw_collection(rng: np.random.Generator, dimension: int, number: int = 150) -> dict[str, Any]:
    """What `collection.get(include=["documents", "metadatas", "embeddings"])` returns."""
    documents = texts(rng, number)
    documents[5:9] = HOSTILE, None, "None", ""
    return {
        "ids": [str(id) for id in _draw_ids(rng, number).tolist()],
        "embeddings": _draw_vectors(rng, number, dimension).astype(float),
        "documents": documents,
        "uris": None,
        "included": ["documents", "metadatas", "embeddings"],
        "data": None,
        "metadatas": [_draw_metadata(rng, place) for place in range(number)],
    }


def _make_passages(db, rng: np.random.Generator, number: int) -> dict[int, np.ndarray]:
    """The table that `move_in` makes, filled; the vectors by id."""
    ids, vectors, contents = _draw_ids(rng, number).tolist(), _draw_vectors(rng, number), texts(rng, number)
    metadata = [{"category": text} for text in texts(rng, number)]
    query(
        db,
        f"""CREATE TABLE passages (
                id bigint PRIMARY KEY, content text, metadata jsonb, embedding vector({DIMENSION}) NOT NULL)""",
    )
    with db.cursor() as cur:
        execute_values(cur, "INSERT INTO passages VALUES %s", list(zip(ids, contents, map(Json, metadata), vectors)))
    return dict(zip(ids, vectors))


def _distances(vectors: dict[int, np.ndarray], wanted: np.ndarray, metric: str = "cosine") -> dict[int, float]:
    """The distance of each vector, by its id."""
    if not vectors:
        return {}
    return dict(zip(vectors, find_metric(metric).distances(wanted[None], np.stack(list(vectors.values())))[0].tolist()))


def _ranked(vectors: dict[int, np.ndarray], wanted: np.ndarray, metric: str = "cosine") -> list[int]:
    """The ids, the nearest first."""
    distances = _distances(vectors, wanted, metric)
    return sorted(distances, key=distances.get)


# -- what is found ----------------------------------------------------------------------


def _expect_ids(found: Any, ids: Sequence[int], what: str) -> None:
    """It is a list of ids that were given."""
    expect.is_a(found, list, what)
    known = set(ids)
    for id in found:
        expect.is_a(id, (int, np.integer), f"Each item of {what[:1].lower()}{what[1:]}")
        if id not in known:
            row = " It looks like the number of a row." if -1 <= id < len(ids) else ""
            raise expect.Wrong(f"{what} holds {id}, which is no id that was given.{row}")


def _expect_nearest(found: list[int], vectors: dict[int, np.ndarray], wanted: np.ndarray, k: int, what: str) -> None:
    """They are the k nearest of these vectors, by id; says so if another metric or order ranks like this."""
    distances = _distances(vectors, wanted)
    try:
        expect.nearest(found, distances, k, what, tolerance=1e-5)
    except expect.Wrong:
        for metric, name in OTHER_METRICS.items():
            if _is_nearest(found, _distances(vectors, wanted, metric), k):
                raise expect.Wrong(f"{what} is ranked by {name}, not by cosine distance.") from None
        if _is_nearest(found, {id: -distance for id, distance in distances.items()}, k):
            raise expect.Wrong(f"{what} begins with the farthest of all.") from None
        raise


def _is_nearest(found: list[int], distances: dict[int, float], k: int) -> bool:
    try:
        expect.nearest(found, distances, k, "", tolerance=1e-4)
    except expect.Wrong:
        return False
    return True


def _expect_lists(found: Any, ids: Sequence[int], questions: np.ndarray, k: int, what: str) -> None:
    """It is a list of k different ids for each question."""
    expect.is_a(found, list, what)
    expect.has_length(found, len(questions), what, "lists")
    for place, some in enumerate(found, 1):
        _expect_ids(some, ids, f"{what}, list {place},")
        if len(some) > k >= len(ids) or len(set(some)) < len(some):
            raise expect.Wrong(
                f"{what} holds an id twice. FAISS fills up with the row -1 where it finds too few, and ids[-1] is the "
                "last id."
            )
        expect.has_length(some, k, f"{what}, list {place},", "ids")


def _expect_ranked(found: list[list[int]], vectors: dict[int, np.ndarray], questions: np.ndarray, what: str) -> None:
    """Each list begins with its nearest."""
    for some, wanted in zip(found, questions):
        distances = _distances({id: vectors[id] for id in some}, wanted)
        expect.ordered(list(distances.values()), f"A list in {what[:1].lower()}{what[1:]}", tolerance=1e-5)


def _expect_cosine(found: list[list[int]], exact: dict[str, list[list[int]]], what: str) -> None:
    """No other metric has more of them among its nearest."""
    recall = {metric: expect.mean_recall(found, neighbours) for metric, neighbours in exact.items()}
    for metric, name in OTHER_METRICS.items():
        if recall[metric] > recall["cosine"]:
            raise expect.Wrong(
                f"{what} holds the nearest by {name}, not by cosine distance. Give each vector the length 1."
            )


def _expect_settings(recall: float, settings: tuple[int, int, int], recall_of: Callable[..., float]) -> None:
    """The recall is that of a graph with this m, efConstruction and efSearch."""
    m, ef_construction, ef_search = settings

    def difference(other: tuple[int, int, int]) -> float:
        return abs(recall - recall_of(*other))

    if difference(settings) < NEAR_ENOUGH:
        return
    what = f"With m {m}, ef_construction {ef_construction} and ef_search {ef_search} the recall is {recall:.2f}"
    if recall > 0.995:
        raise expect.Wrong(f"{what}: everything was compared, or nearly. These settings miss neighbours.")
    slips = {
        (
            m,
            ef_construction,
            DEFAULT_EF_SEARCH,
        ): "another efSearch. Is `ef_search` given to the index, and before the search?",
        (m, DEFAULT_EF_CONSTRUCTION, ef_search): "another efConstruction. Is `ef_construction` given to the index, "
        "and before the vectors are added?",
        (DEFAULT_M, ef_construction, ef_search): "more links. Is m given to the index?",
    }
    slip = min(slips, key=difference)
    if difference(slip) < NEAR_ENOUGH:
        raise expect.Wrong(f"{what}, as with {slips[slip]}")
    raise expect.Wrong(
        f"{what}, which does not fit. Are all three given to the index, and the length 1 to its vectors?"
    )


def _search_graph(
    vectors: np.ndarray, questions: np.ndarray, k: int, m: int, ef_construction: int, ef_search: int
) -> np.ndarray:
    import faiss  # which only this question needs

    faiss.omp_set_num_threads(1)  # as in the setup cell; several graders may work side by side
    index = faiss.IndexHNSWFlat(vectors.shape[1], m, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = ef_construction, ef_search
    index.add(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return index.search(questions, k)[1]


def _expect_passages(db, stored: dict[str, Any]) -> None:
    """The table passages has the columns for these vectors."""
    types = {"id": "bigint", "content": "text", "metadata": "jsonb"}
    types["embedding"] = f"vector({stored['embeddings'].shape[1]})"
    expect.columns(db, "passages", types)
    expect.unique(db, "passages", ["id"], primary=True)


def _expect_moved(db, stored: dict[str, Any]) -> None:
    """The table passages holds what the collection held."""
    if query(db, "SELECT count(*) AS n FROM passages WHERE metadata = 'null'").n[0]:
        raise expect.Wrong(
            "Metadata that are None have become the JSON null, which is a value: IS NULL does not find it. Make them "
            "NULL."
        )
    with db.cursor() as cur:
        cur.execute("SELECT id, content, metadata, embedding FROM passages")
        found = {id: row for id, *row in cur.fetchall()}
    given = zip(map(int, stored["ids"]), stored["documents"], stored["metadatas"], stored["embeddings"])
    for id, content, metadata, embedding in given:
        if id not in found:
            raise expect.Wrong(f"The table passages lacks the id {id}.")
        for name, right, value in (("content", content, found[id][0]), ("metadata", metadata, found[id][1])):
            if right is None and value is not None:
                raise expect.Wrong(f"The {name} of a passage that has none is {value!r}; it should be NULL.")
            expect.equal(value, right, f"The {name} of the passage {id}")
        expect.close(found[id][2].to_numpy(), embedding, f"The embedding of the passage {id}")


def _expect_told(learner, error: type[Exception] | None, what: str) -> None:
    """The caller has got the error, and a connection without a transaction."""
    if error is None:
        raise expect.Wrong(f"{what} is passed over in silence: let the error reach the caller.")
    if learner.in_transaction:
        raise expect.Wrong("After the error the transaction is still open: roll it back, as `with conn:` does.")
