"""A table of documents: what is stored, what is refused, and that nothing is lost."""

import numpy as np
import pandas as pd
import psycopg2
import pytest
from pgvector import Vector

from pgv_helpers import (
    bulk_load,
    connect,
    create_documents_table,
    delete_documents,
    embed,
    insert_document,
    query,
    read_documents,
    read_embeddings,
    store_documents_batch,
    table_model,
    upsert_documents,
)
from pgv_helpers.documents import require_model
from pgv_helpers.errors import DocumentError, ModelError


@pytest.fixture
def conn():
    connection = connect("pg_temp")
    create_documents_table(connection)
    yield connection
    connection.close()


def count(conn):
    conn.rollback()  # what was not committed is gone
    return len(read_documents(conn, "documents"))


def test_the_table_takes_the_models_dimension_and_remembers_its_name(conn):
    assert table_model(conn, "documents") == "all-MiniLM-L6-v2"
    create_documents_table(conn, "large", model="text-embedding-3-large", type="halfvec")
    assert table_model(conn, "large") == "text-embedding-3-large"
    types = query(conn, "SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attname = 'embedding'")
    assert set(types.type) >= {"vector(384)", "halfvec(3072)"}


def test_a_table_of_another_model_is_refused_with_the_remedy(conn):
    create_documents_table(conn, "small", model="text-embedding-3-small")
    with pytest.raises(
        DocumentError, match="'text-embedding-3-small', and you work with 'all-MiniLM-L6-v2'.*PGV_EMBED"
    ):
        insert_document(conn, "small", {"content": "Tides"})
    assert require_model(conn, "small", "text-embedding-3-small") == "text-embedding-3-small"


def test_a_table_that_exists_stays_unless_told(conn):
    insert_document(conn, "documents", {"content": "Tides"})
    with pytest.raises(DocumentError, match="There is a table 'documents' already.*replace=True"):
        create_documents_table(conn)
    assert count(conn) == 1
    create_documents_table(conn, replace=True)
    assert count(conn) == 0


def test_a_table_of_another_schema_is_not_replaced(conn):
    other = connect("documents_of_another")
    create_documents_table(other, "shared_name", replace=True)
    query(conn, "SET search_path = pg_temp, documents_of_another, public")
    create_documents_table(conn, "shared_name", replace=True)
    assert len(read_documents(other, "shared_name")) == 0
    query(other, "DROP SCHEMA documents_of_another CASCADE")
    other.commit()
    other.close()


def test_a_document_is_embedded_stored_and_read_back(conn):
    text = {
        "title": "Tides",
        "content": "The Moon raises the sea.",
        "category": "oceans",
        "metadata": {"pages": [1, 2]},
    }
    id = insert_document(conn, "documents", text)
    conn.rollback()
    (row,) = read_documents(conn, "documents", [id]).to_dict("records")
    assert {name: row[name] for name in text} == text
    ids, vectors = read_embeddings(conn, "documents")
    assert ids.tolist() == [id]
    assert np.array_equal(vectors, embed(["The Moon raises the sea."]))


@pytest.mark.parametrize("vector", [np.ones(384), np.ones(384, np.float32), [1] * 384, [1.0] * 384, Vector([1] * 384)])
def test_a_vector_may_come_as_an_array_a_list_or_a_vector(conn, vector):
    store_documents_batch(conn, "documents", [{"content": "a", "embedding": vector}])
    assert np.array_equal(read_embeddings(conn, "documents")[1], np.ones((1, 384)))


def test_half_precision_is_stored_and_refuses_what_it_cannot_hold(conn):
    create_documents_table(conn, "half", type="halfvec")
    store_documents_batch(conn, "half", [{"content": "a", "embedding": np.full(384, 0.1)}])
    assert np.array_equal(read_embeddings(conn, "half")[1], np.full((1, 384), 0.1, np.float16).astype(np.float32))
    with pytest.raises(DocumentError, match="Row 0.*70000.0, which a halfvec cannot hold"):
        insert_document(conn, "half", {"content": "b", "embedding": np.full(384, 70_000)})


