"""Measures agree with trec_eval, intervals behave, the whole evaluation runs, and a sweep's recall is exact."""

from contextlib import closing

import numpy as np
import pandas as pd
import pytest
import pytrec_eval
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from pgv_helpers import (
    bootstrap_interval,
    bulk_load,
    compare,
    connect,
    create_index,
    evaluate_search,
    load_questions,
    measure_latency,
    ndcg_at_k,
    precision_at_k,
    query,
    recall_at_k,
    reciprocal_rank,
    score_rankings,
    summarise,
    sweep,
)
from pgv_helpers.errors import CourseError, DocumentError, IndexProblem


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


# -- the sweep -------------------------------------------------------------------

N, DIMENSION = 2500, 16
VECTORS = np.random.default_rng(2).normal(size=(N, DIMENSION)).astype(np.float32)
QUERIES = np.random.default_rng(3).normal(size=(15, DIMENSION)).astype(np.float32)
RERANK = """
    SELECT id FROM (
        SELECT id, embedding FROM items
        ORDER BY binary_quantize(embedding)::bit(16) <~> binary_quantize(%(vector)s::vector)::bit(16), id
        LIMIT %(candidates)s) AS candidates
    ORDER BY embedding <=> %(vector)s LIMIT %(k)s"""


def table(conn, vectors=VECTORS, type="vector", name="items", ids=None):
    with conn, conn.cursor() as cur:
        cur.execute(f'CREATE TEMP TABLE "{name}" (id bigint PRIMARY KEY, embedding {type}({vectors.shape[1]}))')
    bulk_load(conn, name, {"id": range(len(vectors)) if ids is None else ids, "embedding": vectors})
    return conn


@pytest.fixture
def conn():
    with closing(connect("pg_temp")) as connection:
        yield connection


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_sweep_shows_what_a_setting_buys_and_leaves_nothing(conn, autocommit):
    create_index(table(conn), "items", m=4, ef_construction=8)
    conn.autocommit = autocommit
    swept = sweep(conn, "items", QUERIES, {"ef_search": np.array([1, 10, 100])})
    assert list(swept) == ["ef_search", "recall@10", "median (ms)", "p95 (ms)", "rows", "index"]
    assert swept.ef_search.tolist() == [1, 10, 100] and set(swept["index"]) == {"items_embedding_cosine_hnsw"}
    few, some, many = swept["recall@10"]
    assert few <= 0.1 < some < many <= 1 and many > 0.8
    assert swept.rows.tolist() == [1, 10, 10], "ef_search 1 returns one row"
    assert (swept["p95 (ms)"] >= swept["median (ms)"]).all() and (swept["median (ms)"] > 0).all()
    again = sweep(conn, "items", QUERIES, {"ef_search": [1, 10, 100]}, progress=False)
    assert again["recall@10"].tolist() == swept["recall@10"].tolist()
    assert conn.autocommit == autocommit and conn.info.transaction_status == TRANSACTION_STATUS_IDLE
    assert query(conn, "SELECT current_setting('hnsw.ef_search')").iloc[0, 0] == "40"


