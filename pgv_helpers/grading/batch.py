"""Grade submissions: each in a room of its own, with a database of its own, several at a time."""

import hashlib
import json
import multiprocessing
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import psutil
import psycopg2
from tqdm import tqdm

from pgv_helpers import settings
from pgv_helpers.course.judge import judge
from pgv_helpers.course.learner import TimeIsUp, time_limit
from pgv_helpers.course.question import Question, questions_of
from pgv_helpers.course.shell import belongs_to_the_course
from pgv_helpers.course.verdict import Outcome, Wrong
from pgv_helpers.db import database_url
from pgv_helpers.errors import ConnectionFailed, CourseError, ServerError
from pgv_helpers.grading.database import (
    Database,
    Tampering,
    Workplace,
    checked_schema,
    end_sessions,
    own_database,
    too_much,
    workplace,
)
from pgv_helpers.grading.line import Line
from pgv_helpers.grading.marks import Mark
from pgv_helpers.grading.remote import MOST_MESSAGE, RemoteLearner
from pgv_helpers.grading.reports import replace_file, write_reports
from pgv_helpers.grading.sandbox import Limits, Lost, Mode, NoSandbox, Room, Sandbox
from pgv_helpers.grading.submissions import Place, Submission, answers, find_submissions, read


class Interrupted(CourseError):
    """The teacher stopped a run."""


USUAL = Limits()

MOST_RESTARTS = 3
"""How often a notebook whose cells end their process is begun again, without the cells that did."""


class Attempt:
    """One submission at work: its database, the line to it, its room, and the names that its cells made.

    What ends the room's process, in a cell or in a question, costs that and nothing else: the room is
    entered anew for the next question.
    """

    def __init__(self, submission: Submission, sandbox: Sandbox, workplace: Workplace, database: Database):
        self.submission, self.sandbox, self.workplace, self.database = submission, sandbox, workplace, database
        self.line = Line(sandbox.line, database.checker, database.role, database.name)
        self.room: Room | None = None
        self.notes: dict[int, str] = {}
        self.left_out: set[int] = set()
        self.tampering: list[str] = []
        self.deadline = time.monotonic() + sandbox.limits.seconds

    def prepare(self) -> None:
        """Enter a room and execute the notebook's cells, unless that was done."""
        if self.room and not self.room.lost:
            return
        for _ in range(MOST_RESTARTS):
            self.leave()
            environment = {"PGV_DATABASE_URL": self.database.url(self.sandbox.line_inside)}
            self.room = self.sandbox.enter(environment, dict(self.submission.files))
            self.room.too_much = partial(too_much, self.workplace, self.database, self.sandbox.limits.database_bytes)
            if self._run_cells():
                return

    def _run_cells(self) -> bool:
        """Whether all cells were executed that are to be; a cell that ended the process is left out from now on."""
        limits = self.sandbox.limits
        deadline = min(time.monotonic() + limits.seconds / 2, self.deadline)
        self.line.listen()
        try:
            for cell in self.submission.cells:
                if cell.number in self.left_out or belongs_to_the_course(cell.source):
                    continue
                seconds = min(limits.cell_seconds, deadline - time.monotonic())
                if seconds <= 0:
                    self.notes[cell.number] = f"Cell {cell.number} was not run: the cells before it took too long."
                    continue
                try:
                    request = {"do": "cell", "source": cell.source, "seconds": seconds}
                    error = str(self.room.ask(request, seconds + 3).get("error", ""))[:MOST_MESSAGE]
                except Lost as lost:
                    self.left_out.add(cell.number)
                    self.notes[cell.number] = f"Cell {cell.number} was left out: {lost}."
                    return False
                if error:
                    self.notes[cell.number] = f"Cell {cell.number} failed: {error}"
                self.room.lost = ""  # of a cell that took long nothing is half sent
        finally:
            if self.line.hold():
                end_sessions(self.workplace, self.database)
        return True

    def grade(self, question: Question, rng: np.random.Generator) -> Outcome:
        """Check one question, in a schema of its own."""
        lost = Outcome(question.name, "wrong", question.points)
        try:
            # What came back may be made to keep a check busy for ever.
            left = max(self.deadline - time.monotonic(), 0.01)
            with checked_schema(self.database) as (db, schema), time_limit(left):
                self.prepare()
                return judge(question, RemoteLearner(self.room, self.line, db, schema), db, rng)
        except TimeIsUp:
            self.leave()
            lost.message = f"It was not checked to its end: all of it took {self.sandbox.limits.seconds} seconds."
        except Tampering as tampering:
            self.tampering.append(f"{question.name}: {tampering}")
            lost.message = str(tampering)
        except (Wrong, Lost) as wrong:
            lost.message = str(wrong)
        except (NoSandbox, ConnectionFailed, ServerError):
            raise
        except psycopg2.Error as error:
            self.leave()  # with what it holds locked
            lost.message = f"The check could not look at the database: {str(error).splitlines()[0]}."
        except Exception as error:
            lost.message = (
                f"The check could not make sense of what came back ({type(error).__name__}: {error}). "
                "Does the function return what the question asks for?"
            )
        finally:
            if self.room and self.room.lost:
                self.leave()
        return lost

    def leave(self) -> None:
        """End the room's processes."""
        if self.room:
            self.tampering += self.room.seen
            self.room.close()
            end_sessions(self.workplace, self.database)  # a statement goes on in the server when its sender is gone
            self.room = None

    def close(self) -> None:
        """End everything but the database."""
        self.leave()
        self.line.close()
        self.tampering += [f"the database refused: {what}" for what in self.line.refused]