def test_a_batch_gives_the_ids_in_order_over_several_pages(conn):
    documents = [{"content": f"text {i}", "embedding": np.full(384, i)} for i in range(1, 26)]
    ids = store_documents_batch(conn, "documents", documents, page_size=10)
    assert read_documents(conn, "documents").set_index("id").content[ids].tolist() == [d["content"] for d in documents]
    assert store_documents_batch(conn, "documents", []) == []


def test_an_upsert_changes_what_exists_keeps_what_is_not_given_and_adds_the_rest(conn):
    kept, changed = store_documents_batch(
        conn, "documents", [{"title": "A", "content": "a"}, {"title": "B", "content": "b"}]
    )
    upsert_documents(conn, "documents", [{"id": np.int64(changed), "content": "new"}, {"id": 100, "content": "c"}])
    rows = read_documents(conn, "documents").set_index("id")
    assert rows.content.to_dict() == {kept: "a", changed: "new", 100: "c"}
    assert rows.title[changed] == "B"
    ids, vectors = read_embeddings(conn, "documents")
    assert np.array_equal(vectors[ids == changed], embed(["new"])), "the vector follows its text"


def test_documents_are_deleted_by_id(conn):
    ids = store_documents_batch(conn, "documents", [{"content": word} for word in "abc"])
    assert delete_documents(conn, "documents", np.array([ids[0], ids[2], 999])) == 2
    assert read_documents(conn, "documents").id.tolist() == [ids[1]]
    for wrong in ("12", 5, [1.5]):
        with pytest.raises(DocumentError, match="ids are a list of whole numbers"):
            delete_documents(conn, "documents", wrong)
    assert count(conn) == 1


