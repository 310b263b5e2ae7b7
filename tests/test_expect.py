"""What a check can look at: each expectation accepts what is right, and says of what is wrong what it is."""

import types

import numpy as np
import psycopg2
import pytest

from pgv_helpers import connect, query
from pgv_helpers.course import expect
from pgv_helpers.course.expect import Wrong
from pgv_helpers.course.judge import scratch_schema
from pgv_helpers.course.learner import Statement


@pytest.fixture
def db():
    with scratch_schema() as (conn, _):
        yield conn


@pytest.fixture
def filled(db):
    """A table of 3,000 vectors with an HNSW index."""
    query(db, "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL UNIQUE, e vector(4))")
    query(db, "SELECT setseed(0.5)")
    query(
        db,
        """INSERT INTO t SELECT i, i::text, ARRAY[random(), random(), random(), random()]::vector
           FROM generate_series(1, 3000) AS i""",
    )
    query(db, "CREATE INDEX t_hnsw ON t USING hnsw (e vector_cosine_ops) WITH (m = 8)")
    query(db, "ANALYZE t")
    return db


def said(function, *arguments, **options):
    """What an expectation says is wrong; an empty text when it is content."""
    try:
        function(*arguments, **options)
    except Wrong as wrong:
        return str(wrong)
    return ""


A = np.arange(6, dtype="float32").reshape(2, 3)

VALUES = [
    (expect.is_a, (3, int, "x"), ""),
    (expect.is_a, (True, int, "x"), "x should be an int; it is a bool."),
    (expect.is_a, (None, list, "x"), "x should be a list; it is None. Does the function end with a return?"),
    (expect.is_a, ("7", (int, np.integer), "x"), "x should be an int; it is a str."),
    (expect.is_a, (1, (bool, np.bool_), "x"), "x should be a bool; it is an int."),
    (expect.is_a, ([], (np.ndarray, str), "x"), "x should be a NumPy array or a str; it is a list."),
    (expect.has_length, ([1], 1, "x"), ""),
    (expect.has_length, ([1], 2, "x"), "x holds 1 items, which is too few."),
    (expect.tuples, ([("a", 1.0)], {"name": str, "score": float}, "X"), ""),
    (expect.tuples, (("a", 1.0), {"name": str, "score": float}, "X"), "X should be a list; it is a tuple."),
    (expect.tuples, (["a"], {"name": str}, "The x"), "Each item of the x should be a tuple; it is a str."),
    (
        expect.tuples,
        ([("a",)], {"name": str, "score": float}, "The x"),
        "Each item of the x should be (name, score); it holds 1 values.",
    ),
    (
        expect.tuples,
        ([("a", "b")], {"name": str, "score": float}, "The x"),
        "The score in each item of the x should be a float; it is a str.",
    ),
    (
        expect.tuples,
        ([("a", None)], {"name": str, "score": float}, "The x"),
        "The x holds a score that is None, NULL in the database: such rows do not belong there.",
    ),
    (expect.nearest, (["a"], {"a": 1, "b": 2}, 2, "x"), "x holds 1 items, which is too few: 2 were asked for."),
    (expect.nearest, (["a"], {"a": 1, "b": 2}, 3, "x"), "x holds 1 items, which is too few."),
    (expect.is_array, (A, (2, 3), "float32", "x"), ""),
    (expect.is_array, (A, (3, 2), "float32", "x"), "x has the shape (2, 3), not (3, 2)."),
    (expect.is_array, (A.astype(float), (2, 3), "float32", "x"), "x holds numbers of type float64, not float32."),
    (expect.is_array, (A.astype(object), (2, 3), "float32", "x"), "x is an array of objects, not of numbers."),
    (expect.close, (1.0, 1 + 1e-9, "x"), ""),
    (expect.close, ([1, 2], [1, 3], "x"), "x is wrong (1 of 2 numbers, the first at place 2)."),
    (expect.close, ([1, np.nan], [1, 2], "x"), "x is wrong (1 of 2 numbers, the first at place 2)."),
    (expect.close, (0.12, 0.1234, "x"), "x is wrong. Was it rounded? Return it as it is."),
    (expect.close, ([1], [1, 2], "x"), "x has the shape (1,), not (2,)."),
    (expect.equal, ("a", "a", "x"), ""),
    (expect.equal, ("a", "b", "x"), "x is wrong."),
    (expect.same_items, (["a", "b"], ["b", "a"], "x"), ""),
    (expect.same_items, (["a", "a"], ["b", "a"], "x"), "x holds something that does not belong there: 'a'."),
    (expect.same_items, (["a"], ["b", "a"], "x"), "x lacks 1 of 2."),
    (expect.ordered, ([1, 1, 2], "x"), ""),
    (expect.ordered, ([1, 3, 2], "x"), "x is out of order at place 3: the smallest comes first."),
    (expect.nearest, (["b", "a"], {"a": 1, "b": 1, "c": 2}, 2, "x"), ""),
    (expect.nearest, (["a", "c"], {"a": 1, "b": 1, "c": 2}, 2, "x"), "x is not the nearest: something nearer is missing."),  # noqa: E501
    (expect.nearest, (["c", "a"], {"a": 1, "c": 2}, 2, "x"), "x is out of order at place 2: the smallest comes first."),
    (expect.nearest, (["a", "a"], {"a": 1, "c": 2}, 2, "x"), "x holds something twice."),
    (expect.recall, ([[1, 2], [3, 4]], [[1, 2], [3, 9]], 0.75, "x"), ""),
    (expect.recall, ([[1, 2], [3, 4]], [[1, 2], [3, 9]], 0.8, "x"), "x: the recall is 0.75, and 0.80 is asked for."),
]  # fmt: skip


