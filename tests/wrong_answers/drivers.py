"""What learners write for exercise 08 that is not right, and words of the message that each must get."""

from functools import cache

from pgv_helpers.course.notebook import solution_code
from pgv_helpers.course.question import find_question

solved = cache(solution_code)


def instead(question: str, *changes: tuple[str, str]) -> str:
    """The course's own answer with other words in some places."""
    code = solved(find_question(f"drivers.{question}"))
    for right, wrong in changes:
        assert right in code, right
        code = code.replace(right, wrong)
    return code


COPY = """            for note in notes:
                copy.write_row(note)
"""

SET = """conn.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(ef_search)])"""

BORROW = """        vector = embed_text(request)
        with pool.connection() as conn:
"""

TRY = """            try:
                answers.append(answer(request, ef_search))
            except Exception:
                answers.append(None)
"""

POOL = 'ConnectionPool(database_url("psycopg"), kwargs={"options": options}, configure=configure,'

GATHER = "return await asyncio.gather(*[search(vector) for vector in vectors])"

INDEX = '"documents_hnsw", "embedding", postgresql_using="hnsw",'

DROP = '            op.drop_index("notes_hnsw", postgresql_concurrently=True, if_exists=True)\n'

CREATE = """            op.create_index("notes_hnsw", "notes", ["embedding"], postgresql_using="hnsw",
                            postgresql_ops={"embedding": "vector_cosine_ops"}, postgresql_concurrently=True)"""

