"""Exercise 03_distance_operators: the nearest by each operator, similarity, a threshold, length 1, bits."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from psycopg2.extras import execute_values

from pgv_helpers.course import expect
from pgv_helpers.course.question import question
from pgv_helpers.course.questions.crud import HOSTILE, texts
from pgv_helpers.db import query

question = partial(question, exercise="03_distance_operators")

Row = tuple[int, str, np.ndarray | None]
"""A row of items: id, name, embedding."""

INDEX = "items_embedding_idx"

METRICS = {
    "l2": "Euclidean distances",
    "cosine": "cosine distances",
    "inner_product": "negative inner products",
    "l1": "L1 distances",
}
"""The names that a learner's function takes, and what it then measures."""


def _cosine_similarity(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):  # of a zero vector it is NaN, as in pgvector
        return a @ b / np.sqrt((a @ a) * (b @ b))


def _jaccard_distance(a: np.ndarray, b: np.ndarray) -> float:
    shared, either = ((a > 0) & (b > 0)).sum(), ((a > 0) | (b > 0)).sum()
    return 1 - shared / either if shared else 1.0


MEASURES = {
    "Euclidean distances": lambda a, b: np.linalg.norm(a - b),
    "cosine distances": lambda a, b: 1 - _cosine_similarity(a, b),
    "negative inner products": lambda a, b: -(a @ b),
    "L1 distances": lambda a, b: np.abs(a - b).sum(),
    "Hamming distances": lambda a, b: ((a > 0) != (b > 0)).sum(),
    "Jaccard distances": _jaccard_distance,
    "cosine similarities": _cosine_similarity,
    "inner products": lambda a, b: a @ b,
    "1 minus the Euclidean distances": lambda a, b: 1 - np.linalg.norm(a - b),
    "1 minus the negative inner products": lambda a, b: 1 + a @ b,
    "numbers of bits that agree": lambda a, b: ((a > 0) == (b > 0)).sum(),
}
"""What the numbers of a result may be, the right ones and the usual wrong ones."""

OTHERS = ("Euclidean distances", "negative inner products", "L1 distances")
"""What is ranked by where cosine distance is asked for."""


def items(rng: np.random.Generator, number: int, dimension: int, *, null: int = 0, zero: int = 0) -> list[Row]:
    """Rows in no order of their ids: the first without embeddings, the next with zero vectors.

    The lengths of the others differ widely, so that every measure ranks them otherwise.
    """
    ids = rng.permutation(3 * number)[:number] + 1
    lengths = np.exp(rng.normal(size=(number, 1)) * 1.5)
    vectors = list((rng.normal(size=(number, dimension)) * lengths).astype(np.float32))
    vectors[: null + zero] = [None] * null + [np.zeros(dimension, np.float32)] * zero
    return list(zip(ids.tolist(), texts(rng, number), vectors))


def make_table(db, rows: list[Row], *, index: bool = False) -> None:
    """The table items as the exercise describes it, filled with rows."""
    dimension = len(rows[-1][2])
    columns = "id integer PRIMARY KEY, name text NOT NULL UNIQUE, embedding vector(%s)"
    query(db, f"CREATE TABLE items ({columns})", [dimension])
    with db.cursor() as cur:
        execute_values(cur, "INSERT INTO items (id, name, embedding) VALUES %s", rows)
    if index:
        query(db, f"CREATE INDEX {INDEX} ON items USING hnsw (embedding vector_cosine_ops)")
    query(db, "ANALYZE items")


