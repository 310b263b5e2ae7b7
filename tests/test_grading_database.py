"""A submission's database: what its role may do there, what the checker notices, and what a batch leaves."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import psycopg2
import pytest
from psycopg2.errors import FeatureNotSupported, InsufficientPrivilege, ReservedName
from psycopg2.extensions import make_dsn

from pgv_helpers import add_full_text, create_documents_table, database_url, query
from pgv_helpers.course import expect
from pgv_helpers.course.judge import Watched, judge
from pgv_helpers.course.learner import Statement
from pgv_helpers.course.question import find_question
from pgv_helpers.course.verdict import Wrong
from pgv_helpers.db import connect
from pgv_helpers.errors import ConnectionFailed
from pgv_helpers.grading.database import (
    Tampering,
    checked_schema,
    end_sessions,
    own_database,
    too_much,
    workplace,
)
from pgv_helpers.server import EmbeddedServer


@pytest.fixture(scope="module")
def batch():
    with workplace(database_url()) as batch:
        yield batch


@pytest.fixture
def database(batch):
    with own_database(batch) as database:
        yield database


def log_in(database, **options):
    """A connection as the learner's role, without the line."""
    return psycopg2.connect(make_dsn(database.checker, user=database.role, password=database.password), **options)


@pytest.fixture
def learner(database):
    conn = log_in(database)
    conn.autocommit = True
    yield conn
    conn.close()


def names(prefix: str) -> list[str]:
    conn = connect()
    found = query(
        conn,
        "SELECT datname AS name FROM pg_database UNION SELECT rolname FROM pg_roles ORDER BY 1",
    ).name
    conn.close()
    return [name for name in found if name.startswith(prefix)]


# -- what the learner's role may not do -------------------------------------------------

PREPARED = """
    CREATE SCHEMA evil;
    CREATE TABLE evil.t (id integer PRIMARY KEY, embedding vector(2), n bigint, other text);
    CREATE FUNCTION evil.f(a integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a; END';
    CREATE FUNCTION evil.lie(a vector, b vector) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT 0::float8';
    CREATE FUNCTION evil.tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
"""


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE FUNCTION evil.cosine_distance(a vector, b vector) RETURNS float8 LANGUAGE sql AS 'SELECT 0::float8'",
        "CREATE FUNCTION evil.quote_ident(a varchar) RETURNS text LANGUAGE sql AS 'SELECT $1::text'",
        "CREATE FUNCTION evil.unnest(a anyarray) RETURNS SETOF anyelement LANGUAGE sql AS 'SELECT a[1]'",
        "CREATE FUNCTION pg_temp.format_type(a oid, b integer) RETURNS text LANGUAGE sql AS 'SELECT ''text'''",
        "CREATE PROCEDURE evil.to_tsvector() LANGUAGE sql AS ''",
        "ALTER FUNCTION evil.lie(vector, vector) RENAME TO cosine_distance",
        "CREATE OPERATOR evil.<=> (FUNCTION = evil.lie, LEFTARG = vector, RIGHTARG = vector)",
        "CREATE AGGREGATE evil.count(integer) (SFUNC = int4pl, STYPE = integer)",
        "CREATE CAST (bigint AS vector) WITH INOUT AS IMPLICIT",
        "CREATE TYPE evil.vector AS (a integer)",
        "CREATE DOMAIN evil.text AS pg_catalog.text",
        "CREATE TABLE evil.vector (a integer)",
        "CREATE VIEW evil.pg_class AS SELECT 'x' AS relname",
        "CREATE TEMP TABLE pg_class (relname text)",
        "CREATE TEMP TABLE pg_type (typname name, typnamespace oid)",
        "CREATE TEMP TABLE pg_proc (proname name, pronamespace oid)",
        "ALTER TABLE evil.t RENAME TO pg_index",
        "CREATE SCHEMA pg_evil",
        "CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE RULE nothing AS ON DELETE TO evil.t DO INSTEAD NOTHING",
        "CREATE TRIGGER tr BEFORE UPDATE ON evil.t FOR EACH ROW EXECUTE FUNCTION evil.tr()",
        "CREATE VIEW evil.v AS SELECT evil.f(id) FROM evil.t",
        "CREATE MATERIALIZED VIEW evil.v AS SELECT evil.f(id) FROM evil.t",
        "ALTER TABLE evil.t ADD CHECK (evil.f(id) > 0)",
        "ALTER TABLE evil.t ALTER id SET DEFAULT evil.f(1)",
        "ALTER TABLE evil.t ADD g integer GENERATED ALWAYS AS (evil.f(id)) STORED",
        "ALTER TABLE evil.t ADD g integer GENERATED ALWAYS AS (evil.f(id))",
        "CREATE INDEX ON evil.t (evil.f(id))",
        "CREATE INDEX ON evil.t (id) WHERE evil.f(id) > 0",
        "CREATE POLICY p ON evil.t USING (evil.f(id) > 0)",
        "CREATE DOMAIN evil.d AS integer CHECK (evil.f(VALUE) > 0)",
        "CREATE STATISTICS evil.s ON evil.f(id), n FROM evil.t",
        "CREATE TABLE evil.p (id integer) PARTITION BY RANGE (evil.f(id))",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION guard.refuse()",
        "ALTER EVENT TRIGGER guard_after DISABLE",
        "DROP SCHEMA guard CASCADE",
        "INSERT INTO guard.allowed VALUES ('BEGIN RETURN NULL; END')",
        "SET event_triggers = off",
        "SET session_replication_role = replica",
        "ALTER EXTENSION vector SET SCHEMA evil",
        "CREATE EXTENSION hstore SCHEMA evil",
        "CREATE EXTENSION citext SCHEMA evil",
        "CREATE EXTENSION dblink",
    ],
)
def test_what_would_make_the_checks_lie_is_refused(learner, statement):
    query(learner, PREPARED)
    with pytest.raises((InsufficientPrivilege, ReservedName, FeatureNotSupported)):
        query(learner, statement)
    query(learner, "CREATE TABLE evil.afterwards (id integer)")  # nothing of it is left that would refuse the checker


