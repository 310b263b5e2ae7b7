"""What learners write for exercise 05 that is not right, and words of the message that each must get."""


def search(
    head: str, where: str, order: str = "embedding <=> %(vector)s", *, table: str = "passages", first: str = "pass"
) -> str:
    """A search with this condition; `first` is a statement of Python that stands in front of it."""
    return f"""
def {head}:
    with conn, conn.cursor() as cur:
        {first}
        cur.execute('''SELECT id FROM {table} WHERE {where} ORDER BY {order} LIMIT %(limit)s''', {{**locals()}})
        return [id for (id,) in cur.fetchall()]
"""


def pasted(search: str) -> str:
    """The search as an f-string."""
    return search.replace("execute('''", "execute(f'''")


def since(where: str, order: str = "embedding <=> %(vector)s") -> str:
    return search("search_since(conn, vector, category, since, limit)", where, order)


def short(where: str) -> str:
    return search("search_short(conn, vector, level, minutes, limit)", where)


def permitted(statement: str) -> str:
    return f"""
def search_permitted(conn, reader, vector, limit):
    with conn, conn.cursor() as cur:
        cur.execute('''{statement}''', {{**locals()}})
        return [id for (id,) in cur.fetchall()]
"""


def rare(
    first: str = "pass",
    statement: str = "",
    *,
    where: str = "category = %(category)s",
    order: str = "embedding <=> %(vector)s",
) -> str:
    head = "search_rare(conn, vector, category, limit)"
    plain = search(head, where, order, table="documents", first=first)
    start = plain.index("SELECT")
    return plain[:start] + statement + plain[plain.index("'''", start) :] if statement else plain


INDEX_CATEGORY = """
def index_category(conn, category):
    with conn, conn.cursor() as cur:
        cur.execute("CREATE INDEX ON documents USING {}", {{"category": category}})
"""


def partial(on: str = "", where: str = "category = %(category)s", **options) -> str:
    """An index, the right one by default, and a search, the right one by default."""
    on = on or "hnsw (embedding vector_cosine_ops) WHERE category = %(category)s"
    return INDEX_CATEGORY.format(on) + search(
        "search_category(conn, vector, category, limit)", where, table="documents", **options
    )


def partitioned(
    by: str = "LIST (tenant)",
    key: str = "tenant, id",
    parts: str = "FOR VALUES IN (%s)",
    index: str = "documents",
    where: str = "tenant = %(tenant)s",
) -> str:
    """The table in partitions, and a search; each part is right by default, and empty where it is left out."""
    return f"""
def build_documents(conn, rows):
    with conn, conn.cursor() as cur:
        cur.execute('''CREATE TABLE documents (tenant integer, id integer, embedding vector(8), PRIMARY KEY ({key}))
                       {"PARTITION BY" if by else ""} {by}''')
        for number, tenant in enumerate({{row[0] for row in rows}} if "{parts}" else []):
            cur.execute(f"CREATE TABLE documents_{{number}} PARTITION OF documents {parts}", [tenant])
        cur.execute("CREATE INDEX ON {index} USING hnsw (embedding vector_cosine_ops)")
        execute_values(cur, "INSERT INTO documents (tenant, id, embedding) VALUES %s", rows)
""" + search("search_tenant(conn, tenant, vector, limit)", where, table="documents")


def protect(*statements: str) -> str:
    lines = "\n".join(f'        cur.execute("""{statement}""")' for statement in statements)
    return f"def protect_documents(conn):\n    with conn, conn.cursor() as cur:\n{lines}\n"


def policy(using: str, more: str = "") -> str:
    return protect(f"CREATE POLICY tenants ON documents {more} USING ({using})", ENABLE, FORCE)


def page(where: str, order: str = "distance, id", columns: str = "embedding <=> %(vector)s AS distance, id") -> str:
    return f"""
def next_page(conn, vector, radius, limit, after):
    distance, id = after or (-1, 0)
    with conn, conn.cursor() as cur:
        cur.execute('''SELECT {columns} FROM documents WHERE {where} ORDER BY {order} LIMIT %(limit)s''',
                    {{**locals()}})
        return cur.fetchall()
"""


