"""Indexes: built, described, tuned and explained; what cannot be is refused, and nothing is left behind."""

import os
import signal
import time
from threading import Thread, Timer

import numpy as np
import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS

from pgv_helpers import (
    bulk_load,
    connect,
    create_index,
    describe_indexes,
    drop_index,
    explain,
    indexes,
    query,
    search_settings,
)
from pgv_helpers.db import transaction
from pgv_helpers.errors import CourseError, DocumentError, IndexProblem

ROWS, DIMENSION = 2500, 8
VECTORS = np.random.default_rng(0).normal(size=(ROWS, DIMENSION)).astype(np.float32)
NEAREST = "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 5"


def run(conn, statement):
    with transaction(conn) as cur:
        cur.execute(statement)


def fill(conn, table):
    run(conn, f"CREATE TABLE {table} (id bigint PRIMARY KEY, kind int, embedding vector({DIMENSION}))")
    bulk_load(conn, table, {"id": range(ROWS), "kind": np.arange(ROWS) % 10, "embedding": VECTORS})
    run(conn, f"ANALYZE {table}")


@pytest.fixture(scope="module")
def schema():
    """A schema with a table of every type, and one that has an index."""
    with connect("indexes") as conn:
        run(conn, "CREATE TABLE types (v vector(8), h halfvec(8), s sparsevec(8), b bit(8), free vector, words text)")
        run(conn, "CREATE TABLE long (v vector(2001), h halfvec(4001))")
        run(conn, "CREATE TABLE empty (embedding vector(8))")
        fill(conn, "items")
        create_index(conn, "items", name="items_hnsw")
        conn.commit()
        yield "indexes"
        run(conn, "DROP SCHEMA indexes CASCADE")
    conn.close()


@pytest.fixture
def conn(schema):
    connection = connect(schema)
    yield connection
    connection.close()


@pytest.fixture
def own(conn):
    """A connection with a temporary table `own` to build indexes on."""
    run(conn, "CREATE TEMP TABLE own AS SELECT * FROM items")
    return conn


@pytest.fixture
def shared(conn):
    """A table `shared` that other connections see, dropped at the end."""
    run(conn, "CREATE TABLE shared AS SELECT * FROM items")
    yield conn
    conn.rollback()
    run(conn, "DROP TABLE shared")


def names(conn, table):
    return describe_indexes(conn, table)["index"].tolist()


def value(conn, name):
    return query(conn, "SELECT current_setting(%s)", [name]).iloc[0, 0]


# -- building --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "arguments", "on", "operator_class", "operator"),
    [
        ("v", {}, "v", "vector_cosine_ops", "<=>"),
        ("v", {"metric": "l2"}, "v", "vector_l2_ops", "<->"),
        ("v", {"metric": "<#>"}, "v", "vector_ip_ops", "<#>"),
        ("v", {"metric": "l1"}, "v", "vector_l1_ops", "<+>"),
        ("v", {"cast": "halfvec"}, "(v::halfvec(8))", "halfvec_cosine_ops", "<=>"),
        ("v", {"cast": "bit", "metric": "hamming"}, "(binary_quantize(v)::bit(8))", "bit_hamming_ops", "<~>"),
        ("v", {"cast": "bit", "metric": "jaccard"}, "(binary_quantize(v)::bit(8))", "bit_jaccard_ops", "<%>"),
        ("h", {"metric": "l1"}, "h", "halfvec_l1_ops", "<+>"),
        ("h", {"cast": "bit", "metric": "hamming"}, "(binary_quantize(h)::bit(8))", "bit_hamming_ops", "<~>"),
        ("s", {"metric": "inner_product"}, "s", "sparsevec_ip_ops", "<#>"),
        ("s", {"cast": "halfvec"}, "(s::halfvec(8))", "halfvec_cosine_ops", "<=>"),
        ("b", {"metric": "jaccard"}, "b", "bit_jaccard_ops", "<%>"),
    ],
)
def test_every_type_and_distance_has_its_index(conn, column, arguments, on, operator_class, operator):
    name = create_index(conn, "types", column=column, **arguments)
    row = describe_indexes(conn, "types").iloc[0]
    assert row["index"] == name and row.method == "hnsw" and row["valid"]
    assert (row["on"], row.operator_class, row.serves) == (on, operator_class, operator)
    drop_index(conn, name)
    assert names(conn, "types") == []


