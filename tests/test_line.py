"""The line to the database sees what a notebook's own connection sees, and lets pass what it should."""

import asyncio
import io
import socket
import struct
import threading
import time
from urllib.parse import quote

import psycopg
import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest
from psycopg2.extensions import make_dsn

from pgv_helpers import database_url
from pgv_helpers.course.learner import RecordingConnection
from pgv_helpers.grading import line as line_module
from pgv_helpers.grading.database import own_database, workplace
from pgv_helpers.grading.line import Line


@pytest.fixture(scope="module")
def database():
    with workplace(database_url()) as batch, own_database(batch) as database:
        yield database


@pytest.fixture
def line(database, short_tmp_path):
    line = Line(short_tmp_path, database.checker, database.role, database.name)
    line.listen()
    yield line
    line.close()


@pytest.fixture
def url(line, database):
    return (
        f"postgresql://{database.role}:{quote(database.password)}@/{database.name}?host={line.socket.parent}&port=5432"
    )


@pytest.fixture
def conn(line, url):
    """The learner's own connection, over the line, which remembers what it sent as in a notebook."""
    conn = psycopg2.connect(url, connection_factory=RecordingConnection)
    with conn, conn.cursor() as cur:
        cur.execute("DROP SCHEMA IF EXISTS work CASCADE; CREATE SCHEMA work; SET search_path = work, public")
        cur.execute("CREATE TABLE items (id integer PRIMARY KEY, embedding vector(3))")
    assert line.own()
    yield conn
    conn.close()


def begin(line, conn):
    """As at the beginning of a call."""
    line.hold()
    line.listen()
    conn.statements.clear()


def copy_in(cur):
    cur.copy_expert("COPY items FROM STDIN", io.StringIO("1\t[1,2,3]\n2\t[1,2,4]\n"))


def copy_out(cur):
    cur.copy_expert("COPY (SELECT generate_series(1, 10000)) TO STDOUT", io.StringIO())


def failing(cur):
    with pytest.raises(psycopg2.Error):
        cur.execute("SELECT nonsense FROM items")


def failing_in_the_middle(cur):
    with pytest.raises(psycopg2.Error):
        cur.execute("INSERT INTO items VALUES (8); SELECT 1 / 0; INSERT INTO items VALUES (9)")


def failing_copy(cur):
    with pytest.raises(psycopg2.Error):
        cur.copy_expert("COPY items FROM STDIN", io.StringIO("x\ty\n"))


def with_settings(cur):
    cur.execute("SET LOCAL maintenance_work_mem = '77MB'")
    cur.execute("CREATE INDEX ON items USING hnsw (embedding vector_l2_ops)")


@pytest.mark.parametrize(
    "work",
    [
        lambda cur: cur.execute("SELECT * FROM items"),
        lambda cur: cur.execute("INSERT INTO items VALUES (%s, %s), (2, NULL)", [1, "[1,2,3]"]),
        lambda cur: cur.execute("INSERT INTO items VALUES (1); UPDATE items SET id = 2; DELETE FROM items"),
        lambda cur: cur.execute("-- naïve; %\nSELECT 'a;b', E'it\\'s', $$;$$"),
        lambda cur: cur.executemany("INSERT INTO items VALUES (%s)", [[1], [2], [3]]),
        lambda cur: psycopg2.extras.execute_values(cur, "INSERT INTO items (id) VALUES %s", [[n] for n in range(250)]),
        lambda cur: psycopg2.extras.execute_batch(cur, "INSERT INTO items VALUES (%s)", [[n] for n in range(250)]),
        lambda cur: cur.execute("INSERT INTO items SELECT n, array_fill(n, '{3}') FROM generate_series(1, 500) AS n"),
        lambda cur: cur.execute("SELECT set_config('hnsw.ef_search', '50', true)"),
        copy_in, copy_out, failing, failing_in_the_middle, failing_copy, with_settings,
    ],
)  # fmt: skip
def test_it_sees_what_the_connection_itself_sees(line, conn, work):
    begin(line, conn)
    try:
        with conn, conn.cursor() as cur:
            work(cur)
    except psycopg2.errors.InFailedSqlTransaction:
        pass
    assert not line.hold()
    assert line.statements == conn.statements and line.statements


def test_a_named_cursor_is_seen_with_its_fetches(line, conn):
    begin(line, conn)
    with conn, conn.cursor("some") as cur:
        cur.execute("SELECT generate_series(1, 5)")
        assert len(cur.fetchall()) == 5
    assert line.statements[0] == conn.statements[0]
    assert [sent.status for sent in line.statements] == ["DECLARE CURSOR", "FETCH 5", "CLOSE CURSOR"]