NEW = "category = %(category)s AND published >= %(since)s"
LEVEL, MINUTES = "metadata->>'level' = %(level)s", "(metadata->>'minutes')::float <= %(minutes)s"
NO_DRAFT = """NOT metadata @> '{"draft": true}'"""
TOO_FEW = r"The result holds \d+ ids?, which is too few: \d+ were asked for, and more rows fit. "
FILTER_FIRST = TOO_FEW + "Does the LIMIT see only rows that fit"
NEAREST = "SELECT id, category, embedding FROM documents ORDER BY embedding <=> %(vector)s LIMIT %(limit)s"
PERMITTED = (
    "SELECT id FROM documents WHERE EXISTS (SELECT FROM permissions WHERE document = documents.id AND reader {}) "
    "ORDER BY embedding <=> %(vector)s LIMIT %(limit)s"
)
STRICT = "cur.execute('SET LOCAL hnsw.iterative_scan = strict_order')"
RELAXED = "cur.execute('SET LOCAL hnsw.iterative_scan = relaxed_order')"
UNNAMED = "nullif(current_setting('course.tenant', true), '')"
OWN = "tenant = current_setting('course.tenant')::int"
POLICY = f"CREATE POLICY tenants ON documents USING ({OWN})"
ENABLE, FORCE = (f"ALTER TABLE documents {how} ROW LEVEL SECURITY" for how in ("ENABLE", "FORCE"))
NEAR = "embedding <=> %(vector)s < %(radius)s"
AFTER = "(embedding <=> %(vector)s, id) > (%(distance)s, %(id)s)"

