"""Exercise 08_drivers: psycopg 3, a pool, async, SQLAlchemy and Alembic.

The learner's functions make connections of their own. A check tells them by their application name, which it
gives to each call anew, and sees them in pg_stat_activity.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import psycopg2
from psycopg2.extras import execute_values

from pgv_helpers.course import expect
from pgv_helpers.course.question import question
from pgv_helpers.course.questions.crud import HOSTILE, texts
from pgv_helpers.db import query
from pgv_helpers.distances import find_metric

question = partial(question, exercise="08_drivers")

DIMENSION = 8
"""Of the vectors in the table notes."""

CATEGORIES = ["music", "oceans", "codes", "cheese"]

DEFAULT_EF_SEARCH = 40

MODEL_SECONDS = 0.1
"""How long a check's embed_text takes."""

JOURNEY_SECONDS = 0.15
"""How long a search in the far table takes."""


@question(
    "drivers.copy_notes",
    points=2,
    changes=["copy_notes"],
    objective="load vectors with COPY",
    hints=[
        "`cur.copy(…)` with `copy.write_row(…)` for each note. Which columns does COPY expect, unless it is told?",
        'In the binary form nothing is converted: `copy.set_types(["int8", …])` names the type of each column. '
        "The vector needs `register_vector`.",
        '`with conn.cursor() as cur, cur.copy("COPY notes (id, category, title, embedding) FROM STDIN WITH (FORMAT '
        'BINARY)") as copy:`, all of it within `with psycopg.connect(…) as conn:`, which commits and closes.',
    ],
)
def copy_notes(learner, db, rng) -> Iterator[str]:
    expect.packages("drivers")
    notes = _draw_notes(rng, int(rng.integers(300, 400)))
    notes[7] = (notes[7][0], HOSTILE, *notes[7][2:])
    notes[-1] = (2**40 + int(rng.integers(1000)), *notes[-1][1:])
    there, *notes = notes
    _make_notes(db, [there])
    returned = learner.call("copy_notes", _options(db, 1), notes)
    _expect_rows(db, 1 + len(notes), "Was it committed?")
    yield "every row is in the table beside the one that was there, and was committed"
    statement = "SELECT id, category, title, embedding FROM notes"
    expect.rows(db, statement, [], [(*note[:3], note[3].tolist()) for note in [there, *notes]], "The row of a note")
    yield "each row is as it was given, a hostile category and an id beyond four bytes among them"
    # The rows of one statement have one command's number in one transaction.
    sent = query(db, "SELECT count(DISTINCT (xmin::text, cmin::text)) AS n FROM notes WHERE id <> %s", [there[0]]).n[0]
    if sent > 1:
        raise expect.Wrong(f"The rows were written by {sent} statements. One COPY takes them all.")
    yield "one statement wrote them"
    expect.is_a(returned, int, "The result")
    expect.equal(returned, len(notes), "The number of notes that is returned")
    yield "the result says how many"
    more = _draw_notes(rng, 5, first=2**41)
    more[-1] = (*more[-1][:3], more[-1][3][:-1])
    error = learner.error("copy_notes", _options(db, 2), more)
    _expect_rows(db, 1 + len(notes), "A vector was of the wrong dimension: none of its call's rows may stay.")
    if error is None:
        raise expect.Wrong("A vector of the wrong dimension is passed over in silence: let the error reach the caller.")
    yield "after a vector of the wrong dimension nothing stays, and the caller learns of it"
    expect.equal(learner.call("copy_notes", _options(db, 3), []), 0, "The result for an empty list")
    _expect_closed(db, 2)
    yield "an empty list is no error, and the connections are closed"


