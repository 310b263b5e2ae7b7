"""What learners write for exercise 02 that is not right, and words of the message that each must get."""

TABLE = """
def create_notes(conn, dimension):
    with conn, conn.cursor() as cur:
        cur.execute('''CREATE TABLE notes ({columns})'''{parameters})
"""


def table(columns: str, parameters: str = ", [dimension]") -> str:
    return TABLE.format(columns=columns, parameters=parameters)


ID = "id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY"

INSERT = '"INSERT INTO notes (title, content, embedding) VALUES %s"'

WRONG_ANSWERS = {
    "crud.create_notes": {
        "forgets to commit": (
            "def create_notes(conn, dimension):\n    conn.cursor().execute('CREATE TABLE notes (id int)')",
            "A transaction is still open. End it: commit",
        ),
        "another dimension": (
            table(f"{ID}, title text NOT NULL UNIQUE, content text NOT NULL, embedding vector(3072) NOT NULL", ""),
            r"The column embedding is of type vector\(3072\); it should be vector\(\d+\)",
        ),
        "no dimension": (
            table(f"{ID}, title text NOT NULL UNIQUE, content text NOT NULL, embedding vector NOT NULL", ""),
            r"The column embedding is of type vector; it should be vector\(\d+\)",
        ),
        "lets the vector be NULL": (
            table(f"{ID}, title text NOT NULL UNIQUE, content text NOT NULL, embedding vector(%s)"),
            "The column embedding accepts NULL",
        ),
        "a title may come twice": (
            table(f"{ID}, title text NOT NULL, content text NOT NULL, embedding vector(%s) NOT NULL"),
            "The table notes has no UNIQUE on title",
        ),
        "no primary key": (
            table(
                "id integer GENERATED ALWAYS AS IDENTITY, title text NOT NULL UNIQUE, content text NOT NULL, "
                "embedding vector(%s) NOT NULL"
            ),
            "The table notes has no PRIMARY KEY on id",
        ),
        "numbers the rows nowhere": (
            table(
                "id integer PRIMARY KEY, title text NOT NULL UNIQUE, content text NOT NULL, "
                "embedding vector(%s) NOT NULL"
            ),
            "the database does not number the rows",
        ),
        "a column is missing": (
            table(f"{ID}, title text NOT NULL UNIQUE, embedding vector(%s) NOT NULL"),
            "The table notes has no column content",
        ),
        "another name": (
            "def create_notes(conn, dimension):\n    with conn: conn.cursor().execute('CREATE TABLE note (id int)')",
            "There is no table notes",
        ),
    },
    "crud.insert_notes": {
        "a statement a row": (
            "def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            "        cur.executemany('INSERT INTO notes (title, content, embedding) VALUES (%s, %s, %s)', notes)\n"
            "    return len(notes)",
            r"1\d\d\d statements of INSERT were sent; one is enough",
        ),
        "the page size of the default": (
            f"def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT}, notes)\n    return len(notes)",
            r"1\d statements of INSERT were sent; one is enough",
        ),
        "a page size that is large enough for today": (
            f"def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT}, notes, page_size=1000)\n    return len(notes)",
            "2 statements of INSERT were sent; one is enough",
        ),
        "many statements in one text": (
            "from psycopg2.extras import execute_batch\ndef insert_notes(conn, notes):\n"
            "    with conn, conn.cursor() as cur:\n"
            "        execute_batch(cur, 'INSERT INTO notes (title, content, embedding) VALUES (%s, %s, %s)', notes,\n"
            "                      page_size=9999)\n    return len(notes)",
            "Several statements were sent in one go; a single INSERT takes all the rows",
        ),
        "empties the table first": (
            f"def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        cur.execute('DELETE FROM notes')\n"
            f"        execute_values(cur, {INSERT}, notes, page_size=9999)\n    return len(notes)",
            r"holds 10\d\d rows, which is too few",
        ),
        "closes the connection": (
            f"def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT}, notes, page_size=9999)\n    conn.close()\n    return len(notes)",
            "insert_notes closed the connection that it was given. Leave it open",
        ),
        "leaves the stub's last line": (
            f"def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT}, notes, page_size=9999)\n    raise NotImplementedError()",
            r"`raise NotImplementedError\(\)` is still in insert_notes. Delete that line",
        ),
        "forgets to commit": (
            f"def insert_notes(conn, notes):\n    with conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT}, notes, page_size=9999)\n    return len(notes)",
            "holds 1 rows, which is too few. A transaction is still open: was it committed",
        ),
        "returns nothing": (
            f"def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT}, notes, page_size=9999)",
            "The result should be an int; it is None. Does the function end with a return",
        ),
        "pastes the values in": (
            "def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            "        values = ', '.join(f\"('{t}', '{c}', '{e.tolist()}')\" for t, c, e in notes)\n"
            "        cur.execute(f'INSERT INTO notes (title, content, embedding) VALUES {values}')\n"
            "    return len(notes)",
            "insert_notes raised SyntaxError(.|\n)*Is every value bound with %s, and none pasted into the SQL",
        ),
        "fails without notes": (
            f"def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT}, notes, page_size=len(notes))\n    return len(notes)",
            "insert_notes raised IndexError(.|\n)*page_size=len",
        ),
        "title and content changed about": (
            "def insert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            "        execute_values(cur, 'INSERT INTO notes (content, title, embedding) VALUES %s', notes,\n"
            "                       page_size=9999)\n    return len(notes)",
            "The column content is wrong, at least for",
        ),
        "a connection of its own": (
            f"import psycopg2\nfrom pgv_helpers import connect\ndef insert_notes(conn, notes):\n"
            f"    conn = connect()\n    with conn, conn.cursor() as cur:\n"
            f"        cur.execute('CREATE TEMP TABLE notes (title text, content text, embedding vector)')\n"
            f"        execute_values(cur, {INSERT}, notes, page_size=1000)\n    return len(notes)",
            "Nothing was sent over the connection that the function was given",
        ),
    },
    "crud.read_embeddings": {
        "a list": (
            "def read_embeddings(conn):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT embedding FROM notes ORDER BY id')\n        return cur.fetchall()",
            "The result should be a NumPy array; it is a list",
        ),
        "an array of objects": (
            "def read_embeddings(conn):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT embedding FROM notes ORDER BY id')\n"
            "        return np.array([v for (v,) in cur.fetchall()], dtype=object)",
            "The result is an array of objects, not of numbers",
        ),
        "numbers of 64 bits": (
            "def read_embeddings(conn):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT embedding FROM notes ORDER BY id')\n"
            "        return np.array([v.to_list() for (v,) in cur.fetchall()])",
            "The result holds numbers of type float64, not float32",
        ),
        "in any order": (
            "def read_embeddings(conn):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT embedding FROM notes')\n"
            "        return np.stack([v.to_numpy() for (v,) in cur.fetchall()])",
            "the right vectors in the wrong order: the smallest id comes first",
        ),
        "only the first": (
            "def read_embeddings(conn):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT embedding FROM notes ORDER BY id')\n"
            "        return cur.fetchone()[0].to_numpy()",
            r"The result has the shape \(\d,\), not",
        ),
        "leaves the transaction open": (
            "def read_embeddings(conn):\n    with conn.cursor() as cur:\n"
            "        cur.execute('SELECT embedding FROM notes ORDER BY id')\n"
            "        return np.stack([v.to_numpy() for (v,) in cur.fetchall()])",
            "A SELECT opens a transaction too, and it is still open",
        ),
        "each vector once": (
            "def read_embeddings(conn):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT DISTINCT embedding FROM notes')\n"
            "        return np.stack([v.to_numpy() for (v,) in cur.fetchall()])",
            r"The result has the shape \(\d+, \d\), not",
        ),
        "rounds": (
            "def read_embeddings(conn):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT embedding FROM notes ORDER BY id')\n"
            "        return np.stack([v.to_numpy().round(4) for (v,) in cur.fetchall()])",
            r"The result is wrong \(\d+ of \d+ numbers",
        ),
    },
    "crud.upsert_notes": {
        "does nothing with known titles": (
            f"def upsert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT} + ' ON CONFLICT (title) DO NOTHING', notes)",
            "The column content is wrong, at least for",
        ),
        "leaves the old vector": (
            f"def upsert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT} + ' ON CONFLICT (title) DO UPDATE SET content = EXCLUDED.content',\n"
            f"                       notes)",
            "The column embedding is wrong, at least for",
        ),
        "deletes and inserts": (
            f"def upsert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        cur.execute('DELETE FROM notes WHERE title = ANY(%s)', [[t for t, _, _ in notes]])\n"
            f"        execute_values(cur, {INSERT}, notes)",
            "A note that was there has a new id. Change its row instead of deleting it",
        ),
        "overwrites the category": (
            "def upsert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            "        execute_values(cur, 'INSERT INTO notes (title, content, embedding) VALUES %s '\n"
            "            'ON CONFLICT (title) DO UPDATE SET (content, embedding, category) = '\n"
            "            '(EXCLUDED.content, EXCLUDED.embedding, EXCLUDED.category)', notes)",
            "A note that was there has lost its category",
        ),
        "inserts": (
            f"def upsert_notes(conn, notes):\n    with conn, conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT}, notes)",
            "upsert_notes raised UniqueViolation: duplicate key(.|\n)*in upsert_notes, line \\d+: execute_values",
        ),
        "forgets to commit": (
            f"def upsert_notes(conn, notes):\n    with conn.cursor() as cur:\n"
            f"        execute_values(cur, {INSERT} + ' ON CONFLICT (title) DO UPDATE '\n"
            f"            'SET content = EXCLUDED.content, embedding = EXCLUDED.embedding', notes)",
            "was it committed",
        ),
    },
    "crud.revise_note": {
        "commits in between": (
            "def revise_note(conn, title, content, embedding):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('INSERT INTO history SELECT title, content FROM notes WHERE title = %s', [title])\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('UPDATE notes SET content = %s, embedding = %s WHERE title = %s',\n"
            "                    [content, embedding, title])",
            "After a vector of the wrong dimension: the table history was changed",
        ),
        "swallows the error": (
            "def revise_note(conn, title, content, embedding):\n  try:\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('INSERT INTO history SELECT title, content FROM notes WHERE title = %s', [title])\n"
            "        cur.execute('UPDATE notes SET content = %s, embedding = %s WHERE title = %s',\n"
            "                    [content, embedding, title])\n  except Exception: pass",
            "passed over in silence: let the error reach the caller",
        ),
        "does not roll back": (
            "def revise_note(conn, title, content, embedding):\n    cur = conn.cursor()\n"
            "    cur.execute('INSERT INTO history SELECT title, content FROM notes WHERE title = %s', [title])\n"
            "    cur.execute('UPDATE notes SET content = %s, embedding = %s WHERE title = %s',\n"
            "                [content, embedding, title])\n    conn.commit()",
            "After the error the transaction is still open: roll it back",
        ),
        "keeps the new text in the history": (
            "def revise_note(conn, title, content, embedding):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('UPDATE notes SET content = %s, embedding = %s WHERE title = %s',\n"
            "                    [content, embedding, title])\n"
            "        cur.execute('INSERT INTO history SELECT title, content FROM notes WHERE title = %s', [title])",
            "The table history, after a revision, is wrong, at least for",
        ),
        "keeps no history": (
            "def revise_note(conn, title, content, embedding):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('UPDATE notes SET content = %s, embedding = %s WHERE title = %s',\n"
            "                    [content, embedding, title])",
            "The table history, after a revision, holds 0 rows, which is too few",
        ),
        "pastes the values in": (
            "def revise_note(conn, title, content, embedding):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute(f\"INSERT INTO history SELECT title, content FROM notes WHERE title = '{title}'\")\n"
            "        cur.execute(f\"UPDATE notes SET content = '{content}', embedding = '{embedding.tolist()}' \"\n"
            "                    f\"WHERE title = '{title}'\")",
            "revise_note raised SyntaxError(.|\n)*Is every value bound with %s",
        ),
        "deletes and inserts": (
            "def revise_note(conn, title, content, embedding):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('INSERT INTO history SELECT title, content FROM notes WHERE title = %s', [title])\n"
            "        cur.execute('DELETE FROM notes WHERE title = %s', [title])\n"
            "        cur.execute('INSERT INTO notes (title, content, embedding) VALUES (%s, %s, %s)',\n"
            "                    [title, content, embedding])",
            "The note has a new id or category",
        ),
        "forgets the vector": (
            "def revise_note(conn, title, content, embedding):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('INSERT INTO history SELECT title, content FROM notes WHERE title = %s', [title])\n"
            "        cur.execute('UPDATE notes SET content = %s WHERE title = %s', [content, title])",
            "The column embedding is wrong, at least for",
        ),
        "changes every note": (
            "def revise_note(conn, title, content, embedding):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('INSERT INTO history SELECT title, content FROM notes WHERE title = %s', [title])\n"
            "        cur.execute('UPDATE notes SET content = %s, embedding = %s', [content, embedding])",
            "The column content is wrong, at least for",
        ),
    },
    "crud.delete_notes": {
        "returns what was asked for": (
            "def delete_notes(conn, titles):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('DELETE FROM notes WHERE title = ANY(%s)', [titles])\n    return sorted(titles)",
            "The result holds something that does not belong there",
        ),
        "returns rows": (
            "def delete_notes(conn, titles):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('DELETE FROM notes WHERE title = ANY(%s) RETURNING title', [titles])\n"
            "        return cur.fetchall()",
            "Each item of the result should be a str; it is a tuple",
        ),
        "does not sort": (
            "def delete_notes(conn, titles):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('DELETE FROM notes WHERE title = ANY(%s) RETURNING title', [titles])\n"
            "        return sorted((t for (t,) in cur.fetchall()), reverse=True)",
            "The order of the result is wrong",
        ),
        "a statement a title": (
            "def delete_notes(conn, titles):\n    gone = []\n    with conn, conn.cursor() as cur:\n"
            "        for title in titles:\n"
            "            cur.execute('DELETE FROM notes WHERE title = %s RETURNING title', [title])\n"
            "            gone += [t for (t,) in cur.fetchall()]\n    return sorted(gone)",
            "6 statements of DELETE were sent; one is enough",
        ),
        "pastes the titles in": (
            "def delete_notes(conn, titles):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute(f'DELETE FROM notes WHERE title IN {tuple(titles)} RETURNING title')\n"
            "        return sorted(t for (t,) in cur.fetchall())",
            "delete_notes raised SyntaxError(.|\n)*Is every value bound with %s",
        ),
        "takes titles for patterns": (
            "def delete_notes(conn, titles):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('DELETE FROM notes WHERE title LIKE ANY(%s) RETURNING title', [titles])\n"
            "        return sorted(t for (t,) in cur.fetchall())",
            "The table notes holds 0 rows, which is too few",
        ),
        "fails without titles": (
            "def delete_notes(conn, titles):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('DELETE FROM notes WHERE title IN %s RETURNING title', [tuple(titles)])\n"
            "        return sorted(t for (t,) in cur.fetchall())",
            'delete_notes raised SyntaxError: syntax error at or near "\\)"',
        ),
        "deletes everything": (
            "def delete_notes(conn, titles):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('DELETE FROM notes RETURNING title')\n"
            "        return sorted(t for (t,) in cur.fetchall())",
            "The table notes holds 0 rows, which is too few",
        ),
        "returns the number": (
            "def delete_notes(conn, titles):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('DELETE FROM notes WHERE title = ANY(%s)', [titles])\n        return cur.rowcount",
            "The result should be a list; it is an int",
        ),
    },
    "crud.search_notes": {
        "Euclidean distance": (
            "def search_notes(conn, category, embedding, limit):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT title, embedding <-> %s FROM notes WHERE category = %s '\n"
            "                    'ORDER BY embedding <-> %s LIMIT %s', [embedding, category, embedding, limit])\n"
            "        return cur.fetchall()",
            "The numbers beside the titles are Euclidean distances, not cosine distances",
        ),
        "similarity for distance": (
            "def search_notes(conn, category, embedding, limit):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT title, 1 - (embedding <=> %s) FROM notes WHERE category = %s '\n"
            "                    'ORDER BY embedding <=> %s LIMIT %s', [embedding, category, embedding, limit])\n"
            "        return cur.fetchall()",
            "The numbers beside the titles are cosine similarities",
        ),
        "the farthest first": (
            "def search_notes(conn, category, embedding, limit):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT title, embedding <=> %s FROM notes WHERE category = %s '\n"
            "                    'ORDER BY embedding <=> %s DESC LIMIT %s', [embedding, category, embedding, limit])\n"
            "        return cur.fetchall()",
            "The result is out of order at place 2: the smallest comes first",
        ),
        "in every category": (
            "def search_notes(conn, category, embedding, limit):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT title, embedding <=> %s FROM notes '\n"
            "                    'ORDER BY embedding <=> %s LIMIT %s', [embedding, embedding, 30])\n"
            "        return cur.fetchall()[:limit]",
            "The result holds something that does not belong there",
        ),
        "without the limit": (
            "def search_notes(conn, category, embedding, limit):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT title, embedding <=> %s FROM notes WHERE category = %s '\n"
            "                    'ORDER BY embedding <=> %s', [embedding, category, embedding])\n"
            "        return cur.fetchall()",
            "The result holds 8 items, which is too many",
        ),
        "pastes the category in": (
            "def search_notes(conn, category, embedding, limit):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute(f\"SELECT title, embedding <=> %s FROM notes WHERE category = '{category}' \"\n"
            '                    "ORDER BY embedding <=> %s LIMIT %s", [embedding, embedding, limit])\n'
            "        return cur.fetchall()",
            "search_notes raised(.|\n)*Is every value bound with %s",
        ),
        "takes the category for a pattern": (
            "def search_notes(conn, category, embedding, limit):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT title, embedding <=> %s FROM notes WHERE category LIKE %s '\n"
            "                    'ORDER BY embedding <=> %s LIMIT %s', [embedding, category, embedding, limit])\n"
            "        return cur.fetchall()",
            "The result holds something that does not belong there",
        ),
        "leaves the transaction open": (
            "def search_notes(conn, category, embedding, limit):\n    cur = conn.cursor()\n"
            "    cur.execute('SELECT title, embedding <=> %s FROM notes WHERE category = %s '\n"
            "                'ORDER BY embedding <=> %s LIMIT %s', [embedding, category, embedding, limit])\n"
            "    return cur.fetchall()",
            "A transaction is still open",
        ),
        "titles only": (
            "def search_notes(conn, category, embedding, limit):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT title FROM notes WHERE category = %s '\n"
            "                    'ORDER BY embedding <=> %s LIMIT %s', [category, embedding, limit])\n"
            "        return cur.fetchall()",
            r"Each item of the result should be \(title, distance\); it holds 1",
        ),
    },
}
