"""Distances by NumPy are those of pgvector's operators, and exact neighbours those of an exact search."""

import numpy as np
import pytest

from pgv_helpers import connect, exact_neighbours, query
from pgv_helpers.distances import METRICS, find_metric
from pgv_helpers.errors import CourseError

RNG = np.random.default_rng(0)
FLOATS = RNG.normal(size=(300, 16)).astype(np.float32)
FLOATS[7] = FLOATS[8] = 0
FLOATS[20:25] = FLOATS[40]  # ties
BITS = RNG.integers(0, 2, size=(300, 16))
BITS[7] = BITS[8] = 0
DATA = {"vector": FLOATS, "halfvec": FLOATS.astype(np.float16), "bit": BITS}
OF_FLOATS, OF_BITS = ("cosine", "l2", "inner_product", "l1"), ("hamming", "jaccard")
PAIRS = [(type, name) for type in ("vector", "halfvec") for name in OF_FLOATS] + [("bit", name) for name in OF_BITS]


def text(type, row):
    return "".join(map(str, row)) if type == "bit" else "[" + ",".join(f"{x:.9g}" for x in row.astype(float)) + "]"


@pytest.fixture(scope="module")
def conn():
    connection = connect("pg_temp")
    for type, data in DATA.items():
        with connection.cursor() as cur:
            cur.execute(f"CREATE TABLE pg_temp.t_{type} (id int, v {type}(16))")
            cur.executemany(f"INSERT INTO t_{type} VALUES (%s, %s)", [(i, text(type, r)) for i, r in enumerate(data)])
    connection.commit()
    yield connection
    connection.close()


def by_sql(conn, type, name, question):
    """Every row with its distance, the nearest first, ties by row."""
    operator = METRICS[name].operator.replace("%", "%%")
    statement = f"SELECT id, v {operator} %s::{type}(16) AS distance FROM t_{type} ORDER BY distance, id"
    return query(conn, statement, [text(type, question)])


@pytest.mark.parametrize(("type", "name"), PAIRS)
def test_numpy_agrees_with_the_operator_also_about_zeros(conn, type, name):
    data = DATA[type]
    ours = METRICS[name].distances(data[:9], data)
    assert ours.shape == (9, 300)
    for question, row in zip(data, ours):
        theirs = by_sql(conn, type, name, question).sort_values("id").distance.to_numpy(float)
        np.testing.assert_allclose(row, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("type", "name"), PAIRS)
@pytest.mark.parametrize("block_rows", [1, 7, 300, 20_000])
def test_exact_neighbours_are_those_of_an_exact_search(conn, type, name, block_rows):
    data, questions = DATA[type], DATA[type][:7]
    rows, distances = exact_neighbours(data, questions, 12, name, block_rows=block_rows)
    assert rows.shape == distances.shape == (7, 12)
    for question, found, far in zip(questions, rows, distances):
        expected = by_sql(conn, type, name, question)
        if type == "bit":  # whole numbers and their ratios: the order is exact
            assert found.tolist() == expected.id[:12].tolist()
        np.testing.assert_allclose(far, expected.distance[:12], rtol=2e-5, atol=2e-6)
        assert (np.diff(far) >= 0).all()


@pytest.mark.parametrize("name", OF_FLOATS)
def test_neighbours_come_by_distance_and_equal_ones_by_row_whatever_the_block(conn, name):
    expected = by_sql(conn, "vector", name, FLOATS[1]).id[:50].tolist()
    for block_rows in (1, 3, 22, 300):
        rows, distances = exact_neighbours(FLOATS, FLOATS[[1, 40]], 50, name, block_rows=block_rows)
        assert rows[0].tolist() == expected
        if name != "inner_product":
            assert rows[1, :6].tolist() == [20, 21, 22, 23, 24, 40]
            assert distances[1, :6] == pytest.approx(0, abs=1e-6)


def test_zero_vectors_have_no_cosine_distance_and_come_last():
    rows, distances = exact_neighbours(FLOATS, FLOATS[:1], 1000)
    assert rows.shape == (1, 300) and rows[0, -2:].tolist() == [7, 8]
    assert np.isinf(distances[0, -2:]).all() and np.isfinite(distances[0, :-2]).all()
    assert exact_neighbours(FLOATS, FLOATS[:1], 1, "l2")[0].tolist() == [[0]]


def test_small_differences_of_large_numbers_are_not_lost():
    far_off = FLOATS * 1e-3 + 1000
    rows, distances = exact_neighbours(far_off, far_off[100:103], 2, "l2")
    assert rows[:, 0].tolist() == [100, 101, 102] and distances[:, 0] == pytest.approx(0, abs=1e-5)
    exact = np.linalg.norm(far_off[100].astype(float) - far_off.astype(float), axis=1)
    assert distances[0, 1] == pytest.approx(np.sort(exact)[1], rel=1e-3)


def test_small_whole_numbers_do_not_overflow():
    numbers = np.array([[200, 100], [0, 0]], np.uint8)
    assert find_metric("l2").distances(numbers, numbers)[0] == pytest.approx([0, np.hypot(200, 100)])
    assert find_metric("<#>").distances(numbers, numbers)[0].tolist() == [-50_000, 0]
    assert find_metric("<+>").distances([[0, 0]], numbers).tolist() == [[300, 0]]
    assert find_metric("<~>").distances([[True, False]], [[False, False]]).tolist() == [[1]]


def test_no_vectors_have_no_neighbours():
    rows, distances = exact_neighbours(np.empty((0, 3)), np.ones((2, 3)), 5)
    assert rows.shape == distances.shape == (2, 0)


def test_a_metric_goes_by_its_name_and_its_operator():
    for metric in METRICS.values():
        assert find_metric(metric.name) is find_metric(metric.operator) is metric
    with pytest.raises(CourseError, match=r"no distance 'euclid'. pgvector has: cosine \(<=>\), l2 \(<->\)"):
        find_metric("euclid")


@pytest.mark.parametrize(
    ("vectors", "queries", "k", "message"),
    [
        (FLOATS, FLOATS[0], 5, r"queries has the shape \(16,\) and vectors \(300, 16\)"),
        (FLOATS, FLOATS[:2, :8], 5, r"queries has the shape \(2, 8\) and vectors \(300, 16\)"),
        (FLOATS[0], FLOATS, 5, r"vectors \(16,\)"),
        (FLOATS, FLOATS, 0, "k must be 1 or more; it is 0"),
    ],
)
def test_what_does_not_go_together_is_refused(vectors, queries, k, message):
    with pytest.raises(CourseError, match=message):
        exact_neighbours(vectors, queries, k)
