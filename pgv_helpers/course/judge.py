"""Run a check, and say what came of it."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import psycopg2
import psycopg2.errors
from pandas import DataFrame
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pgv_helpers.course.learner import Learner
from pgv_helpers.course.question import Question
from pgv_helpers.course.verdict import NotSolved, Outcome, Wrong
from pgv_helpers.db import connect, query, work_in


def judge(question: Question, learner: Learner, db: Connection, rng: np.random.Generator) -> Outcome:
    """Check one answer.

    Args:
        learner: whose functions are called.
        db: the checker's own connection, in autocommit mode, in the schema that the learner works in.
        rng: where the check's inputs come from.
    """
    outcome = Outcome(question.name, "passed", question.points)
    try:
        for line in question.check(Watched(learner, db, question.changes), db, rng):
            outcome.right.append(line)
    except NotSolved:
        outcome.state = "unsolved"
    except Wrong as wrong:
        outcome.state, outcome.message = "wrong", str(wrong)
    except psycopg2.errors.LockNotAvailable:
        outcome.state = "wrong"
        outcome.message = "The function left a transaction open that locks the table. Commit it, or use `with conn:`."
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn) as error:
        outcome.state = "wrong"
        outcome.message = f"The check looked for what is no longer there: {str(error).splitlines()[0]}."
    return outcome


DEFINITIONS = """
    SELECT relname AS name, relkind AS kind, concat_ws(
        ' ', tables.oid, relkind, relrowsecurity, relforcerowsecurity,
        CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(tables.oid) END,
        (SELECT array_agg((attname, atttypid, atttypmod, attcollation, attnotnull, attgenerated) ORDER BY attnum)
         FROM pg_attribute WHERE attrelid = tables.oid AND attnum > 0 AND NOT attisdropped),
        (SELECT array_agg(oid ORDER BY oid) FROM pg_trigger WHERE tgrelid = tables.oid),
        (SELECT array_agg(oid ORDER BY oid) FROM pg_constraint WHERE conrelid = tables.oid AND contype IN ('c', 'f')),
        (SELECT array_agg(oid ORDER BY oid) FROM pg_policy WHERE polrelid = tables.oid),
        (SELECT array_agg(inhrelid ORDER BY inhrelid) FROM pg_inherits WHERE inhparent = tables.oid)) AS definition
    FROM pg_class AS tables
    WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1"""


class Watched:
    """A learner whose functions leave the tables that are there as they are, but for those that are to change them.

    Args:
        changes: the functions that are to change tables.

    Raises:
        Wrong: by `call` and `error`, when another function did.
    """

    def __init__(self, learner: Learner, db: Connection, changes: Sequence[str]):
        self._learner, self._db, self._changes = learner, db, changes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)

    def call(self, function: str, *arguments: Any) -> Any:
        with self._kept(function):
            return self._learner.call(function, *arguments)

    def error(self, function: str, *arguments: Any) -> type[Exception] | None:
        with self._kept(function):
            return self._learner.error(function, *arguments)

    @contextmanager
    def _kept(self, function: str) -> Iterator[None]:
        if function in self._changes:
            yield
            return
        before = query(self._db, DEFINITIONS)
        rows = self._rows(before)
        yield
        after = query(self._db, DEFINITIONS).set_index("name").definition
        for name, definition in zip(before.name, before.definition):
            if name not in after:
                raise Wrong(f"{function} dropped the table {name}. It is to leave the tables as they are.")
            if after[name] != definition:
                raise Wrong(f"{function} altered the table {name}. It is to leave the tables as they are.")
        for name, found in self._rows(before).items():
            if found != rows[name]:
                raise Wrong(f"{function} changed rows of the table {name}. It is to leave the rows as they are.")

    def _rows(self, tables: DataFrame) -> dict[str, tuple]:
        """The number of each table's rows, and the last transaction that wrote one."""
        state = sql.SQL("SELECT count(*), max(xmin::text::bigint) FROM {}")
        names = tables.name[tables.kind.isin(["r", "p"])]
        return {name: tuple(query(self._db, state.format(sql.Identifier(name))).iloc[0]) for name in names}


@contextmanager
def scratch_schema() -> Iterator[tuple[Connection, str]]:
    """A schema for one check, dropped afterwards, and the checker's connection in it.

    What a learner's function left open in it, and still holds a lock, is ended.
    """
    db = connect()
    db.autocommit = True
    # The number of the server's process tells later whether anybody still uses the schema.
    schema = f"check_{db.info.backend_pid}_{secrets.token_hex(4)}"
    _drop_abandoned_schemas(db)
    with db.cursor() as cur:
        work_in(cur, schema)
        cur.execute("SET lock_timeout = '3s'")
    try:
        yield db, schema
    finally:
        try:
            _drop_schema(db, schema)
        finally:
            db.close()


def _drop_abandoned_schemas(db: Connection) -> None:
    """Drop what checks left behind whose kernel was killed."""
    abandoned = query(
        db,
        r"""SELECT nspname FROM pg_namespace
            WHERE nspname ~ '^check_\d+_' AND pg_has_role(nspowner, 'USAGE')
            AND split_part(nspname, '_', 2)::int NOT IN (SELECT pid FROM pg_stat_activity)""",
    )
    for schema in abandoned.nspname:
        with suppress(psycopg2.errors.LockNotAvailable):
            _drop_schema(db, schema)


def _drop_schema(db: Connection, schema: str) -> None:
    # An uncommitted CREATE TABLE locks the schema alone, as far as others can see.
    holders = """
        SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid() AND pid IN (
            SELECT pid FROM pg_locks
            WHERE relation IN (SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace(%(schema)s))
               OR classid = 'pg_namespace'::regclass AND objid = to_regnamespace(%(schema)s))"""
    query(db, holders, {"schema": schema})
    query(db, sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