WRONG_ANSWERS = {
    "drivers.copy_notes": {
        "no types": (
            instead("copy_notes", ('            copy.set_types(["int8", "text", "text", "vector"])\n', "")),
            "copy_notes raised (.|\n)*line 1, column id",
        ),
        "types that are too narrow": (
            instead("copy_notes", ('"int8"', '"int4"')),
            "copy_notes raised (.|\n)*(integer out of range|incorrect binary data|int4|out of range|insufficient data)",
        ),
        "columns not named": (
            instead("copy_notes", ("notes (id, category, title, embedding)", "notes")),
            "copy_notes raised (.|\n)*row field count is 4, expected 5",
        ),
        "columns changed about": (
            instead("copy_notes", ("(id, category, title, embedding)", "(id, title, category, embedding)")),
            "The row of a note is wrong, at least for",
        ),
        "vectors not registered": (
            instead("copy_notes", ("        register_vector(conn)\n", "")),
            "copy_notes raised (.|\n)*vector",
        ),
        "forgets to commit": (
            instead("copy_notes", ("    return len(notes)", "        conn.rollback()\n    return len(notes)")),
            "holds 1 rows, which is too few. Was it committed",
        ),
        "a statement a row": (
            "def copy_notes(options, notes):\n"
            '    with psycopg.connect(database_url("psycopg"), options=options) as conn:\n'
            "        register_vector(conn)\n"
            "        conn.cursor().executemany(\n"
            "            'INSERT INTO notes (id, category, title, embedding) VALUES (%s, %s, %s, %s)', notes)\n"
            "    return len(notes)",
            r"written by \d+ statements. One COPY takes them all",
        ),
        "passes over errors": (
            instead(
                "copy_notes", (COPY, COPY.replace("write_row(note)", "write_row(note) if len(note[3]) == 8 else 0"))
            ),
            "A vector was of the wrong dimension: none of its call's rows may stay",
        ),
        "catches the error": (
            "import psycopg\n"
            + instead("copy_notes", ("copy_notes(", "_copy("))
            + "\ndef copy_notes(options, notes):\n    try:\n        return _copy(options, notes)\n"
            "    except psycopg.Error:\n        return 0",
            "is passed over in silence: let the error reach the caller",
        ),
        "returns nothing": (instead("copy_notes", ("    return len(notes)", "")), "should be an int; it is None"),
        "leaves the connection open": (
            "kept = []\n"
            + instead(
                "copy_notes",
                ("    with psycopg.connect(", "    conn = psycopg.connect("),
                ("options=options) as conn:", "options=options, autocommit=True)\n    kept.append(conn)\n    if True:"),
            ),
            "A connection is still open after the function has returned",
        ),
    },
    "drivers.search_notes": {
        "a list for IN": (
            instead("search_notes", ("= ANY(%(categories)s)", "IN %(categories)s")),
            'search_notes raised SyntaxError: syntax error at or near "\\$2"',
        ),
        "a list is no vector": (
            instead("search_notes", ("np.array(vector)", "vector")),
            "operator does not exist: vector <=> double precision",
        ),
        "categories without their blanks": (
            instead("search_notes", ('"categories": categories', '"categories": [c.strip() for c in categories]')),
            "The result for a category that ends in a blank holds a note of another category",
        ),
        "a cast that takes no ints": (
            instead("search_notes", ("np.array(vector)", "vector"), ("%(vector)s", "%(vector)s::vector")),
            r"cannot cast type smallint\[\] to vector",
        ),
        "pastes the categories in": (
            instead(
                "search_notes",
                ("= ANY(%(categories)s)", 'IN (" + ", ".join(f"\'{c}\'" for c in categories) + """)'),
                ('conn.execute("""', 'conn.execute("'),
                ("\n            SELECT", "SELECT"),
                ("distance\n            FROM", "distance FROM"),
                ("notes\n            WHERE", "notes WHERE"),
            ),
            "search_notes raised",
        ),
        "one category only": (
            instead("search_notes", ('"categories": categories', '"categories": categories[:1]')),
            "is not the nearest: something nearer is missing|holds . items, which is too few",
        ),
        "the whole table": (
            instead("search_notes", ("            WHERE category = ANY(%(categories)s)\n", "")),
            "holds a note of another category",
        ),
        "another distance": (instead("search_notes", ("<=>", "<->")), "out of order|something nearer is missing"),
        "ids only": (
            instead(
                "search_notes",
                ("id, embedding <=> %(vector)s AS distance", "id"),
                ("ORDER BY distance", "ORDER BY embedding <=> %(vector)s"),
            ),
            r"should be \(id, distance\); it holds 1 values",
        ),
        "the similarity": (
            instead(
                "search_notes",
                ("embedding <=> %(vector)s AS distance", "1 - (embedding <=> %(vector)s) AS distance"),
                ("ORDER BY distance", "ORDER BY embedding <=> %(vector)s"),
            ),
            "A distance in the result is wrong",
        ),
    },
    "drivers.serve": {
        "a transaction left open by configure": (
            instead("serve", ("    conn.commit()\n", "")),
            "serve raised PoolTimeout: pool initialization incomplete",
        ),
        "SET leaks": (instead("serve", (", true)", ", false)")), "it has leaked through the pool"),
        "set back to the wrong place": (
            instead(
                "serve",
                (
                    "            if ef_search is not None:\n",
                    "            ef_search = ef_search or 60\n            if True:\n",
                ),
            ),
            "which does not fit",
        ),
        "no ef_search at all": (
            instead("serve", ("            if ef_search is not None:\n", "            if False:\n")),
            "The hits of a request with an ef_search are 40, which does not fit",
        ),
        "RESET ALL": (
            "def forget(conn):\n    conn.execute('RESET ALL')\n    conn.commit()\n"
            + instead("serve", (POOL, POOL + " reset=forget,"), (", true)", ", false)")),
            "the index was not used. Does the setting of configure hold",
        ),
        "embeds in the transaction": (
            instead(
                "serve", (BORROW, "        with pool.connection() as conn:\n"), ("[vector]", "[embed_text(request)]")
            ),
            "While embed_text works, a transaction is open",
        ),
        "borrows first": (
            instead(
                "serve", (BORROW, "        with pool.connection() as conn:\n            vector = embed_text(request)\n")
            ),
            r"was lent for \d+ ms, as long as the model took",
        ),
        "gives nothing back after an error": (
            instead(
                "serve",
                ("        with pool.connection() as conn:\n", "        conn = pool.getconn()\n        if True:\n"),
                (
                    "            return [id for id, in rows]",
                    "            found = [id for id, in rows]\n            conn.commit()\n"
                    "            pool.putconn(conn)\n"
                    "            return found",
                ),
            ),
            "The hits of request 7 are None, and nothing was wrong with it: an error was caught within `serve`",
        ),
        "a SET with a parameter": (
            instead("serve", (SET, 'conn.execute("SET LOCAL hnsw.ef_search = %s", [ef_search])')),
            "The hits of request 2 are None, and nothing was wrong with it(.|\n)*take a parameter",
        ),
        "the first error ends it": (
            instead("serve", (TRY, "            answers.append(answer(request, ef_search))\n")),
            "serve raised ConnectionError: the model does not answer",
        ),
        "an empty list for an error": (
            instead("serve", ("answers.append(None)", "answers.append([])")),
            "A request that failed in the model has \\[\\]; it should have None",
        ),
        "leaves out what failed": (
            instead("serve", ("answers.append(None)", "pass")),
            "The list of answers holds . items, which is too few",
        ),
        "a connection for each": (
            instead(
                "serve",
                (
                    "with pool.connection() as conn:",
                    'with psycopg.connect(database_url("psycopg"), options=options) as conn:\n'
                    "            configure(conn)",
                ),
            ),
            "asked for a connection 0 times",
        ),
        "one loan for all": (
            instead(
                "serve",
                ("        with pool.connection() as conn:\n", "        if True:\n"),
                (
                    "        for request, ef_search in requests:\n",
                    "        conn = pool.getconn()\n        conn.autocommit = True\n"
                    "        for request, ef_search in requests:\n",
                ),
                (", true)", ", false)"),
                ("        return answers", "        pool.putconn(conn)\n        return answers"),
            ),
            "it has leaked|asked for a connection 1 times",
        ),
        "a pool of two": (
            instead("serve", ("min_size=1, max_size=1", "min_size=2, max_size=2")),
            "2 connections were seen",
        ),
        "a pool that may grow": (
            instead("serve", ("max_size=1", "max_size=4")),
            "The pool may open 4 connections. It is to stay at one",
        ),
        "the answers only": (
            instead("serve", ("return answers, pool.get_stats()", "return answers")),
            "The result should be a tuple; it is a list",
        ),
    },
    "drivers.search_all": {
        "one after the other": (
            instead("search_all", (GATHER, "return [await search(vector) for vector in vectors]")),
            "as long as one after the other",
        ),
        "one connection": (
            instead("search_all", ("min_size=size, max_size=size", "min_size=1, max_size=1")),
            "All searches went over one connection",
        ),
        "the largest size alone": (
            instead("search_all", ("min_size=size, max_size=size", "max_size=size")),
            "search_all raised ValueError: max_size must be",
        ),
        "a connection for each": (
            instead(
                "search_all",
                (
                    "async with pool.connection() as conn:",
                    "async with await psycopg.AsyncConnection.connect(\n"
                    '            database_url("psycopg"), options=options) as conn:\n'
                    "            await register_vector_async(conn)",
                ),
            ),
            r"\d+ connections were used; the pool should have \d at most",
        ),
        "as they come": (
            instead(
                "search_all",
                (
                    GATHER,
                    "return [await done for done in asyncio.as_completed([search(vector) for vector in vectors])]",
                ),
            ),
            "The list of hits .* (not the nearest|out of order)",
        ),
        "vectors not registered": (
            instead("search_all", (" configure=register_vector_async,", "")),
            "cannot adapt type 'ndarray'",
        ),
        "not awaited": (
            instead("search_all", ("return await cur.fetchall()", "return cur.fetchall()")),
            "should be a list; it is a coroutine",
        ),
        "the pool stays closed": (
            instead(
                "search_all",
                ("async with AsyncConnectionPool(", "pool = AsyncConnectionPool("),
                ("open=False) as pool:\n        return", "open=False)\n    return"),
            ),
            "search_all raised PoolClosed",
        ),
        "a pool that is left open": (
            "kept = []\n"
            + instead(
                "search_all",
                ("async with AsyncConnectionPool(", "pool = AsyncConnectionPool("),
                (
                    "open=False) as pool:\n        return",
                    "open=False)\n    kept.append(pool)\n    await pool.open()\n    return",
                ),
            ),
            "go on: of a pool that it did not close",
        ),
        "a pool that nobody keeps and nobody closes": (
            instead(
                "search_all",
                ("async with AsyncConnectionPool(", "pool = AsyncConnectionPool("),
                ("open=False) as pool:\n        return", "open=False)\n    await pool.open()\n    return"),
            ),
            "go on: of a pool that it did not close",
        ),
        "not async": (
            "def search_all(options, vectors, k, size):\n    return asyncio.gather()",
            "search_all raised|should be a list",
        ),
    },
    "drivers.create_documents": {
        "index=True": (
            instead(
                "create_documents", ("mapped_column(VECTOR(dimension))", "mapped_column(VECTOR(dimension), index=True)")
            ),
            "has a B-tree, which no search by distance ever uses",
        ),
        "no operator class": (
            instead("create_documents", ('postgresql_ops={"embedding": "vector_cosine_ops"}', "")),
            "data type vector has no default operator class",
        ),
        "another operator class": (
            instead("create_documents", ("vector_cosine_ops", "vector_l2_ops")),
            "the operator class vector_l2_ops, which serves another operator",
        ),
        "a fixed dimension": (
            instead("create_documents", ("VECTOR(dimension)", "VECTOR(1000)")),
            r"of type vector\(1000\); it should be vector\(\d+\)",
        ),
        "no dimension": (
            instead("create_documents", ("VECTOR(dimension)", "VECTOR")),
            "column does not have dimensions",
        ),
        "the options are missing": (
            instead("create_documents", ('postgresql_with={"m": m, "ef_construction": 4 * m},', "")),
            "not those that were asked for",
        ),
        "a vector that may be NULL": (
            instead("create_documents", ("Mapped[list[float]]", "Mapped[list[float] | None]")),
            "The column embedding accepts NULL",
        ),
        "a category that is never NULL": (
            instead("create_documents", ("Mapped[str | None]", "Mapped[str]")),
            "The column category does not accept NULL",
        ),
        "no index": (
            instead(
                "create_documents",
                (INDEX, '"documents_titles", "title",'),
                ('postgresql_with={"m": m, "ef_construction": 4 * m},', ""),
                ('postgresql_ops={"embedding": "vector_cosine_ops"}', ""),
            ),
            "has no hnsw index",
        ),
        "only declared": (
            instead("create_documents", ("    Base.metadata.create_all(engine)\n", "")),
            "There is no table documents",
        ),
        "one Base for all calls": (
            "class Base(DeclarativeBase):\n    pass\n"
            + instead("create_documents", ("    class Base(DeclarativeBase):\n        pass\n", "")),
            "Table 'documents' is already defined",
        ),
    },
    "drivers.search_documents": {
        "an empty text is no filter": (
            instead("search_documents", ("if category is not None", "if category")),
            "The result for the category '' ",
        ),
        "0 is no filter": (
            instead("search_documents", ("if within is not None", "if within")),
            "The result within the distance 0 holds 5 items, which is too many",
        ),
        "None is a category": (
            instead("search_documents", ("    if category is not None:\n        nearest", "    nearest")),
            "The result without filters holds . items, which is too few|something nearer is missing",
        ),
        "a where that goes nowhere": (
            instead(
                "search_documents",
                (
                    "        nearest = nearest.where(documents.c.category == category)",
                    "        nearest.where(documents.c.category == category)",
                ),
            ),
            "The result for a category",
        ),
        "another distance": (
            instead("search_documents", ("cosine_distance", "l2_distance")),
            "out of order|nearer is missing",
        ),
        "farther than": (
            instead("search_documents", ("distance < within", "distance > within")),
            "The result within a distance",
        ),
        "at the distance itself": (
            instead("search_documents", ("distance < within", "distance <= within")),
            "The result within the distance 1 holds a document at just this distance",
        ),
        "filters in Python": (
            instead(
                "search_documents",
                ("select(documents.c.title).order_by(distance).limit(k)", "select(documents, distance.label('near'))"),
                (
                    "        titles = list(session.scalars(nearest))",
                    "        rows = sorted(session.execute(nearest), key=lambda row: row.near)\n"
                    "        titles = [row.title for row in rows][:k]",
                ),
            ),
            "A document was read that is no hit. The filters, the order and the LIMIT belong in the SELECT",
        ),
        "a session that is left open": (
            "kept = []\n"
            + instead(
                "search_documents",
                # When Python ends, nothing is sent over a connection that the server has ended.
                ('{"options": options})', '{"options": options}, pool_reset_on_return=None)'),
                ("    with Session(engine) as session:\n", "    session = Session(engine)\n    kept.append(session)\n"),
                ("        titles =", "    titles ="),
            ),
            "A connection is still open after the function has returned",
        ),
        "rows": (
            instead("search_documents", ("session.scalars(nearest)", "session.execute(nearest)")),
            "Each item of the result without filters should be a str; it is a Row",
        ),
        "the type is not known": (
            instead(
                "search_documents", ("documents.c.embedding.cosine_distance", "documents.c.vector.cosine_distance")
            ),
            "search_documents raised AttributeError: vector",
        ),
    },
    "drivers.migrate": {
        "in the transaction": (
            instead("migrate", ("with op.get_context().autocommit_block():", "if True:")),
            "cannot run inside a transaction block",
        ),
        "not concurrently": (
            instead("migrate", (", postgresql_concurrently=True)", ")")),
            "nobody could write while it was built: CONCURRENTLY",
        ),
        "what a failed build has left": (
            instead(
                "migrate",
                (
                    DROP + "            op.create",
                    "            op.create",
                ),
            ),
            'relation "notes_hnsw" already exists',
        ),
        "keeps the invalid index": (
            instead(
                "migrate",
                (
                    DROP + "            op.create",
                    "            op.create",
                ),
                (
                    '"vector_cosine_ops"}, postgresql_concurrently=True',
                    '"vector_cosine_ops"}, if_not_exists=True, postgresql_concurrently=True',
                ),
            ),
            "the invalid index notes_hnsw is still there: drop it before you build",
        ),
        "another operator class": (
            instead("migrate", ("vector_cosine_ops", "vector_l2_ops")),
            "vector_l2_ops, which serves another operator",
        ),
        "no way back for the column": (
            instead("migrate", ('\n        op.drop_column("notes", "embedding")', "")),
            "After downgrade the table still has the column embedding",
        ),
        "drops the table": (
            instead("migrate", ('op.drop_column("notes", "embedding")', 'op.drop_table("notes")')),
            "There is no table notes",
        ),
        "the content goes as well": (
            instead(
                "migrate",
                (
                    'op.drop_column("notes", "embedding")',
                    'op.drop_column("notes", "embedding"); op.execute("UPDATE notes SET content = \'\'")',
                ),
            ),
            "After downgrade the rows are no longer what they were",
        ),
        "never NULL": (
            instead("migrate", ("VECTOR(dimension))", "VECTOR(dimension), nullable=False)")),
            "contains null values",
        ),
        "another name": (instead("migrate", ("notes_hnsw", "hnsw_notes")), "the index is called hnsw_notes"),
        "no dimension": (instead("migrate", ("VECTOR(dimension)", "VECTOR")), "column does not have dimensions"),
    },
}

