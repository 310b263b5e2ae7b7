"""Loading by binary COPY: every type arrives as it left, and all of it or nothing does."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from threading import Timer

import numpy as np
import pandas as pd
import psycopg2
import pytest

from pgv_helpers import bulk, bulk_load, connect, create_documents_table, query, random_vectors, read_embeddings
from pgv_helpers.errors import DocumentError

VECTORS = np.random.default_rng(0).normal(size=(5, 384)).astype(np.float32)
ROWS = {
    "id": range(1, 6),
    "title": ["é", "naïve 日本", 'quoted "x"', "tab\tand\nline", ""],
    "content": list("abcde"),
    "category": ["x", None, "y", None, "z"],
    "metadata": [{"a": [1, None]}, None, ["x"], '{"text": true}', {}],
    "embedding": VECTORS,
}


@pytest.fixture
def conn():
    connection = connect("pg_temp")
    create_documents_table(connection)
    yield connection
    connection.close()


def count(conn):
    conn.rollback()
    return query(conn, "SELECT count(*) FROM documents")["count"][0]


def column(conn, type, values, **others):
    """Load values into a new column of this type and read them back as Python has them."""
    with conn.cursor() as cur:
        cur.execute(f"CREATE TABLE pg_temp.one (place int, value {type})")
    bulk_load(conn, "one", {"place": range(len(values)), "value": values, **others})
    with conn.cursor() as cur:
        cur.execute("SELECT value FROM one ORDER BY place")
        return [value for (value,) in cur.fetchall()]


def test_rows_arrive_as_they_left(conn):
    assert bulk_load(conn, "documents", ROWS) == 5
    conn.rollback()
    rows = query(conn, "SELECT * FROM documents ORDER BY id")
    assert rows.title.tolist() == ROWS["title"]
    assert rows.category.astype(object).where(rows.category.notna(), None).tolist() == ROWS["category"]
    assert rows.metadata.tolist() == [{"a": [1, None]}, None, ["x"], {"text": True}, {}]
    ids, vectors = read_embeddings(conn, "documents")
    assert ids.tolist() == [1, 2, 3, 4, 5] and np.array_equal(vectors, VECTORS)


def test_a_data_frame_and_blocks_of_an_iterator_do_as_well(conn):
    frame = pd.DataFrame({name: list(values) for name, values in ROWS.items()}, index=[9, 8, 7, 6, 5])
    bulk_load(conn, "documents", frame)
    more = ({"id": [10 * n + i for i in range(3)], "content": ["x"] * 3, "embedding": VECTORS[:3]} for n in range(1, 4))
    assert bulk_load(conn, "documents", more) == 9
    assert count(conn) == 14
    assert np.array_equal(read_embeddings(conn, "documents")[1][:5], VECTORS)
    assert bulk_load(conn, "documents", []) == 0
    with pytest.raises(DocumentError, match="no columns. Name what they fill: id, title"):
        bulk_load(conn, "documents", {})


def test_more_rows_than_a_chunk_holds(conn, monkeypatch):
    monkeypatch.setattr(bulk, "CHUNK_BYTES", 10_000)
    vectors = next(random_vectors(1000, 384))
    bulk_load(
        conn, "documents", {"id": np.arange(1000), "content": [f"{i}" for i in range(1000)], "embedding": vectors}
    )
    ids, read = read_embeddings(conn, "documents")
    assert np.array_equal(ids, np.arange(1000)) and np.array_equal(read, vectors)


UTC, BERLIN = dt.UTC, dt.timezone(dt.timedelta(hours=2))


@pytest.mark.parametrize(
    ("type", "values"),
    [
        ("smallint", [1, -32768, None]),
        ("integer", [2**31 - 1, -(2**31)]),
        ("bigint", [2**63 - 1, None, 2**53 + 1]),
        ("real", [1.5, -0.0, None, float("inf")]),
        ("double precision", [0.1, 1e308, None]),
        ("boolean", [True, False, None]),
        ("date", [dt.date(2024, 2, 29), dt.date(1066, 10, 14), None]),
        ("timestamp", [dt.datetime(2024, 2, 29, 12, 30, 15, 123456), dt.datetime(1969, 7, 20)]),
        ("timestamptz", [dt.datetime(2024, 7, 1, 12, tzinfo=UTC), None]),
        ("text", ["a", None, "ß" * 100_000]),
        ("varchar(3)", ["abc", ""]),
        ("json", [{"b": 1, "a": None}, None]),
        ("jsonb", [[1, "x"], {"deep": {"er": 1.5}}]),
    ],
)
def test_every_type_goes_there_and_back(conn, type, values):
    assert column(conn, type, values) == values


@pytest.mark.parametrize(
    ("type", "values", "read"),
    [
        ("bigint", np.array([1, 2], np.uint8), [1, 2]),
        ("bigint", pd.array([1, None], "Int64"), [1, None]),
        ("integer", [1.0, np.nan], [1, None]),
        ("real", np.array([1, np.nan]), [1.0, None]),
        ("boolean", np.array([True, False]), [True, False]),
        ("text", np.array(["a", "b"]), ["a", "b"]),
        ("text", pd.Series(["a", None]), ["a", None]),
        ("date", np.array(["2024-02-29", "NaT"], "datetime64[D]"), [dt.date(2024, 2, 29), None]),
        ("date", ["2024-02-29"], [dt.date(2024, 2, 29)]),
        ("timestamp", pd.Series(pd.to_datetime(["2024-01-01 12:00", None])), [dt.datetime(2024, 1, 1, 12), None]),
        ("timestamptz", [dt.datetime(2024, 7, 1, 14, tzinfo=BERLIN)], [dt.datetime(2024, 7, 1, 12, tzinfo=UTC)]),
        ("timestamptz", ["2024-07-01T14:00+02:00"], [dt.datetime(2024, 7, 1, 12, tzinfo=UTC)]),
    ],
)
def test_numpy_and_pandas_values_arrive_as_what_they_mean(conn, type, values, read):
    assert column(conn, type, values) == read


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("type", ["timestamp", "timestamptz"])
def test_times_mean_what_they_mean_in_an_insert(conn, zone, type):
    """Also those which a change of the clocks doubles, and in a session of another time zone."""
    naive = [
        dt.datetime(2024, 7, 1, 12),
        dt.datetime(2024, 1, 1),
        dt.datetime(2024, 10, 27, 2, 30),
        dt.datetime(2024, 11, 3, 1, 30),
    ]
    aware = [time.replace(tzinfo=UTC) for time in naive]
    with conn.cursor() as cur:
        cur.execute("SET TimeZone = %s", [zone])
        cur.execute(f"CREATE TABLE pg_temp.inserted (value {type})")
        for value in naive + aware:
            cur.execute("INSERT INTO inserted VALUES (%s)", [value])
        cur.execute("SELECT value FROM inserted")
        expected = [value for (value,) in cur.fetchall()]
    assert column(conn, type, naive) == expected[:4]
    with conn.cursor() as cur:
        cur.execute("DROP TABLE one")
    assert column(conn, type, aware) == expected[4:]


def test_aware_times_of_several_zones_are_what_they_are(conn):
    """So psycopg2 reads them where the clocks change."""
    times = [dt.datetime(2024, 7, 1, 14, tzinfo=BERLIN), dt.datetime(2024, 1, 1, tzinfo=UTC)]
    assert column(conn, "timestamptz", times) == times


@pytest.mark.parametrize("type", ["date", "timestamp", "timestamptz"])
@pytest.mark.parametrize("value", ["", "NaT"])
def test_an_empty_text_is_no_time(conn, type, value):
    with pytest.raises(DocumentError, match=f"Row 1, column 'value': '{value}' is no time"):
        column(conn, type, ["2024-01-01", value, None])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_end_of_a_chunk_may_fall_anywhere(conn, monkeypatch, size):
    vectors = next(random_vectors(5, 384))
    bulk_load(conn, "documents", {"content": list("abcde"), "embedding": vectors})
    row = 2 + 4 + 8 + 4 + 4 + 4 * 384
    monkeypatch.setattr(bulk, "CHUNK_BYTES", 19 + 5 * row + size)
    assert np.array_equal(read_embeddings(conn, "documents")[1], vectors)


class Tensor:
    """As those of other libraries: an array to NumPy, but no list."""

    def __init__(self, array):
        self.array, self.ndim, self.shape = array, array.ndim, array.shape

    def __array__(self, dtype=None, copy=None):
        return self.array

    def __len__(self):
        return len(self.array)

    def __getitem__(self, key):
        return Tensor(self.array[key])


@pytest.mark.parametrize("kind", [Tensor, pd.DataFrame, list, np.ndarray.tolist, lambda vectors: vectors.astype(float)])
def test_vectors_may_come_in_whatever_numpy_understands(conn, kind):
    bulk_load(conn, "documents", {"content": list("abcde"), "embedding": kind(VECTORS)})
    assert np.array_equal(read_embeddings(conn, "documents")[1], VECTORS)


def test_halfvec_and_missing_vectors(conn):
    create_documents_table(conn, "half", type="halfvec")
    vectors = [*VECTORS[:2], None, VECTORS[3].tolist()]
    bulk_load(conn, "half", {"id": [5, 6, 7, 8], "content": list("abcd"), "embedding": vectors})
    ids, read = read_embeddings(conn, "half")
    assert ids.tolist() == [5, 6, 8]
    assert read.dtype == np.float32 and np.array_equal(read, VECTORS[[0, 1, 3]].astype(np.float16).astype(np.float32))


def test_reading_nothing_gives_an_empty_array_of_the_right_shape(conn):
    ids, vectors = read_embeddings(conn, "documents")
    assert ids.shape == (0,) and vectors.shape == (0, 384)


def test_vectors_of_several_dimensions_are_no_array(conn):
    with conn.cursor() as cur:
        cur.execute(
            "CREATE TABLE pg_temp.mixed (id int, embedding vector); INSERT INTO mixed VALUES (1, '[1,2]'), (2, '[1]')"
        )
    with pytest.raises(DocumentError, match="not all of one dimension"):
        read_embeddings(conn, "mixed")
    assert count(conn) == 0, "the connection goes on"
    with pytest.raises(DocumentError, match="no column 'title' of the type int2 or int4 or int8"):
        read_embeddings(conn, "documents", key="title")
    with pytest.raises(DocumentError, match="no column 'nothing' of the type vector or halfvec"):
        read_embeddings(conn, "documents", column="nothing")


def changed(row, position, value):
    vectors = VECTORS.copy()
    vectors[row, position] = value
    return vectors


TWICE = r"Row 3: duplicate key .*Key \(id\)=\(12\) already exists.*upsert"
NO_CONTENT = 'Row 1: null value in column "content"'
BY_UPSERT = {TWICE: r"Rows 1 and 3 have the same key \(id 12\)", NO_CONTENT: "Failing row contains .12, "}
"""What the merge of the temporary table says instead."""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"embedding": VECTORS[:, :100]},
            "Row 0, column 'embedding': a vector of 100 numbers, and the column takes 384",
        ),
        ({"embedding": [*VECTORS[:4], VECTORS[0, :9]]}, "Row 4.*a vector of 9 numbers.*takes 384"),
        ({"embedding": [*VECTORS[:3], "x", None]}, "Row 3.*'x' is no vector"),
        ({"embedding": VECTORS[:, 0]}, r"Row 0.*an array of shape \(\) for a vector"),
        ({"embedding": changed(3, 7, np.nan)}, "Row 3.*number 7 of the vector is nan"),
        ({"embedding": changed(4, 0, -np.inf)}, "Row 4.*number 0 of the vector is -inf"),
        ({"embedding": changed(2, 1, 1.0).astype(float) * 1e39}, "Row 0.*which a vector cannot hold"),
        ({"content": ["a", "b", "c\0", "d", "e"]}, "Row 2, column 'content'.*NUL"),
        ({"content": ["a", "b", "c", 4, "e"]}, "Row 3, column 'content': 4 is no text"),
        ({"content": ["a", "\ud800", "c", "d", "e"]}, "Row 1.*surrogates not allowed"),
        ({"content": ["a", None, "c", "d", "e"]}, NO_CONTENT),
        ({"id": [11, 12, 13, 12, 14]}, TWICE),
        ({"id": [11, 12.5, 13, 14, 15]}, "Row 1, column 'id': 12.5 is no int8"),
        ({"id": [11, 12, "13", 14, 15]}, "Row 2, column 'id': '13' is no int8"),
        ({"id": [11, 12, 2**64, 14, 15]}, f"Row 2, column 'id': {2**64} is no int8"),
        ({"metadata": [{}, {"x": np.nan}, {}, {}, {}]}, "Row 1, column 'metadata'.*not JSON compliant"),
        ({"metadata": [{}, {}, {1, 2}, {}, {}]}, "Row 2.*not JSON serializable"),
        ({"metadata": ["{}", "{", "{}", "{}", "{}"]}, "Row 1: invalid input syntax for type json"),
        ({"published": ["2024-01-01", "yesterday", None, None, None]}, "Row 1.*'yesterday' is no time"),
        ({"published": [None, 2024, None, None, None]}, "Row 1.*2024 is no timestamptz"),
        ({"published": ["2024-01-01", "2024-01-01T12:00Z", None, None, None]}, "Row 0.*has no time zone, and others"),
        ({"title": "abcde"}, "column 'title' takes a list or an array, a value for each row, not 'abcde'"),
        ({"title": (text for text in "abcde")}, "column 'title' takes a list or an array"),
        ({"id": np.arange(11, 16)[:, None]}, r"column 'id' takes one value for each row, not \(1,\)"),
        ({"id": [11, 2**53 + 1, 12.0, 13, 14]}, f"Row 1, column 'id': {2**53 + 1} is no int8"),
        ({"id": [11, 12, Fraction(1, 2), 14, 15]}, r"Row 2, column 'id': Fraction\(1, 2\) is no int8"),
        ({"content": list("abcd")}, "different lengths: id 5, title 5, content 4"),
        ({"author": list("abcde")}, "no column 'author'. Its columns are: id, title"),
    ],
)
@pytest.mark.parametrize("upsert", [False, True])
def test_what_cannot_be_stored_is_named_by_its_row_and_nothing_is_stored(conn, wrong, words, upsert):
    bulk_load(conn, "documents", {"id": [1], "content": ["there before"]})
    if upsert:
        words = BY_UPSERT.get(words, words)
    with pytest.raises(DocumentError, match=words):
        bulk_load(conn, "documents", {**ROWS, "id": range(11, 16), **wrong}, upsert=upsert)
    assert count(conn) == 1
    assert bulk_load(conn, "documents", {**ROWS, "id": range(11, 16)}) == 5, "the connection goes on"


def test_a_key_that_exists_is_named_and_nothing_is_stored(conn):
    bulk_load(conn, "documents", {"id": [4], "content": ["there before"]})
    with pytest.raises(DocumentError, match=r"Row 3: duplicate key .*Key \(id\)=\(4\) already exists.*upsert"):
        bulk_load(conn, "documents", ROWS)
    assert count(conn) == 1


def test_numbers_beyond_half_precision_are_refused(conn):
    create_documents_table(conn, "half", type="halfvec")
    with pytest.raises(DocumentError, match="Row 2.*70000.0, which a halfvec cannot hold"):
        bulk_load(conn, "half", {"content": list("abcde"), "embedding": changed(2, 5, 70_000)})


@pytest.mark.parametrize("kind", [list, np.array, pd.Series])
@pytest.mark.parametrize(("type", "value"), [("smallint", 40_000), ("real", 1e39), ("integer", 2**31)])
def test_numbers_beyond_the_column_are_refused(conn, type, value, kind):
    with pytest.raises(DocumentError, match="Row 1, column 'value': .* is no (int2|float4|int4)"):
        column(conn, type, kind([1, value]))


def test_a_type_that_cannot_be_written_is_named(conn):
    with pytest.raises(DocumentError, match="cannot write the type _int4 of the column 'value'"):
        column(conn, "int[]", [[1]])


def test_the_row_is_counted_over_blocks_and_a_late_fault_undoes_the_early_ones(conn):
    good = {"id": range(1, 6), "content": list("abcde"), "embedding": VECTORS}
    bad = {"id": range(6, 11), "content": list("abcde"), "embedding": changed(2, 0, np.nan)}
    with pytest.raises(DocumentError, match="Row 7, column 'embedding'"):
        bulk_load(conn, "documents", iter([good, bad]))
    with pytest.raises(DocumentError, match="Row 5: this block has the columns id, content, and the first one had"):
        bulk_load(conn, "documents", [good, {"id": [6], "content": ["a"]}])

    def blocks():
        yield good
        raise OSError("the disk with the texts is gone")

    with pytest.raises(OSError, match="the disk with the texts is gone"):
        bulk_load(conn, "documents", blocks())
    assert count(conn) == 0


def test_an_upsert_replaces_adds_and_keeps_what_is_not_given(conn):
    bulk_load(conn, "documents", ROWS)
    new = {"id": [2, 9], "content": ["new", "nine"], "embedding": VECTORS[:2]}
    assert bulk_load(conn, "documents", new, upsert=True) == 2
    rows = query(conn, "SELECT id, title, content FROM documents ORDER BY id")
    assert rows.content.tolist() == ["a", "new", "c", "d", "e", "nine"]
    assert rows.title[1] == ROWS["title"][1]
    with pytest.raises(DocumentError, match="needs the primary key of 'documents': give each row its id"):
        bulk_load(conn, "documents", {"content": ["a"]}, upsert=True)
    with conn.cursor() as cur:
        cur.execute("CREATE TABLE pg_temp.keyless (content text)")
    with pytest.raises(DocumentError, match="'keyless' has no primary key"):
        bulk_load(conn, "keyless", {"content": ["a"]}, upsert=True)


def test_a_connection_in_autocommit_mode_loads_all_or_nothing_and_stays_so(conn):
    conn.commit()
    conn.autocommit = True
    bulk_load(conn, "documents", ROWS, upsert=True)
    with pytest.raises(DocumentError):
        bulk_load(conn, "documents", ROWS)
    assert conn.autocommit and query(conn, "SELECT count(*) FROM documents")["count"][0] == 5


def test_ctrl_c_leaves_the_table_as_it_was(conn):
    def blocks():
        for n in range(10**6):
            if n == 20:
                os.kill(os.getpid(), signal.SIGINT)
            yield {"id": [n], "content": ["x"]}

    with pytest.raises(KeyboardInterrupt):
        bulk_load(conn, "documents", blocks(), progress=False)
    assert count(conn) == 0
    assert bulk_load(conn, "documents", ROWS) == 5


def test_ctrl_c_at_any_moment_is_an_interrupt(conn):
    for pause in (0.03, 0.1, 0.2):
        Timer(pause, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            bulk_load(conn, "documents", ({"content": ["x"] * 1000} for _ in iter(int, 1)), progress=False)
        assert count(conn) == 0


def test_rows_that_are_read_over_the_same_connection_are_told_to_take_another(conn):
    def blocks():
        yield {"content": ["a"]}
        yield {"content": query(conn, "SELECT 'x' AS x").x}

    with pytest.raises(DocumentError, match="let it use a connection of its own"):
        bulk_load(conn, "documents", blocks())


def test_a_server_that_ends_the_connection_is_no_silent_success(conn):
    with conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        (pid,) = cur.fetchone()
    conn.commit()

    def blocks():
        yield {"id": [1], "content": ["x"]}
        other = connect()
        query(other, "SELECT pg_terminate_backend(%s)", [pid])
        other.close()
        time.sleep(0.2)
        for n in range(2, 100_000):
            yield {"id": [n], "content": ["x" * 1000]}

    with pytest.raises(psycopg2.Error):
        bulk_load(conn, "documents", blocks(), progress=False)


def test_the_statements_can_be_seen(conn, capsys):
    bulk_load(conn, "documents", ROWS, upsert=True, show_sql=True)
    read_embeddings(conn, "documents", show_sql=True)
    shown = capsys.readouterr().out
    for words in ('COPY "pg_temp"."pgv_incoming"', "ON CONFLICT", "TO STDOUT (FORMAT binary)"):
        assert words in shown


def test_memory_stays_flat():
    """Three times the rows take no more memory: only a block at a time is held."""
    program = """
import resource, sys
from pgv_helpers import bulk_load, connect, create_documents_table, random_vectors
conn = connect("pg_temp")
create_documents_table(conn)
blocks = ({"content": ["x"] * len(v), "embedding": v} for v in random_vectors(int(sys.argv[1]), 384))
bulk_load(conn, "documents", blocks, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"""
    # A process inherits the peak of the one that starts it, and pytest's is high by now: a small one stands between.
    between = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"

    def peak(rows: str) -> int:
        command = [sys.executable, "-c", between, program, rows]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    few, many = peak("20000"), peak("60000")
    assert many < 500 and many < few + 40, f"{few} MB for 20,000 rows, {many} MB for 60,000"
