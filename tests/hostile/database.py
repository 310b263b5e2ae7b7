"""Notebooks that want points by way of the database, or its server, or the line that leads to it."""

from tests.hostile import Hostile

CONNECT = """
import os, socket, struct, threading, time
import psycopg2
from pgv_helpers import connect, query
from psycopg2.extensions import make_dsn, parse_dsn
URL = os.environ["PGV_DATABASE_URL"]
ME = parse_dsn(URL)["user"]
said = []

def attempt(*statements, **other):
    conn = psycopg2.connect(make_dsn(URL, **other))
    conn.autocommit = True
    for statement in statements:
        try:
            with conn.cursor() as cur:
                cur.execute(statement.replace("{me}", ME).replace("{name}", parse_dsn(URL)["dbname"]))
            said.append(f"DONE {statement}")
        except Exception as error:
            said.append(f"{statement}: {error}")
    conn.close()

def in_schema(conn):
    return query(conn, "SELECT current_schema()").iloc[0, 0]
"""


def attempts(*statements: str) -> Hostile:
    """Tries each statement, in a cell, on a connection of its own."""
    return Hostile(before=(CONNECT, f"attempt(*{statements!r})"))


def inside(name: str, exercise: str = "02_crud", **answers: str) -> Hostile:
    """Answers one question."""
    return Hostile(exercise, before=(CONNECT,), answers={name: answers.popitem()[1]})


FAKE_INSERT = """
def insert_notes(conn, notes):
    {attack}
    with conn, conn.cursor() as cur:
        cur.execute("CREATE TEMP TABLE IF NOT EXISTS somewhere (n int)")
        cur.execute("INSERT INTO somewhere SELECT generate_series(1, %s)", [len(notes)])
    return len(notes)
"""


def insert(attack: str) -> Hostile:
    """Inserts nothing into notes, and something else in one INSERT, after this code."""
    return inside("crud.insert_notes", a=FAKE_INSERT.replace("{attack}", attack.strip().replace("\n", "\n    ")))


REFUSED = {
    "becomes another role": attempts(
        "SET ROLE postgres", "SET ROLE {name}_checker", "SET ROLE {name}_checker_reader",
        "SET SESSION AUTHORIZATION postgres",
        "ALTER ROLE {me} SUPERUSER", "ALTER ROLE {me} CREATEDB CREATEROLE", "ALTER ROLE {name}_checker PASSWORD 'x'",
        "ALTER ROLE {name}_checker SET search_path = evil", "CREATE ROLE evil", "GRANT {name}_checker TO {me}",
        "GRANT pg_execute_server_program TO {me}", "ALTER ROLE {me} CONNECTION LIMIT 1000",
        "ALTER DATABASE {name} SET search_path = evil", "DROP DATABASE {name}", "CREATE DATABASE evil",
    ),
    "reads the server's files": attempts(
        "SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('/')", "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(lo_create(0), '/tmp/evil')", "COPY (SELECT 1) TO PROGRAM 'id'",
        "CREATE TABLE lines (line text)", "COPY lines FROM PROGRAM 'id'", "COPY lines FROM '/etc/passwd'",
        "COPY lines TO '/tmp/evil'", "SELECT pg_current_logfile()", "SELECT pg_stat_file('/etc/passwd')",
    ),
    "configures the server": attempts(
        "ALTER SYSTEM SET work_mem = '1GB'", "SELECT pg_reload_conf()", "LOAD 'file_fdw'", "CHECKPOINT",
        "SET session_preload_libraries = 'evil'", "SET session_replication_role = replica", "SET event_triggers = off",
        "SET temp_file_limit = -1", "SET log_statement = 'all'",
    ),
    "brings extensions and languages": attempts(
        "CREATE EXTENSION dblink", "CREATE EXTENSION postgres_fdw", "CREATE EXTENSION file_fdw",
        "CREATE EXTENSION hstore", "CREATE EXTENSION plpython3u",
        "CREATE LANGUAGE evil HANDLER plpgsql_call_handler", "DROP EXTENSION vector CASCADE",
        "CREATE SUBSCRIPTION evil CONNECTION 'host=127.0.0.1' PUBLICATION evil", "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.f() RETURNS int LANGUAGE c AS 'evil'", "ALTER EXTENSION vector SET SCHEMA evil",
        "CREATE FUNCTION evil.g(internal) RETURNS void LANGUAGE internal AS 'lo_import'",
        "CREATE FOREIGN DATA WRAPPER evil",
    ),
    "takes the guard away": attempts(
        "DROP EVENT TRIGGER guard_after", "ALTER EVENT TRIGGER guard_before DISABLE", "DROP SCHEMA guard CASCADE",
        "CREATE OR REPLACE FUNCTION guard.refuse() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "INSERT INTO guard.allowed VALUES ('BEGIN END')", "SET ROLE postgres", "CREATE FUNCTION pg_temp.count(int) "
        "RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'",
    ),
    "makes operators that lie": attempts(
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.lie(vector, vector) RETURNS float8 LANGUAGE sql AS 'SELECT 0::float8'",
        "CREATE OPERATOR evil.<=> (FUNCTION = evil.lie, LEFTARG = vector, RIGHTARG = vector)",
        "ALTER FUNCTION evil.lie(vector, vector) RENAME TO cosine_distance",
        "CREATE CAST (bigint AS vector) WITH INOUT AS IMPLICIT",
        "CREATE AGGREGATE evil.count(int) (SFUNC = int4pl, STYPE = int)",
    ),
}  # fmt: skip
"""What PostgreSQL or the guard refuses, seen from outside."""

