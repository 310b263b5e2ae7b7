"""Search by words, by vectors and by both."""

import numpy as np
import pytest

from pgv_helpers import (
    add_full_text,
    bulk_load,
    connect,
    create_documents_table,
    create_index,
    explain,
    full_text_search,
    get_embedding,
    hybrid_search,
    query,
    search_settings,
    store_documents_batch,
    vector_search,
)
from pgv_helpers.errors import DocumentError, ModelError

TEXTS = [
    "The Moon pulls the sea up into tides.",
    "Bread rises because yeast makes gas.",
    "Error 40P01 means that two transactions wait for each other.",
    "A dough of flour and water rests overnight in a long and winding story about flour, mills and bakers.",
    "Tomatoes like sun.",
]


@pytest.fixture
def conn():
    connection = connect("pg_temp")
    create_documents_table(connection)
    store_documents_batch(
        connection, "documents", [{"title": f"T{i}", "content": text} for i, text in enumerate(TEXTS)]
    )
    add_full_text(connection, "documents")
    yield connection
    connection.close()


def found(hits):
    return hits.title.tolist()


def test_words_are_stemmed_and_any_of_them_will_do(conn):
    assert found(full_text_search(conn, "documents", "Why do the seas have a tide?")) == ["T0"]
    assert found(full_text_search(conn, "documents", "40P01 tides")) in (["T0", "T2"], ["T2", "T0"])
    assert found(full_text_search(conn, "documents", "T4")) == ["T4"], "the title counts"


def test_a_question_without_words_finds_nothing(conn, capfd):
    for nothing in ("", "the of and", "?!", "' | & ! \\ :* <->"):
        assert found(full_text_search(conn, "documents", nothing)) == []
    assert found(full_text_search(conn, "documents", "it's | 'yeast' & !")) == ["T1"], "no syntax, only words"


def test_vectors_find_what_shares_no_word(conn):
    hits = vector_search(conn, "documents", "baking a loaf", k=2)
    assert set(found(hits)) == {"T1", "T3"}
    assert hits.distance.is_monotonic_increasing
    assert found(vector_search(conn, "documents", get_embedding("baking a loaf"), k=2)) == found(hits)


def test_both_keep_what_only_one_side_finds(conn):
    hits = hybrid_search(conn, "documents", "40P01", k=5)
    assert found(hits)[0] == "T2" and len(hits) == 5
    words, vectors = (
        {title: place for place, title in enumerate(found(search(conn, "documents", "tides and bread", 50)), 1)}
        for search in (full_text_search, vector_search)
    )
    fused = hybrid_search(conn, "documents", "tides and bread", k=5)
    expected = {t: sum(1 / (60 + places[t]) for places in (words, vectors) if t in places) for t in vectors}
    assert dict(zip(fused.title, fused.score.astype(float))) == pytest.approx(expected)
    assert found(fused) == sorted(expected, key=lambda title: (-expected[title], title))


def test_full_text_keeps_itself_in_step_and_is_added_once(conn):
    add_full_text(conn, "documents")
    store_documents_batch(conn, "documents", [{"content": "Zebras", "embedding": np.ones(384)}])
    assert len(full_text_search(conn, "documents", "zebra")) == 1


@pytest.mark.parametrize("search", [full_text_search, hybrid_search])
def test_a_table_without_full_text_is_told_how_to_get_it(conn, search):
    create_documents_table(conn, "plain")
    with pytest.raises(DocumentError, match=r"'plain' has no column of words.*add_full_text\(conn, 'plain'\)"):
        search(conn, "plain", "x")


@pytest.mark.parametrize("search", [full_text_search, vector_search, hybrid_search])
def test_what_cannot_be_searched_is_named(conn, search):
    with pytest.raises(DocumentError, match="no table 'nowhere'"):
        search(conn, "nowhere", "x")


def test_vectors_of_another_model_and_empty_questions_are_refused(conn):
    create_documents_table(conn, "other", model="text-embedding-3-small")
    with pytest.raises(DocumentError, match="holds vectors of the model 'text-embedding-3-small'"):
        vector_search(conn, "other", "x")
    with pytest.raises(ModelError, match="is empty"):
        vector_search(conn, "documents", " ")