def grade(submission: Submission, workplace: Workplace, seed: int, limits: Limits, mode: Mode) -> Mark:
    """The mark of one submission.

    The inputs of its checks are drawn from the seed, the learner's name and the question's, so that the
    same seed gives the same inputs whatever else is graded, and in whatever order.
    """
    began = time.monotonic()
    mark = Mark(submission.learner, submission.exercise, submission.where, "graded", lms_id=submission.lms_id)
    if submission.problem:
        mark.status, mark.reason = "unreadable", submission.problem
        return mark
    questions = questions_of(submission.exercise)
    with own_database(workplace) as database:
        attempt = Attempt(submission, _sandbox(workplace, limits, mode, threading.get_ident()), workplace, database)
        try:
            for question in questions:
                rng = np.random.default_rng(_entropy(seed, submission.learner, question.name))
                mark.outcomes.append(attempt.grade(question, rng))
        finally:
            attempt.close()
        mark.notes = [*submission.notes, *(attempt.notes[number] for number in sorted(attempt.notes))]
        mark.tampering = list(dict.fromkeys(attempt.tampering))
    mark.answers = answers(submission.cells, questions)
    mark.seconds = round(time.monotonic() - began, 3)
    return mark


def _entropy(seed: int, *names: str) -> list[int]:
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return [seed, int.from_bytes(digest[:8], "big")]


@cache
def _sandbox(workplace: Workplace, limits: Limits, mode: Mode, thread: int) -> Sandbox:
    """The sandbox of this thread, of which Dask's workers may have several, for as long as the batch goes on."""
    return Sandbox(limits, workplace.prefix, mode)


# -- many submissions -------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What a process needs to grade one submission, on this machine or on another."""

    place: Place
    workplace: Workplace
    seed: int
    limits: Limits
    mode: Mode

    def __call__(self) -> Mark:
        try:
            return grade(read(self.place), self.workplace, self.seed, self.limits, self.mode)
        except NoSandbox:
            raise
        except Exception as error:
            failed = Mark(self.place.learner, self.place.exercise, self.place.where, "failed", lms_id=self.place.lms_id)
            failed.reason = f"The grader could not grade it ({type(error).__name__}): {error}"
            return failed


def grade_folder(
    root: Path,
    out: Path,
    *,
    jobs: int = 0,
    seed: int | None = None,
    limits: Limits = USUAL,
    trusted: bool = False,
    resume: bool = False,
    dask: str = "",
) -> list[Mark]:
    """Grade what was handed in, and write marks and feedback.

    Args:
        root: a folder of submissions, or a zip; see `find_submissions`.
        out: the folder that the reports go to; `graded/` in it keeps each mark from when it is known.
        jobs: how many are graded at a time; 0 for as many as there are cores.
        seed: what the inputs of the checks are drawn from; the same seed gives the same inputs. By default
            one that nobody can foresee, or with `resume` that of the run before.
        trusted: without a sandbox: the submissions are run as your own code.
        resume: go on where an interrupted run stopped: what was graded with this seed and is the same file
            is not graded again.
        dask: address of a Dask scheduler that the jobs are handed to.

    Raises:
        NothingHandedIn: there are no submissions.
        NoSandbox: this machine has no sandbox.
        CourseError: a process was killed, or there is no Dask.
        ConnectionFailed: the server does not answer, or its role is no superuser.
    """
    places = find_submissions(root)
    settings.forget_models()  # the sandbox has no network, and the checks use the models that it uses
    keep = Kept(out / "graded", seed, resume=resume)
    marks = {place: mark for place in places if (mark := keep.find(place))}
    left = [place for place in places if place not in marks]
    if left:
        with workplace(database_url()) as where, _executor(jobs, dask, len(left), limits.memory_bytes) as executor:
            futures = {
                executor.submit(Job(place, where, keep.seed, limits, "trusted" if trusted else "rooms")): place
                for place in left
            }
            bar = tqdm(total=len(places), initial=len(marks), unit="notebook", desc="grading", smoothing=0.1)
            with bar, _stopped_at_once(executor, futures):
                for future in as_completed(futures):
                    place = futures[future]
                    marks[place] = keep.add(place, _result(future))
                    bar.update()
    found = [marks[place] for place in places]
    write_reports(found, out, seed=keep.seed)
    return found