def test_the_guard_cannot_be_blinded_by_temporary_tables_in_one_go(learner):
    with pytest.raises(InsufficientPrivilege):
        query(
            learner,
            """DO $do$ BEGIN
                   CREATE TEMP TABLE pg_type (typname name, typnamespace oid);
                   CREATE TEMP TABLE pg_proc (proname name, pronamespace oid);
                   CREATE FUNCTION pg_temp.count(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
               END $do$""",
        )


def test_what_the_lessons_teach_is_allowed(learner):
    learner.autocommit = False
    with learner, learner.cursor() as cur:
        cur.execute("CREATE SCHEMA work; SET search_path = work, public")
    create_documents_table(learner, "documents")
    add_full_text(learner, "documents")
    add_full_text(learner, "documents")
    with learner, learner.cursor() as cur:
        cur.execute("""
            CREATE FUNCTION search(q tsquery) RETURNS SETOF bigint LANGUAGE sql AS
                'SELECT id FROM documents WHERE words @@ q';
            INSERT INTO documents (title, content) VALUES ('Cats', 'purr');
            CREATE VIEW cats AS SELECT id, tsvector_to_array(words) FROM documents;
            CREATE INDEX ON documents USING gin (title gin_trgm_ops);
            CREATE POLICY own ON documents USING (id = current_setting('course.tenant')::int);
            CREATE TYPE mood AS ENUM ('fine');
            CREATE TEMP TABLE found AS SELECT * FROM search('cat');
            CREATE TRIGGER touch BEFORE UPDATE ON documents FOR EACH ROW
                EXECUTE FUNCTION suppress_redundant_updates_trigger();
            CREATE EXTENSION IF NOT EXISTS vector; CREATE EXTENSION IF NOT EXISTS pg_trgm""")
        cur.execute("SELECT count(*) FROM found")
        assert cur.fetchone() == (1,)