@question(
    "distances.nearest",
    points=2,
    objective="rank rows by the distance that is asked for, ties by id",
    hints=[
        "Each metric has an operator: a dictionary knows which. An operator is SQL and cannot be bound; the rest can.",
        "What is to be left out has an embedding that IS NULL. After the distance, ORDER BY takes a second column.",
        "With `operator = OPERATORS[metric]`: `SELECT id, embedding {operator} %(v)s AS distance FROM items "
        "WHERE embedding IS NOT NULL ORDER BY distance, id LIMIT %(n)s`. An unknown metric: `raise ValueError(…)`.",
    ],
)
def nearest(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(4, 7))
    rows = items(rng, 40, dimension, null=3)
    # Whole numbers, so that distances are exact, and ties are ties.
    whole = (rng.integers(1, 5, (40, dimension)) * rng.choice([-1, 1], (40, dimension))).astype(np.float32)
    wanted = whole[3:19] = whole[0]
    rows[3:] = [(*row[:2], vector) for row, vector in zip(rows[3:], whole[3:])]
    make_table(db, rows)
    for metric, measure in METRICS.items():
        what = f"The result for {metric!r}"
        for limit in (22, 5):  # the smaller one ends among rows at the same distance
            returned = learner.call("nearest", learner.conn, wanted, metric, limit)
            _expect_ranking(returned, rows, wanted, measure, limit, what)
            _expect_ties_by_id(returned, rows, wanted, measure, what)
        yield f"{metric}: the nearest come first with their {measure}, those at the same distance by id"
    returned = learner.call("nearest", learner.conn, wanted, "l2", 100)
    _expect_ranking(returned, rows, wanted, METRICS["l2"], 100, "The result for a large limit")
    yield "rows without an embedding are left out"
    expect.committed(learner)
    error = learner.error("nearest", learner.conn, wanted, "euclid", 3)
    if error is None:
        raise expect.Wrong("The metric 'euclid', which there is not, is passed over in silence: raise a ValueError.")
    if not issubclass(error, ValueError):
        raise expect.Wrong(
            f"For the metric 'euclid', which there is not, it raises {error.__name__} and not ValueError."
        )
    yield "an unknown metric is a ValueError"
    expect.committed(learner)
    yield "no transaction was left open"


@question(
    "distances.nearest_to_list",
    points=1,
    objective="bind a question that comes as a Python list",
    hints=[
        "psycopg2 turns a list into an array of PostgreSQL, and no distance operator takes one.",
        "A cast makes a vector of an array; a NumPy array is bound as a vector from the start.",
        "`SELECT id FROM items ORDER BY embedding <=> %s::vector LIMIT %s`",
    ],
)
def nearest_to_list(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(4, 9))
    rows = items(rng, 40, dimension, null=2)
    make_table(db, rows)
    whole = rng.integers(1, 9, size=dimension) * rng.choice([-1, 1], size=dimension)
    for kind, wanted in (("floats", rng.normal(size=dimension)), ("ints", whole)):
        returned = learner.call("nearest_to_list", learner.conn, wanted.tolist(), 6)
        expect.is_a(returned, list, "The result")
        for item in returned:
            expect.is_a(item, int, "Each item of the result")
        for measure in (*OTHERS, "cosine similarities"):
            if len(returned) == 6 and _is_ranking(returned, rows, wanted, measure):
                raise expect.Wrong(f"The result is ranked by {measure}, not by cosine distances.")
        expect.nearest(returned, _numbers(rows, wanted, "cosine distances"), 6, "The result", tolerance=1e-5)
        yield f"a list of {kind} finds the nearest by cosine distance"
    expect.committed(learner)
    yield "no transaction was left open"


@question(
    "distances.most_similar",
    points=2,
    objective="return similarities, and still let the index do the work",
    hints=[
        "What a query returns and what it sorts by may differ.",
        "The most similar is the one at the smallest distance. An index serves ORDER BY with the bare operator alone.",
        "`SELECT id, 1 - (embedding <=> %(v)s) FROM items ORDER BY embedding <=> %(v)s LIMIT %(n)s`",
    ],
)
def most_similar(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(4, 9))
    rows = items(rng, 40, dimension, null=3, zero=2)
    make_table(db, rows, index=True)
    wanted = rng.normal(size=dimension).astype(np.float32)
    returned = learner.call("most_similar", learner.conn, wanted, 7)
    _expect_ranking(returned, rows, wanted, "cosine similarities", 7)
    yield "the most similar come first, with their cosine similarities"
    _expect_index(learner, db, 7)
    yield "PostgreSQL can use the index for it"
    expect.committed(learner)
    yield "no transaction was left open"