@pytest.mark.parametrize("function, arguments, message", VALUES)
def test_values(function, arguments, message):
    assert said(function, *arguments) == message


def test_a_message_never_holds_the_expected_value():
    assert "secret" not in said(expect.equal, "mine", "secret", "x")
    assert "secret" not in said(expect.same_items, ["mine"], ["secret"], "x")
    assert "3.25" not in said(expect.close, 1.0, 3.25, "x")


def test_tables_columns_and_constraints(filled):
    types_ = {"id": "integer", "name": "text", "e": "vector(4)"}
    assert said(expect.columns, filled, "t", types_, required=["id", "name"]) == ""
    assert said(expect.columns, filled, "t", {"e": "vector(3)"}).startswith(
        "The column e is of type vector(4); it should be vector(3)"
    )
    assert said(expect.columns, filled, "t", {"f": "int"}) == "The table t has no column f."
    assert said(expect.columns, filled, "t", types_, required=["e"]) == "The column e accepts NULL."
    assert said(expect.unique, filled, "t", ["id"], primary=True) == ""
    assert said(expect.unique, filled, "t", ["name"]) == ""
    assert said(expect.unique, filled, "t", ["name"], primary=True) == "The table t has no PRIMARY KEY on name."
    assert said(expect.unique, filled, "t", ["name", "id"]) == "The table t has no UNIQUE on name, id."
    query(filled, "CREATE UNIQUE INDEX ON t (id, name)")
    assert said(expect.unique, filled, "t", ["name", "id"]) == ""
    query(filled, "CREATE UNIQUE INDEX ON t ((id + 1)) WHERE id > 1")
    assert said(expect.unique, filled, "t", ["e"]) == "The table t has no UNIQUE on e."
    assert "There is no table nothing" in said(expect.table, filled, "nothing")
    query(filled, "CREATE VIEW v AS SELECT 1")
    assert said(expect.table, filled, "v") == "v is no table."


def test_rows_against_a_query(db):
    query(db, "CREATE TABLE r (name text, e vector(2))")
    query(db, "INSERT INTO r VALUES ('a', '[1,2]'), ('b', '[0.1,2]')")
    right = [("b", np.float32([0.1, 2])), ("a", [1, 2])]
    assert said(expect.rows, db, "SELECT * FROM r", [], right, "r") == ""
    assert said(expect.rows, db, "SELECT * FROM r", [], right[:1], "r") == "r holds 2 rows, which is too many."
    assert (
        said(expect.rows, db, "SELECT * FROM r", [], [right[0], ("a", [1, 3])], "r") == "r is wrong, at least for 'a'."
    )
    assert said(expect.rows, db, "SELECT name FROM r WHERE name = %s", ["a"], [("a",)], "r") == ""


