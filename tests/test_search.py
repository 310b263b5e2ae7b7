"""Search by vectors, by words and by both."""

import random

import numpy as np
import pandas
import psycopg2
import pytest
from psycopg2 import sql

from pgv_helpers import (
    add_full_text,
    bulk_load,
    connect,
    create_documents_table,
    create_index,
    delete_documents,
    embed,
    exact_neighbours,
    explain,
    full_text_search,
    get_embedding,
    hybrid_search,
    nearest,
    query,
    read_embeddings,
    search_documents,
    search_settings,
    store_documents_batch,
    upsert_documents,
)
from pgv_helpers.errors import CourseError, DocumentError, ModelError

TEXTS = {
    "The Moon pulls the sea up into tides.": "sky",
    "Bread rises because yeast makes gas.": "kitchen",
    "Error 40P01 means that two transactions wait for each other.": "computing",
    "A dough of flour and water rests overnight in a long and winding story about flour, mills and bakers.": "kitchen",
    "Tomatoes like sun.": None,
}
SEARCHES = [full_text_search, nearest, hybrid_search]


@pytest.fixture
def conn():
    connection = connect("pg_temp")
    create_documents_table(connection)
    store_documents_batch(
        connection,
        "documents",
        [{"title": f"T{i}", "content": text, "category": category} for i, (text, category) in enumerate(TEXTS.items())],
    )
    add_full_text(connection)
    yield connection
    connection.close()


def found(hits):
    return hits.title.tolist()


def score(hits):
    return hits.score.astype(float).tolist()


def test_words_are_stemmed_and_any_of_them_will_do(conn):
    assert found(full_text_search(conn, "Why do the seas have a tide?")) == ["T0"]
    assert found(full_text_search(conn, "40P01 tides")) in (["T0", "T2"], ["T2", "T0"])
    assert found(full_text_search(conn, "T4")) == ["T4"], "the title counts"


NOTHING = ["", " ", "the of and", "?!", "' | & ! \\ :* <->", "()", '"', "%s %(text)s {} %"]


@pytest.mark.parametrize("text", NOTHING)
def test_a_question_without_words_finds_no_words(conn, text):
    assert found(full_text_search(conn, text)) == []
    if text.strip():
        assert found(hybrid_search(conn, text)) == found(nearest(conn, text, 5)), "its vector is left"


def test_operators_quotes_and_whatever_else_are_no_syntax(conn):
    assert found(full_text_search(conn, "it's | 'yeast' & !")) == ["T1"]
    draw = random.Random(0)
    for _ in range(200):
        text = "yeast " + "".join(draw.choices("ab1'\"\\|&!()<->:*%{}$;@/.-_ é日\n", k=20))
        hits = full_text_search(conn, text)
        assert not len(hits) or "T1" in found(hits)
        assert "T1" in found(full_text_search(conn, f"{text} yeast"))


def bm25(texts, question, k1=1.2, b=0.75):
    """As in Robertson and Zaragoza, over words that are there to be counted."""
    documents = [text.split() for text in texts]
    mean = np.mean([len(document) for document in documents])
    scores = np.zeros(len(texts))
    for word in set(question.split()):
        known = sum(word in document for document in documents)
        idf = np.log(1 + (len(texts) - known + 0.5) / (known + 0.5))
        for i, document in enumerate(documents):
            times = document.count(word)
            scores[i] += idf * times * (k1 + 1) / (times + k1 * (1 - b + b * len(document) / mean))
    return scores


@pytest.fixture
def rhymes(conn):
    """Documents of made-up words, no stop words, no endings that are cut off."""
    create_documents_table(conn, "rhymes")
    draw = random.Random(1)
    words = [f"{first}{second}" for first in "bdfgk" for second in ("ab", "od", "ug", "ak")]
    texts = [" ".join(draw.choices(words, weights=range(1, 21), k=draw.randint(3, 30))) for _ in range(100)]
    rows = [{"content": text, "embedding": np.ones(384), "category": text[0]} for text in texts]
    store_documents_batch(conn, "rhymes", rows)
    add_full_text(conn, "rhymes")
    return texts


def test_the_score_is_bm25(conn, rhymes):
    for question in ("bab kak", "bod bab fug gak", "kak kak dug unknown", "bab bod bug bak dab"):
        expected = bm25(rhymes, question)
        hits = full_text_search(conn, question, 20, table="rhymes")
        assert score(hits) == pytest.approx(sorted(expected, reverse=True)[:20])
        assert expected[hits.id - 1].tolist() == pytest.approx(score(hits))