@question(
    "drivers.search_notes",
    points=2,
    objective="search with server-side parameters: a list of categories, and a vector of any numbers",
    hints=[
        "psycopg 3 sends a list as an array. What compares with any item of an array, and what is a list of numbers?",
        "`category = ANY(%s)`. A list of ints is a smallint[], which cannot be cast to a vector.",
        "`np.array(vector)` for a connection with `register_vector`, or `[float(x) for x in vector]` and `%s::vector`.",
    ],
)
def search_notes(learner, db, rng) -> Iterator[str]:
    expect.packages("drivers")
    first, second, third = rng.permutation(CATEGORIES)[:3].tolist()
    blank = f"{third} "
    notes = _draw_notes(rng, 120)
    for place, category in enumerate([HOSTILE] * 30 + [blank] * 10):
        notes[place] = (notes[place][0], category, *notes[place][2:])
    _make_notes(db, notes)

    def expect_found(call: int, vector: Sequence[float], categories: Sequence[str], k: int, what: str) -> None:
        found = learner.call("search_notes", _options(db, call), vector, categories, k)
        expect.tuples(found, {"id": int, "distance": (float, np.floating)}, what)
        ids = [id for id, _ in found]
        category_of = {id: category for id, category, *_ in notes}
        if others := [id for id in ids if category_of.get(id) not in categories]:
            raise expect.Wrong(f"{what} holds a note of another category: {category_of.get(others[0])!r}.")
        distances = _distances(db, vector, "WHERE category = ANY(%s)", [list(categories)])
        expect.nearest(ids, distances, k, what)
        expect.close([distance for _, distance in found], [distances[id] for id in ids], "A distance in the result")

    expect_found(1, rng.normal(size=DIMENSION).tolist(), [first, second], 7, "The result")
    yield "the nearest notes of two categories come, the nearest first, with their distances"
    expect_found(2, rng.normal(size=DIMENSION).tolist(), [HOSTILE, third], 5, "The result for a hostile category")
    expect_found(3, rng.normal(size=DIMENSION).tolist(), [blank], 5, "The result for a category that ends in a blank")
    yield "a category may be any text, and is taken as it is"
    one_hot = np.eye(DIMENSION, dtype=int)[rng.integers(DIMENSION)].tolist()
    expect_found(4, one_hot, [second], 5, "The result for a vector of ints")
    yield "a vector may be a list of ints"
    expect_found(5, one_hot, [], 5, "The result without categories")
    _expect_closed(db, 4)
    yield "without categories nothing is found, and the connections are closed"


