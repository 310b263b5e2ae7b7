"""The marks of a class on disk: for spreadsheets, for Canvas and Moodle, for the learners and for the teacher."""

import csv
import hashlib
import html
import io
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from pgv_helpers.course.question import Question, UnknownQuestion, all_questions, find_question, questions_of
from pgv_helpers.course.verdict import Outcome
from pgv_helpers.errors import CourseError
from pgv_helpers.grading.marks import Mark

LONGEST_MESSAGE = 4_000
LONGEST_CODE = 20_000
MESSAGES_OF_A_QUESTION = 3
"""How many of a question's wrong messages the overview shows."""


class UnreadableMarks(CourseError):
    """A file that should hold marks does not."""


@dataclass(frozen=True)
class Learner:
    """One person's marks, sorted by exercise. Two people of one name differ by their `lms_id`."""

    name: str
    lms_id: str
    marks: tuple[Mark, ...]

    @cached_property
    def by_exercise(self) -> dict[str, Mark]:
        """Of each exercise the mark that counts: the graded one, when a notebook was handed in twice."""
        worst_first = sorted(self.marks, key=lambda mark: mark.status == "graded")
        return {mark.exercise: mark for mark in worst_first}

    @property
    def page(self) -> str:
        """The learner's page within `feedback/`.

        It depends on no other learner. A name that cannot be a file's name as it is, on every disk, gets a
        part that tells it from names that are like it: "Anna" and "anna" are one file on many disks.
        """
        ascii_name = unicodedata.normalize("NFKD", self.name).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:60] or "learner"
        looks_hashed = re.search(r"-[0-9a-f]{12}$", slug)
        reserved = re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", slug)  # by Windows
        if slug != self.name or self.lms_id or looks_hashed or reserved:
            identity = json.dumps([self.name, self.lms_id]).encode()
            slug += f"-{hashlib.sha256(identity).hexdigest()[:12]}"
        return f"{slug}.html"


@dataclass(frozen=True)
class QuestionResult:
    """How a class did with one question.

    Attributes:
        passed, wrong, unsolved: how many submissions.
        messages: the commonest wrong messages with how many got them; messages that differ
            only in numbers and quoted values count as one.
    """

    name: str
    passed: int
    wrong: int
    unsolved: int
    messages: list[tuple[str, int]]

    @property
    def number(self) -> int:
        """How many submissions had the question."""
        return self.passed + self.wrong + self.unsolved

    @property
    def share(self) -> float:
        """The share that passed."""
        return self.passed / self.number


def write_reports(marks: Sequence[Mark], out: Path, *, seed: int) -> list[Path]:
    """Write every report of these marks into a folder, each file whole or not at all.

    `marks.csv`, `marks.json`, `canvas.csv`, `moodle-<exercise>.csv` of each exercise, `overview.html` for
    the teacher, and `feedback/<learner>.html`. The same marks give the same bytes, in whatever order
    they come.

    Args:
        seed: of the checks' random inputs; it is noted in marks.json and on the overview.

    Returns:
        the files.
    """
    marks = sorted(marks, key=lambda m: (m.learner.casefold(), m.learner, m.lms_id, m.exercise, m.where))
    learners = _learners(marks)
    exercises = _known_exercises(marks)
    reports = {
        "marks.csv": _marks_csv(marks, exercises),
        "marks.json": _marks_json(marks, seed),
        "canvas.csv": _canvas_csv(learners, exercises),
        **{f"moodle-{exercise}.csv": _moodle_csv(learners, exercise) for exercise in exercises},
        "overview.html": _overview_page(marks, learners, exercises, seed),
    }
    pages = ((f"feedback/{learner.page}", _feedback_page(learner)) for learner in learners)
    return [replace_file(out / name, text) for name, text in (*reports.items(), *pages)]


