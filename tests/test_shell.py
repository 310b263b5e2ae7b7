"""Exercises from the shell: pgv check, pgv watch, pgv exercise reset."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pexpect
import pytest

from pgv_helpers.course import shell
from pgv_helpers.course.build import EXERCISES, PRISTINE, SOLUTIONS
from pgv_helpers.course.question import questions_of
from pgv_helpers.errors import CourseError

PGV = Path(sys.executable).with_name("pgv")
NAME = "02_crud"
TOTAL = sum(question.points for question in questions_of(NAME))


def edit(path, **sources):
    """Replace the source of cells, by their ids."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.id in sources:
            cell.source = sources.pop(cell.id)
    assert not sources
    nbformat.write(notebook, path)


def pgv(*arguments):
    finished = subprocess.run(
        [PGV, *arguments], env=os.environ | {"COLUMNS": "150"}, capture_output=True, text=True, timeout=120
    )
    return finished.returncode, finished.stdout + finished.stderr


@pytest.fixture
def folder(tmp_path):
    """Two exercises of the same name: one in work, one solved."""
    (tmp_path / "exercises").mkdir()
    shutil.copy(EXERCISES / f"{NAME}.ipynb", tmp_path / "exercises")
    return tmp_path / "exercises"


def test_check_lists_every_question_of_a_solved_notebook():
    code, shown = pgv("check", str(SOLUTIONS / f"{NAME}.ipynb"))
    assert code == 0, shown
    assert shown.count("✓") == len(questions_of(NAME)) and f"{TOTAL} of {TOTAL} points" in shown


def test_check_tells_solved_wrong_and_unsolved_apart(folder):
    solved = {cell.id: cell.source for cell in nbformat.read(SOLUTIONS / f"{NAME}.ipynb", as_version=4).cells}
    edit(
        folder / f"{NAME}.ipynb",
        create=solved["create"],
        delete="def delete_notes(conn, titles):\n    return 3 [",
        search="def search_notes(conn, category, embedding, limit):\n    return [embedding[0]]",
        insert="",
    )
    code, shown = pgv("check", str(folder / f"{NAME}.ipynb"))
    assert code == 1 and f"1 of {TOTAL} points" in shown
    assert re.search(r"✓ │ crud.create_notes +│ 1 of 1", shown)
    assert re.search(r"✗ │ crud.insert_notes +│ 0 of 2 +│ There is no function insert_notes yet", shown)
    assert re.search(r"· │ crud.upsert_notes +│ 0 of 2 +│ not solved yet", shown)
    assert re.search(r"✗ │ crud.search_notes +│ 0 of 3 +│ Each item of the result should be a tuple", shown)
    assert re.search(r"Cell \d+ \(def delete_notes\(conn, titles\):\) failed: SyntaxError", shown)