def test_a_function_like_the_one_of_the_course_is_not_the_one(learner):
    query(learner, "CREATE SCHEMA work; SET search_path = work, public; CREATE TABLE t (id integer)")
    query(
        learner,
        """CREATE FUNCTION t_words() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
           SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'""",
    )
    with pytest.raises(InsufficientPrivilege, match="does not allow a function of your own in a trigger"):
        query(learner, "CREATE TRIGGER t BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION t_words()")


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER ROLE {role} SUPERUSER", "SET ROLE {name}_checker", "SET ROLE {name}_checker_reader", "CREATE ROLE evil",
        "ALTER ROLE {name}_checker PASSWORD 'x'", "ALTER ROLE {name}_checker SET search_path = evil",
        "ALTER ROLE {name}_checker IN DATABASE {name} SET search_path = evil", "GRANT {name}_checker TO {role}",
        "GRANT {role} TO {role}", "SET SESSION AUTHORIZATION {name}_checker",
        "ALTER DATABASE {name} SET work_mem = '1GB'",
        "ALTER SYSTEM SET work_mem = '1GB'", "SELECT pg_read_file('/etc/passwd')", "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT lo_import('/etc/passwd')", "SET temp_file_limit = -1", "ALTER ROLE {role} SET temp_file_limit = -1",
        "ALTER ROLE {role} CONNECTION LIMIT -1", "DROP DATABASE {name}", "SELECT pg_reload_conf()",
    ],
)  # fmt: skip
def test_the_role_has_no_rights_beyond_its_database(database, learner, statement):
    with pytest.raises(psycopg2.Error) as refused:
        query(learner, statement.format(role=database.role, name=database.name))
    assert refused.value.pgcode in ("42501", "0LP01", "22023", "2BP01", "55006", "55000"), refused.value


def test_it_can_enter_no_other_database(batch, database, learner):
    with own_database(batch) as other:
        for name in (other.name, batch.template):
            with pytest.raises(psycopg2.OperationalError):
                psycopg2.connect(
                    make_dsn(database.checker, user=database.role, password=database.password, dbname=name)
                )


# -- the checker --------------------------------------------------------------------------


def test_the_checker_has_the_learners_rights_and_its_sessions_are_out_of_reach(database, learner):
    with checked_schema(database) as (db, schema):
        who, super_ = query(db, "SELECT current_user, current_setting('is_superuser')").iloc[0]
        assert (who, super_) == (database.role, "off")
        with pytest.raises(InsufficientPrivilege):
            query(learner, "SELECT pg_terminate_backend(%s)", [db.info.backend_pid])
        assert query(db, "SELECT current_schemas(false)").iloc[0, 0][0] == schema


def test_a_temporary_table_comes_after_those_of_the_schema(database):
    with checked_schema(database) as (db, schema):
        query(db, "CREATE TABLE notes AS SELECT 1 AS id; CREATE TEMP TABLE notes AS SELECT 2 AS id")
        assert query(db, "SELECT id FROM notes")["id"].tolist() == [1]


@contextmanager
def planted(database, code: str):
    """The checker, in a database where a superuser has planted what the guard refuses to a learner."""
    with checked_schema(database) as (db, schema):
        query(db, "CREATE TABLE notes (id integer)")
        admin = psycopg2.connect(make_dsn(database_url(), dbname=database.name))
        admin.autocommit = True
        query(admin, "SET event_triggers = off")
        query(
            admin,
            f"""CREATE FUNCTION {schema}.evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {code} RETURN NEW; END $$;
                CREATE TRIGGER evil BEFORE INSERT ON {schema}.notes FOR EACH ROW EXECUTE FUNCTION {schema}.evil()""",
        )
        admin.close()
        yield db


@pytest.mark.parametrize(
    "code",
    [
        "PERFORM set_config('search_path', 'evil', false);",
        "SET search_path = evil;",
        "RESET ROLE;",
        "SET row_security = on;",
    ],
)
def test_a_session_that_was_changed_is_noticed(database, code):
    with planted(database, code) as db:
        query(db, "INSERT INTO notes VALUES (1)")
        with pytest.raises(Tampering, match="session was changed"):
            query(db, "SELECT * FROM notes")