@pytest.mark.parametrize("concurrently", [False, True])
@pytest.mark.parametrize("autocommit", [False, True])
def test_an_index_is_there_for_every_connection_and_finds_neighbours(shared, schema, concurrently, autocommit):
    shared.commit()
    shared.autocommit = autocommit
    name = create_index(shared, "shared", m=8, ef_construction=np.int64(32), concurrently=concurrently)
    assert shared.autocommit == autocommit
    other = connect(schema)
    row = describe_indexes(other, "shared").set_index("index").loc[name]
    assert name == "shared_embedding_cosine_hnsw" and row.options == "m=8, ef_construction=32"
    assert row["size (MB)"] > 0.1 and row["valid"]
    assert explain(other, NEAREST.replace("items", "shared"), [VECTORS[0]]).index == name
    other.close()


def test_ivfflat_has_as_many_lists_as_there_are_thousands_of_rows(own):
    create_index(own, "own", method="ivfflat")
    create_index(own, "own", method="ivfflat", metric="l2", lists=30)
    assert describe_indexes(own, "own").options.tolist() == ["lists=2", "lists=30"]
    assert query(own, "SELECT count(*) FROM own").iloc[0, 0] == ROWS


def test_an_expression_is_used_where_the_search_writes_the_same(own):
    name = create_index(own, "own", cast="halfvec")
    search = "SELECT id FROM own ORDER BY embedding::halfvec(8) <=> %s LIMIT 5"
    assert explain(own, search, [VECTORS[0]]).index == name
    assert explain(own, NEAREST.replace("items", "own"), [VECTORS[0]]).index is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column": "nope"}, r"no column 'nope'\. Its columns are: v, h, s, b, free, words"),
        ({"column": "words"}, "'words' is of type text, not one of vector, halfvec, bit, sparsevec"),
        ({"method": "hsnw"}, "method is 'hsnw'; it takes one of: hnsw, ivfflat"),
        ({"cast": "half"}, "cast is 'half'; it takes one of: halfvec, bit"),
        ({"metric": "hamming"}, r"hnsw has no operator class for hamming \(<~>\) on vector. It has: .*vector_l2_ops"),
        ({"column": "b"}, r"no operator class for cosine \(<=>\) on bit. It has: bit_hamming_ops, bit_jaccard_ops"),
        ({"cast": "bit"}, r"no operator class for cosine \(<=>\) on bit. It has: bit_hamming_ops"),
        ({"metric": "l1", "method": "ivfflat"}, "ivfflat has no operator class for l1 .*vector_cosine_ops"),
        ({"column": "s", "method": "ivfflat"}, "on sparsevec. It has: none at all"),
        ({"column": "b", "cast": "bit", "metric": "hamming"}, "'b' is of type bit, of which cast='bit' cannot be made"),
        ({"column": "s", "cast": "bit", "metric": "hamming"}, "'s' is of type sparsevec, of which cast='bit' cannot"),
        ({"column": "free"}, r'no fixed dimension.*ALTER TABLE "types" ALTER COLUMN "free" TYPE vector\(384\)'),
        ({"lists": 10}, "hnsw has no option lists; it has: m, ef_construction"),
        ({"m": 1}, "m is 1; it takes a whole number from 2 to 100"),
        ({"m": 16.0}, "m is 16.0; it takes a whole number"),
        ({"m": "16"}, "m is '16'; it takes a whole number"),
        ({"m": True}, "m is True; it takes a whole number"),
        ({"ef_construction": 1001}, "ef_construction is 1001; it takes a whole number from 4 to 1000"),
        ({"m": 40}, "ef_construction is 64 and m is 40; it must be at least twice m"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is(conn, arguments, message):
    with pytest.raises(IndexProblem, match=message):
        create_index(conn, "types", **{"column": "v", **arguments})
    assert names(conn, "types") == []


def test_too_many_dimensions_and_too_few_rows_are_told_what_helps(conn):
    with pytest.raises(IndexProblem, match="'v' has 2001 dimensions.*vector takes 2000. cast='halfvec' takes 4000"):
        create_index(conn, "long", column="v")
    with pytest.raises(IndexProblem, match="'h' has 4001 dimensions.*halfvec takes 4000. cast='bit' takes 64000"):
        create_index(conn, "long", column="h")
    drop_index(conn, create_index(conn, "long", column="v", cast="halfvec"))
    with pytest.raises(IndexProblem, match="'empty' has 0 vectors.*its 1 lists.*Load the rows first"):
        create_index(conn, "empty", method="ivfflat")
    with pytest.raises(IndexProblem, match=f"'items' has {ROWS} vectors.*its 2501 lists.*choose fewer lists"):
        create_index(conn, "items", method="ivfflat", lists=2501)
    for lists in (0, 32769, "10", 2.0):
        with pytest.raises(IndexProblem, match=f"lists is {lists!r}; it takes a whole number from 1 to 32768"):
            create_index(conn, "items", method="ivfflat", lists=lists)
    with pytest.raises(IndexProblem, match="ivfflat has no option m; it has: lists"):
        create_index(conn, "items", method="ivfflat", m=16)
    with pytest.raises(DocumentError, match="no table 'nowhere'"):
        create_index(conn, "nowhere")
    with pytest.raises(CourseError, match="no distance 'euclidean'. pgvector has: cosine"):
        create_index(conn, "items", metric="euclidean")


@pytest.mark.parametrize("concurrently", [False, True])
@pytest.mark.parametrize("name", ["items_hnsw", "types", "items_pkey"])
def test_a_name_that_is_taken_is_refused_and_its_index_stays(conn, name, concurrently):
    with pytest.raises(IndexProblem, match=f"The name '{name}' is taken, by an index or a table"):
        create_index(conn, "items", name=name, concurrently=concurrently)
    assert names(conn, "items") == ["items_hnsw", "items_pkey"]


@pytest.mark.parametrize("table", ['100% "Größe" %s', "Capital Case", "it's; DROP TABLE items", "ü" * 31, "t" * 63])
@pytest.mark.parametrize("concurrently", [False, True])
def test_odd_names_are_names_like_others(conn, table, concurrently):
    run(conn, sql.SQL('CREATE TEMP TABLE {} (id int, "Em%b" vector(3))').format(sql.Identifier(table)))
    made = {
        create_index(conn, table, column="Em%b", concurrently=concurrently, **others)
        for others in ({}, {"metric": "l2"}, {"cast": "halfvec"}, {"cast": "bit", "metric": "hamming"})
    }
    assert set(names(conn, table)) == made and len(made) == 4, "the name that is returned is the one that it has"
    for name in made:
        drop_index(conn, name)
    assert names(conn, table) == []


def test_a_table_further_down_the_search_path_is_found(conn):
    run(conn, "CREATE SCHEMA further; CREATE TABLE further.away (embedding vector(3))")
    run(conn, "SET search_path = indexes, further, public")
    name = create_index(conn, "away", concurrently=True)
    assert names(conn, "away") == [name]
    run(conn, "DROP SCHEMA further CASCADE")


def test_the_statement_and_what_the_server_remarks_can_be_seen(own, capsys):
    create_index(own, "own", m=16, show_sql=True)
    assert capsys.readouterr().out == (
        'CREATE INDEX "own_embedding_cosine_hnsw" ON "own" USING hnsw ("embedding" vector_cosine_ops) WITH (m = 16)\n'
    )
    run(own, "SET maintenance_work_mem = '256kB'")
    create_index(own, "own", metric="l2")
    assert "hnsw graph no longer fits into maintenance_work_mem" in capsys.readouterr().out
    drop_index(own, "own_embedding_cosine_hnsw", show_sql=True)
    assert capsys.readouterr().out == 'DROP INDEX IF EXISTS "own_embedding_cosine_hnsw"\n'


def test_what_cannot_be_dropped_is_told(conn):
    drop_index(conn, "never was")
    with pytest.raises(IndexProblem, match='"items" is not an index'):
        drop_index(conn, "items")
    with pytest.raises(IndexProblem, match="constraint items_pkey on table items requires it"):
        drop_index(conn, "items_pkey")
    assert names(conn, "items") == ["items_hnsw", "items_pkey"]


def test_an_index_is_described_with_all_its_columns_and_its_condition(own):
    run(own, "CREATE INDEX a ON own (kind, id DESC) INCLUDE (embedding) WHERE kind > 3")
    run(own, "CREATE INDEX b ON own USING hnsw (embedding vector_l2_ops) WHERE kind = 1")
    rows = describe_indexes(own, "own").set_index("index")
    assert rows["on"].tolist() == ["kind, id WHERE kind > 3", "embedding WHERE kind = 1"]
    assert rows.method.tolist() == ["btree", "hnsw"] and rows.serves.tolist() == ["", "<->"]
    assert list(describe_indexes(own, "empty")) == ["index", *rows] and len(describe_indexes(own, "empty")) == 0
    with pytest.raises(DocumentError, match="no table 'nowhere'"):
        describe_indexes(own, "nowhere")


# -- a build that is stopped -----------------------------------------------------


@pytest.mark.parametrize("concurrently", [False, True])
@pytest.mark.parametrize("pause", [0.01, 0.3])
def test_ctrl_c_stops_a_build_and_leaves_nothing(shared, schema, concurrently, pause):
    other = connect(schema)
    run(other, "SET lock_timeout = 0")
    query(other, "INSERT INTO shared (id) VALUES (-1)")  # until it commits, the build waits
    shared.autocommit = concurrently
    Timer(pause + 0.4, other.commit).start()  # what is unfinished can then be dropped
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):  # also where it comes before the build has begun
        Timer(pause, os.kill, [os.getpid(), signal.SIGINT]).start()
        create_index(shared, "shared", concurrently=concurrently, progress=False)
    assert time.monotonic() - begin < 5
    assert shared.autocommit == concurrently and names(shared, "shared") == []
    create_index(shared, "shared")
    other.close()


