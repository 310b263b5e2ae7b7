"""What runs in the sandbox: a warm process, and in a room of its own, forked from it, each submission.

    python -m pgv_helpers.grading.inside SOCKET MODE LIMITS

The warm process has imported what notebooks import, so that a submission need not. For each
`n` on the socket, which brings a second socket along, it forks a room: other namespaces of
users, processes and mounts, no way to the rooms before, and limits. A room executes the
cells of one notebook and then answers calls. Nothing that is decided here counts: the
verdict is the grader's, who sees data and the database.

MODE is "rooms"; "single" where the system allows no namespaces within the sandbox's, so
that the grader makes a sandbox for each submission; or "trusted", without a sandbox.
"""

import ctypes
import errno
import gc
import json
import os
import re
import resource
import signal
import socket
import struct
import sys
import time
import types
from importlib import import_module
from pathlib import Path
from typing import Any

from pgv_helpers.grading import wire

NEW_MOUNTS, NEW_IPC, NEW_USERS, NEW_PROCESSES = 0x00020000, 0x08000000, 0x10000000, 0x20000000
NOBODY = 65534
MOUNT_PLAIN = 2 | 4  # no setuid programs, no devices
MOUNT_BIND = 4096 | 16384  # with what is mounted below
PARENT_DEATH_SIGNAL, NO_NEW_PRIVILEGES, DUMPABLE, SECCOMP, SECCOMP_FILTER = 1, 38, 4, 22, 2
CAPABILITY_VERSION_3 = 0x20080522

NO_CALLS = {
    "x86_64": (0xC000003E, {
        "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "io_uring_setup": 425, "userfaultfd": 323,
        "bpf": 321, "perf_event_open": 298, "add_key": 248, "request_key": 249, "keyctl": 250,
        "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
    }),
    "aarch64": (0xC00000B7, {
        "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "io_uring_setup": 425, "userfaultfd": 282,
        "bpf": 280, "perf_event_open": 241, "add_key": 217, "request_key": 218, "keyctl": 219,
        "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51,
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
    }),
}  # fmt: skip
"""System calls that no exercise needs: memory that belongs to no process, other namespaces, and doors to the kernel.

By the machine's name: its number in <linux/audit.h>, and the calls' numbers.
"""

WARM = (
    "matplotlib.pyplot", "numpy", "onnxruntime", "openai", "pandas", "pgvector.psycopg2", "psycopg2.extras",
    "tokenizers", "pgv_helpers.course.learner",
)  # fmt: skip
"""Imported once, before any submission; several of them are imported late elsewhere, since they take long."""

WATCHED = {"socket.connect", "subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.kill", "os.exec"}
"""Audit events (https://docs.python.org/3/library/audit_events.html) that no exercise asks for."""
FORBIDDEN = re.compile(
    r"/(root|home)/|/etc/(shadow|passwd)|.*/(solutions|submi(ssions|tted))\b|/proc/.*/(environ|mem)$"
)
"""Paths that a submission has no business with; none is there."""


def main() -> None:
    """Serve the grader at the other end of the socket until it hangs up."""
    if sys.platform == "linux":
        # A room may be the same user's; of the processes outside of it, it may read and trace none.
        ctypes.CDLL(None).prctl(DUMPABLE, 0, 0, 0, 0)
    control = socket.socket(fileno=int(sys.argv[1]))
    mode, limits = sys.argv[2], json.loads(sys.argv[3])
    shell = _warm_up()
    control.sendall(b"+")
    room = 0
    while True:
        order, brought, *_ = socket.recv_fds(control, 1, 1)
        if order == b"n":
            room = os.fork()
            if not room:
                control.close()
                _live(socket.socket(fileno=brought[0]), shell, mode, limits)
            os.close(brought[0])
        else:
            if room:
                os.kill(-room if mode == "trusted" else room, signal.SIGKILL)
                os.waitpid(room, 0)
                room = 0
            if not order:
                os._exit(0)
            control.sendall(b".")


def _warm_up() -> Any:
    """Import what notebooks and the helpers import, and make the shell that will execute the cells."""
    for name in WARM:
        import_module(name)
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    import pgv_helpers

    for home in dict.fromkeys(pgv_helpers._HOMES):
        if not home.startswith("course."):
            import_module(f"pgv_helpers.{home}")
    sys.modules["pgv_helpers.course.notebook"] = _notebook_without_checks()
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.enable_gui = lambda gui=None: None  # which `%matplotlib inline` calls
    shell.showtraceback = shell.showsyntaxerror = lambda *arguments, **options: None
    gc.collect()
    gc.freeze()
    return shell


