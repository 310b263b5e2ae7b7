"""What a learner calls in a notebook: check, hint, solution, progress."""

from typing import TYPE_CHECKING, Any

import numpy as np
from IPython import get_ipython
from IPython.display import Code, Markdown, display

from pgv_helpers import settings
from pgv_helpers.course import progress as state
from pgv_helpers.course.judge import judge, scratch_schema
from pgv_helpers.course.learner import NotebookLearner
from pgv_helpers.course.question import Question, all_questions, find_question
from pgv_helpers.course.verdict import DATA_TYPE, CheckFailed, Outcome
from pgv_helpers.errors import CourseError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Interrupted(CourseError):
    """The learner stopped a check."""


class NotPassedYet(CourseError):
    """The solution is shown after the question was passed."""


def check(name: str) -> None:
    """Check your answer to a question, and show what is right and the first thing that is wrong.

    It calls your functions with inputs of its own, in a schema of its own, and
    looks at what they return and at what the database then holds. Your tables
    are not touched.

    Raises:
        CheckFailed: the answer did not pass (an AssertionError; drawn without a traceback).
        UnknownQuestion: there is no question of this name.
    """
    question = find_question(name)
    try:
        outcome = outcome_of(question, get_ipython().user_ns)
    except KeyboardInterrupt:
        raise Interrupted(f"The check of {name} was interrupted. It counts as no attempt.") from None
    state.remember(outcome)
    if outcome.state != "passed":
        raise CheckFailed(outcome) from None
    # Displayed and not returned: nbgrader takes a cell's value for a grade.
    display(outcome)


def hint(name: str) -> None:
    """Show a hint to a question; each call adds the next one, a little plainer."""
    question = find_question(name)
    shown = state.count_hint(name, len(question.hints)) + 1
    hints = [f"**Hint {n} of {len(question.hints)}.** {text}" for n, text in enumerate(question.hints[:shown], 1)]
    display(Markdown("\n\n".join(hints)))


def solution(name: str) -> None:
    """Show the course's own answer to a question that you have passed.

    Raises:
        NotPassedYet: when you have not.
    """
    question = find_question(name)
    if not state.has_passed(name):
        raise NotPassedYet(f'Pass the question first; until then there is hint("{name}").')
    display(Code(solution_code(question), language="python"))


def progress() -> "Figure":
    """A figure of the course: what is done, by exercise and points."""
    from pgv_helpers.plots import plot_progress

    done = state.read()
    points: dict[str, list[int]] = {}
    for question in all_questions().values():
        earned, total = points.setdefault(question.exercise, [0, 0])
        passed = "passed" in done.get(question.name, {})
        points[question.exercise] = [earned + question.points * passed, total + question.points]
    return plot_progress(points)


def outcome_of(question: Question, namespace: dict[str, Any]) -> Outcome:
    """Check the answer that this namespace holds, with fresh random inputs."""
    with scratch_schema() as (db, schema):
        learner = NotebookLearner(namespace, schema)
        try:
            return judge(question, learner, db, np.random.default_rng())
        finally:
            learner.close()


def display_data_of(name: str) -> None:
    """Check an answer as `check` does, but display the outcome as data, for whoever runs this kernel."""
    outcome = outcome_of(find_question(name), get_ipython().user_ns)
    state.remember(outcome)
    display({DATA_TYPE: outcome.as_dict()}, raw=True)


def solution_code(question: Question) -> str:
    """The cell of solutions/ that answers the question, without the markers."""
    import nbformat  # takes a second, which a check need not wait for

    path = settings.COURSE_DIR / "solutions" / f"{question.exercise}.ipynb"
    if not path.exists():
        raise CourseError(f"The solutions are not in this copy of the course: there is no {path.name} in solutions/.")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == question.grade_id:
            return "\n".join(line for line in cell.source.split("\n") if not line.strip().startswith("### "))
    raise CourseError(f"solutions/{question.exercise}.ipynb has no cell for {question.name}: run `pgv build`.")
