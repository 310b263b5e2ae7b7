"""How long grading takes, side by side with nbgrader's autograde.

    .venv/bin/python benchmarks/grading.py

It works in temporary folders, and in databases that it drops. README.md says what is compared and how.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import numpy as np
import pandas
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console
from rich.table import Table

from pgv_helpers import settings
from pgv_helpers.course import expect
from pgv_helpers.course.build import SOLUTIONS, with_metadata
from pgv_helpers.course.question import Question, all_questions, question
from pgv_helpers.grading import submissions
from pgv_helpers.grading.batch import grade_folder

HERE = Path(__file__).parent
DATABASE, PLAIN = "02_crud", "plain"
JOBS = 2

CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "benchmark"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError()"}
c.Exchange.root = "."
"""


# -- three questions of plain functions ----------------------------------------------


@question("plain.dot", exercise=PLAIN, points=1, objective="a dot product", hints=["zip"])
def dot(learner, db, rng) -> Iterator[str]:
    a, b = rng.normal(size=(2, 5)).tolist()
    expect.close(learner.call("dot", a, b), np.dot(a, b), "The result")
    yield "right"


@question("plain.normalise", exercise=PLAIN, points=1, objective="length 1", hints=["divide"])
def normalise(learner, db, rng) -> Iterator[str]:
    vectors = rng.normal(size=(4, 3))
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expect.close(learner.call("normalise", vectors), expected, "The result")
    yield "right"


@question("plain.nearest", exercise=PLAIN, points=1, objective="the nearest", hints=["argmin"])
def nearest(learner, db, rng) -> Iterator[str]:
    vectors, wanted = rng.normal(size=(20, 3)), rng.normal(size=3)
    expected = int(np.linalg.norm(vectors - wanted, axis=1).argmin())
    expect.equal(learner.call("nearest", vectors, wanted), expected, "The result")
    yield "right"


ANSWERS = {
    "plain.dot": "def dot(a, b):\n    return sum(x * y for x, y in zip(a, b))",
    "plain.normalise": "def normalise(vectors):\n    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)",
    "plain.nearest": "def nearest(vectors, wanted):\n    return int(np.linalg.norm(vectors - wanted, axis=1).argmin())",
}

ASSERTS = {
    "plain.dot": "assert dot([1, 2], [3, 4]) == 11",
    "plain.normalise": "assert np.allclose(normalise(np.array([[3.0, 4.0]])), [[0.6, 0.8]])",
    "plain.nearest": "assert nearest(np.eye(3), np.array([0, 1, 0])) == 1",
}
"""What nbgrader runs in the place of our checks, so that both grade the same three functions."""


def register() -> None:
    """Make the plain questions an exercise like any other; the processes that grade import this file, too."""
    for item in (dot, normalise, nearest):
        all_questions()[item.name] = item
    functions = submissions.functions_of

    def functions_of(asked: Question) -> tuple[str, ...]:
        return (asked.name.partition(".")[2],) if asked.exercise == PLAIN else functions(asked)

    submissions.functions_of = functions_of


register()


def solved(exercise: str, *, for_nbgrader: bool) -> nbformat.NotebookNode:
    """The right notebook of an exercise, with nbgrader's metadata."""
    if exercise != PLAIN:
        return nbformat.read(SOLUTIONS / f"{exercise}.ipynb", as_version=4)
    cells = [new_code_cell("import numpy as np\nfrom pgv_helpers import check")]
    for name, answer in ANSWERS.items():
        first, rest = answer.split("\n", 1)
        cells.append(new_code_cell(f"{first}\n    ### BEGIN SOLUTION\n{rest}\n    ### END SOLUTION"))
        cells.append(new_code_cell(f'check("{name}")'))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = with_metadata(new_notebook(cells=cells, metadata={"kernelspec": kernel}), PLAIN)
    if for_nbgrader:
        for cell in notebook.cells:
            for name, text in ASSERTS.items():
                if cell.source == f'check("{name}")':
                    cell.source = text
    return notebook


