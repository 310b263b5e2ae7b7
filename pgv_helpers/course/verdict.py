"""What comes of a check: passed, wrong, or not solved yet."""

from dataclasses import asdict, dataclass, field
from html import escape
from typing import Literal

GREEN, RED, GREY, BOLD, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[90m", "\x1b[1m", "\x1b[0m"


DATA_TYPE = "application/vnd.pgv.outcome+json"
"""The MIME type of an outcome that a kernel displays as data."""


class Wrong(Exception):
    """The first thing that is wrong with an answer; the message goes to the learner."""


class NotSolved(Exception):
    """The answer is still the stub, which is no attempt."""


@dataclass
class Outcome:
    """The result of checking one answer.

    Attributes:
        question: the question's name.
        state: what came of it.
        points: how many it is worth.
        right: what turned out right, in order.
        message: what is wrong; empty unless the state is "wrong".
    """

    question: str
    state: Literal["passed", "wrong", "unsolved"]
    points: int
    right: list[str] = field(default_factory=list)
    message: str = ""

    def as_dict(self) -> dict:
        """The outcome as plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The outcome for a terminal or a traceback, in colours."""
        if self.state == "unsolved":
            return [f"{GREY}· {self.question}: not solved yet{PLAIN}"]
        ticks = [f"{GREEN}  ✓{PLAIN} {line}" for line in self.right]
        if self.state == "passed":
            return [f"{GREEN}✓ {BOLD}{self.question}{PLAIN}{GREEN}: {_points(self.points)}{PLAIN}", *ticks]
        first, *rest = self.message.split("\n")
        return [
            f"{RED}✗ {BOLD}{self.question}{PLAIN}",
            *ticks,
            f"{RED}  ✗ {first}{PLAIN}",
            *(f"    {line}" for line in rest),
            f'{GREY}  A hint: hint("{self.question}"){PLAIN}',
        ]

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        ticks = "".join(f"<br>&ensp;✓ {escape(line)}" for line in self.right)
        return {
            "text/plain": "\n".join([f"✓ {self.question}: {_points(self.points)}", *(f"  ✓ {r}" for r in self.right)]),
            "text/html": f'<div style="border-left: 4px solid #009E73; padding: 4px 10px">'
            f"<b>✓ {escape(self.question)}</b>: {_points(self.points)}{ticks}</div>",
        }


class CheckFailed(AssertionError):
    """Raised in the notebook for an answer that did not pass, so that nbgrader and nbval see a failure.

    It is drawn as the outcome's lines, without a traceback.
    """

    def __init__(self, outcome: Outcome):
        super().__init__("not solved yet" if outcome.state == "unsolved" else outcome.message)
        self.outcome = outcome

    def _render_traceback_(self) -> list[str]:
        return self.outcome.lines()


def _points(number: int) -> str:
    return f"{number} point" if number == 1 else f"{number} points"
