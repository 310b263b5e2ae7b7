"""The learner, as a check sees one: functions to call, and a connection that they work with."""

import _thread
import asyncio
import copy
import ctypes
import inspect
import linecache
import re
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Protocol

import psycopg2.errors
from psycopg2 import extensions

from pgv_helpers.course.verdict import NotSolved, Wrong
from pgv_helpers.db import connect

CALL_SECONDS = 10
"""How long one call of a learner's function may take."""

CREATE_INDEX = re.compile(r"\bCREATE\s+INDEX\b", re.I)

SET_IN_SESSION = "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'"
"""What is asked before a CREATE INDEX, and is no statement of the learner's."""

MOST_PLACES = 6
"""How many of a learner's lines are shown on the way to an exception."""


class Statement(NamedTuple):
    """A statement as it was sent, and what PostgreSQL said that it did ("INSERT 0 3"; empty if it failed).

    `session` holds, for a CREATE INDEX only, what was SET in the session when it was sent, by name.
    """

    text: str
    status: str
    session: Mapping[str, str] = MappingProxyType({})


class Learner(Protocol):
    """What a check may ask of a learner, in the notebook and in the grader alike.

    Attributes:
        conn: stands for the learner's own connection; pass it as an argument.
        statements: what the functions sent over it since the last `call` or `error` began.
        in_transaction: whether a transaction is open: left so by the last call, or while one goes on.
        settings: what is in force on the connection (`SET`, and `conn.autocommit`), by name.
    """

    conn: Any
    statements: list[Statement]
    in_transaction: bool
    settings: dict[str, str]

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the learner's and return what it returns; what an async one returns when it has ended.

        Args:
            arguments: data, `conn`, or functions of the check's that take and return data; what such a
                function raises reaches the learner's code.

        Raises:
            NotSolved: the function is still the stub.
            Wrong: it is missing, it raised an exception, or it took too long.
        """

    def error(self, function: str, *arguments: Any) -> type[Exception] | None:
        """Call a function that is expected to fail, and return the kind of its exception (None: it returned)."""

    def set(self, name: str, value: Any) -> None:
        """Give the session another setting (SET), as an earlier user of the connection may have done."""


class NotebookLearner:
    """A learner whose functions live in this process, in the namespace of a notebook.

    Args:
        namespace: the notebook's global names.
        schema: the schema that its connection works in.
        seconds: how long a call may take.
    """

    def __init__(self, namespace: dict[str, Any], schema: str, seconds: float = CALL_SECONDS):
        self.namespace = namespace
        self.seconds = seconds
        self.conn = connect(schema, connection_factory=RecordingConnection)
        with self.conn, self.conn.cursor() as cur:
            # A statement that waits in the server does not notice the time limit here.
            cur.execute("SET statement_timeout = %s", [int(seconds * 1000)])

    @property
    def statements(self) -> list[Statement]:
        return self.conn.statements

    @property
    def in_transaction(self) -> bool:
        return self.conn.info.transaction_status != extensions.TRANSACTION_STATUS_IDLE

    @property
    def settings(self) -> dict[str, str]:
        idle = not self.in_transaction
        if self.conn.info.transaction_status == extensions.TRANSACTION_STATUS_INERROR:
            self.conn.rollback()
        # A cursor that is not recorded, of the plain kind whatever the learner made the default.
        with extensions.connection.cursor(self.conn, cursor_factory=extensions.cursor) as cur:
            cur.execute("SELECT '[0]'::vector")  # loads pgvector, whose settings are not listed before
            cur.execute("SELECT name, setting FROM pg_settings WHERE context IN ('user', 'superuser')")
            found = dict(cur.fetchall())
        if idle:
            self.conn.rollback()
        return found | {"conn.autocommit": "on" if self.conn.autocommit else "off"}

    def set(self, name: str, value: Any) -> None:
        with self.conn, extensions.connection.cursor(self.conn, cursor_factory=extensions.cursor) as cur:
            cur.execute("SELECT set_config(%s, %s, false)", [name, str(value)])

    def call(self, function: str, *arguments: Any) -> Any:
        try:
            return self._run(function, arguments)
        except Exception as error:
            raise self._explained(function, error) from error

    def error(self, function: str, *arguments: Any) -> type[Exception] | None:
        try:
            self._run(function, arguments)
        except (Wrong, NotSolved, NotImplementedError, psycopg2.errors.QueryCanceled) as error:
            raise self._explained(function, error) from error
        except Exception as error:
            return type(error)
        return None

    def close(self) -> None:
        self.conn.close()

    def _run(self, name: str, arguments: tuple) -> Any:
        function = self.namespace.get(name)
        if function is None:
            raise Wrong(f"There is no function {name} yet. Run the cell that defines it, then check again.")
        if not callable(function):
            raise Wrong(f"{name} is no function: the name stands for a {type(function).__name__}. Define it again.")
        self.conn.statements.clear()
        # Copies, so that what the function does to them does not reach the check.
        own = [argument if argument is self.conn else copy.deepcopy(argument) for argument in arguments]
        # IPython's own exit would end the kernel some cells later; this one is an exception at once.
        enders = {ender: self.namespace[ender] for ender in ("exit", "quit") if ender in self.namespace}
        self.namespace.update(dict.fromkeys(enders, sys.exit))
        try:
            with time_limit(self.seconds):
                result = function(*own)
                if inspect.iscoroutine(result):
                    result = awaited(result)
        except TimeIsUp:
            raise Wrong(self._too_long(name)) from None
        except SystemExit:
            raise Wrong(f"{name} ends the whole program (exit or quit). Return instead.") from None
        finally:
            self.namespace.update(enders)
        if self.conn.closed:
            raise Wrong(f"{name} closed the connection that it was given. Leave it open: it belongs to the caller.")
        return result

    def _explained(self, name: str, error: Exception) -> Exception:
        if isinstance(error, (Wrong, NotSolved)):
            return error
        places = list(self._places(error.__traceback__))
        if type(error) is NotImplementedError and len(places) == 1:
            code = getattr(self.namespace[name], "__code__", None)
            if code and code.co_names == ("NotImplementedError",):
                return NotSolved()
            return Wrong(f"`raise NotImplementedError()` is still in {name}. Delete that line.")
        if type(error) is NotImplementedError and not error.args and places:
            inner = places[-1].split(",")[0].removeprefix("in ")
            return Wrong(f"`{inner}` is still to be written, and {name} calls it.")
        if isinstance(error, psycopg2.errors.QueryCanceled):
            return Wrong(self._too_long(name))
        said = str(error).strip() or "(no message)"
        shown = places if len(places) <= MOST_PLACES else [*places[:2], "…", *places[2 - MOST_PLACES :]]
        return Wrong("\n".join([f"{name} raised {type(error).__name__}: {said}", *shown, *self._advice(error, places)]))

    def _advice(self, error: Exception, places: list[str]) -> Iterator[str]:
        """A sentence for errors that do not speak for themselves."""
        # Python's formatting stumbles over a % that was pasted into the SQL.
        formatting = isinstance(error, (IndexError, TypeError, ValueError)) and places and "execute" in places[-1]
        sent = self.statements[-1].text if self.statements and not formatting else ""
        syntax = isinstance(error, psycopg2.errors.SyntaxError)
        if syntax and re.match(r"\s*(CREATE|ALTER|DROP)\b", sent, re.I):  # which seldom has a value
            if re.match(r"\s*CREATE\s+INDEX\b.*::", sent, re.I | re.S):
                yield "An expression in an index needs parentheses of its own: ((embedding::halfvec(n)) …)."
        elif syntax and re.search(r"'<[-=#+~%]>'", sent):
            yield "An operator cannot be bound: it is SQL, and has to stand in the text."
        elif syntax and "in tsquery" in str(error):
            yield "Lexemes are not quoted, or what was typed was taken as it is: signs in a tsquery are operators."
        elif syntax or formatting:
            yield "Is every value bound with %s, and none pasted into the SQL?"
        if isinstance(error, psycopg2.errors.UndefinedTable) and not self.statements:
            yield "Did the function use the connection that it was given?"

    def _too_long(self, name: str) -> str:
        message = (
            f"{name} did not finish within {self.seconds:g} seconds.\n"
            "Is there a loop that never ends, or a statement that waits for a lock?"
        )
        if inspect.iscoroutinefunction(self.namespace.get(name)):
            message += (
                "\nOr a pool that never gets ready? Its `configure` has to be async, too: `register_vector_async`."
            )
        return message

    def _places(self, traceback: TracebackType | None) -> Iterator[str]:
        """The learner's own lines on the way to an exception, the outermost first."""
        while traceback:
            code, line = traceback.tb_frame.f_code, traceback.tb_lineno
            if traceback.tb_frame.f_globals is self.namespace:
                text = linecache.getline(code.co_filename, line).strip()
                yield f"in {code.co_name}, line {line}" + (f": {text}" if text else "")
            traceback = traceback.tb_next


