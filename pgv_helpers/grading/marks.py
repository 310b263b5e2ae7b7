"""What a submission is worth: its outcomes, and what a teacher needs to know of it."""

from dataclasses import asdict, dataclass, field, fields
from typing import Literal, Self, get_args

from pgv_helpers.course.question import UnknownQuestion, questions_of
from pgv_helpers.course.verdict import Outcome

Status = Literal["graded", "unreadable", "failed"]
"""Unreadable: there is nothing to grade, such as no notebook. Failed: the grader could not grade it."""


@dataclass
class Mark:
    """What came of one submission: a learner's notebook of one exercise.

    Attributes:
        learner: as the submission names them.
        exercise: such as `"02_crud"`.
        where: the path within the submissions.
        status: see `Status`.
        outcomes: one for each question of the exercise, in order; none when it is unreadable.
        reason: why it is unreadable or failed.
        notes: what the learner should know of the run, such as `"Cell 5 failed: NameError: …"`.
        tampering: what the submission tried that it may not; empty for nearly all.
        answers: the learner's code by the question's name.
        seconds: how long the grading took.
        lms_id: the learner's number in Canvas or Moodle, where it is known.
    """

    learner: str
    exercise: str
    where: str
    status: Status
    outcomes: list[Outcome] = field(default_factory=list)
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    tampering: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    lms_id: str = ""

    @property
    def points(self) -> int:
        """What the passed questions are worth together."""
        return sum(outcome.points for outcome in self.outcomes if outcome.state == "passed")

    @property
    def maximum(self) -> int:
        """What all questions of the exercise are worth together; 0 for an unknown exercise."""
        try:
            return sum(question.points for question in questions_of(self.exercise))
        except UnknownQuestion:
            return 0

    def as_dict(self) -> dict:
        """The mark as plain data, for JSON."""
        return asdict(self) | {"points": self.points, "maximum": self.maximum}

    @classmethod
    def from_dict(cls, data: dict) -> Self:
        """The mark of which `as_dict` made this.

        Raises:
            KeyError, TypeError, ValueError: when the data is no mark's.
        """
        known = {name.name: data[name.name] for name in fields(cls)}
        if known["status"] not in get_args(Status):
            raise ValueError(f"There is no status {known['status']!r}.")
        return cls(**known | {"outcomes": [Outcome(**outcome) for outcome in known["outcomes"]]})