class Kept:
    """The marks that are known already, a file each, so that an interrupted run can go on.

    Args:
        folder: where they are kept.
        seed: of this run; marks of another do not count.
        resume: whether those of the run before are of use.

    Attributes:
        seed: of this run.
    """

    def __init__(self, folder: Path, seed: int | None, *, resume: bool):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        before = folder / "seed"
        if seed is None and resume and before.exists():
            seed = int(before.read_text())
        self.seed = secrets.randbelow(2**31) if seed is None else seed
        if not resume:
            for file in folder.glob("*.json"):
                file.unlink()
        replace_file(before, str(self.seed))

    def find(self, place: Place) -> Mark | None:
        """The mark of this very file, if it is known."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._file(place).read_text(encoding="utf-8"))
            mark = Mark.from_dict(kept["mark"])
            if kept["of"] == self._of(place) and mark.status != "failed":
                return mark
        return None

    def add(self, place: Place, mark: Mark) -> Mark:
        """Keep a mark."""
        replace_file(self._file(place), json.dumps({"of": self._of(place), "mark": mark.as_dict()}))
        return mark

    def _file(self, place: Place) -> Path:
        return self.folder / f"{hashlib.sha256(repr(place.entry.parts).encode()).hexdigest()[:24]}.json"

    def _of(self, place: Place) -> list:
        beside = [[name, entry.size, entry.modified] for name, entry in place.beside]
        return [self.seed, place.learner, place.exercise, place.problem, place.entry.size, place.entry.modified, beside]


@contextmanager
def _executor(jobs: int, dask: str, work: int, most_bytes: int) -> Iterator[Executor]:
    """Processes of this machine, or the Dask cluster's."""
    if dask:
        with _dask_client(dask) as client:
            yield client.get_executor(pure=False)
        return
    # Not forked from this process, whose connections they would share, but from one that has imported this file.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    processes = min(jobs or os.cpu_count() or 1, work)
    with ProcessPoolExecutor(
        processes, context, initializer=_begin_process, initargs=(most_bytes, os.getpid())
    ) as executor:
        yield executor


def _begin_process(most_bytes: int, first: int) -> None:
    """Ctrl-C is the first process's business, which ends the others; when it was killed they end by themselves.

    What a submission returns, or puts into its database, may be made to fill the memory of whoever looks at it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_the_first() -> None:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(first).wait()
        os._exit(1)

    threading.Thread(target=end_with_the_first, daemon=True).start()
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    settings.forget_models()


def _dask_client(address: str):
    try:
        from dask.distributed import Client
    except ImportError:
        raise CourseError("--dask needs Dask: pip install 'dask[distributed]'") from None
    try:
        return Client(address, timeout=5)
    except OSError as error:
        raise CourseError(f"There is no Dask scheduler at {address} ({error}). `dask scheduler` starts one.") from error


def _result(future: Future) -> Mark:
    try:
        return future.result()
    except BrokenProcessPool:
        raise CourseError(
            "A process that graded was killed, most likely because memory ran out. Go on with fewer at a time: "
            "the same command with --resume --jobs 1."
        ) from None


@contextmanager
def _stopped_at_once(executor: Executor, futures: Iterable[Future]) -> Iterator[None]:
    """When the block is left by an error or Ctrl-C, what is being graded is given up."""
    try:
        yield
    except BaseException as error:
        processes = list((getattr(executor, "_processes", None) or {}).values())
        for process in processes:
            process.kill()
        for future in [] if processes else futures:
            future.cancel()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(
                "Interrupted. What was graded is kept: `pgv grade … --resume` with the same folders goes on from there."
            ) from None
        raise
