"""The line between a sandbox and the database, on which the grader listens.

What a learner's code sent, whether it left a transaction open and which settings are in
force is read off PostgreSQL's own protocol
(https://www.postgresql.org/docs/current/protocol.html) as it passes by, outside of the
learner's process, which may say of itself what it likes. The line leads to one database
as one role, and is dead while no call goes on.
"""

import asyncio
import struct
import threading
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg2.extensions import parse_dsn

from pgv_helpers.course.learner import CREATE_INDEX, SET_IN_SESSION, Statement
from pgv_helpers.errors import ConnectionFailed

TLS_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
MOST_CONNECTIONS = 20
ANSWER_SECONDS = 10
"""How long a question of the grader's own may take on a learner's connection."""
MOST_BYTES = 256 * 2**20
"""How much SQL may be sent in one call."""
MOST_STATEMENTS = 100_000
"""How many statements may be sent in one call, or wait for their end."""
MOST_ANSWER = 16 * 2**20
"""The largest message of the server's that is looked at."""
MOST_LOGIN = 10_000
"""The largest message of a login."""
MOST_REFUSALS = 20
"""How many refusals are remembered."""
IDLE, FAILED = b"I", b"E"


class _TooMuch(Exception):
    """Somebody sends more than the line takes."""


@dataclass(eq=False)
class _Sent:
    """What PostgreSQL has yet to answer: a query, an execution of what was prepared, or the end of such a series.

    Attributes:
        kind: of its message: Q, E, S or F.
        text: of its statement; None for what is none.
    """

    kind: bytes
    text: str | None = None
    status: str = ""
    failed: bool = False
    rows: int = 0
    set_before: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Session:
    """One connection of the learner's.

    Attributes:
        state: of its transaction, as PostgreSQL last said: idle, in one, or in one that has failed.
        sent: what PostgreSQL has not answered yet, in order.
        prepared, portals: the texts of prepared statements, and of those that are bound, by name.
        text: the last that was sent.
        spoke: whether something was sent since the last call began.
        new: whether the connection was made since then.
        unended: whether something was executed in a series of messages that was not ended.
        kept: bytes of prepared statements; `asked`, of rows that answer the grader.
        answer: waits for the rows of the grader's own question, while there is one.
    """

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    state: bytes = b""
    sent: deque[_Sent] = field(default_factory=deque)
    prepared: dict[bytes, str] = field(default_factory=dict)
    portals: dict[bytes, str] = field(default_factory=dict)
    text: str = ""
    spoke: bool = False
    new: bool = True
    unended: bool = False
    kept: int = 0
    answer: asyncio.Future | None = None
    rows: list[list[str | None]] = field(default_factory=list)
    asked: int = 0