LOGINS = Hostile(
    before=(
        CONNECT,
        """
for name in query(psycopg2.connect(URL), "SELECT datname FROM pg_database").datname:
    for other in (dict(dbname=name), dict(dbname=name, user="postgres"), dict(user=f"{name}_checker", dbname=name)):
        if other != dict(dbname=parse_dsn(URL)["dbname"]):
            try:
                attempt("SELECT * FROM notes", **other)
            except Exception as error:
                said.append(str(error))
try:
    attempt("IDENTIFY_SYSTEM", replication="database")
except Exception as error:
    said.append(str(error))
""",
    )
)

DDL = "with conn, conn.cursor() as cur:\n    cur.execute({0!r}.replace('{{schema}}', in_schema(conn)))"

INSERTS = {
    "a view in the place of the table": insert(
        DDL.format(
            "ALTER TABLE notes RENAME TO old; CREATE VIEW notes AS SELECT title, 'x' AS content FROM old, "
            "generate_series(1, 1000)"
        )
    ),
    "a materialized view": insert(
        DDL.format("CREATE TABLE old AS SELECT * FROM notes; DROP TABLE notes; CREATE MATERIALIZED VIEW notes AS "
                   "SELECT old.* FROM old, generate_series(1, 1050)")
    ),
    "a rule": insert(DDL.format("CREATE RULE \"_RETURN\" AS ON SELECT TO notes DO INSTEAD SELECT * FROM notes")),
    "a dropped schema": insert(DDL.format("DROP SCHEMA {schema} CASCADE")),
    "a renamed schema": insert(DDL.format("ALTER SCHEMA {schema} RENAME TO gone; CREATE SCHEMA {schema}; "
                                          "CREATE TABLE {schema}.notes AS SELECT generate_series(1, 1050) AS title")),
    "row-level security": insert(DDL.format("ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")),
    "temporary tables": insert(DDL.format(
        "CREATE TEMP TABLE notes (title text, content text); CREATE TEMP TABLE pg_class (relname text)")),
    "no rights": insert(DDL.format(
        "REVOKE ALL ON notes FROM CURRENT_USER; ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM CURRENT_USER; "
        "DROP OWNED BY CURRENT_USER")),
    "a lock on another connection": insert("""
global other
other = psycopg2.connect(URL)
other.cursor().execute(f"LOCK TABLE {in_schema(conn)}.notes")"""),
    "a child that brings rows": insert(DDL.format(
        "CREATE TABLE child () INHERITS (notes); INSERT INTO child (id, title, content, embedding) "
        "SELECT n, n, n, embedding FROM notes, generate_series(1, 1050) AS n")),
    "many inserts in a pipeline": inside("crud.insert_notes", a="""
import psycopg
def insert_notes(conn, notes):
    with psycopg.connect(URL) as other, other.cursor() as cur:
        cur.execute(f"SET search_path = {in_schema(conn)}, public")
        cur.executemany("INSERT INTO notes (title, content, embedding) VALUES (%s, %s, %s::vector)",
                        [(title, content, str(list(map(float, vector)))) for title, content, vector in notes])
    with conn, conn.cursor() as cur:
        cur.execute("CREATE TEMP TABLE somewhere (n int)")
        cur.execute("INSERT INTO somewhere SELECT generate_series(1, %s)", [len(notes)])
    return len(notes)
"""),
    "a recording that lies": inside("crud.insert_notes", a="""
def insert_notes(conn, notes):
    from pgv_helpers.course import learner
    learner.RecordingConnection.statements = property(lambda self: [learner.Statement("", f"INSERT 0 {len(notes)}")],
                                                      lambda self, value: None)
    with conn, psycopg2.extensions.connection.cursor(conn, cursor_factory=psycopg2.extensions.cursor) as cur:
        for note in notes:
            cur.execute("INSERT INTO notes (title, content, embedding) VALUES (%s, %s, %s)", note)
    return len(notes)
"""),
    "a statement that goes on": insert("""
schema = in_schema(conn)
def background():
    attempt("SET statement_timeout = 0", f"SET search_path = {schema}, public",
            "DO $$ BEGIN PERFORM pg_sleep(30); UPDATE notes SET title = title || '!'; END $$")
threading.Thread(target=background).start()
time.sleep(0.3)"""),
    "a sleep": insert(DDL.format("SET statement_timeout = 0; SELECT pg_sleep(100)")),
    "other sessions ended": insert(DDL.format(
        "SELECT pg_terminate_backend(pid), pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname IS NOT NULL")),
    "advisory locks": insert(
        DDL.format("SELECT pg_advisory_lock(n) FROM generate_series(1, 4000) AS n; SELECT pg_sleep(100)")),
    "a large table": insert(
        DDL.format("SET statement_timeout = 0; CREATE TABLE big AS SELECT repeat('x', 1900), "
                   "generate_series(1, 100000000)")),
    "large objects": insert(
        DDL.format("SET statement_timeout = 0; SELECT lo_from_bytea(0, bytes), generate_series(1, 100000) FROM "
                   "(SELECT decode(string_agg(md5(n::text), ''), 'hex') AS bytes FROM generate_series(1, 60000) AS n) "
                   "AS one")),
    "temporary files": insert(
        DDL.format("SET work_mem = '64kB'; WITH wide AS MATERIALIZED (SELECT repeat('x', 1000000) FROM "
                   "generate_series(1, 100000)) SELECT count(*) FROM wide")),
}  # fmt: skip
"""None inserts the notes in one statement, and each pretends so."""