def test_settings_of_the_checkers_own_role_are_noticed(database):
    with planted(database, f"RESET ROLE; ALTER ROLE {database.name}_checker SET enable_seqscan = off;") as db:
        query(db, "INSERT INTO notes VALUES (1)")
    with pytest.raises(Tampering, match="settings of the checker"), checked_schema(database):
        pass


class Sender:
    """A learner who sent these statements."""

    def __init__(self, *texts: str):
        self.statements = [Statement(text, "SELECT 1") for text in texts]


def test_a_learners_statements_do_not_end_the_checkers_transaction(database):
    with checked_schema(database) as (db, schema):
        query(db, "CREATE TABLE notes AS SELECT 1 AS id")
        sender = Sender(
            "/* set_config */ COMMIT", "COMMIT -- set_config", "SET search_path = evil", "/*\nSET */ COMMIT"
        )
        expect.search_plans(db, sender, "notes")
        assert query(db, "SELECT current_schema()").iloc[0, 0] == schema
        with db.cursor() as cur, pytest.raises(Tampering, match="transaction was ended"):
            cur.execute("BEGIN")
            cur.execute("/* */ COMMIT")


def test_a_plan_is_of_one_statement(database):
    with checked_schema(database) as (db, _):
        query(db, "CREATE TABLE notes AS SELECT 1 AS id")
        forged = """SELECT 1; SELECT '[{"Plan": {"Node Type": "x", "Index Name": "found"}}]'::json"""
        with pytest.raises(Wrong, match="several statements"):
            expect.uses_index(db, forged)
        with pytest.raises(Wrong, match="uses no index"):
            expect.uses_index(db, "SELECT id FROM notes; ")


# -- what a function leaves as it is --------------------------------------------------------


class Doer:
    """A learner whose functions are statements."""

    def __init__(self, db):
        self.db = db
        self.conn = None

    def call(self, statement):
        query(self.db, statement)

    error = call


@pytest.mark.parametrize(
    "statement, words",
    [
        ("DELETE FROM notes WHERE id = 1", "changed rows of the table notes"),
        ("UPDATE notes SET id = id", "changed rows of the table notes"),
        ("INSERT INTO notes VALUES (9)", "changed rows of the table notes"),
        ("TRUNCATE notes", "changed rows of the table notes"),
        ("DROP TABLE notes", "dropped the table notes"),
        ("ALTER TABLE notes RENAME TO others", "dropped the table notes"),
        ("DROP TABLE notes; CREATE TABLE notes (id integer PRIMARY KEY)", "altered the table notes"),
        (
            "ALTER TABLE notes ADD parent integer DEFAULT 1 REFERENCES notes ON DELETE CASCADE",
            "altered the table notes",
        ),
        ("CREATE TABLE child () INHERITS (notes)", "altered the table notes"),
        ("CREATE TRIGGER t BEFORE UPDATE ON notes EXECUTE FUNCTION suppress_redundant_updates_trigger()", "altered"),
        ("ALTER TABLE notes ENABLE ROW LEVEL SECURITY", "altered the table notes"),
        ("ALTER TABLE notes ALTER id TYPE bigint", "altered the table notes"),
        ("CREATE OR REPLACE VIEW seen AS SELECT 2 AS id", "altered the table seen"),
    ],
)
def test_a_function_that_is_to_change_nothing_changes_nothing(statement, words, database):
    with checked_schema(database) as (db, _):
        query(db, "CREATE TABLE notes (id integer PRIMARY KEY); INSERT INTO notes SELECT generate_series(1, 3)")
        query(db, "CREATE VIEW seen AS SELECT 1 AS id")
        for way in ("call", "error"):
            if way == "call":
                with pytest.raises(Wrong, match=words):
                    getattr(Watched(Doer(db), db, ()), way)(statement)
            else:
                getattr(Watched(Doer(db), db, ("SELECT id FROM notes",)), way)("SELECT 1")


def test_what_it_is_to_do_and_what_harms_nobody_is_allowed(database):
    with checked_schema(database) as (db, _):
        query(db, "CREATE TABLE notes (id integer PRIMARY KEY); INSERT INTO notes SELECT generate_series(1, 3)")
        Watched(Doer(db), db, ("DELETE FROM notes",)).call("DELETE FROM notes")
        for statement in ("CREATE INDEX ON notes (id)", "ANALYZE notes", "CREATE TABLE mine (id integer)",
                          "SELECT * FROM notes FOR UPDATE", "CREATE TEMP TABLE notes (id integer)"):  # fmt: skip
            Watched(Doer(db), db, ()).call(statement)


