"""What a learner has done so far: one readable file, safe with several notebooks at once."""

import json
import os
import tempfile
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from pgv_helpers import settings
from pgv_helpers.course.verdict import Outcome

Record = dict
"""Of one question: `attempts`, `hints` (how many were shown) and `passed` (when, if ever)."""


def progress_file() -> Path:
    """Where it is kept: progress.json in `PGV_HOME`."""
    return settings.home() / "progress.json"


def read() -> dict[str, Record]:
    """Question name -> its record. A file that cannot be read is set aside, with a warning that says where."""
    path = progress_file()
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(state, dict) and all(map(_is_record, state.values())):
            return state
    except FileNotFoundError:
        return {}
    except (ValueError, IsADirectoryError):
        pass
    aside = path.with_name(f"progress.broken-{datetime.now():%Y%m%d-%H%M%S-%f}.json")
    path.replace(aside)
    warnings.warn(f"Your progress could not be read. The file was kept as {aside}; a new one begins.", stacklevel=3)
    return {}


def remember(outcome: Outcome) -> None:
    """Count an attempt, and the first time that it passed. An unsolved stub is no attempt.

    What cannot be saved is a warning: it changes nothing about the outcome.
    """
    if outcome.state == "unsolved":
        return

    def note(record: Record) -> None:
        record["attempts"] = record.get("attempts", 0) + 1
        if outcome.state == "passed":
            record.setdefault("passed", f"{datetime.now():%Y-%m-%d %H:%M}")

    try:
        _update(outcome.question, note)
    except OSError as error:
        warnings.warn(f"Your progress could not be saved: {error}", stacklevel=3)


def count_hint(question: str, available: int) -> int:
    """Note that one more hint was asked for, and return which one to show (from 0; the last again and again)."""
    shown = []

    def note(record: Record) -> None:
        shown.append(min(record.get("hints", 0), available - 1))
        record["hints"] = shown[0] + 1

    _update(question, note)
    return shown[0]


def has_passed(question: str) -> bool:
    """Whether the question was ever passed."""
    return "passed" in read().get(question, {})


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and all(isinstance(record.get(name, 0), int) for name in ("attempts", "hints"))


def _update(question: str, note: Callable[[Record], None]) -> None:
    """Change one record: read, change and replace the file while no other process may."""
    path = progress_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=30):
        state = read()
        note(state.setdefault(question, {}))
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix="progress.", suffix=".unfinished")
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(state, file, indent=1, sort_keys=True)
            file.write("\n")
        os.replace(unfinished, path)