def test_recall_is_the_share_of_the_neighbours_that_exact_sql_finds(conn):
    create_index(table(conn), "items", m=4, ef_construction=8)
    search = "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10"
    shares = []
    for question in QUERIES:
        query(conn, "SET LOCAL enable_indexscan = off")
        exact = query(conn, search, [question]).id.tolist()
        query(conn, "SET LOCAL enable_indexscan = on")
        shares.append(recall_at_k(query(conn, search, [question]).id.tolist(), exact))
    swept = sweep(conn, "items", QUERIES)
    assert len(swept) == 1 and 0.3 < swept["recall@10"][0] < 1
    assert swept["recall@10"][0] == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("type", ["vector", "halfvec"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product", "l1", "<->"])
@pytest.mark.parametrize("scale", [1e-2, 1, 1e2])
def test_a_search_without_an_index_finds_everything(conn, type, metric, scale):
    exact = sweep(table(conn, VECTORS[:400] * np.float32(scale), type), "items", QUERIES * scale, metric=metric, k=20)
    assert exact["recall@20"].tolist() == [1] and exact["index"].tolist() == ["none"] and exact.rows.tolist() == [20]


@pytest.mark.parametrize("metric", ["cosine", "l2", "l1"])
def test_a_search_by_another_distance_is_seen_whatever_the_scale(conn, metric):
    wrong = "SELECT id FROM items ORDER BY embedding <#> %(vector)s LIMIT %(k)s"
    for name, scale in (("items", 1e-4), ("large", 1e4)):
        table(conn, VECTORS[:400] * np.float32(scale), name=name)
        swept = sweep(conn, name, QUERIES * scale, statement=wrong.replace("items", name), metric=metric)
        assert 0.1 < swept["recall@10"][0] < 0.9


def test_ties_harm_no_one_and_doubles_count_once(conn):
    table(conn, np.repeat(VECTORS[:20], 50, axis=0), ids=np.random.default_rng(0).permutation(1000))
    backwards = "SELECT id FROM items ORDER BY embedding <=> %(vector)s, id DESC LIMIT %(k)s"
    assert sweep(conn, "items", QUERIES, statement=backwards)["recall@10"].tolist() == [1]
    assert sweep(conn, "items", VECTORS[:20], statement=backwards, metric="l2")["recall@10"].tolist() == [1]
    one = """
        SELECT id FROM generate_series(1, %(k)s),
            (SELECT id FROM items ORDER BY embedding <=> %(vector)s LIMIT 1) AS nearest"""
    swept = sweep(conn, "items", QUERIES, statement=one)
    assert swept["recall@10"].tolist() == pytest.approx([0.1]) and swept.rows.tolist() == [10]


def test_only_the_first_k_rows_count(conn):
    table(conn, VECTORS[:400])
    all_rows = "SELECT id FROM items ORDER BY embedding <=> %(vector)s {} LIMIT 400"
    assert sweep(conn, "items", QUERIES, statement=all_rows.format("DESC"))["recall@10"].tolist() == [0]
    assert sweep(conn, "items", QUERIES, statement=all_rows.format(""))["recall@10"].tolist() == [1]


def test_more_neighbours_than_rows_and_rows_without_a_vector(conn):
    table(conn, np.vstack([VECTORS[:5], np.zeros((2, DIMENSION), np.float32)]))
    query(conn, "INSERT INTO items VALUES (-1, NULL)")
    swept = sweep(conn, "items", QUERIES, k=10)
    assert swept["recall@10"].tolist() == [1] and swept.rows.tolist() == [8]
    few = sweep(conn, "items", QUERIES, k=10, statement="SELECT id FROM items WHERE id < 3 AND %(k)s > 0")
    assert few["recall@10"].tolist() == pytest.approx([3 / 5]), "a zero vector has no cosine distance"


def test_deleted_rows_cost_recall(conn):
    create_index(table(conn), "items")
    near = query(conn, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 40", [QUERIES[0]]).id.tolist()
    query(conn, "DELETE FROM items WHERE id = ANY(%s)", [near])
    swept = sweep(conn, "items", QUERIES[:1], {"ef_search": [40, 400]})
    assert swept.rows[0] < 10 and swept["recall@10"][0] < 1 and swept.rows[1] == 10


def test_ivfflat_and_several_settings_at_once(conn):
    create_index(table(conn), "items", method="ivfflat", lists=20)
    swept = sweep(conn, "items", QUERIES, {"probes": [1, 20], "iterative_scan": ["off", "relaxed_order"]}, k=5)
    assert list(zip(swept.probes, swept.iterative_scan)) == [
        (1, "off"), (1, "relaxed_order"), (20, "off"), (20, "relaxed_order"),
    ]  # fmt: skip
    assert swept["recall@5"][0] < 1 and swept["recall@5"].tolist()[2:] == [1, 1]


def test_a_statement_of_ones_own_with_a_parameter_of_its_own(conn):
    table(conn)
    for statement in (RERANK, sql.SQL(RERANK)):
        swept = sweep(conn, "items", QUERIES, {"candidates": np.array([10, 100, N])}, statement=statement)
        few, some, every = swept["recall@10"]
        assert few < some < every == 1


def test_a_table_with_an_odd_name(conn):
    table(conn, VECTORS[:50], name="100% (all)")
    assert sweep(conn, "100% (all)", QUERIES)["recall@10"].tolist() == [1]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"settings": {"ef": [10]}}, CourseError, "no setting 'ef' to sweep. There are: ef_search, .*iterative_scan"),
        ({"settings": {"k": [1, 10]}}, CourseError, "no setting 'k' to sweep"),
        ({"settings": {"ef_search": 10}}, CourseError, "'ef_search' takes a list of values, not 10"),
        ({"settings": {"iterative_scan": "off"}}, CourseError, "'iterative_scan' takes a list of values, not 'off'"),
        ({"settings": {"ef_search": []}}, CourseError, r"'ef_search' takes a list of values, not \[\]"),
        ({"settings": {"ef_search": [0]}}, IndexProblem, "ef_search is 0; it takes a whole number from 1 to 1000"),
        ({"queries": QUERIES[0]}, CourseError, r"queries has the shape \(16,\); it takes one of \(1 or more, 16\)"),
        ({"queries": QUERIES[:, :8]}, CourseError, r"queries has the shape \(15, 8\)"),
        ({"queries": QUERIES[:0]}, CourseError, r"queries has the shape \(0, 16\)"),
        ({"queries": ["What is a tide?"]}, CourseError, r"For texts that is: embed\(texts\)"),
        ({"queries": QUERIES * np.nan}, CourseError, r"queries\[0\] holds NaN or infinity, or is all"),
        ({"queries": np.vstack([QUERIES, 0 * QUERIES])}, CourseError, r"queries\[15\] holds .* or is all 0"),
        ({"k": 0}, CourseError, "k must be 1 or more; it is 0"),
        ({"metric": "euclid"}, CourseError, "no distance 'euclid'"),
        ({"metric": "hamming"}, IndexProblem, "operator does not exist: vector <~>"),
        ({"column": "nope"}, DocumentError, "no column 'nope' of the type vector or halfvec"),
        ({"table": "nowhere"}, DocumentError, "no table 'nowhere'"),
        ({"statement": "SELECT wrong FROM items"}, IndexProblem, 'column "wrong" does not exist'),
        ({"statement": "SELECT id / 0 FROM items LIMIT %(k)s"}, IndexProblem, "division by zero"),
        ({"statement": "SELECT id FROM items LIMIT %(many)s"}, IndexProblem, "parameters do not fit"),
        (
            {"statement": "SELECT embedding FROM items LIMIT %(k)s"},
            CourseError,
            "first column of your .* must be the id",
        ),
        (
            {"statement": "SELECT id + 0.5 FROM items LIMIT 1"},
            CourseError,
            r"returned Decimal\('0.5'\), which is the id",
        ),
    ],
)
def test_what_cannot_be_swept_is_told(conn, given, error, message):
    table(conn, VECTORS[:50])
    with pytest.raises(error, match=message):
        sweep(conn, **{"table": "items", "queries": QUERIES, **given})