def read_marks(path: Path) -> list[Mark]:
    """The marks in a marks.json.

    Raises:
        UnreadableMarks: when the file holds something else.
    """
    try:
        return [Mark.from_dict(mark) for mark in json.loads(path.read_text(encoding="utf-8"))["marks"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableMarks(
            f"{path} holds no marks that this version of the course can read ({type(error).__name__}: {error}). "
            "Grade anew into an empty folder."
        ) from None


def replace_file(path: Path, text: str) -> Path:
    """Put the text in the file's place at once, so that whoever reads it never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8", newline="")
    os.replace(unfinished, path)
    return path


def _learners(marks: Iterable[Mark]) -> list[Learner]:
    people = defaultdict(list)
    for mark in marks:
        people[mark.learner, mark.lms_id].append(mark)
    return [Learner(*person, tuple(theirs)) for person, theirs in people.items()]


def _known_exercises(marks: Iterable[Mark]) -> list[str]:
    """The course's exercises that occur, in its order. Other names come from strangers."""
    occur = {mark.exercise for mark in marks}
    return [exercise for exercise in dict.fromkeys(q.exercise for q in all_questions().values()) if exercise in occur]


# -- spreadsheets ---------------------------------------------------------------


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    """The rows as CSV. No cell is a formula: a spreadsheet would run `=HYPERLINK(…)` in a learner's name."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    harmless = "'" + value if value.startswith(tuple("=+-@\t\r＝＋－＠")) else value
    return visible(harmless)


def _marks_csv(marks: Iterable[Mark], exercises: Iterable[str]) -> str:
    questions = [question.name for exercise in exercises for question in questions_of(exercise)]
    header = ["learner", "exercise", "status", "points", "maximum", *questions]
    rows = []
    for mark in marks:
        points = {o.question: o.points if o.state == "passed" else 0 for o in mark.outcomes}
        rows.append(
            [mark.learner, mark.exercise, mark.status, mark.points, mark.maximum]
            + [points.get(question, "") for question in questions]
            + [round(mark.seconds, 2), mark.reason, "; ".join(mark.tampering), mark.where, mark.lms_id]
        )
    return _csv([header + ["seconds", "reason", "tampering", "where", "lms_id"], *rows])


def _marks_json(marks: Iterable[Mark], seed: int) -> str:
    state = {"course": version("pgv-helpers"), "seed": seed, "marks": [mark.as_dict() for mark in marks]}
    return json.dumps(state, indent=1) + "\n"


def _canvas_csv(learners: Iterable[Learner], exercises: Sequence[str]) -> str:
    """The file that Canvas imports in its Gradebook.

    As in the Canvas Instructor Guide, "How do I import grades in the Gradebook?": the learner's columns, a
    column for each assignment, and the row "Points Possible" below the header. Canvas finds a learner by
    ID (the user id), else by name, and an assignment by its title. A submission that was not graded
    has an empty cell.
    """
    header = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *exercises]
    possible = ["    Points Possible", "", "", "", "", *(_maximum(exercise) for exercise in exercises)]
    rows = []
    for learner in learners:
        # Canvas takes any row whose first cell holds these words for the row of the maxima.
        name = learner.name.replace("Points Possible", "Points_Possible")
        points = [_grade(learner.by_exercise.get(exercise)) for exercise in exercises]
        rows.append([name, learner.lms_id, "", "", "", *points])
    return _csv([header, possible, *rows])


def _moodle_csv(learners: Iterable[Learner], exercise: str) -> str:
    """The offline grading worksheet that Moodle's assignment imports: one assignment a file.

    As in MoodleDocs, "Assignment settings" (feedback type "Offline grading worksheet"): Moodle finds a
    learner by "Participant" and the number in the names of the downloaded files, and demands the column
    "Last modified (grade)". The feedback comments are HTML.
    """
    columns = ["Identifier", "Full name", "Grade", "Maximum grade", "Last modified (grade)", "Feedback comments"]
    rows = []
    for learner in learners:
        if mark := learner.by_exercise.get(exercise):
            identifier = f"Participant {learner.lms_id}" if learner.lms_id else ""
            rows.append([identifier, learner.name, _grade(mark), mark.maximum, "", _comments(mark)])
    return _csv([columns, *rows])


def _maximum(exercise: str) -> int:
    return sum(question.points for question in questions_of(exercise))


def _grade(mark: Mark | None) -> int | str:
    return mark.points if mark and mark.status == "graded" else ""


SIGNS = {"passed": "✓", "wrong": "✗", "unsolved": "·"}
STATES = {"passed": "passed", "wrong": "wrong", "unsolved": "not solved yet"}


def _comments(mark: Mark) -> str:
    """The feedback in a few lines of HTML."""
    lines = [mark.reason] if mark.status != "graded" else [f"{mark.points} of {mark.maximum} points"]
    for outcome in mark.outcomes:
        lines.append(f"{SIGNS[outcome.state]} {outcome.question}: {STATES[outcome.state]}")
        lines += [cut(outcome.message, LONGEST_MESSAGE)] if outcome.message else []
    return "<br>".join(html.escape(line).replace("\n", "<br>") for line in [*lines, *mark.notes])


# -- pages ----------------------------------------------------------------------

# Unicode controls, marks that turn the direction of text, line separators, and halves of a surrogate pair.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with its control characters spelled out, such as ⟨U+202E⟩, which would turn the text after it round."""
    return INVISIBLE.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n"))


def cut(text: str, longest: int) -> str:
    """The text, cut with a note when it is longer than that many characters."""
    return text if len(text) <= longest else f"{text[:longest]}\n… (cut: {len(text):,} characters in all)"


def _drawn(value: Any) -> Any:
    """What a template draws of a value: every text but the templates' own HTML goes through `visible`."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _highlighted(code: str) -> str:
    """Python as HTML with classes."""
    return highlight(cut(visible(code), LONGEST_CODE), PythonLexer(stripnl=False), HtmlFormatter(nowrap=True))


def _with_code(hint: str) -> str:
    """A hint as HTML: what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(hint))


PAGES = Environment(
    loader=PackageLoader("pgv_helpers.grading"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    finalize=_drawn,
)
PAGES.filters |= {"cut": cut, "highlighted": _highlighted, "with_code": _with_code}
PAGES.globals |= {"SIGNS": SIGNS, "STATES": STATES, "LONGEST_MESSAGE": LONGEST_MESSAGE}


def _feedback_page(learner: Learner) -> str:
    return PAGES.get_template("feedback.html").render(learner=learner, first_hint=_first_hint)


def _first_hint(name: str) -> str:
    question = _question(name)
    return question.hints[0] if question and question.hints else ""


def _question(name: str) -> Question | None:
    """The question, unless the marks are of a version of the course that had another one."""
    try:
        return find_question(name)
    except UnknownQuestion:
        return None


def _overview_page(marks: Sequence[Mark], learners: Sequence[Learner], exercises: Sequence[str], seed: int) -> str:
    graded = [mark for mark in marks if mark.status == "graded"]
    return PAGES.get_template("overview.html").render(
        marks=marks,
        learners=learners,
        exercises=exercises,
        seed=seed,
        course=version("pgv-helpers"),
        distributions={
            exercise: _distribution([mark for mark in graded if mark.exercise == exercise]) for exercise in exercises
        },
        questions=_hardest_first(outcome for mark in graded for outcome in mark.outcomes),
    )


def _distribution(marks: Sequence[Mark]) -> list[int]:
    """How many marks have 0 points, 1 point … the maximum."""
    number = Counter(mark.points for mark in marks)
    return [number[points] for points in range(max(marks[0].maximum, *number) + 1)] if marks else []


def _hardest_first(outcomes: Iterable[Outcome]) -> list[QuestionResult]:
    by_question = defaultdict(list)
    for outcome in outcomes:
        by_question[outcome.question].append(outcome)
    results = []
    for name, theirs in by_question.items():
        state = Counter(outcome.state for outcome in theirs)
        messages = _commonest(outcome.message for outcome in theirs if outcome.state == "wrong")
        results.append(QuestionResult(name, state["passed"], state["wrong"], state["unsolved"], messages))
    return sorted(results, key=lambda result: (result.share, result.name))


def _commonest(messages: Iterable[str]) -> list[tuple[str, int]]:
    """The commonest messages, each the first of its kind, with how many there are of that kind."""
    kinds = defaultdict(list)
    for message in messages:
        unquoted = re.sub(r"(?<!\w)(['\"]).*?\1(?!\w)", "…", message)
        kinds[re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?", "0", unquoted)].append(message)
    groups = sorted(((min(kind), len(kind)) for kind in kinds.values()), key=lambda group: (-group[1], group[0]))
    return groups[:MESSAGES_OF_A_QUESTION]
