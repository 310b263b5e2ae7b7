"""What a table consists of, and the statements and refusals that all writers share."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.errors import DuplicateTable, UniqueViolation
from psycopg2.extensions import TRANSACTION_STATUS_INERROR
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pgv_helpers.binary_copy import Column
from pgv_helpers.db import query, transaction
from pgv_helpers.errors import DocumentError


def require_ready(conn: Connection) -> None:
    """Raises DocumentError unless the connection takes statements."""
    if conn.closed:
        raise DocumentError("This connection is closed. Open another: conn = connect(…)")
    if conn.info.transaction_status == TRANSACTION_STATUS_INERROR:
        raise DocumentError("A statement before this one failed, and PostgreSQL waits for: conn.rollback()")


def table_columns(conn: Connection, table: str, *, creator: str = "create_documents_table") -> dict[str, Column]:
    """The columns of a table that can be written, by name; `creator` is the function that makes such tables.

    Raises:
        DocumentError: there is no such table on the search path.
    """
    find = """
        SELECT attname, typname,
               CASE WHEN typname IN ('vector', 'halfvec', 'sparsevec', 'bit') AND atttypmod > 0 THEN atttypmod END
        FROM pg_attribute
        JOIN pg_type ON pg_type.oid = atttypid
        WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
        ORDER BY attnum"""
    require_ready(conn)
    with conn.cursor() as cur:
        cur.execute(find, [table])
        if rows := cur.fetchall():
            return {row[0]: Column(*row) for row in rows}
        cur.execute("SELECT current_setting('search_path')")
        raise DocumentError(
            f"There is no table {table!r} in the schemas {cur.fetchone()[0]}. Look for a typing error, connect to the "
            f"schema that has it, or create it: {creator}(conn, {table!r})."
        )


def primary_key(conn: Connection, table: str, given: Sequence[str]) -> list[str]:
    """The columns of the primary key.

    Raises:
        DocumentError: there is none, or `given` lacks one of its columns.
    """
    find = """
        SELECT attname
        FROM pg_index
        JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY((indkey::int2[])[0:indnkeyatts - 1])
        WHERE indisprimary AND indrelid = to_regclass(quote_ident(%s))"""
    key = query(conn, find, [table]).attname.tolist()
    if not key:
        raise DocumentError(f"{table!r} has no primary key, so nothing says which row an upsert is to replace.")
    if missing := set(key) - set(given):
        raise DocumentError(f"An upsert needs the primary key of {table!r}: give each row its {', '.join(missing)}.")
    return key


def upsert_statement(table: str, columns: Sequence[str], key: Sequence[str], rows: sql.Composable) -> sql.Composed:
    """INSERT … ON CONFLICT over the primary key; `rows` is a SELECT or VALUES."""
    changed = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in columns if name not in key]
    return sql.SQL("INSERT INTO {} ({}) {} ON CONFLICT ({}) DO {}").format(
        sql.Identifier(table), identifiers(columns), rows, identifiers(key),
        sql.SQL("UPDATE SET ") + sql.SQL(", ").join(changed) if changed else sql.SQL("NOTHING"),
    )  # fmt: skip


def advance_identity(cur: Cursor, table: str, columns: Iterable[str]) -> None:
    """Let an identity column go on after the largest number that rows brought with them.

    PostgreSQL does not: its next number could be one that is taken.
    """
    for name in columns:
        cur.execute("SELECT pg_get_serial_sequence(quote_ident(%s), %s)", [table, name])
        (sequence,) = cur.fetchone()
        if sequence:
            cur.execute(
                sql.SQL("""
                    SELECT setval(seqrelid, largest)
                    FROM pg_sequence, (SELECT max({column}) AS largest FROM {table}) AS stored
                    WHERE seqrelid = %(sequence)s::regclass
                      AND largest >= coalesce(pg_sequence_last_value(seqrelid) + 1, seqstart)
                      AND has_sequence_privilege(seqrelid, 'UPDATE')""").format(
                    column=sql.Identifier(name), table=sql.Identifier(table)
                ),
                {"sequence": sequence},
            )


def shared_key(first: int, second: int, key: Sequence[str], values: Sequence) -> DocumentError:
    """The error of two rows for one key."""
    named = ", ".join(f"{name} {value}" for name, value in zip(key, values))
    return DocumentError(f"Rows {first} and {second} have the same key ({named}). Nothing was stored.")


@contextmanager
def writing(conn: Connection) -> Iterator[Cursor]:
    """A transaction; what the server refuses in it, or at its end, is told as a DocumentError."""
    try:
        with transaction(conn) as cur:
            yield cur
    except psycopg2.Error as error:
        if error.pgcode is None or error.pgcode.startswith("57"):  # the connection is gone, or was told to stop
            raise
        raise refusal(error) from None


def refusal(error: psycopg2.Error) -> DocumentError:
    """What the server refused, with the row if it named a line of COPY's."""
    line = re.search(r"^COPY .*, line (\d+)", error.diag.context or "", re.MULTILINE)
    said = f"{error.diag.message_primary}. {error.diag.message_detail or ''}".strip()
    remedy = "Leave the row out, or upsert to replace the stored one." if isinstance(error, UniqueViolation) else ""
    parts = [said, error.diag.message_hint, remedy, "Nothing was changed."]
    return DocumentError((f"Row {int(line[1]) - 1}: " if line else "") + " ".join(filter(None, parts)))


def create_table(
    cur: Cursor, table: str, statement: sql.Composable, parameters: Any, *, replace: bool, show_sql: bool
) -> None:
    """Run CREATE TABLE, with `replace` after dropping what has this name.

    Raises:
        DocumentError: there is a table of this name, or the name has a percent sign.
    """
    if "%" in table:
        raise DocumentError(f"{table!r} has a percent sign, where psycopg2 puts values. Choose another name.")
    if replace:
        cur.execute("SELECT current_schema()")  # a table of this name in a later schema of the path is another's
        here = sql.Identifier(*cur.fetchone(), table)
        execute(cur, sql.SQL("DROP TABLE IF EXISTS {}").format(here), show_sql=show_sql)
    try:
        execute(cur, statement, parameters, show_sql)
    except DuplicateTable:
        raise DocumentError(f"There is a table {table!r} already. Choose another name, or pass replace=True.") from None


def execute(cur: Cursor, statement: sql.Composable, parameters: Any = None, show_sql: bool = False) -> None:
    """Run a statement; with `show_sql` print it first, its values filled in."""
    if show_sql:
        print(cur.mogrify(statement, parameters).decode())
    cur.execute(statement, parameters)


def identifiers(names: Iterable[str]) -> sql.Composed:
    """Names, quoted and separated by commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))