@pytest.mark.parametrize("concurrently", [False, True])
def test_a_build_that_waits_too_long_for_another_connection_says_so(shared, schema, concurrently, capsys):
    other = connect(schema)
    query(other, "INSERT INTO shared (id) VALUES (-1)")
    run(shared, "SET lock_timeout = '200ms'")
    with pytest.raises(IndexProblem, match="Another connection works with 'shared': commit or close it there"):
        create_index(shared, "shared", name="slow", concurrently=concurrently)
    said = capsys.readouterr().out
    if concurrently:
        assert "The unfinished index 'slow' stays" in said and "drop_index(conn, 'slow')" in said
        assert describe_indexes(shared, "shared")["valid"].tolist() == [False]
    else:
        assert said == "" and names(shared, "shared") == []
    other.commit()
    drop_index(shared, "slow")
    assert names(shared, "shared") == []
    other.close()


def test_a_refused_concurrent_build_leaves_no_invalid_index_and_drops_no_other(shared, schema):
    create_index(shared, "shared", name="good")
    other = connect(schema)
    query(other, "LOCK shared IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM does
    run(shared, "SET lock_timeout = '200ms'")
    with pytest.raises(IndexProblem, match="'good' is taken"):
        create_index(shared, "shared", name="good", concurrently=True)
    with pytest.raises(IndexProblem, match="Another connection"):
        create_index(shared, "shared", name="better", concurrently=True)
    assert names(shared, "shared") == ["good"]
    other.close()


def test_a_build_that_fails_halfway_leaves_no_invalid_index(conn):
    run(conn, "CREATE TABLE huge (id int, embedding vector(3))")
    run(conn, "INSERT INTO huge SELECT n, '[70000,0,0]' FROM generate_series(1, 9) AS n")
    with pytest.raises(IndexProblem, match="out of range for type halfvec"):
        create_index(conn, "huge", cast="halfvec", concurrently=True)
    assert names(conn, "huge") == []
    run(conn, "DROP TABLE huge")


@pytest.mark.parametrize("spare", [True, False])
def test_a_long_build_shows_its_progress_where_a_connection_is_to_spare(shared, schema, monkeypatch, capfd, spare):
    monkeypatch.setattr(indexes, "SECONDS_WITHOUT_BAR", 0.05)
    if not spare:
        monkeypatch.setenv("PGV_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    other = connect(schema) if spare else psycopg2.connect(shared.dsn, password=shared.info.password)
    with other.cursor() as cur:
        cur.execute("LOCK indexes.shared IN ROW EXCLUSIVE MODE")
    Thread(target=lambda: (time.sleep(0.8), other.rollback())).start()
    create_index(shared, "shared", concurrently=True)
    shown = capfd.readouterr().err
    assert ("waiting for writers before build" in shown) == spare
    assert describe_indexes(shared, "shared")["valid"].all()
    other.close()


# -- tuning ----------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [False, True])
def test_settings_hold_within_the_block_and_leave_nothing(conn, autocommit):
    conn.autocommit = autocommit
    query(conn, "SELECT '[0]'::vector")
    before = {name: value(conn, name) for name in ("hnsw.ef_search", "ivfflat.probes", "hnsw.iterative_scan")}
    with search_settings(conn, ef_search=np.int64(100), probes=3, iterative_scan="relaxed_order"):
        assert value(conn, "hnsw.ef_search") == "100" and value(conn, "ivfflat.probes") == "3"
        assert value(conn, "hnsw.iterative_scan") == value(conn, "ivfflat.iterative_scan") == "relaxed_order"
        assert len(query(conn, NEAREST.replace("5", "100"), [VECTORS[0]])) == 100
        with search_settings(conn, ef_search=7, max_scan_tuples=50, max_probes=9, iterative_scan="strict_order"):
            assert value(conn, "hnsw.ef_search") == "7" and value(conn, "ivfflat.probes") == "3"
            assert value(conn, "hnsw.iterative_scan") == "strict_order"
            assert value(conn, "ivfflat.iterative_scan") == "relaxed_order", "IVFFlat has no strict order"
        assert value(conn, "hnsw.ef_search") == "100"
    assert {name: value(conn, name) for name in before} == before
    assert conn.autocommit == autocommit
    assert conn.info.transaction_status == (TRANSACTION_STATUS_IDLE if autocommit else TRANSACTION_STATUS_INTRANS)


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_block_outside_of_a_transaction_is_one_of_its_own(conn, autocommit):
    run(conn, "CREATE TEMP TABLE notes (id int)")
    conn.autocommit = autocommit
    with search_settings(conn, ef_search=7):
        query(conn, "INSERT INTO notes VALUES (1)")
    assert conn.info.transaction_status == TRANSACTION_STATUS_IDLE
    with pytest.raises(KeyError), search_settings(conn, ef_search=7):
        query(conn, "INSERT INTO notes VALUES (2)")
        raise KeyError
    assert conn.info.transaction_status == TRANSACTION_STATUS_IDLE
    assert query(conn, "SELECT id FROM notes").id.tolist() == [1]
    run(conn, "DROP TABLE notes")


@pytest.mark.parametrize("autocommit", [False, True])
def test_an_error_in_the_block_leaves_nothing_either(conn, autocommit):
    conn.autocommit = autocommit
    with pytest.raises(KeyError), search_settings(conn, ef_search=7):
        raise KeyError
    assert value(conn, "hnsw.ef_search") == "40"
    with pytest.raises(psycopg2.Error), search_settings(conn, ef_search=7):
        query(conn, "SELECT wrong")
    conn.rollback()
    assert value(conn, "hnsw.ef_search") == "40" and conn.autocommit == autocommit
    with pytest.raises(KeyError), search_settings(conn, ef_search=7):
        conn.close()
        raise KeyError


def test_what_the_user_set_before_is_back_afterwards(conn):
    run(conn, "SET hnsw.ef_search = 77")
    with search_settings(conn, ef_search=7):
        assert value(conn, "hnsw.ef_search") == "7"
    assert value(conn, "hnsw.ef_search") == "77"
    conn.rollback()
    assert value(conn, "hnsw.ef_search") == "77"
    query(conn, "SET LOCAL hnsw.ef_search = 88")
    with search_settings(conn, ef_search=7):
        pass
    assert value(conn, "hnsw.ef_search") == "88"


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "SET LOCAL hnsw.ef_search = 9"])
def test_settings_that_were_replaced_within_the_block_are_no_silent_success(conn, end):
    with pytest.raises(IndexProblem, match="within the block replaced its settings.*Leave the `with` block first"):
        with search_settings(conn, ef_search=7):
            query(conn, end)
    conn.rollback()
    assert value(conn, "hnsw.ef_search") == "40"