@pytest.mark.parametrize(
    ("documents", "error", "words"),
    [
        ([{"content": "a"}, {"content": " "}], ModelError, r"texts\[1\] is empty"),
        ([{"content": "a"}, {"content": None}], ModelError, r"texts\[1\] is not a text"),
        ([{"content": "a"}, {"content": "a\0b"}], DocumentError, "Row 1, column 'content': NUL"),
        ([{"content": "a", "embedding": [1, 2]}], DocumentError, "Row 0.*a vector of 2 numbers.*takes 384"),
        ([{"content": "a", "embedding": np.full(384, np.nan)}], DocumentError, "Row 0.*number 0 .* nan"),
        ([{"content": "a", "embedding": "[1,2]"}], DocumentError, "Row 0.*no vector"),
        ([{"content": "a"}, {"content": "b", "title": "B"}], DocumentError, "Row 1 has the columns content, title"),
        ([{"title": "a"}], DocumentError, "needs its content"),
        (["a text"], DocumentError, "A document is a dictionary .* not 'a text'"),
        (
            [{"content": "a", "title": ["a"], "embedding": np.ones(384)}],
            DocumentError,
            r"Row 0, column 'title': \['a'\] is no text",
        ),
        ([{"content": "a", "author": "x"}], DocumentError, "no column 'author'. Its columns are: id, title, content"),
        (
            [{"id": 7, "content": "a"}, {"id": 7, "content": "b"}],
            DocumentError,
            r"Rows 0 and 1 have the same key \(id 7",
        ),
        ([{"id": 1, "content": "again"}], DocumentError, r"Key \(id\)=\(1\) already exists. .*upsert"),
        ([{"title": "x", "embedding": np.ones(384)}], DocumentError, 'null value in column "content"'),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_is_stored(conn, documents, error, words):
    insert_document(conn, "documents", {"id": 1, "content": "first"})
    with pytest.raises(error, match=words):
        store_documents_batch(conn, "documents", documents)
    assert count(conn) == 1


def test_rows_of_a_data_frame_are_documents_and_its_gaps_are_null(conn):
    days = pd.to_datetime(["2024-01-01", None])
    frame = pd.DataFrame({"title": ["A", np.nan], "content": ["a", "b"], "published": days})
    ids = store_documents_batch(conn, "documents", frame)
    rows = query(conn, "SELECT title IS NULL AS untitled, published IS NULL AS undated FROM documents ORDER BY id")
    assert len(ids) == 2 and rows.untitled.tolist() == rows.undated.tolist() == [False, True]
    id = insert_document(conn, "documents", {"content": "c", "metadata": 5})
    assert query(conn, "SELECT metadata FROM documents WHERE id = %s", [id]).metadata[0] == 5


@pytest.mark.parametrize("write", [store_documents_batch, upsert_documents])
def test_ids_go_on_after_those_that_rows_brought_with_them(conn, write):
    write(conn, "documents", [{"id": 7, "content": "seven"}, {"id": 3, "content": "three"}])
    assert insert_document(conn, "documents", {"content": "next"}) == 8
    bulk_load(conn, "documents", {"id": [20, 10], "content": ["a", "b"]})
    assert insert_document(conn, "documents", {"content": "next"}) == 21
    bulk_load(conn, "documents", {"id": [12], "content": ["c"]})
    assert insert_document(conn, "documents", {"content": "next"}) == 22


def test_a_sequence_that_begins_higher_is_not_set_back(conn):
    query(conn, "ALTER TABLE documents ALTER COLUMN id SET START WITH 1000 RESTART")
    insert_document(conn, "documents", {"id": 5, "content": "a"})
    assert insert_document(conn, "documents", {"content": "b"}) == 1000


def test_a_connection_that_cannot_work_says_why(conn):
    with pytest.raises(psycopg2.Error):
        query(conn, "SELECT 1/0")
    with pytest.raises(DocumentError, match=r"statement before this one failed.*conn.rollback\(\)"):
        read_documents(conn, "documents")
    conn.close()
    with pytest.raises(DocumentError, match="connection is closed"):
        insert_document(conn, "documents", {"content": "a"})


def test_what_is_refused_at_the_commit_is_told(conn):
    query(
        conn,
        """
        CREATE TEMPORARY TABLE child (
            id bigint PRIMARY KEY REFERENCES documents (id) DEFERRABLE INITIALLY DEFERRED,
            content text, embedding vector(384))""",
    )
    conn.commit()
    with pytest.raises(DocumentError, match="violates foreign key constraint.*Nothing was changed"):
        insert_document(conn, "child", {"id": 77, "content": "orphan"})
    with pytest.raises(DocumentError, match="violates foreign key constraint.*Nothing was changed"):
        bulk_load(conn, "child", {"id": [77]})


def test_an_upsert_needs_the_key(conn):
    with pytest.raises(DocumentError, match="needs the primary key of 'documents': give each row its id"):
        upsert_documents(conn, "documents", [{"content": "a"}])


@pytest.mark.parametrize(
    "call",
    [
        lambda conn: table_model(conn, "nowhere"),
        lambda conn: insert_document(conn, "nowhere", {"content": "a"}),
        lambda conn: delete_documents(conn, "nowhere", [1]),
        lambda conn: read_documents(conn, "nowhere"),
        lambda conn: read_embeddings(conn, "nowhere"),
    ],
)
def test_a_missing_table_is_named_with_what_makes_it(conn, call):
    with pytest.raises(DocumentError, match="no table 'nowhere' in the schemas pg_temp.*create_documents_table"):
        call(conn)


def test_names_are_quoted(conn):
    name = 'odd "name"; DROP TABLE documents'
    create_documents_table(conn, name)
    id = insert_document(conn, name, {"content": "a"})
    assert read_documents(conn, name, [id]).content.tolist() == ["a"]
    assert count(conn) == 0


def test_the_statements_can_be_seen(conn, capsys):
    id = insert_document(conn, "documents", {"content": "a"}, show_sql=True)
    upsert_documents(conn, "documents", [{"id": id, "content": "b"}], show_sql=True)
    read_documents(conn, "documents", [id], show_sql=True)
    delete_documents(conn, "documents", [id], show_sql=True)
    create_documents_table(conn, "more", show_sql=True)
    shown = capsys.readouterr().out
    for words in (
        'INSERT INTO "documents" ("content", "embedding")',
        "ON CONFLICT",
        "SELECT",
        "DELETE",
        "CREATE TABLE",
    ):
        assert words in shown