@question(
    "distances.within",
    points=3,
    objective="cut off by similarity without losing the index or letting NaN through",
    hints=[
        "Sort by the distance as before, with a LIMIT, and add a WHERE.",
        "A similarity of at least t is a distance of at most 1 - t. NaN is greater than every number: on which side "
        "of a comparison does it do no harm?",
        "`WHERE embedding <=> %(v)s <= 1 - %(t)s ORDER BY embedding <=> %(v)s LIMIT %(n)s`: NaN and NULL are not "
        "`<=` anything.",
    ],
)
def within(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(4, 9))
    rows = items(rng, 40, dimension, null=3, zero=2)
    # At the angle of 60 degrees from the first axis, where the similarity is 0.5 to the last bit.
    rows[-1] = (*rows[-1][:2], np.float32(rng.integers(1, 9)) * np.eye(4, dimension, dtype=np.float32).sum(axis=0))
    # And one that is a little less similar.
    rows[-2] = (*rows[-2][:2], np.float32([0.4995, np.sqrt(1 - 0.4995**2), *[0] * (dimension - 2)]))
    make_table(db, rows, index=True)
    wanted = rng.normal(size=dimension).astype(np.float32)
    similarities = _numbers(rows, wanted, "cosine similarities")
    levels = sorted(similarities.values(), reverse=True)
    threshold = (levels[19] + levels[20]) / 2
    for limit, right in (
        (6, "no more than `limit` rows come, the most similar first"),
        (30, "a row below the threshold does not come, nor one without a similarity"),
    ):
        returned = learner.call("within", learner.conn, wanted, threshold, limit)
        _expect_within(returned, rows, wanted, threshold, limit)
        yield right
        if limit == 6:
            _expect_index(learner, db, limit)
            yield "PostgreSQL can use the index for it"
    axis = np.eye(dimension, dtype=np.float32)[0] * np.float32(rng.integers(1, 9))
    returned = learner.call("within", learner.conn, axis, 0.5, 40)
    _expect_within(returned, rows, axis, 0.5, 40)
    yield "a similarity that equals the threshold is enough"
    nothing = learner.call("within", learner.conn, wanted, 1.5, 5)
    expect.equal(nothing, [], "The result for a threshold that no row reaches")
    yield "a threshold that no row reaches gives an empty list"
    expect.committed(learner)
    yield "no transaction was left open"


@question(
    "distances.normalise",
    points=2,
    changes=["normalise"],
    objective="bring vectors to length 1 in the database, and touch no row that needs it not",
    hints=[
        "pgvector has functions for both, the length of a vector and the vector of length 1.",
        "`vector_norm(embedding)` is the length. WHERE leaves out what is to stay: 0, NULL, and 1 give or take 1e-6.",
        "`UPDATE items SET embedding = l2_normalize(embedding) WHERE vector_norm(embedding) > 0 AND "
        "abs(vector_norm(embedding) - 1) > 1e-6`; `cur.rowcount` tells how many.",
    ],
)
def normalise(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(4, 9))
    rows = items(rng, 30, dimension, null=3, zero=2)
    lengths = (1, 1 - 4e-7, 1 + 4e-7, 1.00001, 0.9999, 1.005, 1.05)  # the first three are to stay
    for place, nearly in enumerate(lengths, start=5):
        id, name, vector = rows[place]
        rows[place] = (id, name, (vector / np.linalg.norm(vector.astype(float)) * nearly).astype(np.float32))
    make_table(db, rows)
    versions = "SELECT id, xmin::text AS version FROM items"
    before = dict(query(db, versions).itertuples(index=False, name=None))
    returned = learner.call("normalise", learner.conn)
    expect.committed(learner)
    after = dict(query(db, versions).itertuples(index=False, name=None))
    if not any(after[id] != before[id] for id in before.keys() & after.keys()):
        raise expect.Wrong("No row was changed: was an UPDATE sent over the connection that the function was given?")
    yield "the vectors were changed, and that was committed"
    _expect_normalised(db, rows)
    yield "each has length 1 and its old direction"
    kinds = ["has no embedding"] * 3 + ["is the zero vector"] * 2 + ["had length 1 already, give or take 1e-6"] * 3
    for (id, *_), kind in zip(rows, kinds):
        if after[id] != before[id]:
            raise expect.Wrong(f"The row {id}, which {kind}, was written anew: leave such rows out.")
    yield "rows that had no need were left alone"
    sent = expect.statements(learner, "UPDATE")
    changed = len(rows) - len(kinds)
    if sent.status.startswith("UPDATE") and sent.status != f"UPDATE {changed}":
        raise expect.Wrong("Several statements were sent in one go; a single UPDATE changes all the rows.")
    yield "one UPDATE was sent"
    expect.is_a(returned, int, "The result")
    expect.equal(returned, changed, "The number of rows that is returned")
    expect.equal(learner.call("normalise", learner.conn), 0, "The number of rows that a second run returns")
    yield "the result says how many rows were changed, none by a second run"


