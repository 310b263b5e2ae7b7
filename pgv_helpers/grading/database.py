"""A database for each submission, from a template, and the roles that work in it.

The learner's role owns nothing but what it makes there. The checker logs in as a role of its
own, which the learner's cannot reach, and works with the learner's rights and no more: what
a learner plants in the database can do nothing there that the learner could not do.
Only the making and the dropping of databases and roles needs a superuser, who never enters
a database that a learner has been in.
"""

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg2
import psycopg2.errors
from pgvector.psycopg2 import register_vector
from psycopg2 import extensions, sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import make_dsn

from pgv_helpers.db import query, work_in
from pgv_helpers.errors import ConnectionFailed
from pgv_helpers.search import count_words_body

CONNECTION_LIMIT = 30
MOST_LOCKS = 2000
"""How many locks a submission may hold; PostgreSQL has room for a few thousand, for all databases together."""

TEMPORARY_FILES = "256MB"
STATEMENT_TIMEOUT = "60s"
LOCK_TIMEOUT = "3s"

OWN = """NOT IN (SELECT oid FROM pg_namespace
                      WHERE nspname IN ('pg_catalog', 'information_schema', 'public', 'guard', 'pg_toast'))"""

GUARD = f"""
CREATE SCHEMA guard;
CREATE TABLE guard.allowed (body text);
GRANT USAGE ON SCHEMA guard TO PUBLIC;
GRANT SELECT ON guard.allowed TO PUBLIC;
CREATE FUNCTION guard.refuse() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE what text;
BEGIN
    IF tg_tag IN ('CREATE RULE', 'CREATE CAST', 'CREATE OPERATOR', 'ALTER OPERATOR',
                  'CREATE AGGREGATE', 'ALTER AGGREGATE', 'CREATE OPERATOR CLASS', 'CREATE OPERATOR FAMILY',
                  'CREATE EVENT TRIGGER') THEN
        RAISE insufficient_privilege USING MESSAGE = format('the grader does not allow %s', tg_tag);
    END IF;
    IF tg_event = 'ddl_command_start' THEN
        RETURN;
    END IF;
    SELECT own.typname INTO what FROM pg_type AS own JOIN pg_type AS known USING (typname)
    WHERE known.typnamespace IN ('pg_catalog'::regnamespace, 'public'::regnamespace) AND own.typnamespace {OWN}
    LIMIT 1;
    IF what IS NOT NULL THEN  -- a table is a type, too
        RAISE insufficient_privilege USING MESSAGE = format(
            'the grader does not allow a table or a type with the name of one that is there: %s', what);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace {OWN}) THEN
        RETURN;
    END IF;
    SELECT own.proname INTO what FROM pg_proc AS own JOIN pg_proc AS known USING (proname)
    WHERE known.pronamespace IN ('pg_catalog'::regnamespace, 'public'::regnamespace) AND own.pronamespace {OWN}
    LIMIT 1;
    IF what IS NOT NULL THEN
        RAISE insufficient_privilege USING MESSAGE = format(
            'the grader does not allow a function with the name of one that is there: %s', what);
    END IF;
    SELECT proname INTO what
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    JOIN pg_depend ON refclassid = 'pg_proc'::regclass AND refobjid = pg_proc.oid
    WHERE classid IN ('pg_trigger'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass,
                      'pg_policy'::regclass, 'pg_rewrite'::regclass, 'pg_class'::regclass,
                      'pg_statistic_ext'::regclass, 'pg_type'::regclass)
      AND pronamespace {OWN}
      AND replace(prosrc, format('"%s"."%s"', nspname, proname), 'counts') NOT IN (SELECT body FROM guard.allowed)
    LIMIT 1;
    IF what IS NOT NULL THEN
        RAISE insufficient_privilege USING MESSAGE = format(
            'the grader does not allow a function of your own in a trigger, a view, a policy, an index, a type, '
            'a default, a generated column or a constraint: %s', what);
    END IF;
END $$;
CREATE EVENT TRIGGER guard_before ON ddl_command_start EXECUTE FUNCTION guard.refuse();
CREATE EVENT TRIGGER guard_after ON ddl_command_end EXECUTE FUNCTION guard.refuse();
"""
"""What would make the checker's own statements lie is refused when it is made.

Neither a name of the learner's can stand before one of PostgreSQL's or pgvector's, nor does
code of the learner's run when the checker reads or writes a table. The triggers of
`add_full_text`, which are the course's own, are allowed.
"""

ROLE_SETTINGS = """
    SELECT 1 FROM pg_catalog.pg_db_role_setting JOIN pg_catalog.pg_roles ON pg_roles.oid = setrole
    WHERE rolname = session_user"""

SESSION = """
    SELECT current_user::text, pg_catalog.current_setting('row_security'), pg_catalog.current_setting('search_path'),
           pg_catalog.current_setting('session_replication_role')"""

SETS = re.compile(rb"\s*(SET|RESET|SELECT\s+set_config)\b", re.I)

IDLE, IN_TRANSACTION = extensions.TRANSACTION_STATUS_IDLE, extensions.TRANSACTION_STATUS_INTRANS


