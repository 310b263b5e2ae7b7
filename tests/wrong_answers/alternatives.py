"""What learners write for exercise 09 that is not right, and words of the message that each must get."""

from functools import cache

from pgv_helpers.course.notebook import solution_code
from pgv_helpers.course.question import find_question

solved = cache(solution_code)


def instead(question: str, *changes: tuple[str, str]) -> str:
    """The course's own answer with other words in some places."""
    code = solved(find_question(f"alternatives.{question}"))
    for right, wrong in changes:
        assert right in code, right
        code = code.replace(right, wrong)
    return code


BEST = "np.argsort(-similarity)[:k]"

NORMALISED = "vectors / np.linalg.norm(vectors, axis=1, keepdims=True)"

SET_CONSTRUCTION = "    index.hnsw.efConstruction = ef_construction\n"

ROWS = "[[int(ids[row]) for row in rows if row >= 0] for rows in index.search(questions, k)[1]]"

DELETE_BEFORE = """    if "texts" in [collection.name for collection in client.list_collections()]:
        client.delete_collection("texts")
"""

COSINE = ', configuration={"hnsw": {"space": "cosine"}}'

WHERE = ', where={"year": {"$gte": since}}'

INDEX = '        cur.execute("CREATE INDEX ON passages USING hnsw (embedding vector_cosine_ops)")\n'

OLD_TEXT = """        cur.execute(\"\"\"
            INSERT INTO history (passage, content)
            SELECT id, content FROM passages WHERE id = %s FOR UPDATE\"\"\",
            [id])
"""

UPDATE = (
    '        cur.execute("UPDATE passages SET content = %s, embedding = %s WHERE id = %s", [content, embedding, id])\n'
)

READ_FIRST = (
    "def replace_passage(conn, id, content, embedding):\n"
    "    with conn, conn.cursor() as cur:\n"
    "        cur.execute('SELECT content FROM passages WHERE id = %s FOR UPDATE', [id])\n"
    "        row = cur.fetchone()\n"
    "        if row is None:\n"
    "            return False\n"
    "        cur.execute('UPDATE passages SET content = %s, embedding = %s WHERE id = %s',\n"
    "                    [content, embedding, id])\n"
    "        cur.execute('INSERT INTO history (passage, content) VALUES (%s, %s)', [id, row[0]])\n"
    "    return True"
)