@question(
    "drivers.serve",
    points=4,
    objective="mend a pool: ready, without leaks, and never lent for longer than a search",
    hints=[
        "What does `configure` leave open? Which SET ends with its transaction? When is the connection needed, and who "
        "gives it back after an error?",
        "`conn.commit()` ends `configure`. Embed first, then borrow by `with pool.connection() as conn:`, which rolls "
        "back after an error and gives the connection back in any case.",
        "`conn.execute(\"SELECT set_config('hnsw.ef_search', %s, true)\", [str(ef_search)])` is SET LOCAL with a "
        "parameter. `try` and `except Exception` stand around one request: the vector, the loan and the search.",
    ],
)
def serve(learner, db, rng) -> Iterator[str]:
    expect.packages("drivers")
    notes = _draw_notes(rng, 400)
    _make_notes(db, notes)
    query(db, "CREATE INDEX notes_hnsw ON notes USING hnsw (embedding vector_cosine_ops)")
    query(db, "ANALYZE notes")
    high, other, third = (rng.permutation(range(55, 95))[:3]).tolist()
    first, second, plain, broken, short, last = names = texts(rng, 6)
    vectors = {name: rng.normal(size=DIMENSION).astype(np.float32) for name in names}
    vectors[short] = vectors[short][:-1]
    requests = [(plain, None), (first, high), (last, None), (broken, third), (second, other), (short, third)]
    requests += [(plain, None), (last, other)]
    options = _options(db, 1)
    processes: set[int] = set()
    in_transaction: list[str] = []
    embedded: list[str] = []

    def embed_text(text):
        time.sleep(MODEL_SECONDS)
        processes.update(_sessions(db, 1).pid)
        # A pool may end a transaction in a thread of its own, a moment after the connection was given back.
        if _idle_in_transaction(db, 1) and not time.sleep(MODEL_SECONDS) and _idle_in_transaction(db, 1):
            in_transaction.append(str(text))
        embedded.append(str(text))
        if text == broken:
            raise ConnectionError("the model does not answer")
        return vectors[text]

    returned = learner.call("serve", options, requests, embed_text)
    expect.is_a(returned, tuple, "The result")
    if len(returned) != 2:
        raise expect.Wrong(f"The result should be (answers, statistics); it holds {len(returned)} values.")
    answers, statistics = returned
    expect.is_a(answers, list, "The list of answers")
    expect.has_length(answers, len(requests), "The list of answers")
    expect.is_a(statistics, dict, "The pool's statistics")
    yield "every request has an answer"
    for place, ((text, _), answer) in enumerate(zip(requests, answers), 1):
        if text in (broken, short):
            where = "the model" if text == broken else "the database"
            if answer is not None:
                raise expect.Wrong(f"A request that failed in {where} has {answer!r}; it should have None.")
        elif answer is None:
            raise expect.Wrong(
                f"The hits of request {place} are None, and nothing was wrong with it: an error was caught within "
                "`serve`. Print it in the `except`. (Does the connection come back after an error? Does the statement "
                "take a parameter?)"
            )
        else:
            expect.is_a(answer, list, "The hits of a request that did not fail")
    yield "one that fails has None, and those after it are answered"
    given = DEFAULT_EF_SEARCH
    for (text, ef_search), answer in zip(requests, answers):
        if answer is None:
            continue
        what = "The hits of a request with an ef_search" if ef_search else "The hits of a request without one"
        distances = _distances(db, vectors[text])
        if len(answer) == 100:
            raise expect.Wrong(
                f"{what} are 100, more than its ef_search gives: the index was not used. Does the setting of configure "
                "hold for every request? (What configure has SET goes with RESET ALL.)"
            )
        if ef_search is None and len(answer) == given != DEFAULT_EF_SEARCH:
            raise expect.Wrong(
                f"A request without an ef_search was searched with {given}, that of a request before: it has leaked "
                "through the pool. Use a setting that ends with its transaction."
            )
        if len(answer) != (ef_search or DEFAULT_EF_SEARCH):
            raise expect.Wrong(
                f"{what} are {len(answer)}, which does not fit: with an HNSW index and a large LIMIT it is as many "
                "as its ef_search says."
            )
        expect.ordered([distances.get(id, np.nan) for id in answer], what)
        expect.recall([answer[:10]], [sorted(distances, key=distances.get)[:10]], 0.7, what)
        given = ef_search or given
    yield "each is searched with its own ef_search or with the default, by the index"
    if embedded != [text for text, _ in requests]:
        raise expect.Wrong("embed_text was not called once for each request, in their order.")
    if in_transaction:
        raise expect.Wrong(
            "While embed_text works, a transaction is open. Embed first, and borrow a connection only then."
        )
    if len(processes) > 1:
        raise expect.Wrong(
            f"{len(processes)} connections were seen. One is opened when the pool is, and serves all requests."
        )
    if (most := statistics.get("pool_max", 1)) != 1:
        raise expect.Wrong(f"The pool may open {most} connections. It is to stay at one: leave max_size as it was.")
    loans, lent = int(statistics.get("requests_num", 0)), int(statistics.get("usage_ms", 0))
    if loans < len(requests) - 1:  # one has failed before it came to a search
        raise expect.Wrong(
            f"The pool was asked for a connection {loans} times. Each search borrows one, and returns it."
        )
    if lent >= 900 * MODEL_SECONDS * (len(requests) - 1):
        raise expect.Wrong(
            f"The connection was lent for {lent} ms, as long as the model took. Embed first, and borrow it only then."
        )
    yield "while the model works no connection is lent, and one connection serves them all"
    expect.equal(list(learner.call("serve", _options(db, 2), [], embed_text))[:1], [[]], "The result without requests")
    _expect_closed(db, 1)
    yield "the pool is closed at the end"


