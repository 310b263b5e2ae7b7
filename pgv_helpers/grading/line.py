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
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg2.extensions import parse_dsn

from pgv_helpers.course.learner import CREATE_INDEX, Statement
from pgv_helpers.errors import ConnectionFailed

TLS_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
MOST_CONNECTIONS = 20
ANSWER_SECONDS = 10
"""How long a question of the grader's own may take on a learner's connection."""
SET_IN_SESSION = "SELECT name, setting FROM pg_settings WHERE source = 'session'"
IDLE, FAILED = b"I", b"E"


@dataclass(eq=False)
class _Session:
    """One connection of the learner's.

    Attributes:
        state: of its transaction, as PostgreSQL last said: idle, in one, or in one that has failed.
        sent: texts of statements that PostgreSQL has not finished.
        spoke: whether something was sent since the last call began.
        answer: waits for the rows of the grader's own question, while there is one.
    """

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    state: bytes = b""
    sent: list[str] = field(default_factory=list)
    busy: bool = False
    spoke: bool = False
    status: str = ""
    failed: bool = False
    set_before: dict[str, str] = field(default_factory=dict)
    answer: asyncio.Future | None = None
    rows: list[list[str | None]] = field(default_factory=list)


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

    def own(self) -> None:
        """The connection that was made last is the one that the learner was given."""
        self._own = self._sessions[-1] if self._sessions else None

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
            self.statements = []
            for session in self._sessions:
                session.spoke = False
            self._open.set()
            return False
        self._open.clear()
        return any(session.busy for session in self._sessions)

    async def _connected(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        session = None
        try:
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
            await asyncio.gather(forward, back, return_exceptions=True)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # somebody hung up
        finally:
            if session:
                self._sessions.remove(session)
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
        while True:
            await self._open.wait()
            length, code = struct.unpack("!II", await reader.readexactly(8))
            if not 8 <= length <= 10_000:
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
                self.refused.append(f"a login as {role!r} to the database {database!r}")
                refusal = "the grader lets a submission into its own database only, as its own role"
            elif len(self._sessions) >= MOST_CONNECTIONS:
                self.refused.append(f"more than {MOST_CONNECTIONS} connections at once")
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
            if session.state:  # after the login
                await self._open.wait()
                session.spoke = True
            body = b""
            if kind in b"QP":
                body = await reader.readexactly(left)
                left = 0
                await self._note(session, kind, body)
            if kind in b"QPBESFX" and session.state and kind != b"X":
                session.busy = True
            session.server.write(header + body)
            while left > 0:
                if not (some := await reader.read(min(left, 2**20))):
                    return
                left -= len(some)
                session.server.write(some)
                await session.server.drain()
            await session.server.drain()

    async def _note(self, session: _Session, kind: bytes, body: bytes) -> None:
        text = body.split(b"\0")[0 if kind == b"Q" else 1].decode(errors="replace")
        if CREATE_INDEX.search(text) and not session.busy and session.state != FAILED:
            session.set_before = dict(await self._ask(session, SET_IN_SESSION))
        session.sent.append(text)

    async def _back(self, session: _Session, answers: asyncio.StreamReader) -> None:
        """From the server to the learner, or to the grader where it has asked."""
        while True:
            header = await answers.readexactly(5)
            kind, left = header[:1], struct.unpack("!I", header[1:])[0] - 4
            asked = session.answer is not None
            if asked or kind in b"CZEI":
                body = await answers.readexactly(left)
                if asked:
                    self._take(session, kind, body)
                    continue
                self._observe(session, kind, body)
                session.client.write(header + body)
            else:
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
        if kind == b"C":
            session.status = body.rstrip(b"\0").decode()
            if session.status.startswith("COPY"):
                session.status = "COPY"  # as psycopg2 has it
        elif kind == b"E":
            session.failed = True
            fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
            if fields.get(b"C") == "42501" and session.sent:
                self.refused.append(f"{' '.join(session.sent[-1].split())[:200]} ({fields.get(b'M', '')})")
        elif kind == b"Z":
            session.state, session.busy = body, False
            for text in session.sent:
                if text.strip().rstrip(";").upper() not in ("BEGIN", "COMMIT", "ROLLBACK"):
                    status = "" if session.failed else session.status
                    self.statements.append(Statement(text, status, session.set_before))
            session.sent, session.status, session.failed, session.set_before = [], "", False, {}

    # -- the grader's own questions ---------------------------------------------------

    async def _ask(self, session: _Session | None, statement: str) -> list[list[str | None]]:
        if session is None or session not in self._sessions or session.busy:
            raise ConnectionError("the learner's connection is closed or busy")
        session.answer, session.rows = asyncio.get_running_loop().create_future(), []
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
        if kind == b"D":
            session.rows.append(_fields(body))
        elif kind == b"E":
            session.rows = []
        elif kind == b"Z":
            session.state = body
            if not session.answer.done():
                session.answer.set_result(session.rows)


def _fields(row: bytes) -> list[str | None]:
    """The texts in a row of data."""
    (number,), position, found = struct.unpack("!H", row[:2]), 2, []
    for _ in range(number):
        (length,) = struct.unpack("!i", row[position : position + 4])
        position += 4
        found.append(None if length < 0 else row[position : position + length].decode())
        position += max(length, 0)
    return found
