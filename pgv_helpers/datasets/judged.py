"""Documents and questions with relevance judgements; README.md beside this file says how they were judged."""

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from pgv_helpers.datasets.python_docs import load_python_docs
from pgv_helpers.errors import CourseError

if TYPE_CHECKING:
    import pandas

DatasetName = Literal["passages", "python_docs"]


def load_passages() -> "pandas.DataFrame":
    """248 short passages on eight subjects, many of them look-alikes on purpose.

    Returns:
        A row for each passage: `id`, `title`, `category`, `published` (a date),
        `source` and `content` (58 to 85 words). The first forty are those of lesson 0.
    """
    import pandas

    passages = pandas.DataFrame(_read("passages.jsonl"))
    passages["published"] = pandas.to_datetime(passages["published"]).dt.date
    return passages


def load_documents(dataset: DatasetName) -> "pandas.DataFrame":
    """The documents of a judged data set: `load_passages()` or `load_python_docs()`.

    Raises CourseError if there is no such data set.
    """
    loaders = {"passages": load_passages, "python_docs": load_python_docs}
    if dataset not in loaders:
        raise CourseError(f"There is no data set {dataset!r}, only {' and '.join(loaders)}.")
    return loaders[dataset]()


def embedded_text(documents: "pandas.DataFrame") -> "pandas.Series":
    """What the course embeds of a document: its title, and on the next line its content."""
    return documents["title"] + "\n" + documents["content"]


def load_questions(dataset: DatasetName) -> "pandas.DataFrame":
    """The judged questions of a data set.

    Returns:
        A row for each question: `id`, `kind`, `question`, and `grades`, which maps the
        ids of judged documents to 2 (answers the question), 1 (helps) or 0. What was not
        judged counts as 0. The kinds are conceptual (shares no rare word with its
        answer), exact (hangs on a code, a name or a setting), mixed, and among the
        passages' unanswerable. Of Python's documentation, another version of Python may
        lack a few documents; questions that nothing answers there are left out.

    Raises CourseError if there is no such data set.
    """
    import pandas

    documents = load_documents(dataset)
    questions = pandas.DataFrame(_read(f"{dataset}_questions.jsonl"))
    id_of = dict(zip(documents["title"], documents["id"]))
    questions["grades"] = [
        {id_of[title]: grade for title, grade in grades.items() if title in id_of} for grades in questions["grades"]
    ]
    answered = questions["grades"].map(lambda grades: any(grades.values())) | (questions["kind"] == "unanswerable")
    return questions[answered].reset_index(drop=True)


def _read(name: str) -> list[dict]:
    with (files(__package__) / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