@question(
    "drivers.search_all",
    points=3,
    objective="search many times at once through an async pool",
    hints=[
        "One coroutine for each vector, which borrows a connection of the pool, searches, fetches. What starts many "
        "of them at once, and keeps their order?",
        "`asyncio.gather(*[search(vector) for vector in vectors])`. `min_size=size` opens all connections beforehand.",
        "`async with AsyncConnectionPool(url, kwargs=…, configure=register_vector_async, min_size=size, "
        "max_size=size, open=False) as pool:`, and in each search `async with pool.connection() as conn:`.",
    ],
)
def search_all(learner, db, rng) -> Iterator[str]:
    expect.packages("drivers")
    _make_notes(db, _draw_notes(rng, 60), "near_notes")
    # The journey is materialised, so that it is made once for a search, and not for each row.
    query(
        db,
        f"""CREATE VIEW notes AS
            WITH journey AS MATERIALIZED (SELECT pg_sleep({JOURNEY_SECONDS}))
            SELECT near_notes.*, pg_backend_pid() AS process FROM journey, near_notes""",
    )
    size, number, k = int(rng.integers(4, 7)), 12, int(rng.integers(3, 6))
    vectors = rng.normal(size=(number, DIMENSION)).astype(np.float32)
    began = time.monotonic()
    returned = learner.call("search_all", _options(db, 1), vectors, k, size)
    seconds = time.monotonic() - began
    expect.is_a(returned, list, "The result")
    expect.has_length(returned, number, "The result")
    for place, (vector, hits) in enumerate(zip(vectors, returned), 1):
        expect.tuples(hits, {"id": int, "process": int}, f"The list of hits {place}")
        expect.nearest(
            [id for id, _ in hits], _distances(db, vector, table="near_notes"), k, f"The list of hits {place}"
        )
    yield "each vector has its nearest notes, in the order of the vectors"
    processes = {process for hits in returned for _, process in hits}
    if len(processes) > size:
        raise expect.Wrong(f"{len(processes)} connections were used; the pool should have {size} at most.")
    yield "there are no more connections than asked for"
    if len(processes) == 1:
        raise expect.Wrong("All searches went over one connection, which does one thing at a time.")
    if seconds >= number * JOURNEY_SECONDS:
        raise expect.Wrong(
            f"{number} searches took {seconds:.1f} s, as long as one after the other. "
            "Start them all before you await one."
        )
    yield "the searches run at the same time"
    expect.has_length(learner.call("search_all", _options(db, 2), vectors[:4], k, 2), 4, "The result for a pool of two")
    yield "a small pool will do"
    nothing = learner.call("search_all", _options(db, 3), vectors[:0], k, size)
    expect.equal(nothing, [], "The result without vectors")
    _expect_closed(db, 2)
    yield "without vectors the list is empty, and the connections are closed"


@question(
    "drivers.create_documents",
    points=3,
    objective="declare a model with a vector and an HNSW index",
    hints=[
        "`Mapped[str | None]` may be NULL, `Mapped[str]` may not. A vector's type stands in `mapped_column`.",
        "The index is an `Index` in `__table_args__`, with its method, its options and the operator class.",
        '`Index("documents_hnsw", "embedding", postgresql_using="hnsw", postgresql_with={"m": m, …}, '
        'postgresql_ops={"embedding": "vector_cosine_ops"})`, then `Base.metadata.create_all(engine)`.',
    ],
)
def create_documents(learner, db, rng) -> Iterator[str]:
    expect.packages("drivers")
    for call, m in enumerate(rng.permutation(range(5, 30))[:2].tolist(), 1):
        dimension = int(rng.integers(3, 700))
        learner.call("create_documents", _options(db, call), dimension, m)
        types = {"embedding": f"vector({dimension})"}
        expect.columns(db, "documents", types, required=types)
        if call == 1:
            yield "there is a table documents with vectors of the right dimension"
        expect.unique(db, "documents", ["id"], primary=True)
        _expect_document_columns(db)
        if call == 1:
            yield "the other columns are right, and category alone may be NULL"
        methods = query(
            db,
            """SELECT amname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
               JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
               WHERE indrelid = 'documents'::regclass AND attname = 'embedding'""",
        ).amname.tolist()
        if "btree" in methods:
            raise expect.Wrong(
                "The column embedding has a B-tree, which no search by distance ever uses: leave out index=True."
            )
        expect.index(db, "documents", "hnsw", "vector_cosine_ops", {"m": m, "ef_construction": 4 * m})
        if call == 1:
            yield "it has an HNSW index for cosine distance, with the options that were asked for"
            query(db, "DROP TABLE documents")
    _expect_closed(db, 1)
    yield "the function can be called again with other numbers, and closes its connections"