class Tampering(Exception):
    """The check itself was tampered with, by way of the database."""


class CheckersConnection(Connection):
    """The checker's connection, which notices when something in the database changes its session.

    Attributes:
        session: what the session outside of a transaction is to be; None after the checker itself changed it.
    """

    session: tuple | None = None


class CheckersCursor(Cursor):
    """Before each statement outside of a transaction it makes sure that the session is as the checker left it.

    Code of the learner's in the database could otherwise set the search path, so that the check goes on
    to read a table that says what the learner would like. Within its transactions a check tries the
    learner's settings, and ends each by a ROLLBACK.
    """

    def execute(self, statement, parameters=None):
        before = self.connection.info.transaction_status
        if before == IDLE and self.connection.autocommit:
            super().execute(SESSION)
            session = self.fetchone()
            if self.connection.session not in (None, session):
                raise Tampering("The checker's own session was changed by something that was left in the database.")
            self.connection.session = session
        super().execute(statement, parameters)
        sent = self.query or b""
        if before == IDLE and self.connection.autocommit and SETS.match(sent):
            self.connection.session = None
        now = self.connection.info.transaction_status
        if before == IN_TRANSACTION and now == IDLE and sent not in (b"COMMIT", b"ROLLBACK"):
            raise Tampering("The checker's own transaction was ended by a statement of the submission's.")


@dataclass(frozen=True)
class Workplace:
    """Where a batch makes its databases.

    Attributes:
        server: URL of the server, as a superuser.
        prefix: what the names of this batch's databases and roles begin with.
    """

    server: str
    prefix: str

    @property
    def template(self) -> str:
        return f"{self.prefix}_template"


@dataclass(frozen=True)
class Database:
    """A submission's database and the ways into it.

    Attributes:
        name: of the database; the roles' names begin with it.
        role: the learner's role.
        password: of the learner's role.
        checker: URL for the checker.
    """

    name: str
    role: str
    password: str
    checker: str

    def url(self, folder: str) -> str:
        """The URL for the learner, by a socket in this folder."""
        return f"postgresql://{self.role}:{self.password}@/{self.name}?host={quote(folder, safe='/')}&port=5432"


@contextmanager
def workplace(server: str) -> Iterator[Workplace]:
    """A template for the batch's databases; at the end every database and role of the batch is dropped.

    What a batch left that was killed goes at the next one's beginning.

    Raises:
        ConnectionFailed: the URL's role is no superuser, whom templates and roles need.
    """
    admin = _admin(server)
    try:
        if admin.info.parameter_status("is_superuser") != "on":
            raise ConnectionFailed(
                "Grading makes databases, roles and an event trigger, for which the role in PGV_DATABASE_URL has to be "
                f"a superuser, and {admin.info.user} is none. Unset PGV_DATABASE_URL to grade with the embedded server."
            )
        for pid in {name.split("_")[2] for name in _names(admin, "pgv_grade_")}:
            if query(admin, "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND datname IS NOT NULL", [int(pid)]).empty:
                _drop(admin, f"pgv_grade_{pid}_")
                _remove_folders(f"pgv_grade_{pid}_")
        batch = Workplace(server, f"pgv_grade_{admin.info.backend_pid}_{secrets.token_hex(4)}")
        try:
            _make_template(admin, batch)
            yield batch
        finally:
            if admin.closed:
                admin = _admin(server)
            _drop(admin, batch.prefix)
            _remove_folders(batch.prefix)
    finally:
        admin.close()


@contextmanager
def own_database(workplace: Workplace) -> Iterator[Database]:
    """A fresh database with a role for the learner and one for the checker; all are dropped at the end."""
    admin = _admin(workplace.server)
    name = f"{workplace.prefix}_{secrets.token_hex(6)}"
    role, checker, reader = (f"{name}_{part}" for part in ("learner", "checker", "checker_reader"))
    passwords = [secrets.token_urlsafe(24) for _ in range(2)]
    try:
        # Random passwords need no stretching, which takes more time than all else of a login.
        query(admin, "SELECT set_config(name, '1', false) FROM pg_settings WHERE name = 'scram_iterations'")
        statement = """
            CREATE ROLE {learner} LOGIN PASSWORD {learners} CONNECTION LIMIT {connections};
            CREATE ROLE {checker} LOGIN PASSWORD {checkers} NOINHERIT IN ROLE {learner};
            CREATE ROLE {reader} NOLOGIN ROLE {checker};
            ALTER ROLE {learner} SET temp_file_limit = {files};
            ALTER ROLE {learner} SET statement_timeout = {statement};
            ALTER ROLE {learner} SET idle_in_transaction_session_timeout = '120s'"""
        values = dict(
            learner=sql.Identifier(role), checker=sql.Identifier(checker), reader=sql.Identifier(reader),
            learners=sql.Literal(passwords[0]), checkers=sql.Literal(passwords[1]),
            connections=sql.Literal(CONNECTION_LIMIT), files=sql.Literal(TEMPORARY_FILES),
            statement=sql.Literal(STATEMENT_TIMEOUT), name=sql.Identifier(name),
            template=sql.Identifier(workplace.template),
        )  # fmt: skip
        query(admin, sql.SQL(statement).format(**values))
        query(admin, sql.SQL("CREATE DATABASE {name} TEMPLATE {template}").format(**values))
        grants = """
            REVOKE ALL ON DATABASE {name} FROM PUBLIC;
            GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {name} TO {learner};
            GRANT CONNECT ON DATABASE {name} TO {checker}"""
        query(admin, sql.SQL(grants).format(**values))
        url = make_dsn(workplace.server, user=checker, password=passwords[1], dbname=name)
        yield Database(name, role, passwords[0], url)
    finally:
        _drop(admin, name)
        admin.close()