def _notebook_without_checks() -> types.ModuleType:
    """In the place of `pgv_helpers.course.notebook`: what cells call there does nothing here."""
    module = types.ModuleType("pgv_helpers.course.notebook")
    for name in ("check", "hint", "solution", "progress"):
        setattr(module, name, lambda *arguments, **options: None)
    return module


# -- a room -------------------------------------------------------------------------


def _live(line: socket.socket, shell: Any, mode: str, limits: dict) -> None:
    """Serve one submission, and end."""
    try:
        if mode == "rooms":
            _enter_room(limits)
        elif mode == "single":
            _become_nobody()
        else:
            os.setsid()
        _limit(limits, mode)
        if mode != "trusted":
            _refuse_calls()
        os.makedirs("/tmp/pgv-work" if mode != "trusted" else limits["folder"], exist_ok=True)
        os.chdir("/tmp/pgv-work" if mode != "trusted" else limits["folder"])
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
    except OSError as error:
        wire.send(line, wire.encode({"broken": f"{error.strerror}: {error.filename or ''}"}))
        os._exit(1)
    wire.send(line, wire.encode({"ready": True}))
    try:
        _Room(line, shell, limits).serve()
    finally:
        os._exit(0)


def _enter_room(limits: dict) -> None:
    """Go on as a process in namespaces of its own; the one that was forked waits for its end."""
    _become_nobody()
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: Any) -> None:
        if getattr(libc, name)(*arguments):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)

    user, group = os.geteuid(), os.getegid()
    call("prctl", DUMPABLE, 1, 0, 0, 0)  # or its own files in /proc would be root's
    call("unshare", NEW_USERS | NEW_MOUNTS | NEW_PROCESSES | NEW_IPC)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    call("prctl", DUMPABLE, 0, 0, 0, 0)  # a submission must not trace the processes that wait for its end
    _go_on_in_a_child()
    # The first process of the new namespace: with it all the others end.
    call("prctl", PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    size = f"size={limits['tmp_bytes']},mode=1777".encode()
    in_tmp = {folder: os.open(folder, os.O_PATH) for folder in limits["in_tmp"]}
    call("mount", b"tmpfs", b"/tmp", b"tmpfs", MOUNT_PLAIN, size)
    for folder, there in in_tmp.items():  # Python itself, where it lies in the /tmp that is covered now
        os.makedirs(folder, exist_ok=True)
        call("mount", f"/proc/self/fd/{there}".encode(), folder.encode(), None, MOUNT_BIND, None)
        os.close(there)
    call("mount", b"tmpfs", b"/dev/shm", b"tmpfs", MOUNT_PLAIN, size)
    # Root's bubblewrap covers parts of /proc, and then no other may be mounted; that of the sandbox shows
    # no process but the warm one and this submission's.
    libc.mount(b"proc", b"/proc", b"proc", MOUNT_PLAIN | 8, None)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    call("capset", header, (ctypes.c_uint32 * 6)())
    _go_on_in_a_child()
    call("prctl", DUMPABLE, 1, 0, 0, 0)


def _become_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _refuse_calls() -> None:
    """Let NO_CALLS fail from now on, by seccomp (https://docs.kernel.org/userspace-api/seccomp_filter.html)."""
    machine, calls = NO_CALLS.get(os.uname().machine, (0, {}))
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    allowed, refused = 0x7FFF0000, 0x00050000 | errno.EPERM
    last = len(calls) + 5  # the step that refuses; each step jumps over so many
    steps = [(load, 0, 0, 4), (equal, 0, last - 2, machine), (load, 0, 0, 0), (at_least, last - 4, 0, 0x40000000)]
    steps += [(equal, last - place, 0, number) for place, number in enumerate(calls.values(), start=5)]
    steps += [(end, 0, 0, allowed), (end, 0, 0, refused)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    if calls and ctypes.CDLL(None, use_errno=True).prctl(SECCOMP, SECCOMP_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "seccomp")


def _go_on_in_a_child() -> None:
    """Fork; the parent ends when the child does, and collects orphans until then."""
    if child := os.fork():
        while True:
            ended, status = os.wait()
            if ended == child:
                os._exit(os.waitstatus_to_exitcode(status) & 255)


def _limit(limits: dict, mode: str) -> None:
    for name, key in (
        ("RLIMIT_DATA", "process_bytes"),
        ("RLIMIT_NPROC", "processes"),
        ("RLIMIT_NOFILE", "open_files"),
        ("RLIMIT_FSIZE", "file_bytes"),
        ("RLIMIT_CPU", "seconds"),
    ):
        # Without a sandbox all the processes of the user who grades would count.
        if hasattr(resource, name) and not (mode == "trusted" and key == "processes"):
            resource.setrlimit(getattr(resource, name), (limits[key], limits[key]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Room:
    """One submission's process: the shell with its cells' names, and the learner of the question at hand."""

    def __init__(self, line: socket.socket, shell: Any, limits: dict):
        self.line = line
        self.shell = shell
        self.limits = limits
        self.learner: Any = None
        self.seen: list[str] = []

    def serve(self) -> None:
        while True:
            request = self._decode(wire.receive(self.line))
            began = time.monotonic()
            try:
                reply = getattr(self, f"do_{request.pop('do')}")(**request)
            except BaseException as error:
                reply = self._failed(error)
            # After a time-out a frame may be half sent: this process is of no more use.
            reply |= {"seen": self.seen, "done": time.monotonic() - began > self.limits["call_seconds"]}
            self.seen = []
            try:
                frame = wire.encode(reply)
            except Exception as error:  # by objects that only seem to be what they are
                said = str(error) if isinstance(error, wire.NotData) else f"reading it raised {type(error).__name__}"
                frame = wire.encode({"wrong": f"What it returned is no answer: {said}."})
            wire.send(self.line, frame)

    def do_enter(self, environment: dict, files: dict) -> dict:
        """Take up the submission's environment and the files that came with it."""
        os.environ.update(environment)
        try:
            for name, content in files.items():
                path = Path(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        finally:
            sys.addaudithook(self._watch)
        return {}

    def do_cell(self, source: str, seconds: float) -> dict:
        """Execute a cell."""
        from pgv_helpers.course.learner import TimeIsUp, time_limit

        with time_limit(seconds):
            result = self.shell.run_cell(source, silent=True)
        error = result.error_before_exec or result.error_in_exec
        if isinstance(error, TimeIsUp):
            return {"error": f"it did not finish within {seconds:.0f} seconds"}
        return {"error": f"{type(error).__name__}: {error}".strip(": ")[:500] if error is not None else ""}

    def do_begin(self, schema: str) -> dict:
        """Make the connection that the functions of a question are given."""
        from pgv_helpers.course.learner import NotebookLearner

        if self.learner:
            self.learner.close()
        self.learner = NotebookLearner(self.shell.user_ns, schema, self.limits["call_seconds"])
        return {}

    def do_call(self, function: str, arguments: list) -> dict:
        """Call a function of the learner's."""
        return {"returned": self.learner.call(function, *arguments)} | self._autocommit()

    def do_error(self, function: str, arguments: list) -> dict:
        """Call a function that is expected to fail; the names of its exception's classes."""
        kind = self.learner.error(function, *arguments)
        names = kind and [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__]
        return {"raised": names} | self._autocommit()

    def _autocommit(self) -> dict:
        return {"autocommit": bool(self.learner.conn.autocommit)}

    def _failed(self, error: BaseException) -> dict:
        from pgv_helpers.course.verdict import NotSolved, Wrong

        if isinstance(error, NotSolved):
            return {"unsolved": True}
        if isinstance(error, Wrong):
            return {"wrong": str(error)}
        if isinstance(error, (EOFError, ConnectionError)):
            os._exit(0)  # the grader has hung up
        return {"wrong": f"raised {type(error).__name__}: {error}"}

    def _decode(self, frame: bytes) -> Any:
        return wire.decode(frame, self._special)

    def _special(self, kind: str, value: Any) -> Any:
        if kind == "conn":
            return self.learner.conn
        if kind == "function":
            return lambda *arguments: self._call_back(value, arguments)
        return None

    def _call_back(self, number: int, arguments: tuple) -> Any:
        """Call a function of the check's, which lives with the grader."""
        wire.send(self.line, wire.encode({"function": number, "arguments": list(arguments)}))
        reply = self._decode(wire.receive(self.line))
        if "raise" in reply:
            import builtins

            name, message = reply["raise"]
            kind = getattr(builtins, name, Exception)
            raise (kind if isinstance(kind, type) and issubclass(kind, Exception) else Exception)(message)
        return reply["returned"]

    def _watch(self, event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str):
            own = arguments[0].startswith((sys.prefix, sys.base_prefix, "/usr/"))
            if not own and FORBIDDEN.match(arguments[0]):
                self._saw(f"opened {arguments[0]}")
        elif event == "socket.connect":
            if "/.s.PGSQL." not in str(arguments[1]):
                self._saw(f"connected to {arguments[1]}")
        elif event in WATCHED and str(arguments[:1]) != "('uname',)":  # which the openai client asks for
            self._saw(f"{event} {arguments[0] if arguments else ''}".strip())

    def _saw(self, what: str) -> None:
        if len(self.seen) < 20:
            self.seen.append(what[:300])


if __name__ == "__main__":
    main()