@question(
    "distances.nearest_bits",
    points=2,
    objective="compare vectors by the signs of their numbers",
    hints=[
        "Both sides become bits: the column and the question. Then there is an operator that counts where they differ.",
        "`binary_quantize(%s)` alone does not know the type of its argument: cast the parameter. `<~>` is Hamming.",
        "`SELECT id, binary_quantize(embedding) <~> binary_quantize(%(v)s::vector) AS distance FROM items "
        "WHERE embedding IS NOT NULL ORDER BY distance, id LIMIT %(n)s`",
    ],
)
def nearest_bits(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(6, 10))
    rows = items(rng, 60, dimension, null=3, zero=1)
    make_table(db, rows)
    wanted = rng.normal(size=dimension).astype(np.float32)
    wanted[:3] = np.abs(wanted[:3]) * [1, -1, 0]  # bits of both kinds, and a 0, which is not positive
    for limit, right in (
        (100, "every row with an embedding comes, and no other"),
        (25, "those whose bits differ least come first, those at the same distance by id"),
    ):
        returned = learner.call("nearest_bits", learner.conn, wanted, limit)
        _expect_ranking(returned, rows, wanted, "Hamming distances", limit, kind=(int, float))
        _expect_ties_by_id(returned, rows, wanted, "Hamming distances", "The result")
        yield right
    expect.committed(learner)
    yield "no transaction was left open"


@question(
    "distances.mend",
    points=2,
    objective="find what is wrong with a search that looks right",
    hints=[
        "Run it by hand: what comes first when some items have no embedding? And for an item called O'Hara?",
        "Which distance is it that 1 minus makes a similarity of? What does DESC do with NULL and NaN?",
        "Bind name, vector and limit; `1 - (embedding <=> %(v)s)`; `WHERE vector_norm(embedding) > 0` leaves out "
        "NULL and the zero vector; `ORDER BY embedding <=> %(v)s`. And `with conn, conn.cursor() as cur:`.",
    ],
)
def mend(learner, db, rng) -> Iterator[str]:
    dimension = int(rng.integers(4, 9))
    rows = items(rng, 30, dimension, null=3, zero=2)
    rows[-1] = (rows[-1][0], HOSTILE, rows[-1][2])
    rows[20] = (*rows[20][:2], rows[10][2])
    make_table(db, rows)
    found_right = "other items come first by cosine similarity, with their similarities"
    twins_right = "an item with the same vector is another item"
    hostile_right = "a name that would break SQL it is pasted into does no harm"
    gaps_right = "items without a similarity never come"
    # Of two items with one vector each is the other's nearest, whichever the database puts first.
    calls = ((10, 6, found_right), (20, 6, twins_right), (-1, 6, hostile_right), (11, 50, gaps_right))
    for place, limit, right in calls:
        _, name, wanted = rows[place]
        returned = learner.call("recommend", learner.conn, name, limit)
        if isinstance(returned, list) and any(isinstance(item, tuple) and name in item[:1] for item in returned):
            raise expect.Wrong("The result holds the item itself, which everybody knows already.")
        others = [(other, other, vector) for _, other, vector in rows if other != name]
        _expect_numbers(returned, others, wanted, "cosine similarities", "The result", "name", float)
        twin = next((other for other, _, vector in others if np.array_equal(vector, wanted)), None)
        if twin and twin not in dict(returned):
            raise expect.Wrong(f"The result lacks {twin!r}, another item with the same vector.")
        _expect_ranking(returned, others, wanted, "cosine similarities", limit, key="name")
        yield right
    expect.committed(learner)
    yield "no transaction was left open"