class RecordingConnection(extensions.connection):
    """A psycopg2 connection that remembers the statements sent over it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.statements: list[Statement] = []

    def cursor(self, *arguments, **options):
        wanted = options.pop("cursor_factory", None) or self.cursor_factory or extensions.cursor
        return super().cursor(*arguments, cursor_factory=_recording(wanted), **options)

    def set_in_session(self) -> dict[str, str]:
        """What was SET, for the session or the transaction, by name."""
        if self.info.transaction_status == extensions.TRANSACTION_STATUS_INERROR:
            return {}
        with extensions.connection.cursor(self, cursor_factory=extensions.cursor) as cur:
            cur.execute(SET_IN_SESSION)
            return dict(cur.fetchall())


def _recording(kind: type) -> type:
    """The kind of cursor, so that each statement it sends is remembered by its connection."""

    class RecordingCursor(kind):
        def _remember(self, send: Callable, *arguments):
            status = ""
            session = self.connection.set_in_session() if CREATE_INDEX.search(str(arguments[0])) else {}
            try:
                result = send(*arguments)
                status = self.statusmessage or "COPY"  # for a COPY psycopg2 has none
                return result
            finally:
                if self.query:
                    text = self.query.decode(errors="replace")
                    self.connection.statements.append(Statement(text, status, session))

        def execute(self, statement, parameters=None):
            return self._remember(super().execute, statement, parameters)

        def executemany(self, statement, rows):
            for row in rows:
                self.execute(statement, row)

        def copy_expert(self, statement, file, *more):
            return self._remember(super().copy_expert, statement, file, *more)

    return RecordingCursor


def awaited(coroutine: Coroutine) -> Any:
    """What the coroutine returns.

    Raises:
        Wrong: it left tasks behind that go on.

    It has a thread and an event loop to itself: the notebook's own loop is busy with the cell that checks,
    and its kind on Windows does not suit psycopg.
    """
    loop = asyncio.SelectorEventLoop()
    returned: Future = Future()

    def run() -> None:
        try:
            result = loop.run_until_complete(coroutine)
            if asyncio.all_tasks(loop):
                raise Wrong(
                    "The function has returned, and tasks that it began go on: of a pool that it did not close, or "
                    "tasks that nobody awaits. `async with` closes a pool."
                )
            returned.set_result(result)
        except BaseException as error:
            returned.set_exception(error)
        finally:
            # Some tasks, such as those of a pool that was left open, do not end when they are cancelled.
            if left := asyncio.all_tasks(loop):
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(left, timeout=0.2))
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.05)  # on Windows no signal reaches a wait without an end
    except BaseException:  # it took too long, or Ctrl-C
        with suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(loop.stop)
        thread.join(0.4)
        if thread.is_alive():  # it awaits nothing
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TimeIsUp))
        raise
    return returned.result(timeout=0)


class TimeIsUp(BaseException):
    """The time limit of a call; no `Exception`, which a learner's code may catch."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the block after so many seconds.

    It works by a signal, so without effect outside of the main thread. On Windows,
    which has no timer of that kind, a thread sends it, and only Python code notices,
    not a wait in the system. Code that catches everything (`except:`) meets
    TimeIsUp again on its next line, by way of a trace function, and every half
    second after that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    running = True
    tracing = sys.gettrace()

    def raise_again(frame, event, argument):
        if running and event == "line":
            raise TimeIsUp

    def expire(number, frame):
        if not running:
            return
        sys.settrace(raise_again)
        while frame and frame.f_globals is not globals():
            frame.f_trace = raise_again
            frame = frame.f_back
        raise TimeIsUp

    alarm = signal.SIGALRM if hasattr(signal, "setitimer") else signal.SIGINT
    timer = threading.Timer(seconds, _thread.interrupt_main)
    previous = signal.signal(alarm, expire)
    if alarm == signal.SIGINT:
        timer.start()
    else:
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        running = False
        sys.settrace(tracing)
        if alarm == signal.SIGINT:
            timer.cancel()
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(alarm, previous)