OTHER_RIGHT_ANSWERS = {
    "drivers.copy_notes": {
        "in autocommit mode, with a transaction": (
            instead(
                "copy_notes",
                ("options=options) as conn:", "options=options, autocommit=True) as conn:"),
                ("        with conn.cursor() as cur,", "        with conn.transaction(), conn.cursor() as cur,"),
            )
        ),
        "text": instead(
            "copy_notes",
            (" WITH (FORMAT BINARY)", ""),
            ('            copy.set_types(["int8", "text", "text", "vector"])\n', ""),
        ),
    },
    "drivers.search_notes": {
        "a cast of floats": instead(
            "search_notes", ("np.array(vector)", "[float(x) for x in vector]"), ("%(vector)s", "%(vector)s::vector")
        ),
        "a text": instead("search_notes", ("np.array(vector)", "str(vector)")),
    },
    "drivers.serve": {
        "a setting of the login": instead(
            "serve",
            ('    conn.execute("SET enable_seqscan = off")\n    conn.commit()\n', ""),
            ('{"options": options}', '{"options": options + " -c enable_seqscan=off"}'),
        ),
        "SET LOCAL, and getconn with finally": instead(
            "serve",
            (SET, 'conn.execute(f"SET LOCAL hnsw.ef_search = {ef_search}")'),
            ("        with pool.connection() as conn:\n", "        conn = pool.getconn()\n        try:\n"),
            (
                "            return [id for id, in rows]",
                "            found = [id for id, in rows]\n            conn.commit()\n            return found\n"
                "        finally:\n            pool.putconn(conn)",
            ),
        ),
        "no largest size": instead("serve", (", max_size=1", "")),
        "in autocommit mode": instead(
            "serve",
            ('kwargs={"options": options}', 'kwargs={"options": options, "autocommit": True}'),
            ("with pool.connection() as conn:", "with pool.connection() as conn, conn.transaction():"),
        ),
    },
    "drivers.search_all": {
        "a task group": instead(
            "search_all",
            (
                GATHER,
                "async with asyncio.TaskGroup() as group:\n"
                "            tasks = [group.create_task(search(vector)) for vector in vectors]\n"
                "        return [task.result() for task in tasks]",
            ),
        ),
        "threads": (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "def search_all(options, vectors, k, size):\n"
            "    def search(vector):\n"
            "        with pool.connection() as conn:\n"
            "            return conn.execute('SELECT id, process FROM notes ORDER BY embedding <=> %s LIMIT %s',\n"
            "                                [vector, k]).fetchall()\n"
            "    with ConnectionPool(database_url('psycopg'), kwargs={'options': options}, configure=register_vector,\n"
            "                        min_size=size, open=True) as pool, ThreadPoolExecutor(size) as executor:\n"
            "        return list(executor.map(search, vectors))"
        ),
    },
    "drivers.create_documents": {
        "other types": instead(
            "create_documents",
            ("title: Mapped[str]", "title = mapped_column(Text, nullable=False)"),
            ("class Base(", "from sqlalchemy import Text\n    class Base("),
        ),
        "the table without a class, and its index": (
            "from sqlalchemy import Integer, String\n"
            "def create_documents(options, dimension, m):\n"
            "    metadata = MetaData()\n"
            "    table = Table('documents', metadata, Column('id', Integer, primary_key=True),\n"
            "                  Column('title', String, nullable=False), Column('category', String),\n"
            "                  Column('embedding', VECTOR(dimension), nullable=False))\n"
            "    Index('d', table.c.embedding, postgresql_using='hnsw',\n"
            "          postgresql_ops={'embedding': 'vector_cosine_ops'},\n"
            "          postgresql_with={'m': m, 'ef_construction': 4 * m})\n"
            "    engine = create_engine(database_url('sqlalchemy+psycopg'), connect_args={'options': options})\n"
            "    metadata.create_all(engine)\n"
            "    engine.dispose()"
        ),
    },
    "drivers.search_documents": {
        "a class": (
            "def search_documents(options, vector, k, category, within):\n"
            "    class Base(DeclarativeBase):\n        pass\n"
            "    class Document(Base):\n"
            "        __tablename__ = 'documents'\n"
            "        id: Mapped[int] = mapped_column(primary_key=True)\n"
            "        title: Mapped[str]\n"
            "        category: Mapped[str | None]\n"
            "        embedding: Mapped[list[float]] = mapped_column(VECTOR(8), deferred=True)\n"
            "    distance = Document.embedding.cosine_distance(vector)\n"
            "    conditions = [Document.category == category] if category is not None else []\n"
            "    conditions += [distance < within] if within is not None else []\n"
            "    engine = create_engine(database_url('sqlalchemy+psycopg'), connect_args={'options': options})\n"
            "    with Session(engine) as session:\n"
            "        hits = session.scalars(select(Document).where(*conditions).order_by(distance).limit(k)).all()\n"
            "        titles = [hit.title for hit in hits]\n"
            "    engine.dispose()\n"
            "    return titles"
        ),
        "by similarity, the highest first": instead(
            "search_documents", (".order_by(distance)", ".order_by((1 - distance).desc())")
        ),
    },
    "drivers.migrate": {
        "SQL": instead(
            "migrate",
            (
                CREATE,
                '            op.execute("CREATE INDEX CONCURRENTLY notes_hnsw "\n'
                '                       "ON notes USING hnsw (embedding vector_cosine_ops)")',
            ),
        ),
        "the column takes its index along": instead(
            "migrate",
            (
                "        with op.get_context().autocommit_block():\n" + DROP + "        op.drop_column",
                "        op.drop_column",
            ),
        ),
    },
}