LINE = Hostile(
    before=(
        CONNECT,
        """
def raw():
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(0.1)
    line.connect(parse_dsn(URL)["host"] + "/.s.PGSQL.5432")
    return line

def startup(**words):
    body = b"".join(f"{key}\\0{value}\\0".encode() for key, value in words.items()) + b"\\0"
    return struct.pack("!II", len(body) + 8, 196608) + body

own = dict(user=ME, database=parse_dsn(URL)["dbname"])
for bytes_ in (b"", b"\\0" * 100, b"\\xff" * 100, b"GET / HTTP/1.0\\r\\n\\r\\n", struct.pack("!II", 8, 80877103) * 1000,
               struct.pack("!IIII", 16, 80877102, 1, 1), struct.pack("!II", 4, 196608), startup(user="postgres"),
               startup(**own, replication="true"), startup(**own) + b"Q\\0\\0\\0\\0",
               startup(**own) + b"p" + b"\\x7f" * 9,
               startup(**own) + b"Q\\0\\0\\0\\x08abc", startup(**own)[:9], startup(user=ME + "\\0database\\0postgres")):
    try:
        line = raw()
        line.sendall(bytes_)
        line.recv(1000)
    except OSError:
        pass
sockets = []
try:
    for _ in range(200):
        sockets.append(raw())
except OSError:
    pass
for line in sockets:
    line.close()
time.sleep(0.3)
connections = []
try:
    for _ in range(100):
        connections.append(psycopg2.connect(URL))
except psycopg2.Error:
    pass
for line in connections:
    line.close()
""",
    ),
    solved=True,
)
"""Speaks no PostgreSQL, or too much of it, before all its right answers."""

CHATTER = Hostile(
    before=(
        CONNECT,
        """
def chatter():
    other = psycopg2.connect(URL)
    other.autocommit = True
    cur = other.cursor()
    while True:
        try:
            cur.execute("LISTEN evil; NOTIFY evil; SELECT relname FROM pg_class WHERE relname IN ('notes', 'history') "
                        "AND pg_table_is_visible(oid)")
            cur.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'check%'")
            for (schema,) in cur.fetchall():
                cur.execute(f"DELETE FROM {schema}.notes")
        except Exception:
            time.sleep(0.01)
threading.Thread(target=chatter, daemon=True).start()
""",
    ),
    returned="0",
)
"""Deletes what a check makes, whenever the line is open."""