@question(
    "drivers.search_documents",
    points=2,
    objective="put a search together from expressions, with filters that may be missing",
    hints=[
        '`Table("documents", MetaData(), autoload_with=engine)` reads the table from the database; '
        "`import pgvector.sqlalchemy` lets it know the vector. `table.c.embedding.cosine_distance(…)` is a distance.",
        "A select is extended step by step: `if category is not None: nearest = nearest.where(…)`. An empty text and 0 "
        "are filters, too.",
        "`session.scalars(select(table.c.title).order_by(distance).limit(k)).all()` within `with Session(engine) as "
        "session:`; `engine.dispose()` after it.",
    ],
)
def search_documents(learner, db, rng) -> Iterator[str]:
    expect.packages("drivers")
    categories = rng.permutation([*CATEGORIES, HOSTILE, "", None] * 15).tolist()
    number = len(categories)
    vectors = (rng.normal(size=(number, DIMENSION)) * rng.uniform(0.3, 3, (number, 1))).astype(np.float32)
    # At the distance 1 from a vector whose last number is 0, without any rounding.
    vectors[0] = np.eye(DIMENSION)[-1]
    titles = texts(rng, number)
    category_of = dict(zip(titles, categories))
    # The farthest from each vector that is searched for, and not to be had in the encoding of the learner's login.
    far = "€"
    query(
        db,
        f"""CREATE TABLE documents (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, title varchar NOT NULL,
                                    category varchar, embedding vector({DIMENSION}) NOT NULL)""",
    )
    with db.cursor() as cur:
        rows = list(zip([*titles, far], [*categories, None], [*vectors, vectors[0]]))
        execute_values(cur, "INSERT INTO documents (title, category, embedding) VALUES %s", rows)

    def expect_found(call: int, k: int, category: str | None, within: float | str | None, what: str) -> None:
        vector = [*rng.normal(size=DIMENSION - 1).tolist(), 0.0]
        query(db, "UPDATE documents SET embedding = %s WHERE title = %s", [-np.array(vector, np.float32), far])
        condition = "WHERE (%s IS NULL OR category = %s)"
        distances = _distances(db, vector, condition, [category, category], table="documents", key="title")
        near = sorted(distances.values())
        if within == "between":
            within = sum(near[3:5]) / 2
        try:
            options = f"{_options(db, call)} -c client_encoding=latin1"
            found = learner.call("search_documents", options, vector, k, category, within)
        except expect.Wrong as wrong:
            if "no equivalent in encoding" not in str(wrong):
                raise
            raise expect.Wrong(
                "A document was read that is no hit. The filters, the order and the LIMIT belong in the SELECT: the "
                "database chooses, and no more than k titles are sent."
            ) from None
        expect.is_a(found, list, what)
        for title in found:
            expect.is_a(title, str, f"Each item of {what[:1].lower()}{what[1:]}")
            if category is not None and category_of.get(title) != category:
                raise expect.Wrong(f"{what} holds a document of another category.")
            if distances.get(title) == within:
                raise expect.Wrong(f"{what} holds a document at just this distance. Those alone that are nearer count.")
        if within is not None:
            distances = {title: distance for title, distance in distances.items() if distance < within}
            expect.has_length(found, min(k, len(distances)), what)
        expect.nearest(found, distances, k, what)

    expect_found(1, 8, None, None, "The result without filters")
    yield "without filters the nearest of all come, also those that have no category"
    expect_found(2, 5, str(rng.choice(CATEGORIES)), None, "The result for a category")
    expect_found(3, 5, HOSTILE, None, "The result for a hostile category")
    yield "with a category its documents alone come"
    expect_found(4, 5, "", None, "The result for the category ''")
    yield "an empty text is a category like any other"
    expect_found(5, 20, None, "between", "The result within a distance")
    expect_found(6, 20, CATEGORIES[0], "between", "The result for a category within a distance")
    expect_found(7, number, None, 1.0, "The result within the distance 1")
    yield "within a distance come those alone that are nearer, with a category and without"
    expect_found(8, 5, None, 0.0, "The result within the distance 0")
    _expect_closed(db, 7)
    yield "nothing is nearer than 0, and the connections are closed"