@pytest.mark.parametrize("autocommit", [False, True])
def test_it_knows_whether_a_transaction_is_open(line, conn, autocommit):
    conn.autocommit = autocommit

    def agrees(expected):
        return (
            line.in_transaction
            == (conn.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE)
            == expected
        )

    assert agrees(False)
    cur = conn.cursor()
    cur.execute("SELECT 1")
    assert agrees(not autocommit)
    cur.execute("BEGIN" if autocommit else "SAVEPOINT here")
    assert agrees(True)
    with pytest.raises(psycopg2.Error):
        cur.execute("SELECT nonsense")
    assert agrees(True) and line.failed
    cur.execute("ROLLBACK")
    assert agrees(False) and not line.failed


def test_each_row_of_a_pipeline_is_a_statement(line, conn, url):
    begin(line, conn)
    with psycopg.connect(url) as other, other.cursor() as cur:
        cur.executemany("INSERT INTO work.items VALUES (%s)", [[n] for n in range(30)])
    found = [sent for sent in line.statements if sent.text.startswith("INSERT")]
    assert len(found) == 30 and {sent.status for sent in found} == {"INSERT 0 1"}


def test_an_error_in_a_pipeline_takes_what_follows_along(line, conn, url):
    begin(line, conn)
    with pytest.raises(psycopg.Error), psycopg.connect(url, autocommit=True) as other, other.pipeline():
        for text in ("INSERT INTO work.items VALUES (1)", "INSERT INTO work.items VALUES ('x')", "SELECT 2"):
            other.execute(text)
    assert [(sent.text[-3:], sent.status) for sent in line.statements[:2]] == [("(1)", "INSERT 0 1"), ("x')", "")]
    assert not line.hold()


def test_asyncpg_passes_and_is_seen(line, conn, database):
    import asyncpg

    async def work():
        other = await asyncpg.connect(
            user=database.role,
            password=database.password,
            database=database.name,
            host=str(line.socket.parent),
            port=5432,
        )
        await other.executemany("INSERT INTO work.items (id) VALUES ($1)", [(n,) for n in range(20)])
        assert await other.fetchval("SELECT count(*) FROM work.items WHERE id >= $1", 5) == 15
        await other.close()

    begin(line, conn)
    asyncio.run(work())
    assert [sent.status for sent in line.statements if "INTO" in sent.text] == ["INSERT 0 1"] * 20
    assert "SELECT 1" in [sent.status for sent in line.statements]
    assert not line.hold()


def test_the_graders_questions_are_not_seen_by_the_learner(line, conn):
    begin(line, conn)
    cur = conn.cursor("half read")
    cur.execute("SELECT generate_series(1, 5000)")
    assert cur.fetchmany(3) == [(1,), (2,), (3,)]
    line.hold()
    conn.notices.clear()
    assert line.ask("SELECT 1 AS a, NULL AS b UNION SELECT 2, 'x' ORDER BY 1") == [["1", None], ["2", "x"]]
    assert line.ask("SELECT set_config('search_path', 'public', false)") == [["public"]]
    assert line.in_transaction
    line.listen()
    assert cur.fetchmany(2) == [(4,), (5,)]
    assert line.statements[0].text.startswith("FETCH") and not conn.notices
    conn.rollback()


def test_nothing_passes_between_calls(line, conn):
    begin(line, conn)
    line.hold()
    done = threading.Event()

    def background():
        with conn, conn.cursor() as cur:
            cur.execute("INSERT INTO items VALUES (77)")
        done.set()

    thread = threading.Thread(target=background)
    thread.start()
    assert not done.wait(0.5)
    assert line.statements == []
    line.listen()
    assert done.wait(5)
    thread.join()
    assert [sent.status for sent in line.statements] == ["INSERT 0 1"]


def raw_session(line, database):
    """A connection that is logged in, as its socket."""
    conn = psycopg2.connect(
        make_dsn(
            user=database.role,
            password=database.password,
            dbname=database.name,
            host=str(line.socket.parent),
            port=5432,
        )
    )
    return conn, socket.socket(fileno=socket.socket(fileno=conn.fileno()).detach())


def test_a_message_in_two_halves_passes_as_a_whole_or_not_at_all(line, conn, database):
    other, raw = raw_session(line, database)
    text = b"INSERT INTO work.items VALUES (99)\0"
    message = b"Q" + struct.pack("!I", len(text) + 4) + text
    begin(line, conn)
    raw.sendall(message[:10])
    time.sleep(0.1)
    assert not line.hold()
    raw.sendall(message[10:])
    time.sleep(0.2)
    assert line.statements == [] and line.ask("SELECT count(*) FROM work.items WHERE id = 99") == [["0"]]
    line.listen()
    time.sleep(0.2)
    assert line.ask("SELECT count(*) FROM work.items WHERE id = 99") == [["1"]] and len(line.statements) == 1
    raw.detach()
    other.close()


