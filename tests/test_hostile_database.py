"""What submissions try by way of the database gives them nothing, and leaves the others their points."""

import re

import pytest

from pgv_helpers.grading.sandbox import Limits
from tests.hostile import Graded, earned, grade_batch
from tests.hostile.database import DATABASE, INSERTS, REFUSED, SEARCHES

LIMITS = Limits(call_seconds=2, cell_seconds=4, seconds=30, database_bytes=80 * 2**20)


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Graded:
    return grade_batch(tmp_path_factory.mktemp("hostile"), DATABASE, limits=LIMITS)


def message(mark, name: str) -> str:
    return next(outcome.message for outcome in mark.outcomes if outcome.question == name)


def test_the_batch_is_finished_and_leaves_nothing_behind(graded):
    assert len(graded.marks) == len(DATABASE) + 2 * len({submission.exercise for submission in DATABASE.values()})
    assert {mark.status for mark in graded.marks.values()} == {"graded"}
    assert graded.left_behind == []


def test_solved_and_unsolved_ones_beside_them_have_their_points(graded):
    for (learner, _), mark in graded.marks.items():
        if learner in ("solved", "unsolved"):
            wrong = [(outcome.question, outcome.message) for outcome in mark.outcomes if outcome.state == "wrong"]
            assert (mark.points, wrong) == (mark.maximum * (learner == "solved"), []) and not mark.tampering


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_learners_is_refused_and_the_teacher_sees_it(graded, name):
    assert graded[name].points == 0
    assert any("the database refused" in what for what in graded[name].tampering)


def test_there_is_one_database_and_one_role(graded):
    mark = graded["logs in elsewhere"]
    assert mark.points == 0
    for words in ("a login as 'postgres'", "to the database 'postgres'", "_checker'"):
        assert any(words in what for what in mark.tampering), mark.tampering


SAID = {
    "a view in the place of the table": "replaced by something that is no table",
    "a materialized view": "replaced by something that is no table",
    "a dropped schema": "was dropped",
    "many inserts in a pipeline": r"\d{4} statements of INSERT were sent",
    "a recording that lies": r"\d{4} statements of INSERT were sent",
    "a statement that goes on": "still running",
    "a sleep": "did not finish|did not end",
    "advisory locks": "locks in the database",
    "a large table": "its database grew",
    "large objects": "its database grew",
    "temporary files": "temporary file size",
}


@pytest.mark.parametrize("name", INSERTS)
def test_notes_that_are_not_in_the_table_are_not_there(graded, name):
    mark = graded[name]
    assert mark.points == 0
    assert re.search(SAID.get(name, "."), message(mark, "crud.insert_notes")), message(mark, "crud.insert_notes")


def test_who_speaks_no_postgresql_is_heard_afterwards(graded):
    mark = graded["speaks nonsense"]
    assert mark.points == mark.maximum
    assert any("sockets at once" in what for what in mark.tampering)
    assert any("connections at once" in what for what in mark.tampering)


def test_nothing_is_done_between_the_calls(graded):
    assert graded["deletes in the background"].points == 0


@pytest.mark.parametrize("name", SEARCHES)
def test_the_rest_of_a_check_cannot_be_made_right(graded, name):
    mark = graded[name]
    if name == "a pattern that takes for ever":  # it is right, and a pattern to nobody
        assert earned(mark) == {"filtering.partitions"}, message(mark, "filtering.partitions")
    else:
        assert mark.points == 0
        assert re.search(
            "changed rows|several statements|does not allow a function", "".join(o.message for o in mark.outcomes)
        )


def test_other_drivers_are_as_good(graded):
    mark = graded["other drivers"]
    assert earned(mark) == {"crud.read_embeddings", "crud.delete_notes"}, [o.message for o in mark.outcomes]
    assert not mark.tampering
