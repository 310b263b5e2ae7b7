"""Exercise 02_crud: a notebook of notes with embeddings."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extras import execute_values

from pgv_helpers.course import expect
from pgv_helpers.course.question import question
from pgv_helpers.db import query

question = partial(question, exercise="02_crud")

HOSTILE = "O'Hara\"; '); DROP TABLE notes; -- 100 %s"
"""A text that breaks whatever pastes it into SQL, and passes unharmed where it is bound."""

WORDS = "amber basil cedar delta ember fjord grove haven inlet jetty kelp lotus maple north ocean pearl".split()


def texts(rng: np.random.Generator, number: int) -> list[str]:
    """Different short texts."""
    return [f"{WORDS[rng.integers(len(WORDS))]} {place} {rng.integers(10**6)}" for place in range(number)]


def notes(rng: np.random.Generator, number: int, dimension: int) -> list[tuple]:
    """Rows (title, content, embedding), the titles all different."""
    vectors = rng.normal(size=(number, dimension)).astype(np.float32)
    return list(zip(texts(rng, number), texts(rng, number), vectors))


def make_table(db, rows: list[tuple], dimension: int, *, category: list[str] | None = None) -> None:
    """The table notes as the exercise describes it, filled with rows."""
    query(
        db,
        """CREATE TABLE notes (
               id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
               title text NOT NULL UNIQUE,
               category text NOT NULL DEFAULT '',
               content text NOT NULL,
               embedding vector(%s) NOT NULL)""",
        [dimension],
    )
    categories = category or [""] * len(rows)
    rows = [(title, group, content, vector) for (title, content, vector), group in zip(rows, categories)]
    with db.cursor() as cur:
        execute_values(cur, "INSERT INTO notes (title, category, content, embedding) VALUES %s", rows)


@question(
    "crud.create_notes",
    points=1,
    objective="declare a table with a vector column of a model's dimension",
    hints=[
        "Every column but the number needs NOT NULL, and one of them UNIQUE.",
        "`id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY` lets the database number the rows.",
        "`embedding vector(%s) NOT NULL`, with `[dimension]` as the parameters of `execute`. Then commit.",
    ],
)
def create_notes(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(3, 900))
    learner.call("create_notes", learner.conn, dimension)
    expect.committed(learner)
    expect.table(db, "notes")
    yield "there is a table notes, and it was committed"
    types = {"id": "integer", "title": "text", "content": "text", "embedding": f"vector({dimension})"}
    expect.columns(db, "notes", types, required=types)
    yield "its columns have the right types, and none accepts NULL"
    expect.unique(db, "notes", ["id"], primary=True)
    expect.unique(db, "notes", ["title"])
    yield "id is the primary key, and a title occurs once"
    vector = "[" + ",".join(["0"] * dimension) + "]"
    statement = "INSERT INTO notes (title, content, embedding) VALUES ('a', 'b', %s) RETURNING id"
    try:
        query(db, statement, [vector])
    except psycopg2.errors.NotNullViolation:
        raise expect.Wrong("A row without an id is refused: the database does not number the rows.") from None
    yield "the database numbers the rows"


@question(
    "crud.insert_notes",
    points=2,
    changes=["insert_notes"],
    objective="insert many rows in one statement, every value bound",
    hints=[
        "`execute_values` writes many rows into one INSERT.",
        "It sends `page_size` rows a statement, 100 unless you say more.",
        '`execute_values(cur, "INSERT INTO notes (title, content, embedding) VALUES %s", notes, '
        "page_size=max(len(notes), 1))`, within `with conn, conn.cursor() as cur:`, which commits.",
    ],
)
def insert_notes(learner, db, rng) -> Iterator[str]:
    dimension, number = int(rng.integers(3, 9)), int(rng.integers(1010, 1100))
    there, *rows = notes(rng, 1 + number, dimension)
    make_table(db, [there], dimension)
    rows[3] = (HOSTILE, rows[3][1], rows[3][2])
    returned = learner.call("insert_notes", learner.conn, rows)
    expect.count(db, "notes", number + 1, learner)
    yield "every row is in the table beside the one that was there, and was committed"
    _expect_same_notes(db, [there, *rows])
    yield "titles, contents and vectors are as they were given, a hostile title among them"
    sent = expect.statements(learner, "INSERT")
    if sent.status != f"INSERT 0 {number}":
        raise expect.Wrong("Several statements were sent in one go; a single INSERT takes all the rows.")
    yield "one INSERT was sent"
    expect.is_a(returned, int, "The result")
    expect.equal(returned, number, "The number of rows that is returned")
    yield "the result says how many"
    expect.equal(learner.call("insert_notes", learner.conn, []), 0, "The result for an empty list")
    expect.count(db, "notes", number + 1, learner)
    yield "an empty list is no error"


@question(
    "crud.read_embeddings",
    points=1,
    objective="read vectors back as one NumPy array",
    hints=[
        "Each vector that is read is a `Vector`; ask it for its array.",
        "Without ORDER BY the rows come in any order that suits PostgreSQL. A SELECT opens a transaction as well.",
        "Within `with conn, conn.cursor() as cur:`, after `SELECT embedding FROM notes ORDER BY id`: "
        "`np.stack([vector.to_numpy() for (vector,) in cur.fetchall()])`",
    ],
)
def read_embeddings(learner, db, rng) -> Iterator[str]:
    dimension, number = int(rng.integers(3, 9)), int(rng.integers(5, 12))
    rows = notes(rng, number, dimension)
    rows[-1] = (*rows[-1][:2], rows[0][2])  # two notes with one vector are two rows all the same
    make_table(db, rows, dimension)
    # Rows that were changed stand last in the table, so that its order is not that of the ids.
    query(db, "UPDATE notes SET content = content || '!' WHERE id <= 3")
    with expect.unchanged(db, ["notes"], "Reading changes nothing"):
        returned = learner.call("read_embeddings", learner.conn)
    expect.is_array(returned, (number, dimension), "float32", "The result")
    yield "the result is an array of type float32, a row for each note"
    stored = query(db, "SELECT embedding FROM notes ORDER BY id").embedding
    expected = np.stack([vector.to_numpy() for vector in stored])
    if not np.array_equal(returned, expected) and np.array_equal(np.sort(returned, 0), np.sort(expected, 0)):
        raise expect.Wrong("The result holds the right vectors in the wrong order: the smallest id comes first.")
    expect.close(returned, expected, "The result", tolerance=0)
    yield "the vectors are those of the table, bit for bit, in the order of the ids"
    if learner.in_transaction:
        raise expect.Wrong("A SELECT opens a transaction too, and it is still open: end it, as `with conn:` does.")
    yield "no transaction was left open"


@question(
    "crud.upsert_notes",
    points=2,
    changes=["upsert_notes"],
    objective="insert or change rows by a natural key, so that running twice changes nothing",
    hints=[
        "An INSERT may say what to do when a title is there already.",
        "`ON CONFLICT (title) DO UPDATE SET …`; the row that could not go in is called `EXCLUDED`.",
        "`SET content = EXCLUDED.content, embedding = EXCLUDED.embedding`: text and vector together.",
    ],
)
def upsert_notes(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(3, 9))
    old, new = notes(rng, 6, dimension), notes(rng, 5, dimension)
    make_table(db, old, dimension, category=texts(rng, 6))
    changed = [(old[place][0], new[place][1], new[place][2]) for place in (1, 4)]
    arriving = [*changed, *new[2:]]
    known = "SELECT title, {} FROM notes WHERE title = ANY(%s) ORDER BY title"
    titles = [title for title, *_ in old]
    ids, categories = query(db, known.format("id"), [titles]), query(db, known.format("category"), [titles])
    learner.call("upsert_notes", learner.conn, arriving)
    expect.count(db, "notes", 9, learner)
    yield "known titles were not added a second time, new ones were"
    _expect_same_notes(db, list({row[0]: row for row in [*old, *arriving]}.values()))
    yield "the texts and the vectors are the new ones"
    if not query(db, known.format("id"), [titles]).equals(ids):
        raise expect.Wrong("A note that was there has a new id. Change its row instead of deleting it.")
    if not query(db, known.format("category"), [titles]).equals(categories):
        raise expect.Wrong("A note that was there has lost its category. Change no more than the text and the vector.")
    yield "rows that were there have kept their ids and categories"
    with expect.unchanged(db, ["notes"], "A second time, with the same rows"):
        learner.call("upsert_notes", learner.conn, arriving)
    yield "a second time changes nothing"


@question(
    "crud.revise_note",
    points=3,
    changes=["revise_note"],
    objective="change several tables in one transaction, so that an error leaves nothing half",
    hints=[
        "Two statements belong together: either both last, or none.",
        "`with conn:` commits at the end of its block, and rolls back when an error leaves it.",
        "Both statements in one `with conn, conn.cursor() as cur:`. Do not catch the error: the caller wants to know.",
    ],
)
def revise_note(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(3, 9))
    rows, (better, best, broken) = notes(rng, 4, dimension), notes(rng, 3, dimension)
    rows[2] = (HOSTILE, *rows[2][1:])
    better = (better[0], HOSTILE + "!", better[2])
    make_table(db, rows, dimension, category=texts(rng, 4))
    query(db, "CREATE TABLE history (title text NOT NULL, content text NOT NULL)")
    others = "SELECT title, id, category FROM notes ORDER BY title"
    before = query(db, others)
    title, content, _ = rows[2]
    learner.call("revise_note", learner.conn, title, better[1], better[2])
    expect.committed(learner)
    expect.rows(db, "SELECT * FROM history", [], [(title, content)], "The table history, after a revision,")
    yield "the old text is in the history"
    _expect_same_notes(db, [*rows[:2], (title, *better[1:]), rows[3]])
    if not query(db, others).equals(before):
        raise expect.Wrong("The note has a new id or category. Change its row instead of deleting it.")
    yield "the note has its new text and its new vector, the others are untouched"
    learner.call("revise_note", learner.conn, title, best[1], best[2])
    history = [(title, content), (title, better[1])]
    expect.rows(db, "SELECT * FROM history", [], history, "The table history, after a second revision,")
    yield "a second revision adds to the history"
    wrong_vector = np.append(broken[2], np.float32(0))
    with expect.unchanged(db, ["notes", "history"], "After a vector of the wrong dimension"):
        error = learner.error("revise_note", learner.conn, title, broken[1], wrong_vector)
    yield "a vector of the wrong dimension changes nothing, neither notes nor history"
    if error is None:
        raise expect.Wrong("A vector of the wrong dimension is passed over in silence: let the error reach the caller.")
    yield "its error reaches the caller"
    if learner.in_transaction:
        raise expect.Wrong("After the error the transaction is still open: roll it back, as `with conn:` does.")
    yield "and the connection is ready for the next statement"


@question(
    "crud.delete_notes",
    points=2,
    changes=["delete_notes"],
    objective="delete rows and know which ones went",
    hints=[
        "A DELETE can return columns of the rows that it removes.",
        "`WHERE title = ANY(%s)` takes a list of titles as one parameter.",
        "`DELETE FROM notes WHERE title = ANY(%s) RETURNING title`, then sort what `fetchall()` gives.",
    ],
)
def delete_notes(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(3, 9))
    rows = notes(rng, 8, dimension)
    rows[5] = (HOSTILE, *rows[5][1:])
    make_table(db, rows, dimension)
    gone = sorted(rows[place][0] for place in (0, 3, 5))
    asked = [*gone, *texts(rng, 2), "%"]  # the last, taken for a pattern, is every title
    rng.shuffle(asked)
    returned = learner.call("delete_notes", learner.conn, asked)
    expect.count(db, "notes", 5, learner)
    stay = [(title,) for title, *_ in rows if title not in gone]
    expect.rows(db, "SELECT title FROM notes", [], stay, "What is left in the table")
    yield "the notes are gone, the others are there"
    expect.is_a(returned, list, "The result")
    for title in returned:
        expect.is_a(title, str, "Each item of the result")
    expect.same_items(returned, gone, "The result")
    expect.equal(returned, sorted(returned), "The order of the result")
    yield "the result is a sorted list of the titles that were deleted, without those that never were there"
    expect.statements(learner, "DELETE")
    yield "one DELETE was sent"
    expect.equal(learner.call("delete_notes", learner.conn, gone), [], "The result for titles that are gone already")
    expect.equal(learner.call("delete_notes", learner.conn, []), [], "The result for an empty list")
    yield "nothing is deleted a second time, nor for an empty list"


@question(
    "crud.search_notes",
    points=3,
    objective="search by meaning within a category, safe with any text",
    hints=[
        "Bind the category and the vector; sort by `<=>` and limit.",
        "The distance is a column like any other: name it in the SELECT as well as in the ORDER BY.",
        "`SELECT title, embedding <=> %(q)s FROM notes WHERE category = %(c)s "
        "ORDER BY embedding <=> %(q)s LIMIT %(n)s`",
    ],
)
def search_notes(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(3, 9))
    rows = notes(rng, 40, dimension)
    # Of different lengths, so that Euclidean distance and inner product rank otherwise than cosine distance.
    rows = [(title, content, vector * rng.uniform(0.1, 10)) for title, content, vector in rows]
    # Alike for whoever ignores case or space, or takes a category for a pattern.
    kinds = ["calm", "Calm", "calm ", "c%", HOSTILE]
    categories = [kinds[place % len(kinds)] for place in range(len(rows))]
    wanted = (rng.normal(size=dimension) * 3).astype(np.float32)
    # The nearest of each category is among the nearest of all for whoever forgets the category.
    for place, factor in enumerate(rng.uniform(0.5, 3, size=len(kinds))):
        rows[place] = (*rows[place][:2], wanted * np.float32(factor))
    make_table(db, rows, dimension, category=categories)
    found_right = "the nearest of a category come first, with their cosine distances"
    alike_right = "a category that looks like a pattern is a category like any other"
    hostile_right = "so is one that would break SQL it is pasted into"
    for category, limit, right in (("calm", 4, found_right), ("c%", 5, alike_right), (HOSTILE, 6, hostile_right)):
        returned = learner.call("search_notes", learner.conn, category, wanted, limit)
        expect.tuples(returned, {"title": str, "distance": float}, "The result")
        distances = {
            title: _cosine_distance(vector, wanted)
            for (title, _, vector), group in zip(rows, categories)
            if group == category
        }
        _expect_cosine_distances(returned, {title: vector for title, _, vector in rows}, wanted)
        expect.nearest([title for title, _ in returned], distances, limit, "The result")
        expected = [distances[title] for title, _ in returned]
        expect.close([distance for _, distance in returned], expected, "The list of distances", tolerance=1e-5)
        yield right
    expect.equal(learner.call("search_notes", learner.conn, "none such", wanted, 3), [], "The result for no category")
    yield "a category without notes gives an empty list"
    expect.committed(learner)
    yield "no transaction was left open"


def _expect_same_notes(db, rows: list[tuple]) -> None:
    """The table holds just these notes; says whether it is the content or the embedding that is wrong."""
    for column, place in (("content", 1), ("embedding", 2)):
        statement = sql.SQL("SELECT title, {} FROM notes").format(sql.Identifier(column))
        expect.rows(db, statement, [], [(row[0], row[place]) for row in rows], f"The column {column}")


def _expect_cosine_distances(found: list[tuple], vectors: dict[str, np.ndarray], wanted: np.ndarray) -> None:
    """The numbers beside the titles are not those of another measure."""
    others = {
        "Euclidean distances": lambda vector: np.linalg.norm(vector - wanted),
        "negative inner products": lambda vector: -vector @ wanted,
        "cosine similarities": lambda vector: 1 - _cosine_distance(vector, wanted),
    }
    for name, measure in others.items():
        numbers = [measure(vectors[title]) for title, _ in found if title in vectors]
        if numbers and np.allclose([number for _, number in found], numbers, rtol=1e-4, atol=1e-4):
            raise expect.Wrong(f"The numbers beside the titles are {name}, not cosine distances.")


def _cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