def as_if_new(conn, table, statistics):
    """The statistics are what counting anew gives."""
    now = query(conn, f"SELECT word, sum(documents) AS n, sum(length) AS l FROM {table}_words GROUP BY 1 ORDER BY 1")
    now = [tuple(row) for row in now.itertuples(index=False) if row.n]
    expected = query(conn, f"SELECT word, ndoc AS n FROM ts_stat('SELECT words FROM {table}') ORDER BY word")
    assert [row[:2] for row in now if row[0]] == [tuple(row) for row in expected.itertuples(index=False)]
    return next((row[1:] for row in now if not row[0]), None)


def test_word_statistics_are_kept_in_step(conn, rhymes):
    def length():
        return sum(len(text.split()) for text in rhymes)

    assert as_if_new(conn, "rhymes", 100) == (100, length())
    vectors = np.ones((2, 384), np.float32)
    bulk_load(conn, "rhymes", {"id": [101, 102], "content": ["zebu bab", "zebu"], "embedding": vectors})
    rhymes += ["zebu bab", "zebu"]
    assert as_if_new(conn, "rhymes", 102) == (102, length())
    upsert_documents(conn, "rhymes", [{"id": 1, "content": "zebu zebu zebu", "embedding": vectors[0]}])
    rhymes[0] = "zebu zebu zebu"
    assert as_if_new(conn, "rhymes", 102) == (102, length())
    hits = full_text_search(conn, "zebu bab", table="rhymes")
    assert score(hits) == pytest.approx(sorted(bm25(rhymes, "zebu bab"), reverse=True)[: len(hits)])
    delete_documents(conn, "rhymes", range(2, 50))
    del rhymes[1:49]
    assert as_if_new(conn, "rhymes", 54) == (54, length())
    before = query(conn, "SELECT count(*) FROM rhymes_words").iloc[0, 0]
    query(conn, "UPDATE rhymes SET category = 'x'")
    assert query(conn, "SELECT count(*) FROM rhymes_words").iloc[0, 0] <= before + 1, "no word came or went"
    add_full_text(conn, "rhymes")
    assert query(conn, "SELECT count(*) FROM rhymes_words").iloc[0, 0] < before, "counted anew"
    assert as_if_new(conn, "rhymes", 54) == (54, length())
    query(conn, "TRUNCATE rhymes")
    assert as_if_new(conn, "rhymes", 0) is None
    assert found(full_text_search(conn, "zebu", table="rhymes")) == []


def test_a_rollback_takes_the_statistics_with_it(conn, rhymes):
    conn.commit()
    query(conn, "INSERT INTO rhymes (content) VALUES ('zebu')")
    conn.rollback()
    assert as_if_new(conn, "rhymes", 100)[0] == 100


def test_writers_do_not_wait_for_one_another():
    with connect("statistics") as conn, connect("statistics") as other:
        create_documents_table(conn, replace=True)
        add_full_text(conn)
        query(conn, "INSERT INTO documents (content) VALUES ('zebu')")
        query(other, "SET lock_timeout = '1s'")
        query(other, "INSERT INTO documents (content) VALUES ('zebu')")
        other.commit()
        conn.commit()
        assert as_if_new(conn, "documents", 2)[0] == 2
        create_documents_table(conn, replace=True)
        with pytest.raises(DocumentError, match="Add it: add_full_text"):
            full_text_search(conn, "zebu")
        add_full_text(conn)
        assert as_if_new(conn, "documents", 0) is None, "nothing of the table before it"
        query(conn, "DROP SCHEMA statistics CASCADE")
        conn.commit()


def test_words_of_another_language(conn):
    create_documents_table(conn, "bücher")
    store_documents_batch(conn, "bücher", [{"content": "Die Gezeiten und das Meer", "embedding": np.ones(384)}])
    with pytest.raises(DocumentError, match="no language 'klingon'; it has: .*german"):
        add_full_text(conn, "bücher", language="klingon")
    add_full_text(conn, "bücher", language="german")
    assert len(full_text_search(conn, "Meere", table="bücher")) == 1
    assert len(full_text_search(conn, "das und", table="bücher")) == 0
    with pytest.raises(DocumentError, match="made for 'german', not 'english'.*ALTER TABLE \"bücher\" DROP"):
        add_full_text(conn, "bücher")