def test_as_many_hits_as_asked_for(conn):
    more = [{"content": f"flour {i}", "embedding": np.full(384, i + 1)} for i in range(70)]
    store_documents_batch(conn, "documents", more)
    assert len(hybrid_search(conn, "documents", "flour", k=np.int64(70))) == 70
    assert len(full_text_search(conn, "documents", "flour", k=0)) == 0


@pytest.mark.parametrize("question", [None, [1, 2], np.ones((1, 384)), np.full(384, np.nan), np.zeros(384)])
def test_what_is_no_question_is_refused(conn, question):
    with pytest.raises(DocumentError, match="A question is a text, or one vector of 384 finite numbers"):
        vector_search(conn, "documents", question)


def test_texts_and_numbers_that_cannot_be_asked_are_refused(conn):
    for search in (full_text_search, vector_search, hybrid_search):
        with pytest.raises(DocumentError, match="k must be 0 or more; it is -1"):
            search(conn, "documents", "x", -1)
    for text in ("a\0b", "\ud800"):
        with pytest.raises(DocumentError, match="NUL or half a character"):
            full_text_search(conn, "documents", text)


def test_the_statements_can_be_seen(conn, capsys):
    hybrid_search(conn, "documents", "tides", show_sql=True)
    shown = capsys.readouterr().out
    assert "FULL OUTER JOIN" in shown and "ts_rank" in shown and "<=>" in shown and "'tides'" in shown
    assert query(conn, "SELECT 1").shape == (1, 1)


@pytest.fixture
def indexed(conn):
    """Two thousand more documents, found through an HNSW index."""
    vectors = np.random.default_rng(0).normal(size=(2000, 384)).astype(np.float32)
    bulk_load(conn, "documents", {"content": [f"flour {i}" for i in range(2000)], "embedding": vectors})
    create_index(conn, "documents", m=4, ef_construction=8)
    with conn, conn.cursor() as cur:
        cur.execute("ANALYZE documents; SET enable_seqscan = off")
    return conn


def candidates(conn):
    return query(conn, "SELECT current_setting('hnsw.ef_search')").iloc[0, 0]


@pytest.mark.parametrize("autocommit", [False, True])
def test_an_index_returns_as_many_hits_as_asked_for_and_no_setting_stays(indexed, autocommit):
    indexed.autocommit = autocommit
    statement = "SELECT id FROM documents ORDER BY embedding <=> %s LIMIT 100"
    assert explain(indexed, statement, [np.ones(384)]).rows == 40, "the index is used, and left alone it gives forty"
    for k in (1, 40, 41, 100):
        assert len(vector_search(indexed, "documents", np.ones(384), k=k)) == k
        assert candidates(indexed) == "40"
    assert len(vector_search(indexed, "documents", np.ones(384), k=2005)) <= 1000, "pgvector's limit"
    assert len(hybrid_search(indexed, "documents", "flour", k=100)) == 100
    assert candidates(indexed) == "40" and indexed.autocommit == autocommit


def test_what_the_caller_has_set_stays_unless_it_is_too_little(indexed):
    def taken(k):
        return len(vector_search(indexed, "documents", np.ones(384), k=k))

    with search_settings(indexed, ef_search=5):
        assert taken(3) == 3 and taken(20) == 20
        assert candidates(indexed) == "5"
    with search_settings(indexed, ef_search=500):
        assert taken(100) == 100
        assert candidates(indexed) == "500"
    assert candidates(indexed) == "40"


def test_fusion_sees_fifty_hits_of_each_side_through_an_index(indexed):
    """The place of a hit in the fused list is that of the exact lists of fifty."""
    question = "tides and bread"
    sides = [search(indexed, "documents", question, 50) for search in (full_text_search, vector_search)]
    assert len(sides[1]) == 50
    fused = hybrid_search(indexed, "documents", question, k=50)
    expected = {}
    for hits in sides:
        for place, id in enumerate(hits.id, 1):
            expected[id] = expected.get(id, 0) + 1 / (60 + place)
    assert fused.score.astype(float).tolist() == pytest.approx(sorted(expected.values(), reverse=True)[:50])
