"""Exercises from the shell: check a saved notebook, watch the folder, restore an exercise."""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import nbformat
import watchfiles
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from rich.console import Console
from rich.table import Table

from pgv_helpers.course import progress
from pgv_helpers.course.build import CHECK, EXERCISES, PRISTINE
from pgv_helpers.course.question import find_question, questions_of
from pgv_helpers.course.verdict import DATA_TYPE, Outcome
from pgv_helpers.errors import CourseError

CELL_SECONDS = 60
"""How long a cell of the learner's may take."""


class ExerciseError(CourseError):
    """A notebook that cannot be checked or restored."""


def check_notebook(path: Path) -> tuple[list[Outcome], list[str]]:
    """Run a saved notebook in a fresh kernel, and check every question of its exercise.

    The notebook's own check cells are left out: every question is checked,
    whatever became of the cells. So are cells with the tag `skip-execution`, by
    which a notebook marks what runs for long and no check needs; nbgrader leaves
    them out as well.

    Args:
        path: the notebook; its name is the exercise's, or begins with it and a dot.

    Returns:
        The outcomes, and a sentence for each cell that failed.

    Raises:
        ExerciseError: the file is missing or no notebook, or a cell ended the kernel.
        UnknownQuestion: its name is that of no exercise.
    """
    questions = questions_of(path.name.split(".")[0])
    notebook = _read(path)
    # The learner's kernel may be of another name; the course's is this Python.
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        interrupt_on_timeout=True,
        allow_errors=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    outcomes, failed = [], []
    # What the kernel itself says belongs to no cell.
    with client.setup_kernel(stderr=subprocess.DEVNULL):
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type != "code" or belongs_to_the_course(cell.source):
                continue
            name = f"Cell {number + 1} ({cell.source.strip().splitlines()[0][:40]})"
            if error := _execute(client, cell, number, name):
                failed.append(f"{name} failed: {error}")
        for question in questions:
            cell = nbformat.v4.new_code_cell(
                f"from pgv_helpers.course.notebook import display_data_of\ndisplay_data_of({question.name!r})"
            )
            notebook.cells.append(cell)
            error = _execute(client, cell, len(notebook.cells) - 1, f"The check of {question.name}")
            shown = [output.data[DATA_TYPE] for output in cell.outputs if DATA_TYPE in output.get("data", {})]
            lost = Outcome(question.name, "wrong", question.points, message=f"The check could not be run: {error}")
            outcomes.append(Outcome(**shown[0]) if shown else lost)
    return outcomes, failed


def find_exercise(name: str) -> Path:
    """The notebook of this path, or the exercise whose name begins so, such as `02`.

    Raises:
        ExerciseError: there is neither.
    """
    return Path(name) if Path(name).suffix == ".ipynb" else EXERCISES / _pristine(name).name


def show(outcomes: list[Outcome], failed: list[str], console: Console) -> None:
    """A table of the outcomes, and what kept cells from running."""
    marks = {"passed": "[green]✓[/]", "wrong": "[red]✗[/]", "unsolved": "[dim]·[/]"}
    table = Table("", "question", "points", "what is wrong")
    for outcome in outcomes:
        message = {"unsolved": "not solved yet", "passed": ""}.get(outcome.state, outcome.message)
        earned = outcome.points if outcome.state == "passed" else 0
        table.add_row(marks[outcome.state], outcome.question, f"{earned} of {outcome.points}", _plain(message))
    console.print(table)
    for sentence in failed:
        console.print(sentence, style="yellow", markup=False)
    earned = sum(outcome.points for outcome in outcomes if outcome.state == "passed")
    console.print(f"{earned} of {sum(outcome.points for outcome in outcomes)} points")


def watch(console: Console, folder: Path = EXERCISES) -> None:
    """Check the exercise that was saved last, at once and each time one is saved, until q is pressed or Ctrl-C.

    Shows the one thing to do next; h shows a hint to it.
    """
    console.print(f"Watching {folder.name}/. Save an exercise to have it checked; h shows a hint, q ends.")
    saved = sorted(folder.glob("*.ipynb"), key=lambda path: path.stat().st_mtime)[-1:]
    current = _check_and_say_what_is_next(saved[0], console) if saved else None
    with _pressed_keys() as pressed:
        for changes in watchfiles.watch(folder, rust_timeout=200, yield_on_timeout=True, raise_interrupt=False):
            for path in sorted({Path(path) for _, path in changes if path.endswith(".ipynb")}):
                if ".ipynb_checkpoints" not in path.parts and path.exists():
                    current = _check_and_say_what_is_next(path, console)
            for key in pressed():
                if key == "q":
                    return
                if key == "h" and current:
                    question = find_question(current.question)
                    number = progress.count_hint(question.name, len(question.hints))
                    console.print(f"Hint {number + 1} of {len(question.hints)}: {question.hints[number]}", markup=False)
                elif key == "h":
                    console.print("There is nothing left to give a hint to.")


