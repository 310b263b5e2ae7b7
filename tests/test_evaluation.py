"""Measures agree with trec_eval, intervals behave, and the whole evaluation runs."""

import numpy as np
import pandas as pd
import pytest
import pytrec_eval

from pgv_helpers import (
    bootstrap_interval,
    compare,
    evaluate_search,
    load_questions,
    measure_latency,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
    score_rankings,
    summarise,
)
from pgv_helpers.errors import CourseError


@pytest.fixture
def random_questions():
    """Judged questions and rankings, some short, some empty, some with documents that nobody judged."""
    rng = np.random.default_rng(5)
    questions, rankings = [], {}
    for id in range(200):
        judged = rng.permutation(60)[: rng.integers(1, 40)].tolist()
        grades = {document: int(rng.choice([0, 0, 1, 2])) for document in judged} | {judged[0]: 1}
        questions.append({"id": id, "kind": "random", "grades": grades})
        rankings[id] = rng.permutation(60)[: rng.integers(0, 40)].tolist()
    return pd.DataFrame(questions), rankings


@pytest.mark.parametrize("k", [1, 5, 10])
def test_measures_agree_with_trec_eval(random_questions, k):
    questions, rankings = random_questions
    ours = score_rankings(rankings, questions, k).set_index("question")
    judged = {str(q.id): {str(d): grade for d, grade in q.grades.items()} for q in questions.itertuples()}
    names = {f"ndcg_cut.{k}", f"recall.{k}", f"P.{k}", "recip_rank"}
    run = {str(id): {str(d): -float(place) for place, d in enumerate(found)} for id, found in rankings.items() if found}
    theirs = pytrec_eval.RelevanceEvaluator(judged, names).evaluate(run)
    columns = {
        f"nDCG@{k}": f"ndcg_cut_{k}",
        f"recall@{k}": f"recall_{k}",
        f"precision@{k}": f"P_{k}",
        "RR": "recip_rank",
    }
    for id in questions.id:
        for column, name in columns.items():
            expected = theirs[str(id)][name] if rankings[id] else 0
            assert ours[column][id] == pytest.approx(expected), (id, column)


def test_measures_by_hand():
    grades = {"a": 2, "b": 1, "c": 0}
    assert recall_at_k(["x", "a"], {"a", "b"}) == 0.5
    assert recall_at_k([3, 1, 2], [1, 2, 9], k=2) == pytest.approx(1 / 3)
    assert precision_at_k(["a", "x"], {"a", "b"}, k=2) == 0.5
    assert precision_at_k(["a"], {"a"}, k=10) == 0.1
    assert reciprocal_rank(["x", "y", "b"], {"a", "b"}) == pytest.approx(1 / 3)
    assert reciprocal_rank([], {"a"}) == 0
    assert ndcg_at_k(["a", "b", "c"], grades) == 1
    assert ndcg_at_k(["b", "a"], grades) == pytest.approx((1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3)))
    assert np.isnan(ndcg_at_k(["a"], {"a": 0})) and np.isnan(recall_at_k(["a"], []))


def test_a_document_that_is_found_twice_counts_once():
    assert ndcg_at_k(["a", "a", "a"], {"a": 2}) == 1
    assert reciprocal_rank(pd.Series([10, 20]), pd.Series([20, 0])) == 0.5


def test_rankings_may_be_frames_and_foreign_ones_are_refused():
    questions = pd.DataFrame({"id": [1], "kind": ["x"], "grades": [{7: 2}]})
    hits = pd.DataFrame({"id": [7], "title": ["T"]})
    assert score_rankings({1: hits}, questions)["nDCG@10"].tolist() == [1]
    with pytest.raises(CourseError, match="belong to other questions: 'Why.' is the id of none"):
        score_rankings({"Why?": [7]}, questions)
    with pytest.raises(CourseError, match="k must be 1 or more; it is 0"):
        score_rankings({1: [7]}, questions, k=0)


def test_questions_without_an_answer_are_not_scored():
    questions = pd.DataFrame({"id": [1, 2], "kind": ["x", "unanswerable"], "grades": [{7: 2}, {7: 0}]})
    scores = score_rankings({1: [7], 2: [7]}, questions)
    assert scores.question.tolist() == [1] and scores["nDCG@10"].tolist() == [1]


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = [rng.beta(2, 1, size=60) for _ in range(200)]
    held = sum(low <= 2 / 3 <= high for low, high in map(bootstrap_interval, samples))
    assert 180 <= held <= 198
    assert bootstrap_interval(samples[0]) == bootstrap_interval(samples[0])
    narrow, wide = bootstrap_interval(np.tile(samples[0], 16)), bootstrap_interval(samples[0])
    assert narrow[1] - narrow[0] < 0.5 * (wide[1] - wide[0])


def test_a_small_difference_shows_when_the_questions_are_the_same():
    rng = np.random.default_rng(1)
    difficulty = rng.uniform(size=100)
    scores = pd.concat(
        pd.DataFrame(
            {"question": range(100), "method": method, "nDCG@10": difficulty + gain + rng.normal(0, 0.02, 100)}
        )
        for method, gain in [("old", 0.0), ("new", 0.03), ("same", 0.0)]
    )
    better, same = compare(scores, "new", "old"), compare(scores, "same", "old")
    assert 0 < better.low < better.difference < better.high and better.questions == 100
    assert same.low < 0 < same.high
    new, old = (summarise(scores).set_index("method").loc[name] for name in ("new", "old"))
    assert old.high > new.low, "side by side the intervals overlap: pairing is what tells"
    with pytest.raises(CourseError, match="no scores of the method 'best', only of: new, old, same"):
        compare(scores, "best", "old")
    with pytest.raises(CourseError, match="no column 'nDCG@5', only: question, method, nDCG@10"):
        summarise(scores, "nDCG@5")
    with pytest.raises(CourseError, match="not scored on the same questions"):
        compare(scores[(scores.method != "new") | (scores.question > 3)], "new", "old")


def test_a_summary_keeps_the_order_of_its_groups():
    scores = pd.DataFrame({"kind": ["z", "a", "z"], "method": ["m"] * 3, "nDCG@10": [0.0, 1.0, 1.0]})
    summary = summarise(scores, by=["kind", "method"])
    assert (
        summary.kind.tolist() == ["z", "a"]
        and summary["mean"].tolist() == [0.5, 1]
        and summary.questions.tolist() == [2, 1]
    )


def test_latency_counts_the_calls_after_the_warm_up():
    calls = {"one": [], "other": []}
    table = measure_latency({name: done.append for name, done in calls.items()}, [1, 2, 3], warmup=4)
    assert calls["one"] == calls["other"] == [1, 2, 3, 1, 1, 2, 3]
    assert table.method.tolist() == ["one", "other"] and table.calls.tolist() == [3, 3]
    assert (table["p95 (ms)"] >= table["median (ms)"]).all()
    with pytest.raises(CourseError, match="inputs is empty"):
        measure_latency({"one": print}, [])


def test_the_evaluation_shows_what_words_and_vectors_are_good_at():
    scores = evaluate_search("passages")
    questions = load_questions("passages")
    assert set(scores.question) == set(questions.id[questions.kind != "unanswerable"])
    assert scores.groupby("method").size().nunique() == 1
    mean = scores.groupby(["kind", "method"])["nDCG@10"].mean()
    assert mean["conceptual", "vectors"] > 0.7 > 0.2 > mean["conceptual", "full text"]
    assert mean["exact", "full text"] > mean["exact", "vectors"]