class Line:
    """A Unix socket that leads to one database as one role, and remembers what passes.

    Args:
        folder: where the socket is made, as `.s.PGSQL.5432`.
        server: URL of the server, with a Unix socket's folder or a host.
        role: the one role that may log in.
        database: the one database.

    Attributes:
        statements: what was sent since `listen`, on any connection, in order of its end.
        refused: what PostgreSQL or the line refused: an attempt at what a learner may not do.
    """

    def __init__(self, folder: Path, server: str, role: str, database: str):
        parts = parse_dsn(server)
        if parts.get("sslmode", "prefer") not in ("disable", "allow", "prefer"):
            raise ConnectionFailed(
                "The grader speaks to PostgreSQL without TLS, and PGV_DATABASE_URL asks for "
                f"sslmode={parts['sslmode']}. Grade with a server on this machine: unset PGV_DATABASE_URL."
            )
        self.host, self.port = parts.get("host", "/tmp"), parts.get("port", "5432")
        self.socket = folder / ".s.PGSQL.5432"
        self.role, self.database = role, database
        self.statements: list[Statement] = []
        self.refused: list[str] = []
        self._sent_bytes = 0
        self._connections = 0
        self._sessions: list[_Session] = []
        self._own: _Session | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._open = asyncio.Event()
        self._server = self._run(self._start())

    # -- what the grader calls, from its own thread ---------------------------------

    def listen(self) -> None:
        """A call begins: forget what was sent before, and let statements pass."""
        self._run(self._set(True))

    def hold(self) -> bool:
        """The call has ended: nothing passes any more. Whether a statement still runs."""
        return self._run(self._set(False))

    def own(self) -> bool:
        """The connection that was made in the last call is the one that the learner was given; was there just one?"""
        made = [session for session in self._sessions if session.new and session.state]
        self._own = made[-1] if made else None
        return len(made) == 1

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open on the learner's connection, or on one that spoke since the call began."""
        return any(
            session.state not in (IDLE, b"") for session in self._sessions if session is self._own or session.spoke
        )

    def ask(self, statement: str) -> list[list[str | None]]:
        """The rows of a statement on the learner's own connection, which the learner does not see.

        Raises:
            ConnectionError: the connection is gone, or busy.
        """
        return self._run(self._ask(self._own, statement))

    @property
    def failed(self) -> bool:
        """Whether the transaction on the learner's own connection has failed and was not rolled back."""
        return self._own is not None and self._own.state == FAILED

    def close(self) -> None:
        """Close every connection and the socket."""
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.socket.unlink(missing_ok=True)

    # -- within the event loop ------------------------------------------------------

    def _run(self, work: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(3 * ANSWER_SECONDS)

    async def _start(self) -> asyncio.Server:
        self.socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, self.socket, limit=2**22)
        self.socket.chmod(0o777)
        return server

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _set(self, open_: bool) -> bool:
        if open_:
            self.statements, self._sent_bytes = [], 0
            for session in self._sessions:
                session.spoke = session.new = False
            self._open.set()
            return False
        self._open.clear()
        return any(session.sent or session.unended for session in self._sessions)

    async def _connected(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        session = None
        self._connections += 1
        try:
            if self._connections > 2 * MOST_CONNECTIONS:  # some that have not logged in
                self._refuse(f"more than {2 * MOST_CONNECTIONS} sockets at once")
                return
            startup = await self._startup(reader, client)
            if startup is None:
                return
            answers, server = await self._reach()
            session = _Session(client, server)
            self._sessions.append(session)
            server.write(startup)
            forward = asyncio.create_task(self._forward(session, reader))
            back = asyncio.create_task(self._back(session, answers))
            _, left = await asyncio.wait([forward, back], return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
            for ended in await asyncio.gather(forward, back, return_exceptions=True):
                if isinstance(ended, _TooMuch):
                    self._refuse(str(ended))
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # somebody hung up
        finally:
            self._connections -= 1
            if session:
                self._sessions.remove(session)
                for sent in session.sent:
                    self._record(sent)
                session.server.close()
                if session.answer and not session.answer.done():
                    session.answer.set_exception(ConnectionError("the connection was closed"))
            client.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self.host}/.s.PGSQL.{self.port}", limit=2**22)
        return await asyncio.open_connection(self.host, int(self.port), limit=2**22)

    async def _startup(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> bytes | None:
        """The message that asks for a login, if the login is the learner's own."""
        for _ in range(4):  # libpq asks for TLS and for GSS first
            await self._open.wait()
            length, code = struct.unpack("!II", await reader.readexactly(8))
            if not 8 <= length <= MOST_LOGIN:
                return None
            rest = await reader.readexactly(length - 8)
            if code in (TLS_REQUEST, GSS_REQUEST):
                client.write(b"N")
                continue
            if code == CANCEL_REQUEST:
                return None
            words = rest.split(b"\0")
            given = {
                name.decode(errors="replace"): value.decode(errors="replace")
                for name, value in zip(words[::2], words[1::2])
            }
            role, database = given.get("user", ""), given.get("database") or given.get("user", "")
            if (role, database) != (self.role, self.database) or "replication" in given:
                self._refuse(f"a login as {role!r} to the database {database!r}")
                refusal = "the grader lets a submission into its own database only, as its own role"
            elif len(self._sessions) >= MOST_CONNECTIONS:
                self._refuse(f"more than {MOST_CONNECTIONS} connections at once")
                refusal = f"the grader gives a submission {MOST_CONNECTIONS} connections at most"
            else:
                return struct.pack("!II", length, code) + rest
            body = b"SFATAL\0VFATAL\0C28000\0M" + refusal.encode() + b"\0\0"
            client.write(b"E" + struct.pack("!I", len(body) + 4) + body)
            await client.drain()
            return None

    async def _forward(self, session: _Session, reader: asyncio.StreamReader) -> None:
        """From the learner to the server."""
        while True:
            header = await reader.readexactly(5)
            kind, left = header[:1], struct.unpack("!I", header[1:])[0] - 4
            if left < 0:
                return
            if kind == b"d":  # of a COPY, whose statement is still running
                session.server.write(header)
                while left > 0:
                    if not (some := await reader.read(min(left, 2**20))):
                        return
                    left -= len(some)
                    await self._open.wait()
                    session.server.write(some)
                    await session.server.drain()
                continue
            if session.state:
                await self._open.wait()
            most = MOST_BYTES if session.state else MOST_LOGIN
            if left > most or self._sent_bytes + left > MOST_BYTES or len(session.sent) > MOST_STATEMENTS:
                raise _TooMuch(f"in one call more than {MOST_BYTES / 2**20:.0f} MB, or {MOST_STATEMENTS} statements")
            self._sent_bytes += left
            body = await reader.readexactly(left)
            if session.state:  # after the login
                if kind == b"Q" and CREATE_INDEX.search(_text(body)) and self._ready(session):
                    await self._open.wait()
                    set_before = dict(await self._ask(session, SET_IN_SESSION))
                else:
                    set_before = {}
                # It is noted and sent at once, or not before the next call: a message may come in two halves.
                while not self._open.is_set():
                    await self._open.wait()
                session.spoke = True
                self._note(session, kind, body, set_before)
            session.server.write(header + body)
            await session.server.drain()

    def _ready(self, session: _Session) -> bool:
        """Whether the grader can ask something on this connection."""
        return not session.sent and session.state != FAILED

    def _note(self, session: _Session, kind: bytes, body: bytes, set_before: dict[str, str]) -> None:
        """Remember what the server will answer."""
        if kind in b"ESQ":
            session.unended = kind == b"E"
        if kind == b"Q":
            session.text = _text(body)
            session.sent.append(_Sent(kind, session.text, set_before=set_before))
        elif kind == b"P":
            name, text, *_ = body.split(b"\0", 2)
            session.text = session.prepared[name] = _text(text)
        elif kind == b"B":
            portal, name, *_ = body.split(b"\0", 2)
            session.text = session.portals[portal] = session.prepared.get(name, "")
        elif kind == b"E":
            session.sent.append(_Sent(kind, session.portals.get(body.split(b"\0", 1)[0], "")))
        elif kind in b"SF":
            session.sent.append(_Sent(kind))
        if kind == b"P":
            session.kept += len(body)
        if session.kept > MOST_BYTES or len(session.portals) > MOST_STATEMENTS:
            raise _TooMuch(f"more prepared statements on one connection than {MOST_BYTES / 2**20:.0f} MB")

    async def _back(self, session: _Session, answers: asyncio.StreamReader) -> None:
        """From the server to the learner, or to the grader where it has asked."""
        while True:
            header = await answers.readexactly(5)
            kind, left = header[:1], struct.unpack("!I", header[1:])[0] - 4
            asked = session.answer is not None
            if kind in b"CZEIs" or (asked and kind not in b"SA"):
                if left > MOST_ANSWER:
                    raise _TooMuch("an answer of the server's with hundreds of megabytes that are no rows")
                body = await answers.readexactly(left)
                if asked:
                    self._take(session, kind, body)
                    continue
                self._observe(session, kind, body)
                session.client.write(header + body)
            else:
                if kind == b"D" and session.sent:
                    session.sent[0].rows += 1
                session.client.write(header)
                while left > 0:
                    if not (some := await answers.read(min(left, 2**20))):
                        return
                    left -= len(some)
                    session.client.write(some)
                    await session.client.drain()
            if kind == b"Z":
                await session.client.drain()

    def _observe(self, session: _Session, kind: bytes, body: bytes) -> None:
        sent = session.sent
        if kind == b"Z":
            session.state = body
            while sent:
                ended = sent.popleft()
                self._record(ended)
                if ended.kind != b"E":
                    break
        elif kind == b"E":
            if sent:
                sent[0].failed = True
                while len(sent) > 1 and sent[0].kind == sent[1].kind == b"E":  # the server passes over what follows
                    del sent[1]
            fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
            if fields.get(b"C") == "42501":
                text = (sent[0].text if sent else None) or session.text
                self._refuse(f"{' '.join(text[:1000].split())[:200]} ({fields.get(b'M', '')[:200]})")
        elif sent and sent[0].kind == b"E":  # each execution has its own answer
            ended = sent.popleft()
            if kind == b"C":
                ended.status = _status(body)
            elif kind == b"s":  # it gave as many rows as it was to give, and there may be more
                command = (ended.text.split(None, 1) or [""])[0].upper()
                ended.status = f"{'SELECT' if command == 'WITH' else command} {ended.rows}"
            self._record(ended)
        elif sent and kind == b"C":
            sent[0].status = _status(body)

    def _record(self, sent: _Sent) -> None:
        if sent.text is None or sent.text == SET_IN_SESSION:
            return
        if len(sent.text) < 20 and sent.text.strip().rstrip(";").upper() in ("BEGIN", "COMMIT", "ROLLBACK"):
            return
        if len(self.statements) < MOST_STATEMENTS:
            self.statements.append(Statement(sent.text, "" if sent.failed else sent.status, sent.set_before))

    def _refuse(self, what: str) -> None:
        if what not in self.refused and len(self.refused) < MOST_REFUSALS:
            self.refused.append(what)

    # -- the grader's own questions ---------------------------------------------------

    async def _ask(self, session: _Session | None, statement: str) -> list[list[str | None]]:
        if session is None or session not in self._sessions or session.sent:
            raise ConnectionError("the learner's connection is closed or busy")
        session.answer, session.rows, session.asked = asyncio.get_running_loop().create_future(), [], 0
        text = statement.encode() + b"\0"
        session.server.write(b"Q" + struct.pack("!I", len(text) + 4) + text)
        try:
            return await asyncio.wait_for(session.answer, ANSWER_SECONDS)
        except TimeoutError:
            session.client.close()
            raise ConnectionError("the learner's connection does not answer") from None
        finally:
            session.answer = None

    def _take(self, session: _Session, kind: bytes, body: bytes) -> None:
        session.asked += len(body)
        if session.asked > MOST_ANSWER:
            raise _TooMuch("settings of many megabytes")
        if kind == b"D":
            session.rows.append(_fields(body))
        elif kind == b"E":
            session.rows = []
        elif kind == b"Z":
            session.state = body
            if not session.answer.done():
                session.answer.set_result(session.rows)


def _text(body: bytes) -> str:
    return body.partition(b"\0")[0].decode(errors="replace")


def _status(body: bytes) -> str:
    """The command that was done, as psycopg2 has it."""
    status = body.rstrip(b"\0").decode()
    return "COPY" if status.startswith("COPY") else status


def _fields(row: bytes) -> list[str | None]:
    """The texts in a row of data."""
    (number,), position, found = struct.unpack("!H", row[:2]), 2, []
    for _ in range(number):
        (length,) = struct.unpack("!i", row[position : position + 4])
        position += 4
        found.append(None if length < 0 else row[position : position + length].decode())
        position += max(length, 0)
    return found