WRONG_ANSWERS = {
    "alternatives.nearest_kept": {
        "by the inner product": (
            instead("nearest_kept", (" / np.linalg.norm(kept, axis=1)", "")),
            "The result is ranked by the inner product, not by cosine distance",
        ),
        "by Euclidean distance": (
            instead(
                "nearest_kept",
                ("kept @ question / np.linalg.norm(kept, axis=1)", "-np.linalg.norm(kept - question, axis=1)"),
            ),
            "The result is ranked by Euclidean distance, not by cosine distance",
        ),
        "the farthest first": (
            instead("nearest_kept", ("-similarity", "similarity")),
            "The result begins with the farthest of all",
        ),
        "ids of the wrong rows": (
            instead("nearest_kept", ("ids[keep][", "ids[")),
            r"holds the id \d+, whose row is not kept. What is counted among the kept rows",
        ),
        "numbers of rows": (
            instead("nearest_kept", (f"ids[keep][{BEST}]", f"np.flatnonzero(keep)[{BEST}]")),
            r"holds \d+, which is no id that was given. It looks like the number of a row",
        ),
        "filters afterwards": (
            "def nearest_kept(ids, vectors, question, keep, k):\n"
            "    similarity = vectors @ question / np.linalg.norm(vectors, axis=1)\n"
            "    return [int(ids[row]) for row in np.argsort(-similarity)[:k] if keep[row]]",
            r"holds \d+ ids, although more rows are kept. Filter first",
        ),
        "does not filter": (
            instead("nearest_kept", ("vectors[keep]", "vectors"), ("ids[keep]", "ids")),
            r"holds the id \d+, whose row is not kept",
        ),
        "a mask that puts them last": (
            "def nearest_kept(ids, vectors, question, keep, k):\n"
            "    similarity = vectors @ question / np.linalg.norm(vectors, axis=1)\n"
            "    order = np.argsort(-np.where(keep, similarity, -np.inf))\n"
            "    return ids[order[:k]].tolist()",
            "The result where fewer than k rows are kept holds 9 ids, also of rows that are not kept. A mask puts",
        ),
        "argpartition of too few": (
            instead(
                "nearest_kept",
                (
                    f"return ids[keep][{BEST}]",
                    "best = np.argpartition(similarity, -k)[-k:]\n"
                    "    return ids[keep][best[np.argsort(-similarity[best])]]",
                ),
            ),
            r"nearest_kept raised ValueError: kth\(=-?\d+\) out of bounds",
        ),
        "argpartition does not sort": (
            instead(
                "nearest_kept",
                (BEST, "np.argpartition(-similarity, k)[:k] if len(kept) > k else np.argsort(-similarity)"),
            ),
            "The result is out of order at place",
        ),
        "an array": (instead("nearest_kept", (".tolist()", "")), "The result should be a list; it is a NumPy array"),
    },
    "alternatives.search_hnsw": {
        "efSearch forgotten": (
            instead("search_hnsw", ("    index.hnsw.efSearch = ef_search\n", "")),
            "as with another efSearch. Is `ef_search` given to the index, and before the search",
        ),
        "efConstruction after the vectors": (
            instead(
                "search_hnsw",
                (SET_CONSTRUCTION, ""),
                ("    index.hnsw.efSearch", f"{SET_CONSTRUCTION}    index.hnsw.efSearch"),
            ),
            "as with another efConstruction. Is `ef_construction` given to the index, and before the vectors",
        ),
        "an efConstruction of its own": (
            instead("search_hnsw", ("efConstruction = ef_construction", "efConstruction = 40")),
            "as with another efConstruction. Is `ef_construction` given to the index, and before the vectors",
        ),
        "m of its own": (
            instead("search_hnsw", ("shape[1], m,", "shape[1], 32,")),
            "as with more links. Is m given to the index",
        ),
        "a setting of its own": (
            instead("search_hnsw", ("efSearch = ef_search", "efSearch = 400")),
            r"the recall is [\d.]+, which does not fit",
        ),
        "compares everything": (
            "def search_hnsw(ids, vectors, questions, m, ef_construction, ef_search, k):\n"
            "    index = faiss.IndexFlatIP(vectors.shape[1])\n"
            f"    index.add({NORMALISED})\n"
            f"    return {ROWS}",
            "everything was compared, or nearly",
        ),
        "vectors of any length": (
            instead("search_hnsw", (NORMALISED, "vectors")),
            "holds the nearest by the inner product, not by cosine distance. Give each vector the length 1",
        ),
        "Euclidean distance": (
            instead("search_hnsw", (NORMALISED, "vectors"), ("METRIC_INNER_PRODUCT", "METRIC_L2")),
            "holds the nearest by Euclidean distance, not by cosine distance. Give each vector the length 1",
        ),
        "numbers of rows": (
            instead("search_hnsw", ("int(ids[row])", "int(row)")),
            r"holds \d+, which is no id that was given. It looks like the number of a row",
        ),
        "ids of -1": (
            instead("search_hnsw", (ROWS, "ids[index.search(questions, k)[1]].tolist()")),
            r"holds an id twice. FAISS fills up with the row -1",
        ),
        "-1 among the ids": (
            instead(
                "search_hnsw",
                ("int(ids[row]) for row in rows if row >= 0", "int(ids[row]) if row >= 0 else -1 for row in rows"),
            ),
            "holds -1, which is no id that was given",
        ),
        "similarities": (
            instead("search_hnsw", (ROWS, "index.search(questions, k)[0].tolist()")),
            "should be an int; it is a float",
        ),
        "an array": (
            instead("search_hnsw", (ROWS, "ids[index.search(questions, k)[1]]")),
            "should be a list; it is a NumPy array",
        ),
    },
    "alternatives.search_chroma": {
        "the default space": (
            instead("search_chroma", (COSINE, "")),
            "is ranked by Euclidean distance, not by cosine distance",
        ),
        "the inner product": (
            instead("search_chroma", ('"space": "cosine"', '"space": "ip"')),
            "is ranked by the inner product, not by cosine distance",
        ),
        "a name that is taken": (
            instead("search_chroma", (DELETE_BEFORE, "")),
            r"search_chroma raised InternalError: Collection \[texts\] already exists",
        ),
        "what is in the collection already": (
            instead("search_chroma", (DELETE_BEFORE, ""), ("create_collection", "get_or_create_collection")),
            r"holds the id \d+, which (is one of a call before|was not given in this call)",
        ),
        "ids as texts": (
            instead("search_chroma", ("(int(id), text)", "(id, text)")),
            "The id in each item .* should be an int; it is a str",
        ),
        "ids as numbers": (
            instead("search_chroma", ("[str(id) for id in ids]", "ids.tolist()")),
            "search_chroma raised ValueError: Expected ID to be a str",
        ),
        "years of NumPy": (
            instead("search_chroma", ("int(year)", "year")),
            "search_chroma raised ValueError: Expected metadata value to be a str, int",
        ),
        "later, not from": (
            instead("search_chroma", ("$gte", "$gt")),
            r"lacks what is of the year \d+ itself",
        ),
        "no filter": (
            instead("search_chroma", (WHERE, "")),
            r"holds a text of \d+, and \d+ was the first year asked for",
        ),
        "a name with a typing error": (
            instead("search_chroma", ('where={"year"', 'where={"yaer"')),
            "Nothing passes the filter, although .* under the name that `where` has",
        ),
        "years as texts": (
            instead("search_chroma", ("int(year)", "str(year)")),
            "Nothing passes the filter, although texts of .* is the year an int in the metadata",
        ),
        "as many as Chroma likes": (
            instead("search_chroma", ("n_results=k, ", "")),
            r"holds \d+ texts, although more are .* Chroma returns 10 unless `n_results` says how many",
        ),
        "numbers of rows": (
            instead("search_chroma", ("[str(id) for id in ids]", "[str(row) for row in range(len(ids))]")),
            r"holds \d+, which is no id that was given. It looks like the number of a row",
        ),
        "filters afterwards": (
            instead(
                "search_chroma",
                (WHERE, ""),
                (
                    'zip(found["ids"][0], found["documents"][0])',
                    'zip(found["ids"][0], found["documents"][0])\n'
                    "            if years[list(ids).index(int(id))] >= since",
                ),
            ),
            r"holds \d+ texts, although more are",
        ),
        "no texts": (
            instead("search_chroma", ('include=["documents"]', "include=[]")),
            "search_chroma raised TypeError",
        ),
        "texts of the rows at the top": (
            instead("search_chroma", ('found["documents"][0])', "texts)")),
            r"has another text beside the id \d+",
        ),
        "all lists": (
            instead(
                "search_chroma",
                (
                    'return [(int(id), text) for id, text in zip(found["ids"][0], found["documents"][0])]',
                    'return found["ids"]',
                ),
            ),
            "should be a tuple; it is a list",
        ),
    },
    "alternatives.move_in": {
        "forgets to commit": (
            instead("move_in", ("with conn, conn.cursor() as cur:", "with conn.cursor() as cur:")),
            "A transaction is still open. End it: commit",
        ),
        "the JSON null": (
            instead("move_in", ("None if one is None else Json(one)", "Json(one)")),
            "Metadata that are None have become the JSON null",
        ),
        "dicts as they are": (
            instead("move_in", ("None if one is None else Json(one)", "one")),
            "move_in raised ProgrammingError: can't adapt type 'dict'",
        ),
        "metadata as Python writes them": (
            instead("move_in", ("Json(one)", "str(one)")),
            "move_in raised InvalidTextRepresentation: invalid input syntax for type json",
        ),
        "empty metadata": (
            instead("move_in", ("None if one is None else Json(one)", "Json(one or {})")),
            r"The metadata of a passage that has none is \{\}; it should be NULL",
        ),
        "empty texts": (
            instead("move_in", ('stored["documents"]', '[text or "" for text in stored["documents"]]')),
            "The content of a passage that has none is ''; it should be NULL",
        ),
        "texts of None": (
            instead("move_in", ('stored["documents"]', 'map(str, stored["documents"])')),
            "The content of a passage that has none is 'None'; it should be NULL",
        ),
        "only one kind of metadata": (
            instead("move_in", ("Json(one)", 'Json({"category": one.get("category")})')),
            r"The metadata of the passage \d+ is wrong",
        ),
        "texts are required": (
            instead("move_in", ("content text,", "content text NOT NULL,")),
            "move_in raised NotNullViolation",
        ),
        "small ids": (
            instead("move_in", ("id bigint", "id integer")),
            "move_in raised NumericValueOutOfRange: (integer|bigint) out of range",
        ),
        "ids as texts": (
            instead("move_in", ("id bigint", "id text"), ('map(int, stored["ids"])', 'stored["ids"]')),
            "The column id is of type text; it should be bigint",
        ),
        "json": (
            instead("move_in", ("metadata jsonb", "metadata json")),
            "The column metadata is of type json; it should be jsonb",
        ),
        "no key": (instead("move_in", (" PRIMARY KEY", "")), "The table passages has no PRIMARY KEY on id"),
        "no dimension": (
            instead("move_in", ("vector(%s)", "vector"), (',\n            [stored["embeddings"].shape[1]])', ")")),
            "move_in raised .*column does not have dimensions",
        ),
        "no index": (instead("move_in", (INDEX, "")), "The table passages has no hnsw index"),
        "another operator class": (
            instead("move_in", ("vector_cosine_ops", "vector_l2_ops")),
            "the operator class vector_l2_ops, which serves another operator",
        ),
        "a table that is there stays": (
            instead("move_in", ("DROP TABLE IF EXISTS passages", "SELECT 1")),
            'move_in raised DuplicateTable: relation "passages" already exists',
        ),
        "a table of its own transaction": (
            instead("move_in", ("        execute_values(", "        conn.commit()\n        execute_values(")),
            "After a vector with NaN the table passages that was there is gone",
        ),
        "an index of its own transaction": (
            instead("move_in", (INDEX, f"        conn.commit()\n{INDEX}")),
            r"After an index that could not be built \(2,001 dimensions\) the table passages that was there is gone",
        ),
        "create_index": (
            instead("move_in", (INDEX, ""), ("    return len", '    create_index(conn, "passages")\n    return len')),
            r"After an index that could not be built \(2,001 dimensions\) the table passages that was there is gone",
        ),
        "bulk_load": (
            instead(
                "move_in",
                (
                    '        execute_values(cur, "INSERT INTO passages VALUES %s", rows)\n',
                    '    columns = zip(("id", "content", "metadata", "embedding"), zip(*rows))\n'
                    '    bulk_load(conn, "passages", {name: list(values) for name, values in columns})\n'
                    "    with conn, conn.cursor() as cur:\n",
                ),
                ("Json(one)", "one"),
            ),
            "After a vector with NaN the table passages that was there is gone. DROP, CREATE, the rows and the index",
        ),
        "passes over an index that fails": (
            instead(
                "move_in",
                (
                    INDEX,
                    f"        conn.commit()\n        try:\n    {INDEX}        except Exception:\n            pass\n",
                ),
                ("    with conn,", "    assert np.isfinite(stored['embeddings']).all()\n    with conn,"),
            ),
            r"An index that could not be built \(2,001 dimensions\) is passed over in silence",
        ),
        "zeros for NaN": (
            instead("move_in", ('metadata, stored["embeddings"]))', 'metadata, np.nan_to_num(stored["embeddings"])))')),
            "A vector with NaN is passed over in silence: let the error reach the caller",
        ),
        "without the rows with NaN": (
            instead(
                "move_in",
                ("    with conn,", "    rows = [row for row in rows if np.isfinite(row[3]).all()]\n    with conn,"),
            ),
            "A vector with NaN is passed over in silence: let the error reach the caller",
        ),
        "dropped beforehand": (
            instead(
                "move_in",
                (
                    '        cur.execute("""\n            CREATE',
                    '        conn.commit()\n        cur.execute("""\n            CREATE',
                ),
            ),
            "After a vector with NaN the table passages that was there is gone",
        ),
        "passes over errors": (
            "import psycopg2\n"
            + instead("move_in", ("def move_in(", "def _move_in("))
            + "\ndef move_in(conn, stored):\n    try:\n        return _move_in(conn, stored)\n"
            "    except psycopg2.Error:\n        return 0",
            "A vector with NaN is passed over in silence",
        ),
        "no roll back": (
            instead(
                "move_in",
                ("with conn, conn.cursor() as cur:", "with conn.cursor() as cur:"),
                ("    return len(rows)", "    conn.commit()\n    return len(rows)"),
            ),
            "After the error the transaction is still open: roll it back",
        ),
        "returns nothing": (
            instead("move_in", ("    return len(rows)", "")),
            "The result should be an int; it is None",
        ),
    },
    "alternatives.create_marks": {
        "passes over errors": (
            "import psycopg2\n"
            + instead("create_marks", ("def create_marks(", "def _create("))
            + "\ndef create_marks(conn):\n    try:\n        _create(conn)\n    except psycopg2.Error:\n        pass",
            "That there is no table passages is passed over in silence: let the error reach the caller",
        ),
        "no roll back": (
            instead("create_marks", ("with conn, conn.cursor()", "with conn.cursor()")) + "\n    conn.commit()",
            "After the error the transaction is still open: roll it back",
        ),
        "two transactions": (
            "def create_marks(conn):\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('CREATE TABLE marks (reader text, passage bigint, PRIMARY KEY (reader, passage))')\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('ALTER TABLE marks ADD FOREIGN KEY (passage) REFERENCES passages ON DELETE CASCADE')",
            "After the error the table marks is there. All of it belongs to one transaction",
        ),
        "no foreign key": (
            instead("create_marks", (" REFERENCES passages ON DELETE CASCADE", "")),
            "A mark of a passage that does not exist is accepted",
        ),
        "no cascade": (
            instead("create_marks", (" ON DELETE CASCADE", "")),
            "A passage cannot be deleted with its marks.*violates foreign key constraint",
        ),
        "restricted": (
            instead("create_marks", ("CASCADE", "RESTRICT")),
            "A passage cannot be deleted with its marks.*violates RESTRICT setting",
        ),
        "set to NULL": (
            instead("create_marks", ("CASCADE", "SET NULL")),
            "A passage cannot be deleted with its marks.*null value",
        ),
        "marks twice": (
            instead(
                "create_marks", ("PRIMARY KEY (reader, passage)", "CHECK (reader IS NOT NULL AND passage IS NOT NULL)")
            ),
            "The same mark a second time is accepted",
        ),
        "UNIQUE accepts NULL": (
            instead("create_marks", ("PRIMARY KEY", "UNIQUE")),
            "A mark without a reader is accepted",
        ),
        "a passage may be NULL": (
            instead("create_marks", ("reader text", "reader text NOT NULL"), ("PRIMARY KEY", "UNIQUE")),
            "A mark without a passage is accepted",
        ),
        "one mark a reader": (
            instead("create_marks", ("PRIMARY KEY (reader, passage)", "PRIMARY KEY (reader)")),
            "A reader marks several passages, and a passage has several readers: one of the two is refused",
        ),
        "one reader a passage": (
            instead("create_marks", ("PRIMARY KEY (reader, passage)", "PRIMARY KEY (passage)")),
            "A reader marks several passages, and a passage has several readers: one of the two is refused",
        ),
        "a key that nobody fills": (
            instead("create_marks", ("PRIMARY KEY (", "id bigint PRIMARY KEY,\n                UNIQUE (")),
            'A mark of a passage is refused: null value in column "id"',
        ),
        "an integer": (
            instead("create_marks", ("passage bigint", "passage integer")),
            "The column passage is of type integer; it should be bigint",
        ),
        "forgets to commit": (
            instead("create_marks", ("with conn, conn.cursor()", "with conn.cursor()")),
            "A transaction is still open",
        ),
    },
    "alternatives.search_marks": {
        "LIKE": (
            instead("search_marks", ("reader = %s", "reader LIKE %s")),
            "The result for the reader .* holds a mark of another reader, whose name only resembles this one",
        ),
        "in small letters": (
            instead("search_marks", ("reader = %s", "lower(reader) = lower(%s)")),
            "The result for the reader .* holds a mark of another reader, whose name only resembles this one",
        ),
        "without blanks": (
            instead("search_marks", ("[reader, embedding", "[reader.strip(), embedding")),
            "The result for the reader .* holds a mark of another reader, whose name only resembles this one",
        ),
        "trimmed": (
            instead("search_marks", ("reader = %s", "trim(reader) = trim(%s)")),
            "The result for the reader .* holds a mark of another reader, whose name only resembles this one",
        ),
        "filters after more than k": (
            instead(
                "search_marks",
                ("JOIN passages ON", "JOIN (SELECT * FROM passages ORDER BY embedding <=> %s LIMIT %s) AS passages ON"),
                ("[reader, embedding, k]", "[embedding, 10 * k, reader, embedding, k]"),
            ),
            r"holds \d+ passages, although the reader has marked more",
        ),
        "filters after 100": (
            "def search_marks(conn, reader, embedding, k):\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('''SELECT id FROM (SELECT id, embedding <=> %s AS distance FROM passages\n"
            "                                       ORDER BY distance LIMIT 100) AS near\n"
            "                       WHERE id IN (SELECT passage FROM marks WHERE reader = %s)\n"
            "                       ORDER BY distance LIMIT %s''', [embedding, reader, k])\n"
            "        return [id for id, in cur.fetchall()]",
            r"holds \d+ passages, although the reader has marked more",
        ),
        "everybody's marks": (
            instead("search_marks", ("WHERE reader = %s\n", "WHERE %s IS NOT NULL\n")),
            r"(holds the passage \d+, which this reader has not marked|holds a passage twice)",
        ),
        "all passages": (
            "def search_marks(conn, reader, embedding, k):\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT id FROM passages ORDER BY embedding <=> %s LIMIT %s', [embedding, k])\n"
            "        return [id for id, in cur.fetchall()]",
            r"holds the passage \d+, which this reader has not marked",
        ),
        "a join of everything": (
            instead("search_marks", ("JOIN passages ON passages.id = passage", "CROSS JOIN passages")),
            r"(holds the passage \d+, which this reader has not marked|holds a passage twice)",
        ),
        "a limit before the join": (
            instead(
                "search_marks",
                ("JOIN passages ON", "JOIN (SELECT * FROM passages ORDER BY embedding <=> %s LIMIT %s) AS passages ON"),
                ("[reader, embedding, k]", "[embedding, k, reader, embedding, k]"),
            ),
            r"holds \d+ passages, although the reader has marked more",
        ),
        "the farthest": (
            instead("search_marks", ("<=> %s", "<=> %s DESC")),
            "The result begins with the farthest of all",
        ),
        "Euclidean distance": (
            instead("search_marks", ("<=>", "<->")),
            "is ranked by Euclidean distance, not by cosine distance|out of order|nearer is missing",
        ),
        "two statements": (
            "def search_marks(conn, reader, embedding, k):\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT passage FROM marks WHERE reader = %s', [reader])\n"
            "        marked = [id for id, in cur.fetchall()]\n"
            "        cur.execute('SELECT id FROM passages WHERE id = ANY(%s) ORDER BY embedding <=> %s LIMIT %s',\n"
            "                    [marked, embedding, k])\n"
            "        return [id for id, in cur.fetchall()]",
            "2 statements of SELECT were sent; one is enough",
        ),
        "pastes the reader in": (
            instead(
                "search_marks",
                ('cur.execute("""', 'cur.execute(f"""'),
                ("reader = %s", "reader = '{reader}'"),
                ("[reader, embedding, k]", "[embedding, k]"),
            ),
            "search_marks raised (.|\n)*Is every value bound with %s",
        ),
        "whole rows": (
            instead("search_marks", ("[id for id, in cur.fetchall()]", "cur.fetchall()")),
            "should be an int; it is a tuple",
        ),
        "an ambiguous name": (
            instead("search_marks", ("SELECT passages.id", "SELECT reader")),
            "should be an int; it is a str",
        ),
    },
    "alternatives.replace_passage": {
        "deletes and inserts": (
            instead(
                "replace_passage",
                (
                    UPDATE,
                    '        cur.execute("DELETE FROM passages WHERE id = %s", [id])\n'
                    "        if not cur.rowcount:\n"
                    "            return False\n"
                    '        cur.execute("INSERT INTO passages (id, content, embedding) VALUES (%s, %s, %s)",\n'
                    "                    [id, content, embedding])\n",
                ),
            ),
            "its marks are to stay: the table marks was changed",
        ),
        "history afterwards": (
            instead(
                "replace_passage",
                (OLD_TEXT + UPDATE, UPDATE + OLD_TEXT),
            ),
            "The history holds the new text. It is the old one",
        ),
        "no history": (instead("replace_passage", (OLD_TEXT, "")), "The table history holds 0 rows, which is too few"),
        "the vector stays": (
            instead("replace_passage", (", embedding = %s", ""), ("[content, embedding, id]", "[content, id]")),
            "The vector of the passage is wrong",
        ),
        "all passages": (
            instead(
                "replace_passage",
                ("embedding = %s WHERE id = %s", "embedding = %s"),
                ("[content, embedding, id]", "[content, embedding]"),
            ),
            "Another passage has changed as well",
        ),
        "an upsert": (
            instead(
                "replace_passage",
                (
                    UPDATE,
                    '        cur.execute("""INSERT INTO passages (id, content, embedding) VALUES (%s, %s, %s)\n'
                    "            ON CONFLICT (id) DO UPDATE\n"
                    "            SET content = EXCLUDED.content, embedding = EXCLUDED.embedding"
                    '""",\n                    [id, content, embedding])\n',
                ),
            ),
            "Where there is no such passage: the table passages was changed",
        ),
        "a history of nothing": (
            instead(
                "replace_passage",
                (
                    "SELECT id, content FROM passages WHERE id = %s FOR UPDATE",
                    "SELECT %s, (SELECT content FROM passages WHERE id = %s)",
                ),
                ("[id])\n", "[id, id])\n"),
            ),
            "Where there is no such passage: the table history was changed",
        ),
        "NULL is no passage": (
            READ_FIRST.replace("if row is None:", "if row is None or row[0] is None:"),
            r"The passage is there, and has no text \(NULL\): the result is False. Whether a row came",
        ),
        "no text is no passage": (
            READ_FIRST.replace("if row is None:", "if not row or not row[0]:"),
            r"The passage is there, and has no text \(NULL\): the result is False. Whether a row came",
        ),
        "an empty text is no passage": (
            READ_FIRST.replace("if row is None:", "if row is None or row[0] == '':"),
            "The passage is there, and its text is empty: the result is False. Whether a row came",
        ),
        "an empty text for NULL": (
            READ_FIRST.replace("[id, row[0]]", "[id, row[0] or '']"),
            "The old text of a passage that had none is ''; it should be NULL",
        ),
        "the time of Python": (
            "from datetime import datetime, timezone\n"
            + READ_FIRST.replace("(passage, content) VALUES (%s, %s)", "VALUES (%s, %s, %s)").replace(
                "[id, row[0]]", "[id, row[0], datetime.now(timezone.utc)]"
            ),
            "The column replaced is not filled by the database. Leave it out of the INSERT",
        ),
        "no time": (
            READ_FIRST.replace("(passage, content) VALUES (%s, %s)", "VALUES (%s, %s, NULL)"),
            "The column replaced is not filled by the database. Leave it out of the INSERT",
        ),
        "True in any case": (
            instead("replace_passage", ("cur.rowcount == 1", "True")),
            "Where there is no such passage the result should be False; it is True",
        ),
        "the number of rows": (
            instead("replace_passage", ("cur.rowcount == 1", "cur.rowcount")),
            "the result should be True; it is 1",
        ),
        "two transactions": (
            instead("replace_passage", (UPDATE, f"        conn.commit()\n{UPDATE}")),
            "After a vector with NaN: the table history was changed",
        ),
        "two transactions, the passage first": (
            instead(
                "replace_passage",
                (
                    OLD_TEXT + UPDATE + "        return cur.rowcount == 1",
                    '        cur.execute("SELECT content FROM passages WHERE id = %s", [id])\n'
                    "        old = cur.fetchone()\n" + UPDATE + "    with conn, conn.cursor() as cur:\n"
                    "        if old:\n"
                    '            cur.execute("INSERT INTO history (passage, content) VALUES (%s, %s)", [id, old[0]])\n'
                    "        return old is not None",
                ),
            ),
            "When the history takes no row: the table passages was changed",
        ),
        "passes over errors": (
            "import psycopg2\n"
            + instead("replace_passage", ("def replace_passage(", "def _replace("))
            + "\ndef replace_passage(conn, id, content, embedding):\n    try:\n"
            "        return _replace(conn, id, content, embedding)\n"
            "    except psycopg2.Error:\n        return False",
            "A vector with NaN is passed over in silence",
        ),
        "no roll back": (
            instead(
                "replace_passage",
                ("with conn, conn.cursor() as cur:", "with conn.cursor() as cur:"),
                (
                    "        return cur.rowcount == 1",
                    "        found = cur.rowcount == 1\n        conn.commit()\n        return found",
                ),
            ),
            "After the error the transaction is still open: roll it back",
        ),
    },
}

