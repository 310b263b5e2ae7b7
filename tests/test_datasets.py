"""What the lessons search: passages, judged questions, vectors of no texts."""

import datetime

import numpy as np
import pytest

from pgv_helpers import clustered_vectors, connect, load_documents, load_passages, load_questions, query, random_vectors
from pgv_helpers.errors import CourseError

RARE = 8
"""A stem in fewer passages than this gives an answer away."""
RARE_IN_DOCS = 166
"""The same for Python's documentation: two in a hundred."""


def test_passages_are_complete():
    passages = load_passages()
    assert passages.id.tolist() == list(range(1, len(passages) + 1)) and len(passages) >= 240
    assert passages.category.value_counts().tolist() == [31] * 8
    assert passages.title.is_unique and passages.content.is_unique and passages.source.is_unique
    assert passages.content.str.split().str.len().between(40, 90).all()
    assert all(isinstance(day, datetime.date) for day in passages.published)


def test_the_first_forty_passages_are_five_of_each_subject():
    """Lessons 0 to 2 show them."""
    assert load_passages().category[:40].value_counts().tolist() == [5] * 8


@pytest.mark.parametrize(
    ("dataset", "most", "fewest_of_a_kind", "unanswerable"), [("passages", 128, 40, 15), ("python_docs", 100, 30, 0)]
)
def test_questions_are_balanced_and_judged(dataset, most, fewest_of_a_kind, unanswerable):
    questions, documents = load_questions(dataset), load_documents(dataset)
    assert questions.id.is_unique and questions.question.is_unique
    answerable = questions[questions.kind != "unanswerable"]
    assert len(answerable) >= most
    assert len(questions) - len(answerable) >= unanswerable
    kinds = answerable.kind.value_counts()
    assert set(kinds.index) == {"conceptual", "exact", "mixed"} and kinds.min() >= fewest_of_a_kind
    for question in questions.itertuples():
        best = max(question.grades.values())
        assert set(question.grades.values()) <= {0, 1, 2} and set(question.grades) <= set(documents.id)
        assert len(question.grades) >= 10, "a pool of the top ten of several searches"
        assert best == (0 if question.kind == "unanswerable" else 2), question.question


@pytest.mark.parametrize(("dataset", "rare"), [("passages", RARE), ("python_docs", RARE_IN_DOCS)])
def test_no_rare_word_gives_away_the_answer_of_a_conceptual_question(dataset, rare):
    documents, questions = load_documents(dataset), load_questions(dataset)
    conn = connect("pg_temp")
    texts = [*(documents.title + "\n" + documents.content), *questions.question]
    stems = query(
        conn,
        """
        SELECT tsvector_to_array(to_tsvector('english', text)) AS stems
        FROM unnest(%s) WITH ORDINALITY AS texts (text, place)
        ORDER BY place""",
        [texts],
    ).stems
    conn.close()
    of_document = dict(zip(documents.id, map(set, stems)))
    frequency = stems[: len(documents)].explode().value_counts()
    for question, words in zip(questions.itertuples(), stems[len(documents) :]):
        if question.kind == "conceptual":
            for answer, grade in question.grades.items():
                given_away = [word for word in of_document[answer] & set(words) if frequency[word] < rare]
                assert grade < 2 or not given_away, (question.question, answer)


def test_a_data_set_that_does_not_exist_is_named():
    with pytest.raises(CourseError, match="no data set 'wikipedia', only passages and python_docs"):
        load_questions("wikipedia")


@pytest.mark.parametrize("make", [random_vectors, clustered_vectors])
def test_vectors_depend_on_the_seed_and_not_on_the_chunks(make):
    chunks = list(make(1000, 12, seed=3, chunk_size=170))
    assert [len(chunk) for chunk in chunks] == [170] * 5 + [150]
    vectors = np.concatenate(chunks)
    assert vectors.dtype == np.float32 and np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.array_equal(vectors, np.concatenate(list(make(1000, 12, seed=3))))
    assert np.array_equal(vectors[:700], np.concatenate(list(make(700, 12, seed=3)))), "held-out queries come last"
    assert not np.allclose(vectors, np.concatenate(list(make(1000, 12, seed=4))))


def test_clustered_vectors_have_near_neighbours_and_random_ones_have_not():
    def nearest(vectors):
        similarities = vectors @ vectors.T
        np.fill_diagonal(similarities, -1)
        return similarities.max(axis=1).mean()

    assert nearest(next(random_vectors(500, 384))) < 0.3
    assert nearest(next(clustered_vectors(500, 384, clusters=20))) > 0.75


def test_chunks_are_made_one_at_a_time():
    assert next(random_vectors(10**12, 384)).shape == (10416, 384)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: random_vectors(-1, 3), "n must be 0 or more"),
        (lambda: random_vectors(3, 0), "dimension 1 or more"),
        (lambda: random_vectors(3, 3, chunk_size=-2), "chunk_size must be 1 or more; it is -2"),
        (lambda: random_vectors(3, 3, chunk_size=0), "chunk_size must be 1 or more; it is 0"),
        (lambda: clustered_vectors(3, 3, clusters=0), "1 cluster or more, not 0"),
        (lambda: clustered_vectors(3, 3, spread=-1), "spread 0 or more, not -1"),
    ],
)
def test_numbers_that_cannot_be_are_refused_at_once(make, words):
    with pytest.raises(CourseError, match=words):
        make()
