"""Hostile submissions: notebooks that want points without an answer, or the machine, and the batch that grades them."""

import copy
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat import NotebookNode

from pgv_helpers.course.build import EXERCISES, SOLUTIONS
from pgv_helpers.course.question import questions_of
from pgv_helpers.db import connect, query
from pgv_helpers.grading import batch
from pgv_helpers.grading.marks import Mark
from pgv_helpers.grading.sandbox import Limits
from pgv_helpers.grading.submissions import functions_of

SMALL = Limits(call_seconds=2, cell_seconds=3, seconds=40, memory_bytes=3 * 2**29, process_bytes=2**30)


@dataclass(frozen=True)
class Hostile:
    """A notebook to hand in.

    Attributes:
        exercise: whose notebook it begins with, unsolved.
        before: code cells in front of all others.
        answers: code in the place of the stub, by the question's name.
        returned: an expression that every other function returns, whatever it is given.
        after: code cells behind all others.
        solved: begin with the solved notebook.
        change: what else is done to the notebook.
    """

    exercise: str = "02_crud"
    before: tuple[str, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    returned: str = ""
    after: tuple[str, ...] = ()
    solved: bool = False
    change: Callable[[NotebookNode], None] = lambda notebook: None

    def notebook(self) -> NotebookNode:
        notebook = copy.deepcopy(_read(self.exercise, self.solved))
        answers = dict(self.answers)
        if self.returned:
            for question in questions_of(self.exercise):
                functions = [f"def {name}(*given):\n    return {self.returned}" for name in functions_of(question)]
                answers.setdefault(question.name, "\n\n".join(functions))
        ids = {question.grade_id: question.name for question in questions_of(self.exercise)}
        for cell in notebook.cells:
            name = ids.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
            cell.source = answers.get(name, cell.source)
        self.change(notebook)
        notebook.cells[:0] = map(nbformat.v4.new_code_cell, self.before)
        notebook.cells += map(nbformat.v4.new_code_cell, self.after)
        return notebook


@cache
def _read(exercise: str, solved: bool) -> NotebookNode:
    return nbformat.read((SOLUTIONS if solved else EXERCISES) / f"{exercise}.ipynb", as_version=4)


def hand_in(folder: Path, learner: str, exercise: str, notebook: NotebookNode) -> Path:
    """Write a learner's notebook where the grader looks for it."""
    path = folder / learner / f"{exercise}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


@dataclass
class Graded:
    """A batch that was graded.

    Attributes:
        marks: by the learner's name and the exercise; "solved" and "unsolved" are learners of several.
        left_behind: what the batch did not take away.
        out: the folder of the reports.
    """

    marks: dict[tuple[str, str], Mark]
    left_behind: list[str]
    out: Path

    def __getitem__(self, learner: str) -> Mark:
        """The mark of a learner of one exercise."""
        (mark,) = [mark for (name, _), mark in self.marks.items() if name == learner]
        return mark


def grade_batch(
    folder: Path,
    submissions: Mapping[str, Hostile],
    *,
    limits: Limits = SMALL,
    leftovers: Iterable[str] = (),
    beside: Iterable[str] = (),
    **options,
) -> Graded:
    """Grade these submissions in one batch, beside solved and unsolved ones.

    Args:
        beside: the exercises of which a solved and an unsolved notebook are graded with them; by default all.
        leftovers: words in the command line of programs that a submission would leave behind.
    """
    handed_in = folder / "submissions"
    for learner, submission in submissions.items():
        hand_in(handed_in, learner, submission.exercise, submission.notebook())
    for exercise in set(beside) or {submission.exercise for submission in submissions.values()}:
        for learner, solved in (("solved", True), ("unsolved", False)):
            hand_in(handed_in, learner, exercise, Hostile(exercise, solved=solved).notebook())
    with _prefixes() as prefixes:
        marks = batch.grade_folder(handed_in, folder / "out", limits=limits, **{"jobs": 2, **options})
    found = left_behind([*prefixes, *leftovers])
    return Graded({(mark.learner, mark.exercise): mark for mark in marks}, found, folder / "out")


@contextmanager
def _prefixes() -> Iterator[list[str]]:
    """What the names of the batches begin with that are graded in the block."""
    prefixes = []

    @contextmanager
    def remembered(server: str):
        with workplace(server) as made:
            prefixes.append(made.prefix)
            yield made

    workplace = batch.workplace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "workplace", remembered)
        yield prefixes


def left_behind(words: Iterable[str]) -> list[str]:
    """Databases, roles, folders in /tmp and processes that have one of these words in their names."""
    words = list(words)
    conn = connect()
    names = query(conn, "SELECT datname AS name FROM pg_database UNION SELECT rolname FROM pg_roles").name.tolist()
    conn.close()
    names += [str(path) for path in Path("/tmp").iterdir()]
    deadline = time.monotonic() + 3  # the kernel takes a moment to end what was killed
    while (processes := [line for line in _command_lines() if any(word in line for word in words)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    return [name for name in [*names, *processes] if any(word in name for word in words)]


def _command_lines() -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                yield " ".join(process.cmdline())
        except psutil.Error:
            pass


def earned(mark: Mark) -> set[str]:
    """The names of the questions that were passed."""
    return {outcome.question for outcome in mark.outcomes if outcome.state == "passed"}