def _numbers(rows: Sequence[tuple], wanted: np.ndarray, measure: str) -> dict:
    """What a measure says of each row by the row's first column; none for those that it cannot measure."""
    wanted = wanted.astype(float)
    numbers = {key: MEASURES[measure](vector.astype(float), wanted) for key, _, vector in rows if vector is not None}
    return {key: float(number) for key, number in numbers.items() if not np.isnan(number)}


def _is_ranking(keys: list, rows: Sequence[tuple], wanted: np.ndarray, measure: str) -> bool:
    """Whether these are the rows with the smallest numbers, in their order; equal ones may change places."""
    numbers = _numbers(rows, wanted, measure)
    if len(keys) > len(numbers) or not numbers.keys() >= set(keys):
        return False
    return np.allclose([numbers[key] for key in keys], sorted(numbers.values())[: len(keys)], rtol=1e-5, atol=1e-5)


def _expect_numbers(
    returned: list, rows: Sequence[tuple], wanted: np.ndarray, measure: str, what: str, key: str, kind,
    among: Sequence[tuple] = (),
) -> dict:  # fmt: skip
    """Tuples of a row's key and the measure's number for it, in order; what the measure says of every row.

    Args:
        among: the rows that a filter leaves; all of them by default.
    """
    name = "similarity" if measure.endswith("similarities") else "distance"
    expect.tuples(returned, {key: str if key == "name" else int, name: kind}, what)
    ids, found = [place for place, _ in returned], [number for _, number in returned]
    numbers = _numbers(rows, wanted, measure)

    def are(other: str) -> bool:
        said = _numbers(rows, wanted, other)
        return np.allclose(found, [said.get(place, np.nan) for place in ids], rtol=1e-4, atol=1e-4, equal_nan=True)

    if not are(measure):
        for other in filter(are, MEASURES):
            raise expect.Wrong(f"{what} holds {other}, not {measure}.")
    # Said first, because rows without a similarity come among the others then.
    if name == "similarity" and not _is_ranking(ids, among or rows, wanted, "cosine distances"):
        for other in OTHERS:
            if len(ids) > 2 and _is_ranking(ids, among or rows, wanted, other):
                raise expect.Wrong(f"{what} is ranked by {other}, not by cosine distances.")
    if np.isnan(found).any():
        raise expect.Wrong(f"{what} holds a {name} that is NaN, as of a zero vector: such rows do not belong there.")
    if strange := [place for place in ids if place not in numbers]:
        raise expect.Wrong(f"{what} holds something that does not belong there: {strange[0]!r}.")
    expect.ordered(found, what, descending=name == "similarity", tolerance=1e-5)
    expect.close(found, [numbers[place] for place in ids], f"The {name} in the tuples", tolerance=1e-5)
    return numbers


def _expect_ranking(
    returned: list, rows: Sequence[tuple], wanted: np.ndarray, measure: str, limit: int,
    what: str = "The result", *, key: str = "id", kind: type | tuple[type, ...] = float,
) -> None:  # fmt: skip
    """The `limit` nearest, or most similar, of the rows that the measure can measure, with their numbers."""
    numbers = _expect_numbers(returned, rows, wanted, measure, what, key, kind)
    sign = -1 if measure.endswith("similarities") else 1
    ranked = {place: sign * number for place, number in numbers.items()}
    expect.nearest([place for place, _ in returned], ranked, limit, what, tolerance=1e-5)


