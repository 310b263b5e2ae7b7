"""The passages that the lessons search."""

import datetime

from pgv_helpers import load_passages


def test_passages_are_complete():
    passages = load_passages()
    assert passages.id.tolist() == list(range(1, 41))
    assert passages.category.value_counts().tolist() == [5] * 8
    assert passages.title.is_unique and passages.content.is_unique and passages.source.is_unique
    assert passages.content.str.split().str.len().between(45, 85).all()
    assert all(isinstance(day, datetime.date) for day in passages.published)
