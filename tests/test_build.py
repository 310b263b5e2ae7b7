"""Exercises are generated from solutions, in step with them, and nbgrader takes both as they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from pgv_helpers.course import build as builder
from pgv_helpers.course.build import EXERCISES, PRISTINE, SOLUTIONS, BuildError, unsolve, with_metadata
from pgv_helpers.course.question import questions_of

NAMES = sorted(path.stem for path in SOLUTIONS.glob("*.ipynb"))
NBGRADER = Path(sys.executable).with_name("nbgrader")
# nbgrader calls alembic by its bare name.
ENVIRONMENT = os.environ | {"PATH": f"{NBGRADER.parent}{os.pathsep}{os.environ['PATH']}"}


def solved(name):
    return nbformat.read(SOLUTIONS / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_in_step(name):
    made = with_metadata(solved(name), name)
    assert made == solved(name), "run `pgv build`"
    text = nbformat.writes(unsolve(made)) + "\n"
    assert (EXERCISES / f"{name}.ipynb").read_text() == text, "run `pgv build`"
    assert (PRISTINE / f"{name}.ipynb").read_text() == text, "run `pgv build`"


def test_there_is_no_exercise_without_its_solution():
    assert [path.stem for path in sorted(EXERCISES.glob("*.ipynb")) if "." not in path.stem] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_shows_no_solution_and_no_output(name):
    notebook = nbformat.read(EXERCISES / f"{name}.ipynb", as_version=4)
    answers = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    assert len(answers) == len(questions_of(name))
    for cell in answers:
        assert "SOLUTION" not in cell.source
        assert cell.source.endswith("# YOUR CODE HERE\n    raise NotImplementedError()")
        compile(cell.source, cell.id, "exec")
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert [cell.id for cell in notebook.cells] == [cell.id for cell in solved(name).cells], "ids are stable"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Build in a copy."""
    for constant in ("SOLUTIONS", "EXERCISES", "PRISTINE"):
        monkeypatch.setattr(builder, constant, tmp_path / constant.lower())
    shutil.copytree(SOLUTIONS, tmp_path / "solutions")
    return tmp_path


def test_building_is_deterministic_and_writes_only_what_changed(elsewhere):
    assert len(builder.build()) == 2 * len(NAMES)
    assert builder.build() == []
    (elsewhere / "exercises" / f"{NAMES[0]}.ipynb").write_text("broken")
    assert builder.build() == [elsewhere / "exercises" / f"{NAMES[0]}.ipynb"]


def test_a_solution_that_does_not_match_its_questions_is_refused():
    notebook = solved("02_crud")
    check = next(cell for cell in notebook.cells if cell.source == 'check("crud.insert_notes")')
    notebook.cells.remove(check)
    with pytest.raises(BuildError, match="02_crud: the notebook checks .*but its questions are .*crud.insert_notes"):
        with_metadata(notebook, "02_crud")
    notebook.cells.insert(0, check)
    with pytest.raises(BuildError, match="no cell with ### BEGIN SOLUTION before check"):
        with_metadata(notebook, "02_crud")


@pytest.fixture(scope="module")
def nbgrader_course(tmp_path_factory):
    """A course of nbgrader with our notebooks as they are, and two learners: one solved everything, one nothing."""
    root = tmp_path_factory.mktemp("nbgrader")
    for name in NAMES:
        for folder, source in (
            (f"source/{name}", SOLUTIONS),
            (f"submitted/solver/{name}", SOLUTIONS),
            (f"submitted/starter/{name}", EXERCISES),
        ):
            (root / folder).mkdir(parents=True)
            shutil.copy(source / f"{name}.ipynb", root / folder)
    return root


def nbgrader(root, *arguments):
    finished = subprocess.run(
        [NBGRADER, *arguments], cwd=root, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    return finished.returncode, finished.stdout + finished.stderr


# Each notebook is executed by nbval, too, solved and unsolved; here it is nbgrader's commands that are tried.


@pytest.mark.parametrize("name", ["02_crud"])
def test_nbgrader_validates_the_solved_and_not_the_unsolved(name):
    assert "Success! Your notebook passes all the tests." in nbgrader(SOLUTIONS, "validate", f"{name}.ipynb")[1]
    said = nbgrader(EXERCISES, "validate", f"{name}.ipynb")[1]
    assert f"VALIDATION FAILED ON {len(questions_of(name))} CELL(S)" in said


@pytest.mark.parametrize("name", NAMES)
def test_nbgrader_generates_the_same_exercise(nbgrader_course, name):
    code, said = nbgrader(nbgrader_course, "generate_assignment", "--force", name)
    assert code == 0, said
    released = nbformat.read(nbgrader_course / "release" / name / f"{name}.ipynb", as_version=4)
    ours = nbformat.read(EXERCISES / f"{name}.ipynb", as_version=4)
    assert [cell.source for cell in released.cells] == [cell.source for cell in ours.cells]
    assert [cell.metadata for cell in released.cells] == [cell.metadata for cell in ours.cells]


@pytest.mark.parametrize("name", ["02_crud"])
def test_nbgrader_grades_the_solved_and_the_unsolved(nbgrader_course, name):
    assert nbgrader(nbgrader_course, "generate_assignment", "--force", name)[0] == 0
    code, said = nbgrader(nbgrader_course, "autograde", name)
    assert code == 0, said
    marks = "from nbgrader.api import Gradebook\nwith Gradebook('sqlite:///gradebook.db') as book:\n" + (
        f"    print({{s.student_id: (s.score, s.max_score) for s in book.assignment_submissions({name!r})}})"
    )
    command = [sys.executable, "-c", marks]
    found = subprocess.run(command, cwd=nbgrader_course, env=ENVIRONMENT, capture_output=True, text=True).stdout
    total = float(sum(question.points for question in questions_of(name)))
    assert found.strip() in (
        str({"solver": (total, total), "starter": (0.0, total)}),
        str({"starter": (0.0, total), "solver": (total, total)}),
    )