def test_a_table_without_vectors_and_one_without_whole_numbers_as_ids_are_told(conn):
    table(conn, VECTORS[:0], name="empty")
    query(conn, "INSERT INTO empty VALUES (1, NULL)")
    with pytest.raises(CourseError, match="'empty' has no vectors in 'embedding'.*Load it first"):
        sweep(conn, "empty", QUERIES)
    query(conn, "CREATE TEMP TABLE named (id text, embedding vector(16))")
    with pytest.raises(DocumentError, match=r"'named' has no column 'id' of the type .*Its columns are: id \(text\)"):
        sweep(conn, "named", QUERIES)


def test_a_sweep_shows_its_search(conn, capsys):
    sweep(table(conn), "items", QUERIES[:2], show_sql=True)
    assert 'ORDER BY "embedding" <=> %(vector)s' in capsys.readouterr().out


def test_a_filtered_search_is_compared_with_the_neighbours_that_the_filter_leaves(conn):
    create_index(table(conn), "items")
    query(conn, "ANALYZE items")
    query(conn, "SET enable_sort = off")
    where = "id < %(share)s"
    settings = {"share": [N, 25], "iterative_scan": ["off", "strict_order"]}
    swept = sweep(conn, "items", QUERIES, settings, where=where)
    assert set(swept["index"]) == {"items_embedding_cosine_hnsw"}
    everything, _, few, found = swept.itertuples()
    assert everything[3] > 0.9 and everything.rows == 10
    assert few.rows < 3 and few[3] < 0.3, "filtered after the scan"
    assert found.rows == 10 and found[3] > 0.9
    exact = "SELECT id FROM items WHERE id < %(share)s ORDER BY (embedding <=> %(vector)s) + 0 LIMIT %(k)s"
    for way in (where, sql.SQL(where)):
        assert sweep(conn, "items", QUERIES, {"share": [3, 700]}, statement=exact, where=way)["recall@10"].tolist() == [
            1,
            1,
        ]
    unfiltered = sweep(conn, "items", QUERIES, {"share": [700]}, statement=exact)
    assert 0.1 < unfiltered["recall@10"][0] < 0.5, "without where the neighbours are those among all"
    other = sweep(conn, "items", QUERIES, {"share": [25]}, statement=exact.replace("id <", "id >="), where=where)
    assert other["recall@10"][0] == 0, "what the filter throws out is no neighbour, however near"
    with pytest.raises(IndexProblem, match='column "colour" does not exist'):
        sweep(conn, "items", QUERIES, where="colour = 'red'")
    for wrong in ("'10%' = '10'", "id = %(one)s", "id = %s", "embedding <=> %(vector)s < 1"):
        with pytest.raises(IndexProblem, match="do not fit the filter.* is written %%"):
            sweep(conn, "items", QUERIES, where=wrong)
    assert sweep(conn, "items", QUERIES, where="'10%%' LIKE '1%%'")["rows"].tolist() == [10]


@pytest.mark.parametrize("dataset", ["passages", "python_docs"])
def test_hybrid_search_is_better_than_its_parts_where_words_tell_and_no_worse_where_they_do_not(dataset):
    scores = evaluate_search(dataset)
    for kind in (["conceptual", "exact", "mixed"], ["exact"], ["mixed"]):
        mean = scores[scores.kind.isin(kind)].groupby("method")["nDCG@10"].mean()
        assert mean["hybrid"] > max(mean["full text"], mean["vectors"]), kind
    assert compare(scores[scores.kind == "conceptual"], "hybrid", "vectors").high >= 0
