"""Connections: to `PGV_DATABASE_URL` or else to the embedded server, ready for vectors."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlencode

import psycopg2
import psycopg2.errors
from pgvector.psycopg2 import register_vector
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import parse_dsn

from pgv_helpers import settings
from pgv_helpers.errors import ConnectionFailed
from pgv_helpers.server import course_server

if TYPE_CHECKING:
    import pandas

PGVECTOR_NEEDED = (0, 8)
"""Iterative scans, which lesson 5 needs, came with pgvector 0.8.0."""

CONNECT_TIMEOUT = 10
"""Seconds to wait for a server that does not answer."""

LOCK_TIMEOUT = "10s"
"""A statement that waits longer for another notebook's transaction fails instead of waiting for ever."""

ASYNCPG_PARAMETERS = {"host", "port", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey"}
"""What asyncpg understands of libpq's parameters; it sends the others to the server, which refuses them."""

Driver = Literal[
    "psycopg2", "psycopg", "asyncpg",
    "sqlalchemy+psycopg2", "sqlalchemy+psycopg", "sqlalchemy+asyncpg",
]  # fmt: skip


def database_url(driver: Driver = "psycopg2") -> str:
    """The URL of the course's database, for a driver or for SQLAlchemy with a driver.

    It comes from `PGV_DATABASE_URL` or `DATABASE_URL`; otherwise it is the
    embedded server's, which is started. The URL holds the password: do not
    print it where others read along.

    Args:
        driver: `"psycopg2"`, `"psycopg"` (3) and `"asyncpg"` take a URL that begins
            with `postgresql://`; `"sqlalchemy+psycopg2"` and so on give the URL
            for `sqlalchemy.create_engine`.

    Raises:
        ConnectionFailed: when the URL in the environment is not one, or `driver` is unknown.
        ServerError: when the embedded server cannot start.
    """
    known = Driver.__args__
    if driver not in known:
        raise ConnectionFailed(f"Unknown driver {driver!r}. Use one of: {', '.join(known)}.")
    given = settings.database_url()
    parts = _parse(given) if given else parse_dsn(course_server().url())
    scheme = driver.replace("sqlalchemy", "postgresql") if "+" in driver else "postgresql"
    login = quote(parts.pop("user", ""), safe="")
    if password := parts.pop("password", ""):
        login += ":" + quote(password, safe="")
    name = quote(parts.pop("dbname", ""), safe="")
    if "/" in parts.get("host", "/"):  # a socket's folder, or libpq's default one
        address = ""
    else:
        host, port = parts.pop("host"), parts.pop("port", "")
        address = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    if driver.endswith("asyncpg"):
        parts = {name: value for name, value in parts.items() if name in ASYNCPG_PARAMETERS}
        if driver == "sqlalchemy+asyncpg" and "sslmode" in parts:
            parts["ssl"] = parts.pop("sslmode")
    query = "?" + urlencode(parts, safe="/") if parts else ""
    return f"{scheme}://{login + '@' if login else ''}{address}/{name}{query}"


def connect(schema: str | None = None, *, connection_factory: type[Connection] | None = None) -> Connection:
    """Connect with psycopg2; the extension exists and vectors are registered.

    Args:
        schema: Create this schema if need be and work in it, so that a lesson's
            tables stay apart from every other's. In `"pg_temp"` they are temporary:
            they vanish with the connection.
        connection_factory: psycopg2's: a subclass of its connection to return.

    Returns:
        A psycopg2 connection outside of any transaction. A NumPy array may be
        given as a parameter; a vector that is read is a `pgvector.Vector`. A
        statement waits at most ten seconds for a lock.

    Raises:
        ConnectionFailed: a server that cannot be reached or refuses the login,
            that has no pgvector or one older than 0.8, or a role that may not
            create what is missing. The message says what to do.
        ServerError: when the embedded server cannot start.
    """
    conn = _open(connection_factory)
    try:
        with conn, conn.cursor() as cur:
            cur.execute("SET lock_timeout = %s", [LOCK_TIMEOUT])
            home = _ensure_pgvector(cur)
            if schema:
                work_in(cur, schema)
            cur.execute("SELECT to_regtype('vector') IS NULL")
            if cur.fetchone()[0]:
                _set_search_path(cur, "current_setting('search_path') || ', ' || quote_ident(%s)", home)
        register_vector(conn)
        conn.commit()
    except BaseException:
        conn.close()
        raise
    return conn


def query(conn: Connection, statement: str, parameters: Sequence | dict | None = None) -> "pandas.DataFrame":
    """Run one statement and return its rows as a DataFrame, one column for each of the result's.

    It does what `cur.execute(statement, parameters)` and `cur.fetchall()` do, in the
    connection's current transaction, and no more.

    Returns:
        The rows; an empty frame without columns for a statement that returns none.
    """
    import pandas

    with conn.cursor() as cur:
        cur.execute(statement, parameters)
        if cur.description is None:
            return pandas.DataFrame()
        return pandas.DataFrame(cur.fetchall(), columns=[column.name for column in cur.description])


@contextmanager
def transaction(conn: Connection) -> Iterator[Cursor]:
    """A cursor whose statements land together: committed at the end, rolled back after an error or Ctrl-C.

    What the connection had not yet committed shares their fate, as with psycopg2's
    `commit()` and `rollback()`. A connection in autocommit mode is put back into it.
    """
    autocommit = conn.autocommit
    if autocommit:
        conn.autocommit = False
    try:
        with conn.cursor() as cur:
            yield cur
        conn.commit()
    except BaseException:
        if not conn.closed:
            conn.rollback()
        raise
    finally:
        if autocommit and not conn.closed:
            conn.autocommit = True


def _open(factory: type[Connection] | None) -> Connection:
    url = database_url()
    options = dict(connect_timeout=CONNECT_TIMEOUT, connection_factory=factory)
    try:
        return psycopg2.connect(url, **options)
    except psycopg2.OperationalError as error:
        failure = error
    if settings.database_url() is None:
        # The embedded server died a moment ago; once it is seen to be dead, it is started again.
        time.sleep(1)
        try:
            return psycopg2.connect(database_url(), **options)
        except psycopg2.OperationalError as error:
            failure = error
    raise ConnectionFailed(_why_not(url, failure)) from failure


def _parse(url: str) -> dict[str, str]:
    plain = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
    try:
        parts = parse_dsn(plain)
        if not parts.get("port", "0").isdigit():
            raise psycopg2.ProgrammingError(f"the port is {parts['port']!r}, not a number")
        return parts
    except psycopg2.ProgrammingError as error:
        raise ConnectionFailed(
            f"PGV_DATABASE_URL (or DATABASE_URL) is not a URL of PostgreSQL: {masked(url)}\n"
            f"({str(error).strip().replace(plain, masked(plain))})\n"
            "It looks like postgresql://user:password@host:5432/database. Characters such as @ or / "
            "in a password are written as %40 and %2F. Unset the variable to use the embedded server."
        ) from None


def masked(url: str) -> str:
    """The URL without its password, for messages."""
    url = re.sub(r"(?<=://)([^/@:]*):.*@", r"\1:***@", url)
    return re.sub(r"(password=)('[^']*'|[^&\s]*)", r"\1***", url)


def _why_not(url: str, error: psycopg2.OperationalError) -> str:
    """What keeps us from the server, and what to do, by libpq's message."""
    said = str(error).strip()
    where = masked(url)
    text = f"Cannot connect to {where}\n{said}\n"
    if settings.database_url() is None:
        return text + "`pgv doctor` looks at the embedded server; `pgv down` and `pgv up` restart it."
    unset = "Unset PGV_DATABASE_URL (and DATABASE_URL) to use the embedded server."
    if any(words in said for words in ("authentication failed", "no password supplied", "no pg_hba.conf entry")):
        return text + f"The server refused the user or the password in the URL: correct it there. {unset}"
    if "does not exist" in said:
        return text + "Create what is missing on the server (createdb, createuser), or correct the URL."
    if "could not translate host name" in said:
        return text + f"The name of the host is wrong, or this machine is offline. {unset}"
    if "too many" in said:
        return text + "Close other notebooks' kernels, or raise max_connections on the server."
    return text + (
        "Nothing answers at this address: is the server running, are host and port right? "
        f"With Docker: `docker compose up -d`. {unset}"
    )


def _ensure_pgvector(cur) -> str:
    """Create the extension if need be, refuse one that is too old, and return its schema."""
    installed = """
        SELECT extversion, nspname
        FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'vector'"""
    cur.execute(installed)
    if not (row := cur.fetchone()):
        # Two CREATE EXTENSION IF NOT EXISTS at once collide; the second waits here instead.
        cur.execute("SELECT pg_advisory_xact_lock(hashtext('CREATE EXTENSION vector'))")
        try:
            cur.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg2.errors.FeatureNotSupported as error:
            raise ConnectionFailed(
                f"This PostgreSQL has no pgvector ({str(error).splitlines()[0]}).\n"
                "Install it on the server (https://github.com/pgvector/pgvector#installation), use the image "
                "pgvector/pgvector:pg18, or unset PGV_DATABASE_URL to use the embedded server."
            ) from error
        except psycopg2.errors.InsufficientPrivilege as error:
            raise ConnectionFailed(
                "This role may not create the extension, and the database does not have it yet.\n"
                "Ask the owner of the server to run, once, in this database: CREATE EXTENSION vector;"
            ) from error
        cur.execute(installed)
        row = cur.fetchone()
    found, home = row
    if tuple(int(number) for number in re.findall(r"\d+", found)[:2]) < PGVECTOR_NEEDED:
        raise ConnectionFailed(
            f"This database has pgvector {found}; the course needs 0.8 or newer.\n"
            "When the server has a newer one, run: ALTER EXTENSION vector UPDATE;\n"
            "Otherwise install it there, or unset PGV_DATABASE_URL to use the embedded server."
        )
    return home


def work_in(cur, schema: str) -> None:
    """Create the schema if need be and put it first in the search path.

    Raises:
        ConnectionFailed: the role may not create it.
    """
    cur.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema])
    if not cur.fetchone() and schema != "pg_temp":  # each session has its own, under this alias
        cur.execute("SELECT pg_advisory_xact_lock(hashtext('CREATE SCHEMA'))")
        try:
            cur.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        except psycopg2.errors.InsufficientPrivilege as error:
            raise ConnectionFailed(
                f"This role may not create the schema {schema!r}.\n"
                "Ask the owner of the database to run: GRANT CREATE ON DATABASE … TO …;"
            ) from error
    _set_search_path(cur, "quote_ident(%s) || ', ' || current_setting('search_path')", schema)


def _set_search_path(cur, path: str, schema: str) -> None:
    cur.execute(f"SELECT set_config('search_path', {path}, false)", [schema])
