"""Generate exercises/ from solutions/, by nbgrader's own preprocessors.

nbgrader's markers and cell metadata are the convention, so the notebooks of
both folders go through its `validate`, `generate_assignment` and `autograde`
as they are (https://nbgrader.readthedocs.io).
"""

import os
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from pgv_helpers import settings
from pgv_helpers.course.question import Question, find_question, questions_of
from pgv_helpers.errors import CourseError

SOLUTIONS = settings.COURSE_DIR / "solutions"
EXERCISES = settings.COURSE_DIR / "exercises"
PRISTINE = Path(__file__).parent / "pristine"
"""Unsolved copies inside the package, from which `pgv exercise reset` restores."""

CHECK = re.compile(r'^check\("([^"]+)"\)$')


class BuildError(CourseError):
    """A solution notebook that cannot become an exercise."""


def build() -> list[Path]:
    """Write nbgrader's metadata into solutions/, and exercises/ from it; return the files that changed."""
    changed = []
    for path in sorted(SOLUTIONS.glob("*.ipynb")):
        solved = with_metadata(nbformat.read(path, as_version=4), path.stem)
        unsolved = nbformat.writes(unsolve(solved)) + "\n"
        wanted = {path: nbformat.writes(solved) + "\n", EXERCISES / path.name: unsolved, PRISTINE / path.name: unsolved}
        for file, text in wanted.items():
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                file.parent.mkdir(exist_ok=True)
                unfinished = file.with_suffix(".unfinished")
                unfinished.write_text(text, encoding="utf-8")
                os.replace(unfinished, file)
                changed.append(file)
    return changed


def with_metadata(notebook: NotebookNode, exercise: str) -> NotebookNode:
    """The solved notebook with nbgrader's metadata on the answer and on the check of each question.

    Raises:
        BuildError: when its cells and the questions of the exercise do not match.
    """
    answer = None
    checked: list[Question] = []
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)
        if cell.cell_type != "code":
            continue
        if "### BEGIN SOLUTION" in cell.source:
            answer = cell
        elif name := CHECK.match(cell.source.strip()):
            question = find_question(name[1])
            if answer is None:
                raise BuildError(f"{exercise}: no cell with ### BEGIN SOLUTION before {cell.source}")
            answer.metadata["nbgrader"] = _metadata(question.grade_id, solution=True)
            cell.metadata["nbgrader"] = _metadata(f"check-{question.grade_id}", points=question.points)
            checked.append(question)
            answer = None
    if checked != questions_of(exercise):
        raise BuildError(
            f"{exercise}: the notebook checks {[question.name for question in checked]}, "
            f"but its questions are {[question.name for question in questions_of(exercise)]}"
        )
    return notebook


def unsolve(solved: NotebookNode) -> NotebookNode:
    """The exercise to a solved notebook: stubs for the answers, and no outputs."""
    from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, ClearSolutions, ComputeChecksums, LockCells

    notebook, resources = nbformat.from_dict(solved), {}
    for preprocessor in (LockCells, ClearSolutions, ClearOutput, CheckCellMetadata, ComputeChecksums):
        notebook, resources = preprocessor().preprocess(notebook, resources)
    return notebook


def _metadata(grade_id: str, *, solution: bool = False, points: int | None = None) -> dict:
    metadata = {
        "schema_version": 3, "grade_id": grade_id, "solution": solution,
        "grade": points is not None, "locked": points is not None, "task": False,
    }  # fmt: skip
    return metadata if points is None else metadata | {"points": points}