def test_vectors_find_what_shares_no_word(conn):
    hits = nearest(conn, "baking a loaf", 2)
    assert set(found(hits)) == {"T1", "T3"}
    assert hits.distance.is_monotonic_increasing
    assert found(nearest(conn, get_embedding("baking a loaf"), 2)) == found(hits)


@pytest.mark.parametrize("metric", ["cosine", "l2", "<#>", "l1"])
def test_any_operator(conn, metric):
    ids, vectors = read_embeddings(conn, "documents")
    rows, distances = exact_neighbours(vectors, embed(["a loaf"]), 3, metric)
    hits = nearest(conn, "a loaf", 3, metric=metric)
    assert hits.id.tolist() == ids[rows[0]].tolist()
    assert hits.distance.tolist() == pytest.approx(distances[0], rel=1e-4)


def test_any_type_of_vector_and_any_column(conn):
    query(conn, "CREATE TABLE things (name text, half halfvec(2), bits bit(3), sparse sparsevec(2))")
    query(conn, "INSERT INTO things VALUES ('a', '[1,0]', '101', '{1:1}/2'), ('b', '[0,1]', '000', '{2:1}/2')")
    about = {"table": "things", "columns": ["name"], "as_dicts": True}
    assert nearest(conn, [0, 2], column="half", metric="l2", **about) == [
        {"name": "b", "distance": 1.0},
        {"name": "a", "distance": pytest.approx(5**0.5)},
    ]
    bits = np.array([True, True, True])
    assert [row["distance"] for row in nearest(conn, bits, column="bits", metric="hamming", **about)] == [1, 3]
    sparse = query(conn, "SELECT sparse FROM things WHERE name = 'b'").iloc[0, 0]
    assert nearest(conn, sparse, 1, column="sparse", **about)[0]["name"] == "b"


@pytest.mark.parametrize("search", SEARCHES)
def test_filters(conn, search):
    def titles(**filter):
        return sorted(found(search(conn, "flour, yeast, 40P01, tomatoes and tides", 10, **filter)))

    assert titles() == ["T0", "T1", "T2", "T3", "T4"]
    assert titles(category="kitchen") == ["T1", "T3"]
    assert titles(category="kitchen", id=np.int64(2)) == ["T1"]
    assert titles(category=["sky", "kitchen"]) == ["T0", "T1", "T3"]
    assert titles(category=None) == ["T4"]
    assert titles(category=["sky", None]) == ["T0", "T4"]
    assert titles(category=[None]) == ["T4"]
    assert titles(category="nowhere") == titles(category=[]) == []
    for ids in ([np.int64(2), 4], np.array([2, 4]), pandas.Series([2, 4]), range(2, 5, 2), {2, 4}, ["2", "4"]):
        assert titles(id=ids) == ["T1", "T3"]
    assert titles(where="id < %s OR category = %(c)s".replace("%(c)s", "%s"), parameters=[2, "computing"]) == [
        "T0",
        "T2",
    ]
    assert titles(where="id < %(most)s", parameters={"most": 3}, category="sky") == ["T0"]
    assert titles(where="id > %s AND id = ANY(%s)", parameters=[np.float64(1.5), [np.int64(1), np.int32(2)]]) == ["T1"]
    assert titles(where="id = %(id)s", parameters={"id": np.int64(2)}) == ["T1"]
    assert titles(where="content LIKE '%sea%'") == ["T0"]
    assert titles(where="content LIKE %s", parameters=["%'; DROP TABLE documents; --%"]) == []
    with pytest.raises(DocumentError, match="do not go together"):
        titles(where="id = %s AND title = %s", parameters=[1])
    with pytest.raises(DocumentError, match="of no type that psycopg2 knows: .*'dict'.* Give it as a text"):
        titles(metadata={"page": 3})
    with pytest.raises(DocumentError, match='column "categry" does not exist'):
        titles(categry="sky")
    conn.rollback()
    with pytest.raises(DocumentError, match="invalid input syntax"):
        titles(id="one")


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    "table", ["question", "searched", "by_vector", "Two Words", 'a"b', "sch.ema", "100%s", "é" * 26]
)
def test_a_table_of_any_name(conn, search, table):
    query(conn, sql.SQL("ALTER TABLE documents RENAME TO {}").format(sql.Identifier(table)))
    add_full_text(conn, table)
    assert found(search(conn, "tides", 1, table=table, category="sky")) == ["T0"]