@question(
    "drivers.migrate",
    points=4,
    changes=["upgrade", "downgrade"],
    objective="migrate a table in use: add a vector and its index, and go back",
    hints=[
        "`op.add_column` with a `Column` of type `VECTOR(dimension)`, then `op.create_index` as the lesson has it. "
        "`downgrade` goes the other way.",
        "CONCURRENTLY cannot run in a transaction: `with op.get_context().autocommit_block():` steps out of it.",
        '`op.drop_index("notes_hnsw", postgresql_concurrently=True, if_exists=True)` stands before `op.create_index(…, '
        "postgresql_concurrently=True)`, both in the block.",
    ],
)
def migrate(learner, db, rng) -> Iterator[str]:
    expect.packages("drivers")
    dimension = int(rng.integers(3, 700))
    contents = texts(rng, 20)
    query(db, "CREATE TABLE notes (id bigint PRIMARY KEY, content text NOT NULL)")
    with db.cursor() as cur:
        execute_values(cur, "INSERT INTO notes VALUES %s", list(enumerate(contents)))

    def upgrade(call: int, when: str) -> None:
        learner.call("upgrade", _options(db, call), dimension)
        expect.columns(db, "notes", {"id": "bigint", "content": "text", "embedding": f"vector({dimension})"})
        rows = [(id, content, None) for id, content in enumerate(contents)]
        _expect_same(query(db, "SELECT id, content, embedding FROM notes ORDER BY id"), rows, when)
        left = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('notes_hnsw') AND NOT indisvalid"
        if not query(db, left).empty:
            raise expect.Wrong(f"{when} the invalid index notes_hnsw is still there: drop it before you build.")
        name = expect.index(db, "notes", "hnsw", "vector_cosine_ops")
        if name != "notes_hnsw":
            raise expect.Wrong(f"{when} the index is called {name}.")
        # CONCURRENTLY enters an index in one transaction and makes it valid in another; else it is a single one.
        concurrently = query(
            db,
            """SELECT pg_index.xmin <> pg_class.xmin AS answer FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
               WHERE indexrelid = 'notes_hnsw'::regclass""",
        ).answer[0]
        if not concurrently:
            raise expect.Wrong(f"{when} there is an index, but nobody could write while it was built: CONCURRENTLY.")

    def downgrade(call: int, when: str) -> None:
        learner.call("downgrade", _options(db, call))
        expect.table(db, "notes")
        found = query(db, "SELECT * FROM notes ORDER BY id")
        if left := [name for name in found if name not in ("id", "content")]:
            raise expect.Wrong(f"{when} the table still has the column {left[0]}.")
        _expect_same(found, list(enumerate(contents)), when)
        expect.unique(db, "notes", ["id"], primary=True)

    upgrade(1, "After upgrade")
    yield "upgrade adds the vector and a valid index, and leaves the rows alone"
    yield "the index was built while others could write"
    downgrade(2, "After downgrade")
    yield "downgrade takes back both, and nothing else"
    # A unique index on rows that are not unique: its build fails, and leaves an invalid index behind.
    try:
        query(db, "CREATE UNIQUE INDEX CONCURRENTLY notes_hnsw ON notes ((id < 0))")
    except psycopg2.errors.UniqueViolation:
        pass
    upgrade(3, "After upgrade, where a build had failed,")
    yield "an invalid index that was left behind is no obstacle"
    downgrade(4, "After downgrade")
    _expect_closed(db, 3)
    yield "up and down again, and the connections are closed"


# -- what is given ------------------------------------------------------------------------


def _name(db, call: int) -> str:
    return f"check_{db.info.backend_pid}_{call}"