def test_indexes(filled):
    assert expect.index(filled, "t", "hnsw", "vector_cosine_ops", {"m": "8"}) == "t_hnsw"
    assert "no ivfflat index. It has: " in said(expect.index, filled, "t", "ivfflat", "vector_cosine_ops")
    assert "vector_cosine_ops, which serves another" in said(expect.index, filled, "t", "hnsw", "vector_l2_ops")
    assert "which serves another" in said(expect.index, filled, "t", "hnsw", "halfvec_cosine_ops")
    assert "['m=8'], not those" in said(expect.index, filled, "t", "hnsw", "vector_cosine_ops", {"m": "16"})
    query(filled, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_hnsw'::regclass")
    assert "not valid" in said(expect.index, filled, "t", "hnsw", "vector_cosine_ops")
    query(filled, "DROP INDEX t_hnsw; CREATE INDEX ON t USING hnsw ((e::halfvec(4)) halfvec_cosine_ops)")
    assert "is for an index on a cast; here" in said(expect.index, filled, "t", "hnsw", "vector_cosine_ops")


def test_the_plan_of_a_statement(filled):
    near = "SELECT id FROM t ORDER BY e {} '[1,0,0,0]' LIMIT 5"
    cosine, euclidean = near.format("<=>"), near.format("<->")
    assert said(expect.uses_index, filled, cosine) == said(expect.uses_index, filled, cosine, "t_hnsw") == ""
    assert said(expect.uses_index, filled, cosine, "other") == "The query uses the index t_hnsw, not other."
    assert (
        said(expect.uses_index, filled, euclidean)
        == "The query uses no index; its plan is Limit over Sort over Seq Scan."
    )
    assert said(expect.reads_whole_table, filled, euclidean) == ""
    assert said(expect.reads_whole_table, filled, cosine) == "The query uses the index t_hnsw."
    assert said(expect.uses_index, filled, "SELECT 100 % 3; nonsense").startswith("The query cannot be planned")


def learner(statements=(), in_transaction=False):
    return types.SimpleNamespace(statements=list(statements), in_transaction=in_transaction)


def test_the_number_of_statements():
    sent = learner(
        [
            Statement("-- first\nINSERT INTO a", "INSERT 0 1"),
            Statement("  with x as (select 1)\n insert INTO b", "INSERT 0 2"),
            Statement("SELECT 'DELETE'", "SELECT 1"),
            Statement("WITH gone AS (UPDATE c RETURNING 1) SELECT * FROM gone", "SELECT 1"),
        ]
    )
    assert said(expect.statements, sent, "INSERT") == "2 statements of INSERT were sent; one is enough."
    assert expect.statements(sent, "INSERT", at_most=2).status == "INSERT 0 2"
    assert said(expect.statements, sent, "SELECT", at_most=1) == "2 statements of SELECT were sent; one is enough."
    assert expect.statements(sent, "UPDATE").text.startswith("WITH gone")
    assert said(expect.statements, sent, "DELETE").startswith("No DELETE was sent")


def test_the_plan_of_a_search_that_was_sent(filled):
    near = "SELECT id FROM t ORDER BY e {} '[1,0,0,0]' LIMIT 5"
    cosine, euclidean = Statement(near.format("<=>"), "SELECT 5"), Statement(near.format("<->"), "SELECT 5")
    dear = Statement("SELECT set_config('hnsw.ef_search', '1000', true)", "SELECT 1")
    for sent in ([cosine], [euclidean, cosine], [Statement("SET LOCAL enable_sort = on; " + cosine.text, "SELECT 5")]):
        assert expect.search_uses_index(filled, learner(sent), "t", "t_hnsw").rows == 5
    assert len(expect.search_plans(filled, learner([dear, cosine, euclidean, Statement(cosine.text, "")]), "t")) == 2
    assert query(filled, "SELECT current_setting('hnsw.ef_search')").iloc[0, 0] == "40"

    def said_of(*sent, **options):
        return said(expect.search_uses_index, filled, learner(sent), "t", "t_hnsw", **options)

    assert said_of(euclidean) == (
        "The search does not use the index t_hnsw. Its plan is Limit over Sort over Seq Scan, "
        "sorted by ((e <-> '[1,0,0,0]'::vector))."
    )
    assert "Limit over Sort over Seq Scan" in said_of(cosine, euclidean, last=True)
    assert "Limit over Sort over Seq Scan" in said_of(cosine, setting="SET LOCAL enable_indexscan = off")
    assert "No search of t was sent" in said_of(dear)
    assert "reading the whole table is cheaper: a large hnsw.ef_search makes" in said_of(dear, cosine)


def test_counts_and_transactions(db):
    query(db, "CREATE TABLE c AS SELECT 1 AS id")
    assert said(expect.count, db, "c", 1, learner()) == ""
    assert (
        said(expect.count, db, "c", 2, learner([("INSERT", "INSERT")])) == "The table c holds 1 rows, which is too few."
    )
    assert "was it committed?" in said(expect.count, db, "c", 2, learner([("INSERT", "INSERT")], in_transaction=True))
    assert "Nothing was sent" in said(expect.count, db, "c", 2, learner())
    assert said(expect.committed, learner()) == ""
    assert "still open" in said(expect.committed, learner(in_transaction=True))


def test_that_settings_are_kept():
    kept = types.SimpleNamespace(settings={"work_mem": "4096", "hnsw.ef_search": "40"}, in_transaction=False)

    def calls(settings, in_transaction=False):
        with expect.settings_kept(kept):
            kept.settings, kept.in_transaction = kept.settings | settings, in_transaction

    assert said(calls, {}) == ""
    assert said(calls, {"new.one": "1"}) == ""
    assert said(calls, {"hnsw.ef_search": "7"}).startswith(
        "After the call hnsw.ef_search is still 7, and whatever comes next runs with it; before, it was 40"
    )
    assert "work_mem is still 1 and its transaction is still open" in said(calls, {"work_mem": "1"}, True)


def test_a_table_whose_name_must_be_quoted(db):
    query(db, 'CREATE TABLE "A table" (id int PRIMARY KEY, e vector(2))')
    query(db, 'CREATE INDEX ON "A table" USING hnsw (e vector_l2_ops)')
    assert said(expect.columns, db, "A table", {"e": "vector(2)"}) == ""
    assert said(expect.unique, db, "A table", ["id"], primary=True) == ""
    assert expect.index(db, "A table", "hnsw", "vector_l2_ops") == "A table_e_idx"


def test_that_a_second_time_or_an_error_changes_nothing(db):
    query(db, "CREATE TABLE u AS SELECT 1 AS id")

    def block(statement):
        with expect.unchanged(db, ["u"], "A second time"):
            query(db, statement)

    assert said(block, "UPDATE u SET id = 1") == ""
    assert said(block, "UPDATE u SET id = 2") == "A second time: the table u was changed."
    assert said(block, "DELETE FROM u") == "A second time: the table u was changed."


def test_what_a_killed_check_left_behind_is_dropped_by_the_next():
    conn = connect()
    query(conn, "CREATE SCHEMA check_999999999_abcd")
    query(conn, "CREATE TABLE check_999999999_abcd.t (id int)")
    conn.commit()
    with scratch_schema(), scratch_schema() as (db, schema):
        left = query(db, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'check%%'").nspname.tolist()
    assert "check_999999999_abcd" not in left and schema in left


def test_a_scratch_schema_is_gone_afterwards_even_after_an_error():
    with pytest.raises(RuntimeError), scratch_schema() as (db, schema):
        query(db, "CREATE TABLE t (id int)")
        raise RuntimeError
    assert query(connect(), "SELECT count(*) AS n FROM pg_namespace WHERE nspname = %s", [schema]).n[0] == 0


@pytest.mark.parametrize("statement", ["SELECT * FROM t", "CREATE TABLE of_its_own (id int)", "LOCK TABLE t"])
def test_a_scratch_schema_goes_whoever_holds_a_lock_in_it(statement):
    bystander = connect()
    query(bystander, "SELECT 1")
    with scratch_schema() as (db, schema):
        query(db, "CREATE TABLE t (id int)")
        left = connect(schema)
        query(left, statement)
    assert query(bystander, "SELECT count(*) AS n FROM pg_namespace WHERE nspname = %s", [schema]).n[0] == 0
    with pytest.raises(psycopg2.OperationalError):
        query(left, "SELECT 1")