@pytest.mark.parametrize("column", ["score", "distance", "coverage", "model", "neighbours", "held", "word", "any_word"])
def test_a_column_of_any_name(conn, column):
    query(conn, f"ALTER TABLE documents ADD COLUMN {column} text DEFAULT 'x'")
    for search, own in zip(SEARCHES, ("score", "distance", "score")):
        assert found(search(conn, "tides", 1, **{column: "x"})) == ["T0"]
        if column == own:
            with pytest.raises(DocumentError, match=f"has a column '{own}' of its own"):
                search(conn, "tides", columns=["id", column])
        else:
            assert search(conn, "tides", 1, columns=["id", column]).iloc[0, :2].tolist() == [1, "x"]


@pytest.mark.parametrize("search", SEARCHES)
def test_ids_of_any_type(conn, search):
    query(conn, "ALTER TABLE documents DROP id; ALTER TABLE documents ADD id uuid DEFAULT gen_random_uuid()")
    ids = query(conn, "SELECT id FROM documents ORDER BY title").id.tolist()
    hits = search(conn, "tides and bread", id=ids[:2])
    assert sorted(found(hits)) == ["T0", "T1"] and set(hits.id) == set(ids[:2])


def test_search_documents(conn):
    hits = search_documents(conn, "baking a loaf", "kitchen")
    assert hits.columns.tolist() == ["id", "title", "content", "category", "distance"]
    assert set(found(hits)) == {"T1", "T3"}
    assert len(search_documents(conn, "baking a loaf")) == 5
    assert len(search_documents(conn, "baking a loaf", limit=3)) == 3


def places(conn, text):
    return (
        {title: place for place, title in enumerate(found(search(conn, text, 40)), 1)}
        for search in (full_text_search, nearest)
    )


def test_reciprocal_rank_fusion(conn):
    hits = hybrid_search(conn, "40P01", method="rrf")
    assert found(hits)[0] == "T2" and len(hits) == 5
    words, vectors = places(conn, "tides and bread")
    fused = hybrid_search(conn, "tides and bread", method="rrf")
    expected = {t: sum(1 / (60 + places[t]) for places in (words, vectors) if t in places) for t in vectors}
    assert dict(zip(fused.title, fused.score)) == pytest.approx(expected)
    assert found(fused) == sorted(expected, key=lambda title: (-expected[title], title))


def both_scores(conn, text):
    words = full_text_search(conn, text, 40)
    return dict(zip(words.title, score(words))), {
        hit.title: 1 - hit.distance for hit in nearest(conn, text, 40).itertuples()
    }


@pytest.mark.parametrize("weight", [0, 0.3, 1])
def test_weighted_fusion_is_normalised_for_the_question(conn, weight):
    def to_one(scores, title):
        low, high = min(scores.values()), max(scores.values())
        return ((scores[title] - low) / (high - low) if high > low else 1) if title in scores else 0

    for question in ("tides, bread, flour and mills", "yeast"):
        words, vectors = both_scores(conn, question)
        expected = {title: weight * to_one(vectors, title) + (1 - weight) * to_one(words, title) for title in vectors}
        fused = hybrid_search(conn, question, method="weighted", semantic_weight=weight)
        assert dict(zip(fused.title, score(fused))) == pytest.approx(expected, abs=1e-6)
    assert len(words) == 1, "the only hit of a side counts 1"