def _options(db, call: int) -> str:
    """What a login needs to work in the check's schema; its sessions bear the call's name."""
    path = query(db, "SHOW search_path").search_path[0].replace(" ", "")
    return f"-c search_path={path} -c application_name={_name(db, call)} -c statement_timeout=8000"


def _draw_notes(rng: np.random.Generator, number: int, first: int = 1) -> list[tuple]:
    """Rows (id, category, title, embedding), of lengths so different that each metric ranks otherwise."""
    vectors = (rng.normal(size=(number, DIMENSION)) * rng.uniform(0.3, 3, (number, 1))).astype(np.float32)
    return list(zip(range(first, first + number), rng.choice(CATEGORIES, number).tolist(), texts(rng, number), vectors))


def _make_notes(db, notes: Sequence[tuple], table: str = "notes") -> None:
    query(
        db,
        f"""CREATE TABLE {table} (
                id bigint PRIMARY KEY,
                category text NOT NULL,
                title text NOT NULL,
                embedding vector({DIMENSION}) NOT NULL,
                added timestamptz NOT NULL DEFAULT now())""",
    )
    with db.cursor() as cur:
        execute_values(cur, f"INSERT INTO {table} (id, category, title, embedding) VALUES %s", notes)


def _distances(
    db, vector: Sequence[float], condition: str = "", values: Sequence = (), *, table: str = "notes", key: str = "id"
) -> dict:
    """The cosine distance of each row that fulfils the condition, by its key."""
    found = query(db, f"SELECT {key} AS key, embedding FROM {table} {condition}", values)
    stored = [vector.to_numpy() for vector in found.embedding]
    if not stored:
        return {}
    wanted = np.array([vector], np.float32)
    return dict(zip(found.key.tolist(), find_metric("cosine").distances(wanted, np.stack(stored))[0].tolist()))


# -- what is found ------------------------------------------------------------------------


def _sessions(db, call: int):
    """The sessions of a call's connections: their process and state."""
    return query(db, "SELECT pid, state FROM pg_stat_activity WHERE application_name = %s", [_name(db, call)])


def _idle_in_transaction(db, call: int) -> bool:
    return bool(_sessions(db, call).state.fillna("").str.startswith("idle in transaction").any())


def _expect_closed(db, calls: int) -> None:
    """The first calls have closed their connections. (The grader may hear of it no sooner than in the call after.)"""
    for wait in [0.02] * 100:
        left = {call: len(_sessions(db, call)) for call in range(1, calls + 1)}
        if not any(left.values()):
            return
        time.sleep(wait)
    raise expect.Wrong(
        "A connection is still open after the function has returned. Close what it opened: `with` for a connection or "
        "a pool, `dispose()` for an engine."
    )


def _expect_rows(db, number: int, reason: str) -> None:
    expect.table(db, "notes")
    found = int(query(db, "SELECT count(*) AS n FROM notes").n[0])
    if found != number:
        amount = "few" if found < number else "many"
        raise expect.Wrong(f"The table notes holds {found} rows, which is too {amount}. {reason}")


def _expect_document_columns(db) -> None:
    """All columns but the vector, whose types may be any that hold what the model says."""
    kinds = {"id": ("smallint", "integer", "bigint"), "title": ("text", "character varying"),
             "category": ("text", "character varying")}  # fmt: skip
    found = query(
        db,
        """SELECT attname AS name, format_type(atttypid, NULL) AS type, attnotnull AS required FROM pg_attribute
           WHERE attrelid = 'documents'::regclass AND attnum > 0 AND NOT attisdropped""",
    ).set_index("name")
    for name, types in kinds.items():
        if name not in found.index:
            raise expect.Wrong(f"The table documents has no column {name}.")
        if found.type[name] not in types:
            raise expect.Wrong(f"The column {name} is of type {found.type[name]}.")
    if not found.required["title"]:
        raise expect.Wrong("The column title accepts NULL.")
    if found.required["category"]:
        raise expect.Wrong("The column category does not accept NULL.")


def _expect_same(found, rows: Sequence[tuple], when: str) -> None:
    if list(found.itertuples(index=False, name=None)) != list(rows):
        raise expect.Wrong(f"{when} the rows are no longer what they were, or no longer NULL where they should be.")
