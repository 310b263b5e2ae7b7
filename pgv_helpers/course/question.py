"""What a question is, and where to find them all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
from psycopg2.extensions import connection as Connection

from pgv_helpers.course import questions
from pgv_helpers.course.learner import Learner
from pgv_helpers.errors import CourseError

Check = Callable[[Learner, Connection, np.random.Generator], Iterator[str]]
"""A check calls the learner's functions and looks at what they return and at the database.

It is a generator: after each thing that turned out right it yields a sentence
that says so, and for the first thing that is wrong an expectation (`expect.py`)
raises `Wrong`. Its inputs come from the random generator and its expected
answers are computed here, so there is nothing to memorise and nothing to steal.
"""


class UnknownQuestion(CourseError):
    """There is no question of this name."""


@dataclass(frozen=True)
class Question:
    """A question of an exercise.

    Attributes:
        name: `"<subject>.<what to write>"`, unique in the course.
        exercise: the notebook's name without `.ipynb`, such as `"02_crud"`.
        points: what it is worth.
        objective: the lesson's objective that it tests.
        hints: up to three, from gentle to plain.
        check: see `Check`.
        changes: the functions that are to change tables which are there, in their rows or their definition. What
            any other function changes of one is wrong (see `judge`), so that a search that empties the table
            is not right about an empty table.
    """

    name: str
    exercise: str
    points: int
    objective: str
    hints: tuple[str, ...]
    check: Check
    changes: tuple[str, ...] = ()

    @property
    def grade_id(self) -> str:
        """The name as nbgrader takes it: letters, digits, hyphen, underscore."""
        return self.name.replace(".", "-")


def question(
    name: str, *, exercise: str, points: int, objective: str, hints: list[str], changes: Sequence[str] = ()
) -> Callable[[Check], Question]:
    """Make a question of the check below it (a decorator)."""
    return lambda check: Question(name, exercise, points, objective, tuple(hints), check, tuple(changes))


@cache
def all_questions() -> dict[str, Question]:
    """Every question of the course by its name, in the order of the exercises."""
    modules = [import_module(f"{questions.__name__}.{module.name}") for module in iter_modules(questions.__path__)]
    found = [item for module in modules for item in vars(module).values() if isinstance(item, Question)]
    return {question.name: question for question in sorted(found, key=lambda question: question.exercise)}


def find_question(name: str) -> Question:
    """The question of this name.

    Raises:
        UnknownQuestion: with the names that are like it.
    """
    known = all_questions()
    if name not in known:
        like = get_close_matches(str(name), known, cutoff=0.6)
        help = f"Did you mean {' or '.join(map(repr, like))}?" if like else f"The questions are: {', '.join(known)}."
        raise UnknownQuestion(f"There is no question {name!r}. {help}")
    return known[name]


def questions_of(exercise: str) -> list[Question]:
    """The questions of an exercise, in their order.

    Raises:
        UnknownQuestion: when there is no such exercise.
    """
    found = [question for question in all_questions().values() if question.exercise == exercise]
    if not found:
        exercises = dict.fromkeys(question.exercise for question in all_questions().values())
        raise UnknownQuestion(f"There is no exercise {exercise!r}. There are: {', '.join(exercises)}.")
    return found