# -- the contenders ------------------------------------------------------------------


def with_ours(exercise: str, learners: int, folder: Path, jobs: int) -> Iterator[float]:
    """`pgv grade`."""
    for number in range(learners):
        path = folder / "submissions" / f"learner{number}" / f"{exercise}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(solved(exercise, for_nbgrader=False), path)
    began = time.perf_counter()
    marks = grade_folder(folder / "submissions", folder / "out", jobs=jobs)
    yield time.perf_counter() - began
    assert [mark.points for mark in marks] == [marks[0].maximum] * learners, [mark.reason for mark in marks]


def with_nbgrader(exercise: str, learners: int, folder: Path, jobs: int) -> Iterator[float]:
    """`nbgrader autograde`, in as many processes, each with its share of the learners and a database of its own."""
    shares = np.array_split(np.arange(learners), jobs)
    for share, numbers in enumerate(shares):
        course = folder / f"course{share}"
        source = course / "source" / exercise
        source.mkdir(parents=True)
        (course / "nbgrader_config.py").write_text(CONFIG)
        nbformat.write(solved(exercise, for_nbgrader=True), source / f"{exercise}.ipynb")
        _nbgrader(course, "generate_assignment", exercise).wait()
        for number in numbers:
            path = course / "submitted" / f"learner{number}" / exercise / f"{exercise}.ipynb"
            path.parent.mkdir(parents=True)
            nbformat.write(solved(exercise, for_nbgrader=True), path)
    began = time.perf_counter()
    running = [_nbgrader(folder / f"course{share}", "autograde", exercise) for share in range(jobs)]
    codes = [process.wait() for process in running]
    yield time.perf_counter() - began
    assert not any(codes), (folder / "course0" / "log").read_text()[-3000:]


def _nbgrader(course: Path, command: str, exercise: str) -> subprocess.Popen:
    with (course / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "nbgrader", command, exercise, "--create" if command != "autograde" else "--force"],
            cwd=course, env=settings.lab_environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip


CONTENDERS: dict[str, tuple[Callable, int]] = {
    "pgv grade, two at a time": (with_ours, 2),
    "pgv grade, one at a time": (with_ours, 1),
    "nbgrader autograde, two processes": (with_nbgrader, 2),
    "nbgrader autograde, one process": (with_nbgrader, 1),
}


def measure(exercise: str, learners: int, rounds: int) -> pandas.DataFrame:
    """Seconds of each contender, in turns, in an order drawn anew each round."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(rounds):
        for name in rng.permutation(list(CONTENDERS)):
            contender, jobs = CONTENDERS[name]
            with tempfile.TemporaryDirectory(prefix="pgv-bench-") as folder:
                for seconds in contender(exercise, learners, Path(folder), jobs):
                    found.append({"exercise": exercise, "contender": name, "round": number, "seconds": seconds})
    return pandas.DataFrame(found).assign(learners=learners)


def show(measured: pandas.DataFrame) -> None:
    """A table: seconds a submission, and the ratio to ours."""
    table = Table("grading", "submissions", "seconds each", "ratio")
    for exercise, part in measured.groupby("exercise", sort=False):
        each = (part.seconds / part.learners).groupby(part.contender).median()
        for name in CONTENDERS:
            ratio = each[name] / each["pgv grade, two at a time"]
            table.add_row(f"{exercise}: {name}", str(part.learners.iloc[0]), f"{each[name]:.2f}", f"{ratio:.2f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--learners", type=int, default=40, help="how many right submissions")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--exercises", nargs="+", default=[PLAIN, DATABASE])
    parser.add_argument("--out", type=Path, default=HERE, help="where grading.csv goes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    measured = pandas.concat([measure(name, arguments.learners, arguments.rounds) for name in arguments.exercises])
    measured.to_csv(arguments.out / "grading.csv", index=False, float_format="%.3f")
    show(measured)


if __name__ == "__main__":
    main()