OTHER_RIGHT_ANSWERS = {
    "alternatives.nearest_kept": {
        "argpartition": (
            instead(
                "nearest_kept",
                (
                    f"return ids[keep][{BEST}]",
                    "k = min(k, len(kept))\n    if k == 0:\n        return []\n"
                    "    best = np.argpartition(similarity, -k)[-k:]\n"
                    "    return ids[keep][best[np.argsort(-similarity[best])]]",
                ),
            )
        ),
        "all of them, the others infinitely far": (
            "def nearest_kept(ids, vectors, question, keep, k):\n"
            "    distances = 1 - vectors @ question / np.linalg.norm(vectors, axis=1) / np.linalg.norm(question)\n"
            "    order = np.argsort(np.where(keep, distances, np.inf))\n"
            "    return list(ids[order[:min(k, keep.sum())]])"
        ),
    },
    "alternatives.search_hnsw": {
        "Euclidean distance of length 1": instead("search_hnsw", ("METRIC_INNER_PRODUCT", "METRIC_L2")),
        "lengths by FAISS, and a setting for the search": instead(
            "search_hnsw",
            (
                f"index.add({NORMALISED})",
                "vectors = vectors.copy()\n    faiss.normalize_L2(vectors)\n    index.add(vectors)",
            ),
            ("    index.hnsw.efSearch = ef_search\n", ""),
            ("search(questions, k)", "search(questions, k, params=faiss.SearchParametersHNSW(efSearch=ef_search))"),
        ),
        "one vector after the other": instead(
            "search_hnsw",
            (f"    index.add({NORMALISED})", f"    for vector in {NORMALISED}:\n        index.add(vector[None])"),
        ),
        "an index of ids": (
            "def search_hnsw(ids, vectors, questions, m, ef_construction, ef_search, k):\n"
            "    graph = faiss.IndexHNSWFlat(vectors.shape[1], m, faiss.METRIC_INNER_PRODUCT)\n"
            "    graph.hnsw.efConstruction, graph.hnsw.efSearch = ef_construction, ef_search\n"
            "    index = faiss.IndexIDMap(graph)\n"
            f"    index.add_with_ids({NORMALISED}, ids)\n"
            "    found = index.search(questions, min(k, len(vectors)))[1]\n"
            "    return found.tolist()"
        ),
    },
    "alternatives.search_chroma": {
        "in a folder": instead(
            "search_chroma",
            (
                "client = chromadb.EphemeralClient()",
                "import tempfile\n    client = chromadb.PersistentClient(tempfile.mkdtemp())",
            ),
        ),
        "a name for each call": instead(
            "search_chroma",
            (DELETE_BEFORE, "    import uuid\n"),
            ('        "texts", embedding', "        str(uuid.uuid4()), embedding"),
        ),
        "deleted afterwards": instead(
            "search_chroma",
            (DELETE_BEFORE, ""),
            ('"texts"', '"for this call"'.replace(" ", "-")),
            ("    return [", '    client.delete_collection("for-this-call")\n    return ['),
        ),
    },
    "alternatives.move_in": {
        "json.dumps, and a rollback of its own": (
            "import json\n"
            "def move_in(conn, stored):\n"
            "    cur = conn.cursor()\n"
            "    try:\n"
            "        dimension = len(stored['embeddings'][0])\n"
            "        cur.execute('DROP TABLE IF EXISTS passages')\n"
            "        cur.execute(f'''CREATE TABLE passages (\n"
            "            id bigint PRIMARY KEY, content text, metadata jsonb, embedding vector({dimension}))''')\n"
            "        cur.execute('CREATE INDEX passages_hnsw ON passages USING hnsw (embedding vector_cosine_ops)')\n"
            "        for id, text, metadata, vector in zip(\n"
            "                stored['ids'], stored['documents'], stored['metadatas'], stored['embeddings']):\n"
            "            cur.execute('INSERT INTO passages VALUES (%s, %s, %s, %s)',\n"
            "                        (id, text, metadata and json.dumps(metadata), vector.tolist()))\n"
            "        conn.commit()\n"
            "    except Exception:\n"
            "        conn.rollback()\n"
            "        raise\n"
            "    return len(stored['ids'])"
        ),
        "a table that takes the name": instead(
            "move_in",
            ('        cur.execute("DROP TABLE IF EXISTS passages")\n', ""),
            ("CREATE TABLE passages", "CREATE TABLE arriving"),
            ("INSERT INTO passages", "INSERT INTO arriving"),
            (
                INDEX,
                INDEX.replace("passages", "arriving")
                + '        cur.execute("DROP TABLE IF EXISTS passages")\n'
                + '        cur.execute("ALTER TABLE arriving RENAME TO passages")\n',
            ),
        ),
    },
    "alternatives.create_marks": {
        "a key of its own": instead(
            "create_marks",
            (
                "reader text,",
                "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n                reader text NOT NULL,",
            ),
            ("passage bigint", "passage bigint NOT NULL"),
            ("PRIMARY KEY (", "UNIQUE ("),
        ),
        "said afterwards": (
            "def create_marks(conn):\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('CREATE TABLE marks (reader text NOT NULL, passage bigint NOT NULL)')\n"
            "        cur.execute('CREATE UNIQUE INDEX ON marks (passage, reader)')\n"
            "        cur.execute('ALTER TABLE marks ADD FOREIGN KEY (passage) REFERENCES passages ON DELETE CASCADE')"
        ),
    },
    "alternatives.search_marks": {
        "a subquery": (
            "def search_marks(conn, reader, embedding, k):\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('''SELECT id FROM passages WHERE id IN (SELECT passage FROM marks WHERE reader = %s)\n"
            "                       ORDER BY embedding <=> %s LIMIT %s''', [reader, embedding, k])\n"
            "        return [row[0] for row in cur]"
        ),
        "the helper": (
            "def search_marks(conn, reader, embedding, k):\n"
            "    return query(conn, '''\n"
            "        WITH mine AS (SELECT passage FROM marks WHERE reader = %s)\n"
            "        SELECT id FROM passages JOIN mine ON id = passage ORDER BY embedding <=> %s LIMIT %s''',\n"
            "        [reader, embedding, k]).id.tolist()"
        ),
    },
    "alternatives.replace_passage": {
        "the time of the database": instead(
            "replace_passage",
            ("(passage, content)", "(passage, content, replaced)"),
            ("id, content FROM", "id, content, now() FROM"),
        ),
        "without a lock": instead("replace_passage", (" FOR UPDATE", "")),
        "one statement": (
            "def replace_passage(conn, id, content, embedding):\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('''\n"
            "            WITH changed AS (\n"
            "                UPDATE passages SET content = %s, embedding = %s WHERE id = %s\n"
            "                RETURNING id, old.content)\n"
            "            INSERT INTO history (passage, content) SELECT * FROM changed''', [content, embedding, id])\n"
            "        return cur.rowcount > 0"
        ),
        "reads the old text first": READ_FIRST,
    },
}