@contextmanager
def _pressed_keys() -> Iterator[Callable[[], str]]:
    """A function that returns the keys pressed since it was last called, in lower case, without waiting.

    Input is left as it is when it is no terminal, and on Windows goes by way of msvcrt.
    """
    if not sys.stdin.isatty():
        yield lambda: ""
        return
    if os.name == "nt":
        import msvcrt

        yield lambda: msvcrt.getwch().lower() if msvcrt.kbhit() else ""
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed() -> str:
        waiting = select.select([terminal], [], [], 0)[0]
        return os.read(terminal, 100).decode(errors="ignore").lower() if waiting else ""

    tty.setcbreak(terminal)  # keys at once; output and Ctrl-C as ever
    try:
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def restore(exercise: str) -> tuple[Path, Path | None]:
    """Put an exercise back to its beginning; a copy of the learner's stays beside it.

    Args:
        exercise: its name or the beginning of it, such as `02`.

    Returns:
        The exercise, and the copy (None when there was nothing to keep).

    Raises:
        ExerciseError: no exercise, or more than one, begins so.
    """
    pristine = _pristine(exercise)
    target, kept = EXERCISES / pristine.name, None
    if target.exists() and target.read_bytes() != pristine.read_bytes():
        kept = target.with_name(f"{target.stem}.{datetime.now():%Y-%m-%d-%H%M%S-%f}.ipynb")
        target.rename(kept)
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    shutil.copyfile(pristine, unfinished)
    unfinished.replace(target)
    return target, kept


def _pristine(exercise: str) -> Path:
    """The unsolved copy of the exercise whose name begins so."""
    matching = sorted(PRISTINE.glob(f"{Path(exercise).name.split('.')[0]}*.ipynb"))
    if len(matching) != 1:
        names = ", ".join(path.stem for path in matching or sorted(PRISTINE.glob("*.ipynb")))
        raise ExerciseError(f"{'No' if not matching else 'More than one'} exercise begins with {exercise!r}: {names}.")
    return matching[0]


def _check_and_say_what_is_next(path: Path, console: Console) -> Outcome | None:
    """Check a notebook, show how far it has come, and return the question to do next."""
    try:
        with console.status(f"checking {path.name} …"):
            outcomes, failed = check_notebook(path)
    except CourseError as error:
        console.print(str(error), style="yellow", markup=False)
        return None
    passed = sum(outcome.state == "passed" for outcome in outcomes)
    console.rule(f"{path.stem}: {passed} of {len(outcomes)}")
    for sentence in failed:
        console.print(sentence, style="yellow", markup=False)
    # What was tried and is wrong comes before what was not begun.
    left = [outcome for state in ("wrong", "unsolved") for outcome in outcomes if outcome.state == state]
    if not left:
        console.print("Everything is solved.", style="green")
        return None
    if left[0].state == "unsolved":
        objective = find_question(left[0].question).objective
        console.print(f"Next: {left[0].question}, to {objective}.", markup=False)
    else:
        console.print(f"✗ {left[0].question}", style="bold red")
        console.print(left[0].message, markup=False)
    return left[0]


def belongs_to_the_course(source: str) -> bool:
    """Whether a cell only checks, or asks for a hint, a solution or the progress."""
    lines = [line.strip() for line in source.strip().splitlines() if line.strip()]
    calls = ("hint(", "solution(", "progress(", "check(")
    return all(CHECK.match(line) or line.startswith(calls) for line in lines)


def _execute(client: NotebookClient, cell, number: int, name: str) -> str:
    """Run a cell; what went wrong, or an empty text."""
    try:
        client.execute_cell(cell, number)
    except CellTimeoutError:
        return f"it did not finish within {CELL_SECONDS} seconds"
    except DeadKernelError:
        raise ExerciseError(
            f"{name} ended the kernel. Does it, or a function that it calls, end the program?"
        ) from None
    errors = [output for output in cell.outputs if output.output_type == "error"]
    if errors and errors[0].ename == "KeyboardInterrupt":
        return f"it did not finish within {CELL_SECONDS} seconds"
    return f"{errors[0].ename}: {errors[0].evalue}".strip() if errors else ""


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ExerciseError(f"There is no file {path}.") from None
    except Exception as error:  # nbformat raises what its parsers and validators raise
        raise ExerciseError(
            f"{path} is no notebook that can be read ({type(error).__name__}: {error}).\n"
            f"`pgv exercise reset {path.stem}` restores it and keeps this file beside it."
        ) from error


def _plain(message: str) -> str:
    """The message with rich's markup switched off."""
    return message.replace("[", "\\[")