WRONG_ANSWERS = {
    "filtering.search_since": {
        "forgets the category": (
            since("published >= %(since)s"),
            r"The row \d+ does not belong .* category is another",
        ),
        "forgets the date": (
            since("category = %(category)s"),
            r"The row \d+ does not belong in the result: (it was published before that day|nobody knows when)",
        ),
        "what has no date comes too": (
            since(f"{NEW} OR category = %(category)s AND published IS NULL"),
            r"The row \d+ does not belong in the result: nobody knows when it was published",
        ),
        "after the day": (
            since("category = %(category)s AND published > %(since)s"),
            "Rows are missing that fit and are near: it was published on the very day",
        ),
        "filters what the limit has left": (
            since("id IN (SELECT id FROM passages ORDER BY embedding <=> %(vector)s LIMIT %(limit)s) AND " + NEW),
            FILTER_FIRST,
        ),
        "filters in Python": (
            since("true")
            .replace("SELECT id", "SELECT id, category, published")
            .replace(
                "[id for (id,) in cur.fetchall()]",
                "[i for i, c, p in cur.fetchall() if c == category and p and p >= since]",
            ),
            FILTER_FIRST,
        ),
        "fetches everything and filters in Python": (
            since("true")
            .replace("SELECT id", "SELECT id, category, published")
            .replace("LIMIT %(limit)s", "")
            .replace(
                "[id for (id,) in cur.fetchall()]",
                "[i for i, c, p in cur.fetchall() if c == category and p and p >= since][:limit]",
            ),
            r"A query fetched 250 rows, and \d were asked for: filter, sort and limit in SQL",
        ),
        "a pattern": (
            since(NEW.replace("=", "LIKE", 1)),
            r"The row \d+ does not belong in the result: its category is another one",
        ),
        "no matter which case": (
            since("lower(category) = lower(%(category)s) AND published >= %(since)s"),
            r"The row \d+ does not belong in the result: its category is another one",
        ),
        "pasted into the SQL": (
            pasted(since("category = '{category}' AND published >= '{since}'")),
            "Is every value bound with %s, and none pasted into the SQL",
        ),
        "Euclidean distance": (since(NEW, "embedding <-> %(vector)s"), "The result is ranked by Euclidean distance"),
        "the farthest": (since(NEW, "embedding <=> %(vector)s DESC"), "The result begins with the farthest"),
        "no order": (since(NEW, "id"), "The result (is out of order|is not the nearest|, by cosine)"),
        "rows": (
            since(NEW).replace("[id for (id,) in cur.fetchall()]", "cur.fetchall()"),
            "Each id of the result should be an int",
        ),
        "leaves the transaction open": (
            since(NEW).replace("with conn, conn.cursor() as cur", "with conn.cursor() as cur"),
            "A transaction is still open",
        ),
    },
    "filtering.search_short": {
        "drafts come": (short(f"{LEVEL} AND {MINUTES}"), "does not belong in the result: it is a draft"),
        "not equal, which a missing key is not": (
            short(f"{LEVEL} AND {MINUTES} AND metadata->>'draft' <> 'true'"),
            "Rows are missing that fit and are near: their metadata say nothing of a draft",
        ),
        "says that it is no draft": (
            short(f"""{LEVEL} AND {MINUTES} AND metadata @> '{{"draft": false}}'"""),
            "Rows are missing that fit and are near: their metadata say nothing of a draft|too few",
        ),
        "has no key draft": (
            short(f"{LEVEL} AND {MINUTES} AND metadata->>'draft' IS NULL"),
            "Rows are missing that fit and are near: their metadata say that they are no draft",
        ),
        "numbers as texts": (
            short(f"{LEVEL} AND metadata->>'minutes' <= %(minutes)s::text AND {NO_DRAFT}"),
            "it takes too many minutes \\(which are numbers, not texts\\)",
        ),
        "a text against a number": (
            short(f"{LEVEL} AND metadata->>'minutes' <= %(minutes)s AND {NO_DRAFT}"),
            "search_short raised UndefinedFunction: operator does not exist: text <= integer",
        ),
        "minutes are whole": (
            short(f"{LEVEL} AND (metadata->>'minutes')::int <= %(minutes)s AND {NO_DRAFT}"),
            "search_short raised InvalidTextRepresentation: invalid input syntax for type integer",
        ),
        "just as many minutes are too many": (
            short(f"{LEVEL} AND {MINUTES.replace('<=', '<')} AND {NO_DRAFT}"),
            "Rows are missing that fit and are near: they take just as many minutes",
        ),
        "what is missing is 0": (
            short(f"{LEVEL} AND coalesce((metadata->>'minutes')::float, 0) <= %(minutes)s AND {NO_DRAFT}"),
            "does not belong in the result: its metadata do not say how many minutes it takes",
        ),
        "what is missing is right": (
            short(f"coalesce(metadata->>'level', %(level)s) = %(level)s AND {MINUTES} AND {NO_DRAFT}"),
            "does not belong in the result: its metadata say nothing of a level",
        ),
        "forgets the level": (
            short(f"{MINUTES} AND {NO_DRAFT}"),
            "does not belong in the result: its (level is another one|metadata say nothing of a level)",
        ),
        "pasted into the SQL": (
            pasted(
                short(f"metadata->>'level' = '{{level}}' AND {MINUTES} AND metadata->>'draft' IS DISTINCT FROM 'true'")
            ),
            "Is every value bound with %s, and none pasted into the SQL",
        ),
        "JSON put together by hand": (
            search(
                "search_short(conn, vector, level, minutes, limit)",
                f"metadata @> %(wanted)s AND {MINUTES} AND {NO_DRAFT}",
                first="""wanted = '{"level": "' + level + '"}'""",
            ),
            "search_short raised InvalidTextRepresentation: invalid input syntax for type json",
        ),
        "no matter which case": (
            short(f"{LEVEL.replace('=', 'ILIKE')} AND {MINUTES} AND {NO_DRAFT}"),
            "does not belong in the result: its level is another one: (capitals count|the one given is no pattern)",
        ),
        "lower case": (
            short(f"lower(metadata->>'level') = lower(%(level)s) AND {MINUTES} AND {NO_DRAFT}"),
            "does not belong in the result: its level is another one: capitals count",
        ),
        "a pattern": (
            short(f"{LEVEL.replace('=', 'LIKE')} AND {MINUTES} AND {NO_DRAFT}"),
            "does not belong in the result: its level is another one: the one given is no pattern",
        ),
        "rounded minutes": (
            short(f"{LEVEL} AND {MINUTES.replace('float', 'float::int')} AND {NO_DRAFT}"),
            "does not belong in the result: it takes a fraction of a minute too many",
        ),
        "one arrow, which gives JSON": (
            short(f"metadata->'level' = %(level)s AND {MINUTES} AND {NO_DRAFT}"),
            "search_short raised InvalidTextRepresentation: invalid input syntax for type json",
        ),
    },
    "filtering.mend_permitted": {
        "as it was": (
            permitted(
                "SELECT nearest.id FROM (SELECT id FROM documents ORDER BY embedding <=> %(vector)s LIMIT %(limit)s) "
                "AS nearest JOIN permissions ON document = nearest.id WHERE reader = %(reader)s"
            ),
            FILTER_FIRST,
        ),
        "takes ten times as many first": (
            permitted(
                "SELECT id FROM (SELECT * FROM documents ORDER BY embedding <=> %(vector)s LIMIT %(limit)s * 10) "
                "AS nearest WHERE id IN (SELECT document FROM permissions WHERE reader = %(reader)s) "
                "ORDER BY embedding <=> %(vector)s LIMIT %(limit)s"
            ),
            FILTER_FIRST,
        ),
        "a join": (
            permitted(
                "SELECT id FROM documents JOIN permissions ON document = id WHERE reader = %(reader)s "
                "ORDER BY embedding <=> %(vector)s LIMIT %(limit)s"
            ),
            "The result holds an id twice. A reader may have a document in several ways",
        ),
        "each once, but by id": (
            permitted(
                "SELECT DISTINCT id FROM documents JOIN permissions ON document = id WHERE reader = %(reader)s "
                "ORDER BY id LIMIT %(limit)s"
            ),
            "The result (is out of order|is not the nearest)|begins with the farthest",
        ),
        "each once, but sorted in Python": (
            permitted(
                "SELECT id FROM documents JOIN permissions ON document = id WHERE reader = %(reader)s "
                "ORDER BY embedding <=> %(vector)s LIMIT %(limit)s"
            ).replace("[id for (id,) in cur.fetchall()]", "list(dict.fromkeys(id for (id,) in cur.fetchall()))"),
            FILTER_FIRST,
        ),
        "one way of permission": (
            permitted(
                "SELECT id FROM documents JOIN permissions ON document = id WHERE reader = %(reader)s "
                "AND via = 'a link' ORDER BY embedding <=> %(vector)s LIMIT %(limit)s"
            ),
            TOO_FEW + "|The result is not the nearest",
        ),
        "permitted to anybody": (
            permitted(
                "SELECT id FROM documents WHERE id IN (SELECT document FROM permissions) "
                "ORDER BY embedding <=> %(vector)s LIMIT %(limit)s"
            ),
            r"The row \d+ does not belong in the result: this reader may not read it",
        ),
        "a pattern": (
            permitted(PERMITTED.format("LIKE %(reader)s")),
            r"The row \d+ does not belong .* may not read it",
        ),
        "no matter which case": (
            permitted(PERMITTED.format("ILIKE %(reader)s")),
            r"The row \d+ does not belong in the result: this reader may not read it",
        ),
        "pasted into the SQL": (
            pasted(permitted(PERMITTED.format("= '{reader}'"))),
            "Is every value bound with %s, and none pasted into the SQL",
        ),
        "fetches them all": (
            permitted(
                "SELECT DISTINCT id, embedding <=> %(vector)s FROM documents JOIN permissions ON document = id "
                "WHERE reader = %(reader)s ORDER BY 2"
            ).replace("[id for (id,) in cur.fetchall()]", "[id for id, _ in cur.fetchall()][:limit]"),
            r"A query fetched \d+ rows, and \d+ were asked for: filter, sort and limit in SQL",
        ),
    },
    "filtering.search_rare": {
        "sets nothing": (rare(), TOO_FEW + "An index hands over its candidates, and the filter comes after"),
        "more candidates": (
            rare("cur.execute('SET LOCAL hnsw.ef_search = 100')"),
            TOO_FEW + "An index hands over its candidates, and the filter comes after",
        ),
        "as many candidates as there may be": (
            rare("cur.execute('SET LOCAL hnsw.ef_search = 1000')"),
            "With the settings of your search PostgreSQL reckons .*: a large hnsw.ef_search makes the index dear",
        ),
        "as many candidates as there may be, through the helper": (
            rare().replace("with conn,", "with search_settings(conn, ef_search=1000),"),
            "With the settings of your search PostgreSQL reckons .*: a large hnsw.ef_search makes the index dear",
        ),
        "pasted into the SQL": (
            pasted(rare(STRICT, where="category = '{category}'")),
            "Is every value bound with %s, and none pasted into the SQL",
        ),
        "a pattern": (
            rare(STRICT, where="category LIKE %(category)s"),
            r"The row \d+ does not belong in the result: its category is another one",
        ),
        "no matter which case": (
            rare(STRICT, where="upper(category) = upper(%(category)s)"),
            r"The row \d+ does not belong in the result: its category is another one",
        ),
        "without the index": (
            rare("cur.execute('SET LOCAL enable_indexscan = off')"),
            "does not use the index documents_hnsw. Its plan is Limit over Sort over Seq Scan",
        ),
        "filters what the limit has left": (
            rare(statement=f"SELECT id FROM ({NEAREST}) AS nearest WHERE category = %(category)s"),
            TOO_FEW + "An index hands over its candidates",
        ),
        "filters what the iterative scan has left": (
            rare(RELAXED, f"SELECT id FROM ({NEAREST}) AS nearest WHERE category = %(category)s"),
            TOO_FEW + "An iterative scan was asked for",
        ),
        "relaxed order as it comes": (rare(RELAXED), r"The result is out of order, a little(.*)distance \+ 0"),
        "relaxed order, sorted by what it claims to be sorted by": (
            rare(
                RELAXED,
                "WITH found AS MATERIALIZED (SELECT id, embedding <=> %(vector)s AS distance FROM documents "
                "WHERE category = %(category)s ORDER BY distance LIMIT %(limit)s) "
                "SELECT id FROM found ORDER BY distance",
            ),
            r"The result is out of order, a little(.*)distance \+ 0",
        ),
        "for the whole session": (
            rare("cur.execute('SET hnsw.iterative_scan = strict_order')"),
            "After the call hnsw.iterative_scan is still strict_order",
        ),
        "for the whole session, and resets": (
            rare("cur.execute('SET hnsw.iterative_scan = strict_order')").replace(
                "        return [id for (id,) in cur.fetchall()]",
                "        found = cur.fetchall()\n        cur.execute('RESET hnsw.iterative_scan')\n"
                "        return [id for (id,) in found]",
            ),
            "After the call hnsw.iterative_scan is still off(.*)before, it was relaxed_order",
        ),
        "in a transaction of its own": (
            rare("cur.execute('SET LOCAL hnsw.iterative_scan = strict_order'); conn.commit()"),
            TOO_FEW + "An iterative scan was asked for: in the same transaction as the search",
        ),
        "ends too early": (
            rare("cur.execute('SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL hnsw.max_scan_tuples = 50')"),
            TOO_FEW + "An iterative scan was asked for: (.*), and far enough",
        ),
        "another distance": (
            rare(STRICT, order="embedding <-> %(vector)s"),
            "The result is ranked by Euclidean distance, not by cosine distance",
        ),
    },
    "filtering.partial_index": {
        "an index of every row": (
            partial("hnsw (embedding vector_cosine_ops)"),
            "The HNSW index is of every row. A partial index has a WHERE",
        ),
        "of the others": (
            partial("hnsw (embedding vector_cosine_ops) WHERE category <> %(category)s"),
            "The index is of the rows WHERE .*which are not those of the category",
        ),
        "for another distance": (
            partial("hnsw (embedding vector_l2_ops) WHERE category = %(category)s"),
            "The hnsw index has the operator class vector_l2_ops, which serves another operator",
        ),
        "a B-tree": (partial("btree (category)"), "The table documents has no hnsw index. It has: "),
        "a condition that PostgreSQL cannot prove": (
            partial("", "category LIKE %(category)s"),
            "The search does not use the index documents_embedding_idx. Its plan is Limit over Sort over Seq Scan",
        ),
        "the category through a query": (
            partial("", "category = (SELECT %(category)s::text)"),
            "does not use the index documents_embedding_idx. Its plan is Limit over (Result over )?Sort",
        ),
        "the condition forgotten in the search": (
            partial("", "true"),
            r"The row \d+ does not belong in the result: its category is another one",
        ),
        "an expression instead of the column": (
            partial("hnsw (embedding vector_cosine_ops) WHERE lower(category) = %(category)s"),
            "does not use the index|Its plan is Limit over Sort",
        ),
        "one category for ever": (
            partial("", """category = 'it''s rare' AND category = %(category)s OR category = 'it''s rare'"""),
            r"The row \d+ does not belong in the result: its category is another one",
        ),
        "sequential scans off for the whole session": (
            partial(first="cur.execute('SET enable_seqscan = off')"),
            "After the call enable_seqscan is still off",
        ),
        "the settings of the build for the whole session": (
            partial().replace("cur.execute(", "cur.execute('SET maintenance_work_mem = \"100MB\"'); cur.execute(", 1),
            "After the call maintenance_work_mem is still 102400",
        ),
        "the distance of another index": (
            partial().replace("ORDER BY embedding <=>", "ORDER BY embedding <->"),
            "The result is ranked by Euclidean distance",
        ),
    },
    "filtering.partitions": {
        "one table": (partitioned("", parts=""), "The table documents is not partitioned"),
        "by hash": (
            partitioned("HASH (tenant)", parts="FOR VALUES WITH (MODULUS 5, REMAINDER {number})").replace(
                ", [tenant])", ")"
            ),
            r"The table documents is partitioned by HASH \(tenant\), not by a list of tenants",
        ),
        "one for all": (
            partitioned(parts="DEFAULT").replace(
                "number, tenant in enumerate", "number, tenant in [(0, 0)] or enumerate"
            ),
            "The partition documents_0 holds several tenants",
        ),
        "no partition": (partitioned(parts=""), "build_documents raised CheckViolation: no partition of relation"),
        "a key without the tenant": (
            partitioned(key="id"),
            "build_documents raised FeatureNotSupported: unique constraint on partitioned table must include all",
        ),
        "a unique constraint instead of the key": (
            partitioned().replace("PRIMARY KEY", "UNIQUE"),
            "The table documents has no PRIMARY KEY on tenant, id",
        ),
        "an index of one partition": (partitioned(index="documents_0"), "The table documents has no hnsw index"),
        "searches all": (partitioned(where="true"), "does not belong in the result: it is of another tenant"),
        "the column in an expression": (
            partitioned(where="tenant::text = %(tenant)s::text"),
            "The search reads 5 partitions. PostgreSQL leaves out those that a condition on the bare column",
        ),
        "filters what the limit has left": (
            partitioned().replace(
                "FROM documents WHERE",
                "FROM (SELECT * FROM documents ORDER BY embedding <=> %(vector)s LIMIT %(limit)s) AS nearest WHERE",
            ),
            FILTER_FIRST,
        ),
    },
    "filtering.row_security": {
        "a policy that is not in force": (
            protect(POLICY),
            "Row-level security is not enabled for documents",
        ),
        "the owner is free": (
            protect(POLICY, ENABLE),
            "The owner of documents is not held by its policies, and reads every row. FORCE",
        ),
        "no policy": (
            protect(ENABLE, FORCE),
            "documents has no policy that is for every role",
        ),
        "who names none sees everything": (
            policy(f"current_setting('course.tenant', true) IS NULL OR tenant = {UNNAMED}::int"),
            "Whoever names no tenant in course.tenant sees 40 rows",
        ),
        "who names none any longer sees everything": (
            policy(f"{UNNAMED} IS NULL AND current_setting('course.tenant', true) = '' OR tenant = {UNNAMED}::int"),
            "Whoever names no tenant in course.tenant sees 40 rows",
        ),
        "who names none is tenant 0": (
            policy(f"tenant = coalesce({UNNAMED}, '0')::int"),
            "Whoever names no tenant in course.tenant sees 10 rows",
        ),
        "everything for everybody": (policy("true"), "Whoever names no tenant in course.tenant sees 40 rows"),
        "all that has a tenant": (
            policy("current_setting('course.tenant')::int >= 0"),
            "a role that is no superuser sees 30 rows of other tenants",
        ),
        "another setting": (
            policy("tenant = current_setting('app.tenant')::int"),
            "sees 0 of the 10 rows of this tenant. Does a policy compare the tenant",
        ),
        "for one role": (
            policy(OWN, "TO CURRENT_USER"),
            "documents has no policy that is for every role. Who has none",
        ),
        "for SELECT only": (policy(OWN, "FOR SELECT"), "may not insert a row of this tenant. Is the policy for every"),
        "writes are free": (
            protect(f"CREATE POLICY tenants ON documents USING ({OWN}) WITH CHECK (true)", ENABLE, FORCE),
            "may insert a row of another tenant. Let the policy's condition hold for what is written",
        ),
        "updates are free": (
            protect(
                f"CREATE POLICY reading ON documents FOR SELECT USING ({OWN})",
                f"CREATE POLICY adding ON documents FOR INSERT WITH CHECK ({OWN})",
                f"CREATE POLICY changing ON documents FOR UPDATE USING ({OWN}) WITH CHECK (true)",
                ENABLE,
                FORCE,
            ),
            "may give a row to another tenant. Let the policy's condition hold for what is written",
        ),
        "deletes are free": (
            protect(POLICY, "CREATE POLICY deleting ON documents FOR DELETE USING (true)", ENABLE, FORCE),
            "may delete rows of another tenant. Is there a second policy",
        ),
        "others' rows may be taken": (
            protect(
                POLICY,
                f"CREATE POLICY changing ON documents FOR UPDATE USING (true) WITH CHECK ({OWN})",
                ENABLE,
                FORCE,
            ),
            "may update rows of another tenant. Is there a second policy",
        ),
        "reads and inserts alone": (
            protect(
                f"CREATE POLICY reading ON documents FOR SELECT USING ({OWN})",
                f"CREATE POLICY adding ON documents FOR INSERT WITH CHECK ({OWN})",
                ENABLE,
                FORCE,
            ),
            "may update 0 of the 10 rows of this tenant. Is the policy for every command",
        ),
        "a view": (
            protect(f"CREATE VIEW own_documents AS SELECT * FROM documents WHERE {OWN}"),
            "Row-level security is not enabled for documents",
        ),
    },
    "filtering.next_page": {
        "always the first": (page(NEAR), r"The row \d+ comes a second time, on page 2"),
        "only what is farther": (
            page(f"{NEAR} AND embedding <=> %(vector)s > %(distance)s"),
            "Page 2 leaves out a row at the same distance as one that came",
        ),
        "and what is as far": (
            page(f"{NEAR} AND embedding <=> %(vector)s >= %(distance)s"),
            r"The row \d+ comes a second time, on page 2",
        ),
        "both must be larger": (
            page(f"{NEAR} AND embedding <=> %(vector)s > %(distance)s AND id > %(id)s"),
            "Page 2 (leaves out a row|holds . rows, which is too few)",
        ),
        "ties as they come": (
            page(f"{NEAR} AND {AFTER}", "distance, id DESC"),
            "at the same distance the smallest id comes first|Page 1 leaves out a row",
        ),
        "no radius": (page(AFTER), r"Page \d+ holds the row \d+, which is not nearer than `radius`"),
        "as far as the radius": (
            page(f"{NEAR.replace(' < ', ' <= ')} AND {AFTER}"),
            r"Page \d+ holds the row -?\d+, which is as far as `radius`, not nearer",
        ),
        "begins at the origin": (
            page(f"{NEAR} AND {AFTER}").replace("(-1, 0)", "(0, 0)"),
            "Page 1 leaves out a row at distance 0",
        ),
        "distance 0 is no distance": (
            page(f"{NEAR} AND {AFTER}").replace("after or", "after if after and after[0] else"),
            r"The row -\d+ comes a second time, on page 2. The page before ended at distance 0",
        ),
        "the radius of a similarity": (
            page(f"1 - (embedding <=> %(vector)s) < %(radius)s AND {AFTER}"),
            r"Page \d+ (holds the row \d+, which is not nearer|leaves out|holds . rows, which is too few)",
        ),
        "filters what the limit has left": (
            page(f"{NEAR} AND {AFTER}").replace(
                "FROM documents",
                "FROM (SELECT * FROM documents ORDER BY embedding <=> %(vector)s, id LIMIT %(limit)s) AS nearest",
            ),
            "Page 2 holds 0 rows, which is too few",
        ),
        "rounded": (
            page(f"{NEAR} AND {AFTER}", columns="round((embedding <=> %(vector)s)::numeric, 4)::float AS distance, id"),
            "The list of distances on page 1 is wrong.*Was it rounded",
        ),
        "the id first": (
            page(f"{NEAR} AND {AFTER}", columns="id, embedding <=> %(vector)s AS distance"),
            "The distance in each item of page 1 should be a float; it is an int",
        ),
        "an offset, kept in mind": (
            "pages = [0]\n"
            + page(NEAR)
            .replace("LIMIT", "OFFSET %(skip)s LIMIT")
            .replace("distance, id = after or (-1, 0)", "skip = pages[0] = pages[0] + limit if after else 0"),
            r"The row \d+ comes a second time, on page 2",
        ),
        "no limit": (
            page(f"{NEAR} AND {AFTER}").replace("LIMIT %(limit)s", ""),
            r"Page 1 holds \d+ rows, and \d were asked",
        ),
    },
}
