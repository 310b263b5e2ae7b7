"""The learner of a check whose functions live in a sandbox."""

import builtins
import time
from collections.abc import Callable
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2.extensions import connection as Connection

from pgv_helpers import errors
from pgv_helpers.course.learner import Statement
from pgv_helpers.course.verdict import NotSolved, Wrong
from pgv_helpers.db import query
from pgv_helpers.grading.database import Tampering
from pgv_helpers.grading.line import Line
from pgv_helpers.grading.sandbox import Lost, Room

GRACE_SECONDS = 3
"""How much longer than its time limit a call may take until the process is given up."""

MOST_MESSAGE = 10_000
"""How many characters of an error message are kept."""

SETTINGS = "SELECT name, setting FROM pg_catalog.pg_settings WHERE context IN ('user', 'superuser')"

TABLES = """
    SELECT relname, relkind
    FROM pg_namespace LEFT JOIN pg_class ON relnamespace = pg_namespace.oid AND relkind IN ('r', 'p', 'v', 'm', 'f')
    WHERE nspname = %s"""


class OwnConnection:
    """Stands for the learner's connection in the arguments of a call."""


class RemoteLearner:
    """A learner behind a pipe: calls go to the sandbox, and what was sent to the database is read off the line.

    Args:
        room: where the functions live.
        line: the learner's way to the database.
        db: the checker's connection.
        schema: the schema of the question at hand.

    Raises:
        Wrong: the connection could not be made.
    """

    def __init__(self, room: Room, line: Line, db: Connection, schema: str):
        self.room, self.line, self.db, self.schema = room, line, db, schema
        self.conn = OwnConnection()
        self._autocommit = False
        reply = self._exchange("The connection", {"do": "begin", "schema": schema})
        if "wrong" in reply:
            raise Wrong(f"The connection could not be made: {_message(reply)}")
        if not self.line.own():
            raise Wrong("While the connection was made, others were made as well. Let nothing go on in the background.")

    @property
    def statements(self) -> list[Statement]:
        return self.line.statements

    @property
    def in_transaction(self) -> bool:
        return self.line.in_transaction

    @property
    def settings(self) -> dict[str, str]:
        if self.line.failed:
            self.line.ask("ROLLBACK")
        self.line.ask("SELECT '[0]'::vector")  # loads pgvector, whose settings are not listed before
        return dict(self.line.ask(SETTINGS)) | {"conn.autocommit": "on" if self._autocommit else "off"}

    def set(self, name: str, value: Any) -> None:
        with self.db.cursor() as cur:
            self.line.ask(cur.mogrify("SELECT set_config(%s, %s, false)", [name, str(value)]).decode())

    def call(self, function: str, *arguments: Any) -> Any:
        return self._call("call", function, arguments).get("returned")

    def error(self, function: str, *arguments: Any) -> type[Exception] | None:
        names = self._call("error", function, arguments).get("raised")
        return _exception(names) if isinstance(names, list) and names else None

    def _call(self, do: str, function: str, arguments: tuple) -> dict:
        before = self._tables()
        reply = self._exchange(function, {"do": do, "function": function, "arguments": list(arguments)})
        after = self._tables()
        for name, kind in before.items():
            if kind in "rp" and after.get(name, kind) not in "rp":
                raise Tampering(f"The table {name} was replaced by something that is no table.")
        if reply.get("unsolved") is True:
            raise NotSolved
        if "wrong" in reply:
            raise Wrong(_message(reply))
        self._autocommit = bool(reply.get("autocommit"))
        return reply

    def _exchange(self, function: str, request: dict) -> dict:
        """Send a request, serve the check's functions while it is worked on, and return the reply."""
        functions: list[Callable] = []
        raised: list[Wrong] = []

        def special(value: Any) -> dict | None:
            if value is self.conn:
                return {"conn": True}
            if callable(value):
                functions.append(value)
                return {"function": len(functions) - 1}
            return None

        began, seconds = time.monotonic(), self.room.sandbox.limits.call_seconds + GRACE_SECONDS
        self.line.listen()
        try:
            reply = self.room.ask(request, seconds, special, began)
            while "function" in reply:
                answer = _answer(functions, reply, raised)
                reply = self.room.ask(answer, seconds, began=began)
        except Lost as lost:
            raise Wrong(f"{function} could not be checked to its end: {lost}.") from None
        finally:
            if busy := self.line.hold():
                self.room.lost = "its process was ended, because a statement of its went on"
        if raised:
            raise raised[0]
        if busy and "wrong" not in reply:
            raise Wrong(f"{function} returned while a statement of its was still running.")
        return reply

    def _tables(self) -> dict[str, str]:
        """The kind of each table of the schema, by its name."""
        found = query(self.db, TABLES, [self.schema])
        if found.empty:
            raise Wrong("The schema that the check works in was dropped.")
        return dict(found.dropna().itertuples(index=False, name=None))


def _message(reply: dict) -> str:
    return str(reply["wrong"])[:MOST_MESSAGE]


def _answer(functions: list[Callable], asked: dict, raised: list[Wrong]) -> dict:
    """Call a function of the check's with what the learner's code gave it."""
    number, arguments = asked["function"], asked.get("arguments")
    if type(number) is not int or not 0 <= number < len(functions) or not isinstance(arguments, list):
        return {"raise": ["TypeError", "there is no such function"]}
    try:
        return {"returned": functions[number](*arguments)}
    except Wrong as wrong:
        raised.append(wrong)
        return {"raise": ["Exception", str(wrong)]}
    except Exception as error:
        return {"raise": [type(error).__name__, str(error)]}


def _exception(names: list) -> type[Exception]:
    """A class like the one whose ancestors have these names: below the nearest of them that is known here."""
    homes = {"builtins": builtins, "psycopg2": psycopg2, "psycopg2.errors": psycopg2.errors, errors.__name__: errors}
    own = str(names[0]).rpartition(".")[2][:100]
    for name in names:
        module, _, kind = str(name).rpartition(".")
        known = getattr(homes.get(module), kind, None)
        if isinstance(known, type) and issubclass(known, Exception):
            return known if known.__name__ == own else type(own, (known,), {})
    return Exception
