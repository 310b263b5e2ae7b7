"""What the course searches. Written for it; every text is original."""

import json
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def load_passages() -> "pandas.DataFrame":
    """Forty short passages on eight subjects, some of them look-alikes on purpose.

    Returns:
        A row for each passage: `id`, `title`, `category`, `published` (a date),
        `source` and `content` (45 to 85 words).
    """
    import pandas

    with (files(__name__) / "passages.jsonl").open(encoding="utf-8") as lines:
        passages = pandas.DataFrame([json.loads(line) for line in lines])
    passages["published"] = pandas.to_datetime(passages["published"]).dt.date
    return passages