def test_two_queries_at_once_are_two_and_run_until_both_have_ended(line, conn, database):
    other, raw = raw_session(line, database)
    begin(line, conn)
    messages = b""
    for text in (b"SELECT 1\0", b"SELECT pg_sleep(0.5)\0"):
        messages += b"Q" + struct.pack("!I", len(text) + 4) + text
    raw.sendall(messages)
    time.sleep(0.2)
    assert line.hold(), "the second one is still running"
    time.sleep(0.6)
    assert [(sent.text, sent.status) for sent in line.statements] == [
        ("SELECT 1", "SELECT 1"), ("SELECT pg_sleep(0.5)", "SELECT 1")
    ]  # fmt: skip
    raw.detach()
    other.close()


def test_a_large_result_passes_piece_by_piece(line, conn):
    import psutil

    begin(line, conn)
    with conn, conn.cursor() as cur:
        cur.execute("SELECT 1")
        before = psutil.Process().memory_info().rss
        cur.copy_expert(
            "COPY (SELECT repeat('x', 1000000) FROM generate_series(1, 200)) TO STDOUT",
            type("Sink", (), {"write": len})(),
        )
        grown = psutil.Process().memory_info().rss - before
    assert grown < 60 * 2**20
    assert line.statements[-1].status == "COPY"


def test_what_is_too_much_ends_the_connection(line, conn, url, monkeypatch):
    monkeypatch.setattr(line_module, "MOST_BYTES", 100_000)
    begin(line, conn)
    with pytest.raises(psycopg2.OperationalError):
        conn.cursor().execute("SELECT '" + "x" * 200_000 + "'")
    assert any("in one call more than" in what for what in line.refused)
    line.listen()
    other = psycopg2.connect(url)
    with pytest.raises(psycopg2.OperationalError):
        for _ in range(10):
            other.cursor().execute("SELECT '" + "x" * 20_000 + "'")


@pytest.mark.parametrize("options", [{"user": "postgres"}, {"dbname": "postgres"}, {"replication": "database"}])
def test_it_leads_to_one_database_as_one_role(line, url, options):
    with pytest.raises(psycopg2.OperationalError, match="the grader lets a submission into its own database only"):
        psycopg2.connect(make_dsn(url, **options))
    assert len(line.refused) == 1 and line.refused[0].startswith("a login as")


def test_what_postgresql_refuses_is_remembered_once_and_not_for_ever(line, conn):
    conn.autocommit = True
    for number in range(50):
        for _ in range(2):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege), conn.cursor() as cur:
                cur.execute(f"SELECT pg_read_file('{number}')")
    assert len(line.refused) == len(set(line.refused)) == line_module.MOST_REFUSALS


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"\0" * 50, b"\xff" * 50, b"GET / HTTP/1.1\r\n\r\n", struct.pack("!II", 8, 80877103) * 100,
        struct.pack("!IIII", 16, 80877102, 1, 1), struct.pack("!II", 2**31, 196608),
        struct.pack("!II", 9, 196608) + b"\0",
    ],
)  # fmt: skip
def test_nonsense_is_hung_up_on_and_others_are_served(line, conn, sent):
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(2)
    raw.connect(str(line.socket))
    raw.sendall(sent)
    raw.shutdown(socket.SHUT_WR)
    while raw.recv(1000):
        pass
    raw.close()
    with conn, conn.cursor() as cur:
        cur.execute("SELECT 1")


def test_a_second_connection_while_the_first_is_made_is_noticed(line, url):
    line.hold()
    line.listen()
    first, second = psycopg2.connect(url), psycopg2.connect(url)
    assert not line.own()
    line.listen()
    third = psycopg2.connect(url)
    assert line.own()
    for conn in (first, second, third):
        conn.close()


def test_a_connection_that_is_gone_answers_nothing(line, conn):
    conn.close()
    time.sleep(0.1)
    with pytest.raises(ConnectionError):
        line.ask("SELECT 1")


def test_sockets_that_say_nothing_are_few_and_soon_forgotten(line, conn, url):
    silent = []
    for _ in range(90):
        silent.append(socket.socket(socket.AF_UNIX))
        silent[-1].connect(str(line.socket))
    time.sleep(0.3)
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(url)
    for each in silent:
        each.close()
    time.sleep(0.3)
    psycopg2.connect(url).close()
    assert any("sockets at once" in what for what in line.refused)
