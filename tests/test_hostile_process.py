"""Submissions that attack the process, the system or the notebook file: they get what they have solved, and no more."""

import re
import secrets
import socket
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pgv_helpers.course.learner import TimeIsUp, time_limit
from pgv_helpers.course.question import questions_of
from pgv_helpers.db import database_url
from pgv_helpers.grading.batch import grade_folder
from pgv_helpers.settings import COURSE_DIR
from tests.hostile import Hostile, earned, grade_batch
from tests.hostile.process import ENDS, LIES, NOTEBOOKS, PIPES, READS

SUBMISSIONS = LIES | ENDS | PIPES | READS | NOTEBOOKS
BESIDE = ("02_crud", "03_distance_operators")
LEFT = ("pgv-hostile-sleep", "pgv-hostile-file", "pgv-hostile-pickle")


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    abstract = f"pgv-{secrets.token_hex(4)}"
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{abstract}")
        unix.listen()
        server = re.search(r"host=([^&]+)", database_url())
        words = {
            "@course": COURSE_DIR, "@folder": folder, "@home": Path.home(), "@abstract": abstract,
            "@port": listening.getsockname()[1], "@server": f"{server[1] if server else '/tmp'}/.s.PGSQL.5432",
        }  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SECRET_OF_THE_GRADER", "SECRET_OF_THE_GRADER")
            yield grade_batch(
                folder, {name: _told(each, words) for name, each in SUBMISSIONS.items()}, leftovers=LEFT, beside=BESIDE
            )


def _told(submission: Hostile, words: dict) -> Hostile:
    before = submission.before
    for word, value in words.items():
        before = tuple(source.replace(word, str(value)) for source in before)
    return replace(submission, before=before)


def all_but(exercise: str, *names: str) -> set[str]:
    return {question.name for question in questions_of(exercise)} - set(names)


def test_the_batch_is_finished_and_nothing_is_left(graded):
    assert len(graded.marks) == len(SUBMISSIONS) + 2 * len(BESIDE)
    assert {mark.status for mark in graded.marks.values()} == {"graded"}
    assert not graded.left_behind


@pytest.mark.parametrize("exercise", BESIDE)
def test_solved_and_unsolved_submissions_beside_them_are_right(graded, exercise):
    solved, unsolved = (graded.marks[learner, exercise] for learner in ("solved", "unsolved"))
    assert earned(solved) == all_but(exercise) and not solved.notes and not solved.tampering
    assert {outcome.state for outcome in unsolved.outcomes} == {"unsolved"} and not unsolved.tampering


@pytest.mark.parametrize("name", [name for name, each in SUBMISSIONS.items() if not each.solved])
def test_what_is_not_solved_earns_nothing(graded, name):
    assert not earned(graded[name]), graded[name]


@pytest.mark.parametrize("name", [name for name, each in SUBMISSIONS.items() if each.solved])
def test_what_is_solved_earns_its_points_all_the_same(graded, name):
    mark, submission = graded[name], SUBMISSIONS[name]
    assert earned(mark) == all_but(submission.exercise, *submission.answers), mark


TOLD = {
    "a fork bomb": "os.fork",
    "a process that stays": "os.fork",
    "other people's files": "opened .*/solutions",
    "the grader's environment": "opened /proc/1/environ",
    "other processes' memory": "os.kill 1",
    "more rights": "subprocess.Popen su",
    "the network": r"connected to \('1.1.1.1', 53\)",
}


@pytest.mark.parametrize("name", TOLD)
def test_the_teacher_is_told_what_it_tried(graded, name):
    assert any(re.match(TOLD[name], told) for told in graded[name].tampering), graded[name].tampering


@pytest.mark.parametrize("name", [name for name, each in SUBMISSIONS.items() if "worked: " in str(each.before)])
def test_nothing_that_was_attempted_has_worked(graded, name):
    # Another cell may have failed on the way, where memory or a disk was full.
    (told,) = [note for note in graded[name].notes if "RuntimeError: worked:" in note]
    assert told.endswith("failed: RuntimeError: worked: []")


def test_pages_show_what_was_handed_in_as_text(graded):
    pages = [path for path in graded.out.rglob("*") if path.suffix in (".html", ".csv", ".json") and path.is_file()]
    assert len([path for path in pages if path.parent.name == "feedback"]) == len({name for name, _ in graded.marks})
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert "\u202e" not in text or path.suffix == ".csv", path
        if path.suffix == ".html":
            assert "<script" not in text and "javascript:" not in re.sub(r"<pre.*?</pre>", "", text, flags=re.S), path


NAMES = (
    "../../x",
    "CON",
    "<script>alert(8)<",
    "\u202egnp.exe",
    "=HYPERLINK(1)",
    "a" * 300,
    "'; DROP TABLE notes; --",
    "\x1b[2J",
)


def test_learners_may_be_called_anything(tmp_path):
    """In a zip, where a name may hold what no folder's name can."""
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        for name in NAMES:
            archive.writestr(f"{name}/02_crud.ipynb", "{")
    marks = grade_folder(tmp_path / "class.zip", tmp_path / "a" / "b" / "out")
    assert len({mark.learner for mark in marks}) == len(marks) >= len(NAMES) - 1
    assert {mark.status for mark in marks} == {"unreadable"}
    assert {path.name for path in tmp_path.iterdir()} == {"class.zip", "a"}
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"out"}
    for path in (tmp_path / "a").rglob("*.html"):
        assert "<script" not in path.read_text(encoding="utf-8") and path.stem.isascii()


def test_a_check_that_what_came_back_keeps_busy_is_given_up():
    began = time.monotonic()
    with pytest.raises(TimeIsUp), time_limit(0.2):
        re.search("(a*)*b", "a" * 50)
    assert time.monotonic() - began < 5


def test_without_a_sandbox_a_solved_notebook_has_full_marks_and_leaves_no_process(tmp_path):
    graded = grade_batch(tmp_path, {"again": Hostile(solved=True)}, jobs=1, trusted=True)
    assert earned(graded["again"]) == earned(graded["solved"]) == all_but("02_crud") and not earned(graded["unsolved"])
    assert not graded.left_behind
