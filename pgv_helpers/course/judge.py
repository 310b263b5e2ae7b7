"""Run a check, and say what came of it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psycopg2
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pgv_helpers.course.learner import Learner
from pgv_helpers.course.question import Question
from pgv_helpers.course.verdict import NotSolved, Outcome, Wrong
from pgv_helpers.db import connect


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
    schema = f"check_{secrets.token_hex(6)}"
    db = connect(schema)
    db.autocommit = True
    try:
        with db.cursor() as cur:
            cur.execute("SET lock_timeout = '3s'")
        yield db, schema
    finally:
        try:
            with db.cursor() as cur:
                cur.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
        finally:
            db.close()
