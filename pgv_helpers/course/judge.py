"""Run a check, and say what came of it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import psycopg2
import psycopg2.errors
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
        for line in question.check(learner, db, rng):
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


@contextmanager
def scratch_schema() -> Iterator[tuple[Connection, str]]:
    """A schema for one check, dropped afterwards, and the checker's connection in it."""
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
    query(db, sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