def test_every_question_is_checked_although_the_check_cells_are_gone(folder):
    path = folder / f"{NAME}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith("check(")]
    nbformat.write(notebook, path)
    outcomes, failed = shell.check_notebook(path)
    assert [outcome.question for outcome in outcomes] == [question.name for question in questions_of(NAME)]
    assert failed == []


def test_a_cell_that_never_ends_and_one_that_ends_the_program(folder, monkeypatch):
    monkeypatch.setattr(shell, "CELL_SECONDS", 2)
    path = folder / f"{NAME}.ipynb"
    edit(path, create="while True: pass")
    outcomes, failed = shell.check_notebook(path)
    assert failed == ["Cell 5 (while True: pass) failed: it did not finish within 2 seconds"]
    assert [outcome.state for outcome in outcomes] == ["wrong"] + ["unsolved"] * 6
    edit(path, create="import os; os._exit(1)")
    with pytest.raises(CourseError, match=r"Cell 5 \(import os; os._exit\(1\)\) ended the kernel"):
        shell.check_notebook(path)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("02_crud.ipynb", "{broken", "is no notebook that can be read(.|\n)*pgv exercise reset 02_crud"),
        ("02_crud.ipynb", None, "There is no file"),
        ("notes.ipynb", "{}", "There is no exercise 'notes'. There are: 02_crud"),
    ],
)
def test_a_file_that_cannot_be_checked(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    code, shown = pgv("check", str(tmp_path / name))
    assert code == 1 and re.search(words, shown) and "Traceback" not in shown


def test_watch_shows_the_one_thing_to_do_next_and_a_hint_at_a_key(folder):
    code = (
        "import sys; from pathlib import Path; from rich.console import Console; from pgv_helpers.course import shell\n"
        "shell.watch(Console(width=150, color_system=None), Path(sys.argv[1]))"
    )
    terminal = pexpect.spawn(sys.executable, ["-c", code, str(folder)], encoding="utf-8", timeout=60)
    path = folder / f"{NAME}.ipynb"
    try:
        terminal.expect("Watching exercises/")
        terminal.expect(rf"{NAME}: 0 of 7")
        terminal.expect(r"Next: crud.create_notes, to declare a table[^\r\n]*\r\n")
        terminal.send("h")
        terminal.expect(r"Hint 1 of 3: Every column")
        edit(path, upsert="def upsert_notes(conn, notes):\n    pass")
        terminal.expect("✗ crud.upsert_notes")
        terminal.expect("The table notes holds 6 rows, which is too few")
        terminal.send("h")
        terminal.expect(r"Hint 1 of 3: An INSERT may say what to do")
        terminal.send("H")
        terminal.expect(r"Hint 2 of 3")
        path.write_text("{broken")
        terminal.expect("is no notebook that can be read")
        shutil.copy(SOLUTIONS / path.name, path)
        terminal.expect(rf"{NAME}: 7 of 7")
        terminal.expect("Everything is solved")
        terminal.send("h")
        terminal.expect("nothing left to give a hint to")
        terminal.send("q")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 0


def test_watch_ends_with_ctrl_c():
    terminal = pexpect.spawn(str(PGV), ["watch"], encoding="utf-8", timeout=60)
    terminal.expect("Watching exercises/")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    assert "Traceback" not in terminal.before
    terminal.close(force=True)


def test_reset_restores_the_exercise_and_keeps_the_learners_copy(folder, monkeypatch):
    monkeypatch.setattr(shell, "EXERCISES", folder)
    path = folder / f"{NAME}.ipynb"
    assert shell.restore("02") == (path, None), "nothing to keep"
    edit(path, create="mine = 1")
    mine = path.read_bytes()
    restored, kept = shell.restore("02")
    assert restored == path and kept.read_bytes() == mine and kept.parent == folder
    assert path.read_bytes() == (PRISTINE / path.name).read_bytes()
    path.unlink()
    assert shell.restore("02_crud.ipynb") == (path, None)
    assert sorted(folder.iterdir()) == sorted([path, kept])


def test_reset_of_an_exercise_that_is_not_there_names_those_that_are():
    code, shown = pgv("exercise", "reset", "99")
    assert code == 1 and "No exercise begins with '99': 02_crud" in shown


def test_an_exercise_is_found_by_the_beginning_of_its_name_and_a_copy_by_its_file(folder):
    assert shell.find_exercise("02") == EXERCISES / f"{NAME}.ipynb"
    copy = folder / f"{NAME}.2026-01-01.ipynb"
    shutil.copy(SOLUTIONS / f"{NAME}.ipynb", copy)
    outcomes, _ = shell.check_notebook(shell.find_exercise(str(copy)))
    assert {outcome.state for outcome in outcomes} == {"passed"}


def test_an_exercise_without_a_number_is_found_and_its_long_cells_are_left_out():
    path = shell.find_exercise("capstone_i")
    assert path == EXERCISES / "capstone_index_benchmark.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    left_out = {cell.id for cell in cells if "skip-execution" in cell.metadata.get("tags", [])}
    assert {"random", "clustered", "drop"} <= left_out, "the runs at full size, and what drops their tables"
    code, shown = pgv("check", str(SOLUTIONS / path.name))
    assert code == 0 and "13 of 13 points" in shown and "failed" not in shown, shown
    code, shown = pgv("check", "capstone_i")
    assert code == 1 and "0 of 13 points" in shown and "failed" not in shown, shown


def test_build_finds_everything_in_step():
    assert "Everything is in step." in pgv("build")[1]