SEARCHES = {
    "empties the table": inside("hybrid_search.search_words", "06_hybrid_search", a="""
def search_words(conn, text, k):
    with conn, conn.cursor() as cur:
        cur.execute("DELETE FROM documents")
    return []
"""),
    "a plan of its own": inside("hybrid_search.search_titles", "06_hybrid_search", a="""
def index_titles(conn):
    with conn, conn.cursor() as cur:
        cur.execute("CREATE INDEX found ON documents USING gin (title gin_trgm_ops)")

def search_titles(conn, word, k):
    with conn, conn.cursor("c") as cur:
        cur.execute("SELECT id, word_similarity(%(word)s, title) AS score FROM documents WHERE "
                    "word_similarity(%(word)s, title) >= 0.6 ORDER BY score DESC, id LIMIT %(k)s",
                    {"word": word, "k": k})
        found = cur.fetchall()
    with conn, conn.cursor() as cur:
        cur.execute("SELECT 1; "
                    "SELECT '[{\\"Plan\\": {\\"Node Type\\": \\"x\\", \\"Index Name\\": \\"found\\"}}]'::json")
    return found
"""),
    "a trigger that undoes what the check does": inside("filtering.next_page", "05_filtering", a="""
def next_page(conn, vector, radius, limit, after):
    with conn, conn.cursor() as cur:
        if after is None:
            cur.execute("CREATE OR REPLACE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS "
                        "'BEGIN RETURN NULL; END'")
            cur.execute("CREATE OR REPLACE TRIGGER undo BEFORE UPDATE ON documents FOR EACH ROW "
                        "EXECUTE FUNCTION undo()")
        distance, id = after or (0, 0)
        cur.execute("SELECT embedding <=> %(v)s, id FROM documents WHERE embedding <=> %(v)s < %(r)s AND "
                    "(embedding <=> %(v)s, id) > (%(d)s, %(i)s) ORDER BY embedding <=> %(v)s, id LIMIT %(l)s",
                    {"v": vector, "r": radius, "d": distance, "i": id, "l": limit})
        return cur.fetchall()
"""),
    "a pattern that takes for ever": inside("filtering.partitions", "05_filtering", a="""
from psycopg2 import sql
def build_documents(conn, rows):
    with conn, conn.cursor() as cur:
        cur.execute("CREATE TABLE documents (tenant integer, id integer, embedding vector(8) NOT NULL, "
                    "PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant)")
        for place, tenant in enumerate(sorted({row[0] for row in rows})):
            cur.execute(sql.SQL("CREATE TABLE {} PARTITION OF documents FOR VALUES IN (%s)").format(
                sql.Identifier(f"((a|a)*)*b{place}")), [tenant])
        for row in rows:
            cur.execute("INSERT INTO documents VALUES (%s, %s, %s)", row)
        cur.execute("CREATE INDEX ON documents USING hnsw (embedding vector_cosine_ops)")

def search_tenant(conn, tenant, vector, limit):
    with conn, conn.cursor() as cur:
        cur.execute("SELECT id, 'SELECT " + "a" * 40 + "' FROM documents WHERE tenant = %s ORDER BY embedding <=> %s "
                    "LIMIT %s", [tenant, vector, limit])
        return [id for id, _ in cur.fetchall()]
"""),
}  # fmt: skip
"""Answers that are right in part, and make the rest of their checks right."""

OTHER_RIGHT = Hostile(
    before=(CONNECT,),
    answers={
        "crud.read_embeddings": """
import asyncio, asyncpg, numpy as np
def read_embeddings(conn):
    async def read():
        other = await asyncpg.connect(user=ME, host=parse_dsn(URL)["host"], port=5432,
                                      database=parse_dsn(URL)["dbname"], password=parse_dsn(URL)["password"])
        try:
            return await other.fetch(f"SELECT embedding::real[] AS e FROM {in_schema(conn)}.notes ORDER BY id")
        finally:
            await other.close()
    with conn:
        return np.array([row["e"] for row in asyncio.run(read())], dtype=np.float32)
""",
        "crud.delete_notes": """
import psycopg
def delete_notes(conn, titles):
    with conn:
        schema = in_schema(conn)
    with psycopg.connect(URL, options=f"-csearch_path={schema},public", prepare_threshold=0) as other:
        return sorted(title for (title,) in
                      other.execute("DELETE FROM notes WHERE title = ANY(%s) RETURNING title", [titles]).fetchall())
""",
    },
)
"""Right, with other drivers."""

DATABASE = {
    **REFUSED,
    "logs in elsewhere": LOGINS,
    **INSERTS,
    "speaks nonsense": LINE,
    "deletes in the background": CHATTER,
    **SEARCHES,
    "other drivers": OTHER_RIGHT,
}