class EmptyTable:
    """Searches by deleting everything, and finds nothing."""

    def __init__(self, db):
        self.db, self.conn, self.statements, self.in_transaction = db, None, [], False

    def call(self, function, *arguments):
        query(self.db, "DELETE FROM documents")
        return []


def test_a_search_that_empties_the_table_is_not_right_about_an_empty_table(database):
    with checked_schema(database) as (db, _):
        outcome = judge(find_question("hybrid_search.search_words"), EmptyTable(db), db, np.random.default_rng(1))
    assert outcome.state == "wrong" and "changed rows of the table documents" in outcome.message


# -- limits -----------------------------------------------------------------------------------


def test_too_much_is_told(batch, database, learner):
    assert too_much(batch, database, 2**30) == ""
    assert "its database grew to" in too_much(batch, database, 2**20)
    learner.autocommit = False
    query(learner, "SELECT pg_advisory_lock(n) FROM generate_series(1, 2500) AS n")
    assert "locks in the database" in too_much(batch, database, 2**30)
    learner.rollback()


def test_statements_are_ended_with_their_sessions(batch, database, learner):
    failed = []

    def sleep():
        try:
            query(learner, "SET statement_timeout = 0; SELECT pg_sleep(60)")
        except psycopg2.Error as error:
            failed.append(error)

    thread = threading.Thread(target=sleep)
    thread.start()
    time.sleep(0.3)
    end_sessions(batch, database)
    thread.join(5)
    assert failed and learner.closed


# -- batches ------------------------------------------------------------------------------------


def test_two_batches_at_once_do_not_touch_each_other():
    with workplace(database_url()) as first, own_database(first) as kept:
        with workplace(database_url()) as second, own_database(second) as other:
            assert first.prefix != second.prefix
            assert len(names(kept.name)) == len(names(other.name)) == 4
        assert names(second.prefix) == []
        assert len(names(kept.name)) == 4
        log_in(kept).close()
    assert names(first.prefix) == []


def test_what_a_killed_batch_left_goes_with_the_next():
    batch = workplace(database_url())
    killed = batch.__enter__()
    database = own_database(killed)
    left = database.__enter__()
    admin = batch.gen.gi_frame.f_locals["admin"]
    admin.close()
    assert len(names(left.name)) == 4
    time.sleep(0.2)
    with workplace(database_url()):
        assert names(killed.prefix) == []
    for each in (database, batch):
        each.__exit__(None, None, None)


def test_a_connection_that_hangs_in_the_database_does_not_keep_it(batch):
    with own_database(batch) as database:
        conn = log_in(database)
        conn.cursor().execute("LOCK TABLE pg_catalog.pg_class IN ACCESS SHARE MODE")
    assert names(database.name) == []
    with pytest.raises(psycopg2.Error):
        conn.cursor().execute("SELECT 1")


def test_a_role_that_is_no_superuser_is_told_so():
    conn = connect()
    conn.autocommit = True
    query(conn, "CREATE ROLE pgv_nobody LOGIN PASSWORD 'x' CREATEDB CREATEROLE")
    try:
        with pytest.raises(ConnectionFailed, match="has to be a superuser, and pgv_nobody is none"):
            with workplace(make_dsn(database_url(), user="pgv_nobody", password="x")):
                pass
    finally:
        query(conn, "DROP ROLE pgv_nobody")
        conn.close()


def test_it_works_on_a_server_with_a_port_and_a_password(password_server: EmbeddedServer):
    with workplace(password_server.url()) as batch, own_database(batch) as database:
        assert "port" in database.checker
        with checked_schema(database) as (db, schema):
            query(db, "CREATE TABLE notes (embedding vector(2))")
            assert query(db, "SELECT current_schema()").iloc[0, 0] == schema
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(make_dsn(database.checker, user=database.role, password="wrong"))