def test_a_transaction_that_was_begun_by_hand_goes_on(conn):
    conn.commit()
    conn.autocommit = True
    query(conn, "BEGIN")
    query(conn, "INSERT INTO empty VALUES (NULL)")
    with search_settings(conn, ef_search=7):
        pass
    assert explain(conn, "DELETE FROM empty RETURNING 1").rows == 1
    assert len(query(conn, "SELECT * FROM empty")) == 1
    query(conn, "ROLLBACK")
    assert len(query(conn, "SELECT * FROM empty")) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ef_search": 0}, "ef_search is 0; it takes a whole number from 1 to 1000"),
        ({"ef_search": 1001}, "ef_search is 1001; .* 1 to 1000"),
        ({"ef_search": "40"}, "ef_search is '40'"),
        ({"ef_search": 40.0}, "ef_search is 40.0"),
        ({"ef_search": True}, "ef_search is True"),
        ({"max_scan_tuples": np.int64(2**31)}, "max_scan_tuples is .*; it takes a whole number from 1 to 2147483647"),
        ({"max_scan_tuples": "many"}, "max_scan_tuples is 'many'"),
        ({"probes": 32769}, "probes is 32769; .* 1 to 32768"),
        ({"iterative_scan": "on"}, "iterative_scan is 'on'; it takes one of: off, relaxed_order, strict_order"),
        ({"iterative_scan": True}, "iterative_scan is True"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(conn, given, message):
    begin = time.monotonic()
    with pytest.raises(IndexProblem, match=message), search_settings(conn, **given):
        pass
    assert time.monotonic() - begin < 1


def test_the_settings_can_be_seen(conn, capsys):
    with search_settings(conn, ef_search=7, iterative_scan="strict_order", show_sql=True):
        pass
    assert capsys.readouterr().out == "SET LOCAL hnsw.ef_search = 7;\nSET LOCAL hnsw.iterative_scan = strict_order;\n"


@pytest.mark.parametrize("use", [lambda conn: explain(conn, "SELECT 1"), lambda conn: drop_index(conn, "x"),
                                 lambda conn: search_settings(conn, ef_search=7).__enter__(),
                                 lambda conn: create_index(conn, "items", name="x")])  # fmt: skip
def test_a_failed_transaction_and_a_closed_connection_are_told_apart(conn, use):
    with pytest.raises(psycopg2.Error):
        query(conn, "SELECT wrong")
    with pytest.raises(CourseError, match=r"A statement before this one failed.*conn\.rollback\(\)"):
        use(conn)
    conn.close()
    with pytest.raises(CourseError, match="This connection is closed. Open another"):
        use(conn)


# -- plans -----------------------------------------------------------------------


def test_a_plan_says_whether_an_index_was_used_and_what_it_cost(conn):
    found = explain(conn, NEAREST, [VECTORS[0]])
    assert found.index == "items_hnsw" and found.rows == 5 and found.rows_read == 5
    assert 0 < found.buffers < ROWS and 0 < found.milliseconds < 1000
    assert found.steps == "Limit over Index Scan"
    assert repr(found).startswith("Limit\n   Index Scan on items using items_hnsw\n5 rows read, ")
    other = explain(conn, NEAREST.replace("<=>", "<->"), [VECTORS[0]])
    assert other.index is None and other.steps == "Limit over Sort over Seq Scan"
    assert other.rows == 5 and other.rows_read == ROWS
    planned = explain(conn, NEAREST, [VECTORS[0]], analyze=False)
    assert planned.index == "items_hnsw"
    assert (planned.rows, planned.rows_read, planned.buffers, planned.milliseconds) == (None,) * 4
    assert "read" not in repr(planned)


def test_rows_that_a_filter_removed_were_read(conn):
    found = explain(conn, "SELECT id FROM items WHERE kind = 3")
    assert found.rows == ROWS / 10 and found.rows_read == ROWS
    run(conn, "SET enable_seqscan = off")
    within = explain(conn, NEAREST.replace("ORDER", "WHERE kind = 3 ORDER"), [VECTORS[0]])
    assert within.index == "items_hnsw" and within.rows < within.rows_read <= 40


def test_rows_are_counted_where_they_are_read_and_not_again_above(conn):
    hits = NEAREST.replace("items", "items AS i").replace("5", "20")
    cte = explain(conn, f"WITH hits AS MATERIALIZED ({hits}) SELECT * FROM hits ORDER BY id LIMIT 5", [VECTORS[0]])
    assert cte.index == "items_hnsw" and cte.rows_read == 20 and "CTE Scan on hits" in repr(cte)
    run(conn, "SET enable_seqscan = off")
    run(conn, "SET enable_indexscan = off")
    bitmap = explain(conn, "SELECT * FROM items WHERE id < 100")
    assert "Bitmap" in bitmap.steps and bitmap.rows_read == 100 and bitmap.index == "items_pkey"


def test_the_index_that_finds_the_neighbours_is_the_one_that_counts(conn):
    found = explain(
        conn, "SELECT id FROM items ORDER BY embedding <=> (SELECT embedding FROM items WHERE id = 3) LIMIT 5"
    )
    assert found.index == "items_hnsw" and found.rows_read == 6
    never = explain(conn, "SELECT (SELECT kind FROM items WHERE id = 3) FROM empty")
    assert never.rows == 0 and never.rows_read == 0 and never.index is None


def test_a_parallel_plan_counts_the_rows_of_every_worker(conn):
    for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
        run(conn, f"SET {setting} = 0")
    found = explain(conn, "SELECT min(embedding <-> %s) FROM items", [VECTORS[0]])
    assert "Gather" in found.steps
    assert found.rows == 1 and abs(found.rows_read - ROWS) <= 3
    assert found._repr_png_()


@pytest.mark.parametrize("autocommit", [False, True])
def test_what_an_explained_statement_changes_is_undone(conn, autocommit):
    conn.autocommit = autocommit
    assert explain(conn, "INSERT INTO empty SELECT embedding FROM items RETURNING 1").rows == ROWS
    assert conn.autocommit == autocommit and conn.info.transaction_status == TRANSACTION_STATUS_IDLE
    assert explain(conn, "DELETE FROM items").rows_read == ROWS
    assert query(conn, "SELECT count(*) FROM items").iloc[0, 0] == ROWS
    assert query(conn, "SELECT count(*) FROM empty").iloc[0, 0] == 0


def test_the_work_of_an_open_transaction_survives(conn):
    query(conn, "INSERT INTO empty VALUES (NULL)")
    explain(conn, "DELETE FROM empty")
    with pytest.raises(IndexProblem, match='PostgreSQL cannot run this: column "wrong" does not exist'):
        explain(conn, "SELECT wrong")
    with pytest.raises(IndexProblem, match="division by zero"):
        explain(conn, "SELECT 1 / (id - id) FROM items")
    assert len(query(conn, "SELECT * FROM empty")) == 1
    with search_settings(conn, ef_search=7):
        explain(conn, "SELECT 1")
        assert value(conn, "hnsw.ef_search") == "7"


def test_the_settings_in_force_are_those_of_the_search(conn):
    search = NEAREST.replace("5", "100")
    assert explain(conn, search, [VECTORS[0]]).rows == 40
    with search_settings(conn, ef_search=100):
        assert explain(conn, search, [VECTORS[0]]).rows == 100


def test_statements_are_taken_as_psycopg2_takes_them(conn):
    assert explain(conn, "SELECT 'a%' LIKE '%'").rows == 1
    assert explain(conn, "SELECT 'a%%' LIKE %s", ["%"]).rows == 1
    assert explain(conn, "SELECT %(a)s::int % 2;".replace("% 2", "%% 2"), {"a": 3}).rows == 1
    composed = sql.SQL("SELECT id FROM {} ORDER BY embedding <=> %s LIMIT 5").format(sql.Identifier("items"))
    assert explain(conn, composed, [VECTORS[0]]).index == "items_hnsw"
    assert explain(conn, "-- a remark\nSELECT 1").rows == 1


@pytest.mark.parametrize(
    ("statement", "parameters", "message"),
    [
        ("SELECT %s", [], "The parameters do not fit the statement"),
        ("SELECT %(a)s", {"b": 1}, "The parameters do not fit the statement"),
        ("SELECT 'a%' LIKE %s", ["a"], "a percent sign that stands for itself is written %%"),
        ("SELECT %s", [1, 2], "The parameters do not fit"),
        ("SELECT %s", [np.int64(1)], "These parameters cannot be sent: can't adapt type 'numpy.int64'"),
        (NEAREST, [[1.0, 2.0]], "operator does not exist: vector <=> numeric"),
        (NEAREST, [np.ones(3)], "different vector dimensions 3 and 8"),
        ("", None, "empty query"),
        ("VACUUM", None, 'syntax error at or near "VACUUM"'),
        ("SELECT 1; SELECT 2", None, "Give explain one SELECT, INSERT, UPDATE or DELETE"),
        ("CREATE TABLE IF NOT EXISTS items AS SELECT 1", None, "has no plan for this"),
    ],
)
def test_what_cannot_be_explained_is_told(conn, statement, parameters, message):
    with pytest.raises(IndexProblem, match=message):
        explain(conn, statement, parameters)
    assert query(conn, "SELECT count(*) FROM items").iloc[0, 0] == ROWS


def test_a_server_that_hangs_up_is_told_and_masks_nothing(conn):
    with pytest.raises(IndexProblem, match="server closed the connection|terminating connection"):
        explain(conn, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert conn.closed


def test_the_sql_of_a_description_is_shown(shared, capsys):
    described = describe_indexes(shared, "shared", show_sql=True)
    assert query(shared, capsys.readouterr().out).equals(described)