def test_adaptive_fusion_trusts_the_words_by_what_they_cover(conn):
    """ "yeast" and "mill" stand in one document each of five, "quux" in none."""
    idf = {0: np.log(1 + 5.5 / 0.5), 1: np.log(1 + 4.5 / 1.5)}
    question = "yeast mill quux"
    _, vectors = both_scores(conn, question)
    coverage = idf[1] / (2 * idf[1] + idf[0])
    trust = coverage / max(vectors.values())
    expected = {
        title: similarity + (coverage * trust if title in ("T1", "T3") else 0) ** 3
        for title, similarity in vectors.items()
    }
    fused = hybrid_search(conn, question)
    assert dict(zip(fused.title, score(fused))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", ["adaptive", "rrf", "weighted"])
def test_a_hit_of_words_alone_survives_even_without_a_vector(conn, method):
    far = [{"content": f"padding {i}", "embedding": get_embedding("error code") + 0.01 * i} for i in range(60)]
    ids = store_documents_batch(conn, "documents", far)
    query(conn, "INSERT INTO documents (title, content) VALUES ('only words', 'QX77 and QX78')")
    query(conn, "INSERT INTO documents (title, content, embedding) VALUES ('zero', 'QX78', %s)", [np.zeros(384)])
    fused = hybrid_search(conn, "error code QX77", 70, method=method)
    assert "only words" in found(fused)
    assert np.isfinite(score(fused)).all()
    assert set(ids) & set(fused.id)
    assert np.isfinite(score(hybrid_search(conn, "QX78", 70, method=method))).all()


def test_equal_scores_are_in_order_of_ids(conn):
    store_documents_batch(conn, "documents", [{"content": "zebu"} for _ in range(9)])
    assert full_text_search(conn, "zebu", 5).id.tolist() == [6, 7, 8, 9, 10]
    for method in ("adaptive", "rrf", "weighted"):
        assert hybrid_search(conn, "zebu", 5, method=method).id.tolist() == [6, 7, 8, 9, 10]


def test_what_is_no_method_and_no_weight_is_refused(conn):
    with pytest.raises(DocumentError, match="method is 'magic'; it takes one of: adaptive, rrf, weighted"):
        hybrid_search(conn, "x", method="magic")
    with pytest.raises(DocumentError, match="semantic_weight is 70; it goes from 0"):
        hybrid_search(conn, "x", method="weighted", semantic_weight=70)
    with pytest.raises(CourseError, match="There is no distance 'manhattan'"):
        nearest(conn, "x", metric="manhattan")


class Counted(psycopg2.extensions.cursor):
    statements = 0

    def execute(self, *args):
        Counted.statements += 1
        super().execute(*args)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_is_one_round_trip(conn, search):
    conn.commit()
    conn.cursor_factory = Counted
    more = [{"content": f"yeast {i}", "embedding": np.full(384, i + 1)} for i in range(50)]
    store_documents_batch(conn, "documents", more)
    Counted.statements = 0
    assert len(search(conn, "yeast", 10)) == 10
    assert Counted.statements == 1


def test_a_renamed_table_is_counted_anew(conn):
    """So that a table that takes the name of another is not searched by the other's counts."""
    for table in ("old", "new"):
        create_documents_table(conn, table)
        query(conn, f"INSERT INTO {table} (content) VALUES (%s)", [f"the {table} yeast"])
        add_full_text(conn, table)
    query(conn, "DROP TABLE old; ALTER TABLE new RENAME TO old")
    conn.commit()
    with pytest.raises(DocumentError, match=r"was renamed since. Add it: add_full_text\(conn, 'old'\)"):
        full_text_search(conn, "new", table="old")
    add_full_text(conn, "old")
    assert full_text_search(conn, "new", table="old").id.tolist() == [1]


def test_documents_can_be_written_without_the_column_of_words(conn):
    query(conn, "ALTER TABLE documents DROP COLUMN words")
    store_documents_batch(conn, "documents", [{"content": "Zebras", "embedding": np.ones(384)}])
    query(conn, "UPDATE documents SET category = 'x'")
    delete_documents(conn, "documents", [1])
    add_full_text(conn, language="german")
    assert as_if_new(conn, "documents", 5)[0] == 5


def test_a_role_writes_documents_without_rights_to_the_counts():
    with connect("roles") as conn:
        create_documents_table(conn, replace=True)
        add_full_text(conn)
        query(
            conn,
            "CREATE ROLE writer; GRANT USAGE ON SCHEMA roles TO writer; GRANT ALL ON documents TO writer;"
            "SET ROLE writer; INSERT INTO documents (content) VALUES ('zebu'); RESET ROLE",
        )
        assert as_if_new(conn, "documents", 1)[0] == 1
        query(conn, "SET ROLE writer")
        with pytest.raises(DocumentError, match="permission denied for table documents_words"):
            full_text_search(conn, "zebu")
        conn.rollback()
        query(conn, "DROP SCHEMA roles CASCADE")
        conn.commit()


def test_what_others_have_named_so_stays(conn):
    create_documents_table(conn, "a")
    query(
        conn, "CREATE TABLE a_words (word text, documents int, length int, note text); INSERT INTO a_words VALUES ('x')"
    )
    create_documents_table(conn, "b")
    query(conn, "ALTER TABLE b ADD COLUMN words int")
    conn.commit()
    with pytest.raises(DocumentError, match="something else named 'a_words'.*Rename it"):
        add_full_text(conn, "a")
    assert len(query(conn, "SELECT * FROM a_words")) == 1
    with pytest.raises(DocumentError, match="'b' has another column named words, of the type integer. Rename it"):
        add_full_text(conn, "b")
    with pytest.raises(DocumentError, match="is too long: with _words_word behind it.* at 63 bytes"):
        add_full_text(conn, "é" * 27)


def test_full_text_keeps_itself_in_step_and_is_added_once(conn):
    add_full_text(conn)
    store_documents_batch(conn, "documents", [{"content": "Zebras", "embedding": np.ones(384)}])
    assert len(full_text_search(conn, "zebra")) == 1


def test_a_column_of_words_made_by_hand_will_do(conn):
    create_documents_table(conn, "own")
    query(
        conn, "ALTER TABLE own ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED"
    )
    store_documents_batch(conn, "own", [{"title": "x", "content": "Zebras", "embedding": np.ones(384)}])
    with pytest.raises(DocumentError, match="'own' has no column of words"):
        full_text_search(conn, "zebra", table="own")
    conn.rollback()
    add_full_text(conn, "own")
    assert found(full_text_search(conn, "zebra", table="own")) == ["x"]


@pytest.mark.parametrize("search", [full_text_search, hybrid_search])
def test_a_table_without_full_text_is_told_how_to_get_it(conn, search):
    create_documents_table(conn, "plain")
    with pytest.raises(DocumentError, match=r"'plain' has no column of words.*add_full_text\(conn, 'plain'\)"):
        search(conn, "x", table="plain")


@pytest.mark.parametrize("search", SEARCHES)
def test_what_cannot_be_searched_is_named_and_no_transaction_stays_broken(conn, search):
    conn.commit()
    with pytest.raises(DocumentError, match="no table 'nowhere'") as error:
        search(conn, "x", table="nowhere")
    assert "rollback" not in str(error.value) and query(conn, "SELECT 1").shape == (1, 1)
    with pytest.raises(DocumentError, match=r'shape"? does not exist(.|\n)*To go on: conn.rollback\(\)'):
        search(conn, "x", columns=["shape"])
    with pytest.raises(DocumentError, match=r"waits for: conn.rollback\(\)"):
        search(conn, "x")


def test_vectors_of_another_model_and_empty_questions_are_refused(conn):
    create_documents_table(conn, "other", model="text-embedding-3-small")
    add_full_text(conn, "other")
    query(conn, "INSERT INTO other (content, embedding) VALUES ('x', array_fill(1, ARRAY[1536])::vector)")
    query(conn, "COMMENT ON COLUMN documents.embedding IS 'another-model-of-384'")
    conn.commit()
    for search in (nearest, hybrid_search):
        conn.rollback()
        with pytest.raises(DocumentError, match="another dimension than the question.*table_model"):
            search(conn, "x", table="other")
        with pytest.raises(DocumentError, match="holds vectors of the model 'another-model-of-384'"):
            search(conn, "x")
        with pytest.raises(ModelError, match="is empty"):
            search(conn, " ")
    assert len(nearest(conn, get_embedding("x"), 3)) == 3, "of a vector nobody knows the model"


def test_as_many_hits_as_asked_for(conn):
    more = [{"content": f"flour {i}", "embedding": np.full(384, i + 1)} for i in range(70)]
    store_documents_batch(conn, "documents", more)
    assert len(hybrid_search(conn, "flour", np.int64(70))) == 70
    assert len(full_text_search(conn, "flour", 300)) == 71
    assert len(full_text_search(conn, "flour", 0)) == 0


@pytest.mark.parametrize("question", [None, [], [1, "a"], np.ones((1, 384)), np.full(384, np.nan)])
def test_what_is_no_question_is_refused(conn, question):
    with pytest.raises(DocumentError, match="A question is a text, or one vector of finite numbers"):
        nearest(conn, question)


def test_texts_and_numbers_that_cannot_be_asked_are_refused(conn):
    for search in SEARCHES:
        with pytest.raises(DocumentError, match="limit must be a whole number, 0 or more; it is -1"):
            search(conn, "x", -1)
        for limit in (2.5, None, "3", np.nan):
            with pytest.raises(DocumentError, match="limit must be a whole number"):
                search(conn, "x", limit)
        for columns in ("title", [], [1]):
            with pytest.raises(DocumentError, match="columns is a list of names"):
                search(conn, "x", columns=columns)
        with pytest.raises(DocumentError, match="NUL or half a character"):
            search(conn, "x", category="a\0b")
    with pytest.raises(DocumentError, match="A question of words is a text, not None"):
        full_text_search(conn, None)
    with pytest.raises(DocumentError, match="too long for tsvector"):
        full_text_search(conn, " ".join(map(str, range(200_000))))
    conn.rollback()
    for text in ("a\0b", "\ud800"):
        with pytest.raises(DocumentError, match="NUL or half a character"):
            full_text_search(conn, text)
        with pytest.raises(CourseError):
            hybrid_search(conn, text)


def test_the_statements_can_be_seen(conn, capsys):
    hybrid_search(conn, "tides", category="sky", show_sql=True)
    shown = capsys.readouterr().out
    for part in ("FULL OUTER JOIN", "idf", "<=>", "'tides'", "\"category\" = 'sky'"):
        assert part in shown
    add_full_text(conn, show_sql=True)
    assert "TRIGGER" in capsys.readouterr().out


@pytest.fixture
def indexed(conn):
    """Two thousand more documents, found through an HNSW index."""
    vectors = np.random.default_rng(0).normal(size=(2000, 384)).astype(np.float32)
    texts = [f"flour {i}" for i in range(2000)]
    categories = ["rare" if i % 100 == 0 else "common" for i in range(2000)]
    bulk_load(conn, "documents", {"content": texts, "category": categories, "embedding": vectors})
    create_index(conn, "documents", m=4, ef_construction=8)
    with conn, conn.cursor() as cur:
        cur.execute("ANALYZE documents; SET enable_seqscan = off; SET enable_sort = off")
    return conn


def candidates(conn):
    return query(conn, "SELECT current_setting('hnsw.ef_search')").iloc[0, 0]


@pytest.mark.parametrize("autocommit", [False, True])
def test_an_index_returns_as_many_hits_as_asked_for_and_no_setting_stays(indexed, autocommit):
    indexed.autocommit = autocommit
    statement = "SELECT id FROM documents ORDER BY embedding <=> %s LIMIT 100"
    assert explain(indexed, statement, [np.ones(384)]).rows == 40, "the index is used, and left alone it gives forty"
    for k in (1, 40, 41, 100):
        assert len(nearest(indexed, np.ones(384), k)) == k
        assert candidates(indexed) == "40"
    assert len(hybrid_search(indexed, "flour", 100)) == 100
    assert candidates(indexed) == "40" and indexed.autocommit == autocommit


def test_a_filter_gets_its_rows_through_an_index(indexed):
    question = np.random.default_rng(1).normal(size=384)
    statement = "SELECT id FROM documents WHERE category = 'rare' ORDER BY embedding <=> %s LIMIT 10"
    plan = explain(indexed, statement, [question])
    assert plan.index and plan.rows < 5, "the index is filtered after the scan"
    hits = nearest(indexed, question, 10, category="rare")
    assert len(hits) == 10 and hits.distance.is_monotonic_increasing
    assert len(hybrid_search(indexed, "flour", 20, category="rare")) == 20
    few = hybrid_search(indexed, "quux", 20, category="rare", where="content LIKE '%9%'")
    assert len(few) in (1, 2), "not by words, and beyond the first candidates; so thin a graph may lose one of them"
    assert query(indexed, "SHOW hnsw.iterative_scan").iloc[0, 0] == "off"


def test_what_the_caller_has_set_stays(indexed):
    with search_settings(indexed, ef_search=5):
        assert len(nearest(indexed, np.ones(384), 3)) == 3 and len(nearest(indexed, np.ones(384), 20)) == 20
        assert candidates(indexed) == "5"
    with search_settings(indexed, ef_search=500):
        assert len(nearest(indexed, np.ones(384), 100)) == 100
        assert candidates(indexed) == "500"
    assert candidates(indexed) == "40"