def _expect_ties_by_id(returned: list, rows: list[Row], wanted: np.ndarray, measure: str, what: str) -> None:
    numbers = _numbers(rows, wanted, measure)
    ranked = sorted(numbers, key=lambda id: (numbers[id], id))
    if [id for id, _ in returned] != ranked[: len(returned)]:
        raise expect.Wrong(f"{what} is right but for rows at the same distance: of these the smallest id comes first.")


def _expect_within(returned: list, rows: list[Row], wanted: np.ndarray, threshold: float, limit: int) -> None:
    """The most similar rows of those whose similarity reaches the threshold, at most `limit`."""
    numbers = _numbers(rows, wanted, "cosine similarities")
    among = [row for row in rows if numbers.get(row[0], -1) >= threshold]
    _expect_numbers(returned, rows, wanted, "cosine similarities", "The result", "id", float, among)
    if len(returned) > limit:
        raise expect.Wrong(f"The result holds {len(returned)} items, and `limit` was {limit}.")
    if below := [id for id, _ in returned if numbers[id] < threshold]:
        raise expect.Wrong(f"The similarity of the row {below[0]} is less than the threshold.")
    ids = {id for id, _ in returned}
    reached = {id: -number for id, number in numbers.items() if number >= threshold}
    if {id for id, number in numbers.items() if number > threshold} == ids != reached.keys():
        raise expect.Wrong("A row whose similarity equals the threshold is missing: it is at least the threshold.")
    if ids == {id for id, number in numbers.items() if 1 - number <= threshold} != reached.keys():
        raise expect.Wrong("These are the rows whose distance is at most the threshold, which is one of similarity.")
    expect.nearest([id for id, _ in returned], reached, limit, "The result", tolerance=1e-5)


def _expect_index(learner, db, limit: int) -> None:
    """One SELECT was sent, it took no more rows than asked for, and the index can serve it."""
    sent = expect.statements(learner, "SELECT")
    if (rows := int(sent.status.split()[1])) > limit:
        raise expect.Wrong(f"The query fetched {rows} rows, and `limit` was {limit}: write the limit into the SQL.")
    # PostgreSQL reads so small a table as a whole. Whether it could use the index shows when that is made dear.
    query(db, "SET enable_seqscan = off")
    query(db, "SET enable_sort = off")
    try:
        expect.uses_index(db, sent.text, INDEX)
    except expect.Wrong:
        raise expect.Wrong(
            "PostgreSQL cannot use the index for this query, however large the table is: it would compute every "
            "distance and sort. An index serves an ORDER BY with the operator alone, ascending, and a LIMIT."
        ) from None


def _expect_normalised(db, rows: list[Row]) -> None:
    """The table holds the same rows, each vector of length 1 in its old direction; zero and NULL as they were."""
    expect.rows(db, "SELECT id, name FROM items", [], [row[:2] for row in rows], "The column id or name")
    stored = dict(query(db, "SELECT id, embedding FROM items").itertuples(index=False, name=None))
    for id, _, before in rows:
        after = stored[id]
        if before is None:
            if after is not None:
                raise expect.Wrong(f"The row {id} had no embedding, and has one now.")
            continue
        if after is None:
            raise expect.Wrong(f"The row {id} has lost its embedding.")
        after, before = after.to_numpy().astype(float), before.astype(float)
        length = np.linalg.norm(after)
        if not before.any():
            if after.any():
                raise expect.Wrong(f"The row {id} was a zero vector, and is none any more.")
            continue
        if abs(length - 1) > 1e-6:
            raise expect.Wrong(f"The vector of the row {id} has the length {length:.7f}.")
        if not np.allclose(after, before / np.linalg.norm(before), atol=1e-5):
            raise expect.Wrong(f"The vector of the row {id} has length 1, and points in another direction than before.")