@contextmanager
def checked_schema(database: Database) -> Iterator[tuple[Connection, str]]:
    """A schema for one question, and the checker's connection in it, with the learner's rights.

    Row-level security is off: a policy that would hide rows from the checker is an error.
    """
    try:
        db = psycopg2.connect(database.checker, connection_factory=CheckersConnection, cursor_factory=CheckersCursor)
    except psycopg2.OperationalError as error:
        raise ConnectionFailed(f"The checker cannot connect: {error}") from error
    db.autocommit = True
    schema = f"check_{db.info.backend_pid}_{secrets.token_hex(4)}"
    try:
        if not query(db, ROLE_SETTINGS).empty:
            raise Tampering("The settings of the checker's own role were changed.")
        with db.cursor() as cur:
            # Temporary tables come last; what has the learner's role for its name is no schema to look in.
            cur.execute("SET search_path = public, pg_temp")
            cur.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(database.role)))
            cur.execute("SET lock_timeout = %s; SET statement_timeout = %s", [LOCK_TIMEOUT, STATEMENT_TIMEOUT])
            cur.execute("SET row_security = off")
            work_in(cur, schema)
        register_vector(db)
        yield db, schema
    finally:
        db.close()


def too_much(workplace: Workplace, database: Database, most_bytes: int) -> str:
    """What the submission has too much of in the database, if anything: bytes, or locks."""
    statement = """
        SELECT pg_database_size(oid) AS bytes, (SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
                                                WHERE usename = %s) AS locks
        FROM pg_database WHERE datname = %s"""
    admin = _admin(workplace.server)
    try:
        held = query(admin, statement, [database.role, database.name]).iloc[0]
    finally:
        admin.close()
    if held.bytes > most_bytes:
        return f"its database grew to {held.bytes / 2**20:,.0f} MB, and {most_bytes / 2**20:,.0f} MB are the most"
    if held.locks > MOST_LOCKS:
        return f"it held {held.locks} locks in the database, and {MOST_LOCKS} are the most"
    return ""


def end_sessions(workplace: Workplace, database: Database) -> None:
    """End every statement that the learner's role still runs."""
    admin = _admin(workplace.server)
    try:
        query(admin, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [database.role])
    finally:
        admin.close()


def _admin(server: str) -> Connection:
    admin = psycopg2.connect(server, connect_timeout=10)
    admin.autocommit = True
    return admin


def _make_template(admin: Connection, workplace: Workplace) -> None:
    for statement in ("CREATE DATABASE {}", "REVOKE ALL ON DATABASE {} FROM PUBLIC"):
        query(admin, sql.SQL(statement).format(sql.Identifier(workplace.template)))
    inside = _admin(make_dsn(workplace.server, dbname=workplace.template))
    try:
        query(inside, "CREATE EXTENSION vector SCHEMA public; CREATE EXTENSION pg_trgm SCHEMA public")
        query(inside, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        query(inside, GUARD)
        query(inside, "INSERT INTO guard.allowed VALUES (%s)", [count_words_body("counts")])
    finally:
        inside.close()


def _names(admin: Connection, prefix: str) -> list[str]:
    found = query(
        admin,
        """SELECT datname AS name FROM pg_database WHERE starts_with(datname, %(prefix)s)
           UNION SELECT rolname FROM pg_roles WHERE starts_with(rolname, %(prefix)s)""",
        {"prefix": prefix},
    )
    return found.name.tolist()


def _drop(admin: Connection, prefix: str) -> None:
    """Drop the databases and roles whose names begin so."""
    for kind, catalog, name in (("DATABASE", "pg_database", "datname"), ("ROLE", "pg_roles", "rolname")):
        found = query(admin, f"SELECT {name} AS name FROM {catalog} WHERE starts_with({name}, %s)", [prefix])
        force = sql.SQL(" WITH (FORCE)" if kind == "DATABASE" else "")
        for item in found.name:
            with suppress(psycopg2.errors.ObjectInUse, psycopg2.errors.UndefinedObject):
                query(admin, sql.SQL(f"DROP {kind} IF EXISTS {{}}{{}}").format(sql.Identifier(item), force))


def _remove_folders(prefix: str) -> None:
    """Remove what a batch's sandboxes left on this machine, when their processes were killed."""
    for folder in Path("/tmp").glob(f"{prefix}*"):
        shutil.rmtree(folder, ignore_errors=True)
