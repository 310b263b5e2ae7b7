"""What learners write for exercise 04 that is not right, and words of the message that each must get."""


def create(statement: str) -> str:
    return f'def create_hnsw(conn):\n    with conn, conn.cursor() as cur:\n        cur.execute("{statement}")'


def search(name: str, order: str, *, columns: str = "id", before: str = "pass", table: str = "documents") -> str:
    """A search that orders so; `before` is a statement of Python that stands in front of it."""
    return f"""
def {name}(conn, vector, limit):
    with conn, conn.cursor() as cur:
        {before}
        cur.execute('SELECT {columns} FROM {table} ORDER BY {order} LIMIT %(limit)s',
                    {{"vector": vector, "limit": limit}})
        return [{"row" if "," in columns else "row[0]"} for row in cur.fetchall()]
"""


def for_the_session(last: str) -> str:
    """A search with many candidates for the whole session, and a statement that is to end that."""
    set = "cur.execute('SET hnsw.ef_search = %s', [max(limit, 40)])"
    return (
        search("search_many", COSINE, before=set)
        .replace("        return", f"        found = cur.fetchall()\n        cur.execute('{last}')\n        return")
        .replace("in cur.fetchall()]", "in found]")
    )


def library(steps: str = "TIL", *, on: str = "ivfflat (embedding vector_cosine_ops) WITH (lists = 50)") -> str:
    """A build in these steps, T the table, I the rows, L the index; and a right search."""
    code = {
        "T": 'cur.execute("CREATE TABLE library (id integer PRIMARY KEY, embedding vector(32))")',
        "I": 'execute_values(cur, "INSERT INTO library (id, embedding) VALUES %s", rows)',
        "L": f'cur.execute("CREATE INDEX ON library USING {on}")',
    }
    lines = "\n".join(f"        {code[step]}" for step in steps)
    return f"def build_library(conn, rows):\n    with conn, conn.cursor() as cur:\n{lines}\n" + SEARCH_LIBRARY


COSINE = "embedding <=> %(vector)s"
SEARCH_LIBRARY = search("search_library", COSINE, columns=f"id, 1 - ({COSINE})", table="library")


def with_search(order: str, *, columns: str = f"id, 1 - ({COSINE})") -> str:
    """A right build, and a search of its own."""
    return library().replace(SEARCH_LIBRARY, search("search_library", order, columns=columns, table="library"))


def smallest(
    *,
    exact: str = "enable_indexscan = off",
    last: str = "on",
    values: str = "sorted(candidates)",
    set: str = "SET LOCAL",
    of: str = "queries",
    k: int = 10,
    limit: float = 0.95,
) -> str:
    return f"""
def smallest_ef_search(conn, queries, candidates):
    def ten_nearest(cur):
        found = []
        for vector in {of}:
            cur.execute("SELECT id FROM documents ORDER BY embedding <=> %s LIMIT {k}", [vector])
            found.append([row[0] for row in cur.fetchall()])
        return found
    with conn, conn.cursor() as cur:
        cur.execute("{set} {exact}")
        right = ten_nearest(cur)
        cur.execute("{set} enable_indexscan = {last}")
        for value in {values}:
            cur.execute("{set} hnsw.ef_search = %s", [value])
            if np.mean([len({{*a}} & {{*b}}) / {k} for a, b in zip(ten_nearest(cur), right)]) >= {limit}:
                return value
"""


INDEX_LONG = """
def index_long(conn):
    with conn, conn.cursor() as cur:
        cur.execute("CREATE INDEX ON long_documents USING hnsw ({})")
"""
HALF = "(embedding::halfvec(2048)) halfvec_cosine_ops"


def long(on: str = HALF, order: str = "embedding::halfvec(2048) <=> %(vector)s::halfvec(2048)") -> str:
    return INDEX_LONG.format(on) + search("search_long", order, table="long_documents")


BITS = "binary_quantize(embedding)::bit(128) <~> binary_quantize(%(vector)s::vector)"


def rerank(inner: str = BITS, *, taken: str = "%(candidates)s", outer: str = COSINE) -> str:
    return f"""
def search_rerank(conn, vector, candidates, limit):
    with conn, conn.cursor() as cur:
        cur.execute('SELECT id FROM (SELECT * FROM documents ORDER BY {inner} LIMIT {taken}) AS found '
                    'ORDER BY {outer} LIMIT %(limit)s',
                    {{"vector": vector, "candidates": candidates, "limit": limit}})
        return [row[0] for row in cur.fetchall()]
"""


MISSES = r"With ef_search = \d+ the recall is 0\.\d+, and 0.95 is asked for"
HNSW = "CREATE INDEX ON documents USING hnsw (embedding vector_cosine_ops)"

WRONG_ANSWERS = {
    "indexes.create_hnsw": {
        "for Euclidean distance": (
            create(
                "CREATE INDEX ON documents USING hnsw (embedding vector_l2_ops) WITH (m = 8, ef_construction = 100)"
            ),
            "The hnsw index has the operator class vector_l2_ops, which serves another operator",
        ),
        "on a cast": (
            create(
                "CREATE INDEX ON documents USING hnsw ((embedding::halfvec(32)) halfvec_cosine_ops) "
                "WITH (m = 8, ef_construction = 100)"
            ),
            "halfvec_cosine_ops, which is for an index on a cast; here one on the column itself is asked for",
        ),
        "no options": (create(HNSW), r"The hnsw index has the options \[\], not those that were asked for"),
        "only one option": (create(HNSW + " WITH (m = 8)"), r"The hnsw index has the options \['m=8'\], not those"),
        "a B-tree": (
            create("CREATE INDEX ON documents (embedding)"),
            "The table documents has no hnsw index. It has: btree, btree",
        ),
        "IVFFlat": (
            create("CREATE INDEX ON documents USING ivfflat (embedding vector_cosine_ops) WITH (lists = 8)"),
            "The table documents has no hnsw index. It has: btree, ivfflat|ivfflat, btree",
        ),
        "no operator class": (
            create("CREATE INDEX ON documents USING hnsw (embedding) WITH (m = 8, ef_construction = 100)"),
            "create_hnsw raised UndefinedObject: data type vector has no default operator class",
        ),
        "options of a search": (
            create(HNSW + " WITH (m = 8, ef_search = 100)"),
            'create_hnsw raised InvalidParameterValue: unrecognized parameter "ef_search"',
        ),
        "forgets to commit": (
            f'def create_hnsw(conn):\n    conn.cursor().execute("{HNSW} WITH (m = 8, ef_construction = 100)")',
            "A transaction is still open. End it: commit",
        ),
        "not for every row": (
            create(HNSW + " WITH (m = 8, ef_construction = 100) WHERE id > 10"),
            "The query uses no index; its plan is Limit over Sort over Seq Scan",
        ),
    },
    "indexes.use_the_index": {
        "as it was": (
            search("search_fast", f"1 - ({COSINE}) DESC"),
            "does not use the index documents_ip. Its plan is Limit over Sort over Seq Scan, sorted by",
        ),
        "the bare distance, but of another operator": (
            search("search_fast", COSINE),
            "does not use the index documents_ip. Its plan is Limit over Sort over Seq Scan, sorted by",
        ),
        "the largest first": (
            search("search_fast", "embedding <#> %(vector)s DESC"),
            "The result begins with the farthest of all. A distance is small where vectors are alike",
        ),
        "another index": (
            search("search_fast", COSINE, before=f"cur.execute('DROP INDEX documents_ip; {HNSW}')"),
            "The indexes of the table were changed. Search with the one that was there",
        ),
        "sequential scans off": (
            search("search_fast", f"1 - ({COSINE}) DESC", before="cur.execute('SET LOCAL enable_seqscan = off')"),
            "does not use the index documents_ip. Its plan is Limit over Sort over",
        ),
        "the function, not the operator": (
            search("search_fast", "vector_negative_inner_product(embedding, %(vector)s)"),
            "does not use the index documents_ip. Its plan is Limit over Sort over Seq Scan, sorted by",
        ),
        "far more candidates than rows": (
            search("search_fast", "embedding <#> %(vector)s", before="cur.execute('SET LOCAL hnsw.ef_search = 1000')"),
            "PostgreSQL reckons that reading the whole table is cheaper: a large hnsw.ef_search makes",
        ),
        "the index in a search whose result is not used": (
            search(
                "search_fast",
                f"1 - ({COSINE}) DESC",
                before="cur.execute('SELECT id FROM documents ORDER BY embedding <#> %s LIMIT %s', [vector, limit])",
            ),
            "does not use the index documents_ip. Its plan is Limit over Sort over Seq Scan, sorted by",
        ),
        "rows": (
            search("search_fast", "embedding <#> %(vector)s", columns="id, embedding <#> %(vector)s"),
            "Each id of the result should be an int; it is a tuple",
        ),
        "leaves the transaction open": (
            "def search_fast(conn, vector, limit):\n    cur = conn.cursor()\n"
            "    cur.execute('SELECT id FROM documents ORDER BY embedding <#> %s LIMIT %s', [vector, limit])\n"
            "    return [id for (id,) in cur.fetchall()]",
            "A transaction is still open",
        ),
    },
    "indexes.search_many": {
        "sets nothing": (search("search_many", COSINE), r"The result holds 40 ids, which is too few: \d+ were asked"),
        "for the whole session": (
            search("search_many", COSINE, before="cur.execute('SET hnsw.ef_search = %s', [limit])"),
            "After the call hnsw.ef_search is still",
        ),
        "without the index": (
            search("search_many", COSINE, before="cur.execute('SET LOCAL enable_indexscan = off')"),
            "does not use the index documents_cosine. Its plan is Limit over Sort over Seq Scan",
        ),
        "as high as it goes": (
            search("search_many", COSINE, before="cur.execute('SET LOCAL hnsw.ef_search = 1000')"),
            "PostgreSQL reckons that reading the whole table is cheaper: a large hnsw.ef_search makes",
        ),
        "as high as it takes today": (
            search("search_many", COSINE, before="cur.execute('SET LOCAL hnsw.ef_search = 100')"),
            "The result holds 100 ids, which is too few: .* were asked for. SET LOCAL was sent: does it ask for enough",
        ),
        "in autocommit mode": (
            "def search_many(conn, vector, limit):\n    conn.autocommit = True\n    cur = conn.cursor()\n"
            "    cur.execute('SET LOCAL hnsw.ef_search = %s', [limit])\n"
            "    cur.execute('SELECT id FROM documents ORDER BY embedding <=> %s LIMIT %s', [vector, limit])\n"
            "    return [id for (id,) in cur.fetchall()]",
            "The result holds 40 ids, which is too few: (.*)SET LOCAL was sent: (.*)in the same transaction",
        ),
        "in a transaction of its own": (
            search("search_many", COSINE, before="cur.execute('SET LOCAL hnsw.ef_search = 200'); conn.commit()"),
            "The result holds 40 ids, which is too few: (.*)SET LOCAL was sent: (.*)in the same transaction",
        ),
        "by Euclidean distance": (
            search("search_many", "embedding <-> %(vector)s"),
            "The result is ranked by Euclidean distance, not by cosine distance",
        ),
        "as many candidates as rows, however few": (
            search("search_many", COSINE, before="cur.execute('SET LOCAL hnsw.ef_search = %s', [limit])"),
            r"With the limit 3 the recall is 0\.\d\d, (.*): a small limit must not find less",
        ),
        "sets what it takes for the default": (
            for_the_session("SET hnsw.ef_search = 40"),
            r"After the call hnsw.ef_search is still 40, (.*); before, it was 5\d",
        ),
        "resets": (
            for_the_session("RESET hnsw.ef_search"),
            r"After the call hnsw.ef_search is still 40, (.*)RESET goes back to PostgreSQL's default",
        ),
    },
    "indexes.mend_library": {
        "the index before the rows": (library("TLI"), r"The index finds \d\d% of the ten nearest: its lists do not"),
        "an index for Euclidean distance": (
            library(on="ivfflat (embedding vector_l2_ops) WITH (lists = 50)"),
            "The ivfflat index has the operator class vector_l2_ops, which serves another operator",
        ),
        "HNSW, which needs no rows": (
            library(on="hnsw (embedding vector_cosine_ops)"),
            "The table library has no ivfflat index. It has: (btree, hnsw|hnsw, btree)",
        ),
        "fewer lists": (
            library(on="ivfflat (embedding vector_cosine_ops) WITH (lists = 5)"),
            r"The ivfflat index has the options \['lists=5'\], not those that were asked for",
        ),
        "forgets the rows": (library("TL"), "The table library holds 0 rows, which is too few"),
        "1 minus another distance": (
            with_search(COSINE, columns="id, 1 - (embedding <-> %(vector)s)"),
            "The numbers beside the ids are 1 minus Euclidean distances, not cosine similarities",
        ),
        "distances": (
            with_search(COSINE, columns=f"id, {COSINE}"),
            "The numbers beside the ids are cosine distances, not cosine similarities",
        ),
        "orders by the similarity": (
            with_search(f"1 - ({COSINE}) DESC"),
            "does not use the index library_embedding_idx. Its plan is Limit over Sort over Seq Scan",
        ),
        "the least similar first": (
            with_search(f"1 - ({COSINE})"),
            "The result begins with the farthest of all",
        ),
        "orders by another distance": (
            with_search("embedding <-> %(vector)s"),
            "The result is ranked by Euclidean distance, not by cosine distance",
        ),
        "more probes than it needs": (
            library().replace(
                SEARCH_LIBRARY,
                search(
                    "search_library",
                    COSINE,
                    columns=f"id, 1 - ({COSINE})",
                    table="library",
                    before="cur.execute('SET LOCAL ivfflat.probes = 50')",
                ),
            ),
            "PostgreSQL reckons that reading the whole table is cheaper: a large ivfflat.probes makes",
        ),
        "ids only": (
            library().replace(SEARCH_LIBRARY, search("search_library", COSINE, table="library")),
            "Each item of the result should be a tuple; it is an int",
        ),
    },
    "indexes.smallest_ef_search": {
        "the first": (
            "def smallest_ef_search(conn, queries, candidates):\n    return candidates[0]",
            MISSES,
        ),
        "the largest": (
            "def smallest_ef_search(conn, queries, candidates):\n    return max(candidates)",
            r"The result is \d+, and a smaller candidate reaches the recall as well",
        ),
        "takes the index for exact": (
            smallest(exact="enable_indexscan = on"),
            MISSES + "(.*)Is the exact search without the index",
        ),
        "never switches the index on again": (
            smallest(last="off"),
            MISSES + "(.*)the other one with it",
        ),
        "takes the index for exact, with a larger ef_search": (
            smallest(exact="hnsw.ef_search = 200"),
            MISSES + "(.*)Is the exact search without the index",
        ),
        "another limit": (smallest(limit=0.9), MISSES + "(.*)the limit 0.95"),
        "some of the queries": (smallest(of="queries[:10]"), MISSES + "(.*)of every query"),
        "very few of the queries": (smallest(of="queries[:3]"), MISSES + "(.*)of every query"),
        "recall@5": (smallest(k=5), MISSES + "(.*)for the ten nearest"),
        "in the order that they come": (
            smallest(values="candidates"),
            "a smaller candidate reaches the recall as well",
        ),
        "leaves autocommit on": (
            smallest(set="SET")
            .replace("with conn, conn", "conn.autocommit = True\n    with conn")
            .replace(
                "return value",
                "cur.execute('RESET hnsw.ef_search; RESET enable_indexscan')\n                return value",
            ),
            "After the call conn.autocommit is still on",
        ),
        "for the whole session": (smallest(set="SET"), "After the call hnsw.ef_search is still"),
        "the recall": (
            smallest().replace("return value", "return 0.95"),
            "The result should be an int; it is a float",
        ),
        "a value of its own": (
            "def smallest_ef_search(conn, queries, candidates):\n    return 1000",
            "The result is 1000, which is none of the candidates",
        ),
    },
    "indexes.long_vectors": {
        "in full precision": (
            long("embedding vector_cosine_ops"),
            "index_long raised ProgramLimitExceeded: column cannot have more than 2000 dimensions for hnsw index",
        ),
        "for Euclidean distance": (
            long("(embedding::halfvec(2048)) halfvec_l2_ops"),
            "The hnsw index has the operator class halfvec_l2_ops, which serves another operator",
        ),
        "no parentheses around the expression": (
            long("embedding::halfvec(2048) halfvec_cosine_ops"),
            r"index_long raised SyntaxError(.|\n)*An expression in an index needs parentheses of its own",
        ),
        "by Euclidean distance": (
            long(order="embedding::halfvec(2048) <-> %(vector)s::halfvec(2048)"),
            "The result is ranked by Euclidean distance, not by cosine distance",
        ),
        "bits": (
            long("(binary_quantize(embedding)::bit(2048)) bit_hamming_ops"),
            "The hnsw index has the operator class bit_hamming_ops, which serves another operator",
        ),
        "changes the column": (
            "def index_long(conn):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('ALTER TABLE long_documents ALTER embedding TYPE halfvec(2048);'\n"
            "                    'CREATE INDEX ON long_documents USING hnsw (embedding halfvec_cosine_ops)')",
            r"The column embedding is of type halfvec\(2048\); it should be vector\(2048\)",
        ),
        "searches the column itself": (
            long(order=COSINE),
            "does not use the index long_documents_embedding_idx. Its plan is Limit over Sort over",
        ),
        "casts the wrong side": (
            long(order="embedding <=> %(vector)s::halfvec(2048)::vector"),
            "does not use the index long_documents_embedding_idx. Its plan is Limit over Sort over",
        ),
        "a cast without the dimension": (
            long("(embedding::halfvec) halfvec_cosine_ops"),
            "index_long raised (.*): column does not have dimensions",
        ),
        "searches without the dimension": (
            long(order="embedding::halfvec <=> %(vector)s::halfvec"),
            "does not use the index long_documents_embedding_idx. Its plan is Limit over Sort over",
        ),
        "orders by similarity": (
            long(order="1 - (embedding::halfvec(2048) <=> %(vector)s::halfvec(2048)) DESC"),
            "does not use the index long_documents_embedding_idx. Its plan is Limit over Sort over",
        ),
        "the farthest first": (
            long(order="embedding::halfvec(2048) <=> %(vector)s::halfvec(2048) DESC"),
            "The result begins with the farthest of all",
        ),
    },
    "indexes.rerank": {
        "bits alone": (
            search("search_rerank", BITS).replace("vector, limit)", "vector, candidates, limit)"),
            "The result, by cosine distance, is out of order at place",
        ),
        "vectors alone": (
            search("search_rerank", COSINE).replace("vector, limit)", "vector, candidates, limit)"),
            "does not use the index documents_bits. Its plan is Limit over Sort over Seq Scan",
        ),
        "candidates by the vectors": (
            rerank(COSINE, outer=BITS),
            "The result, by cosine distance, is out of order at place",
        ),
        "as many candidates as results": (
            rerank(taken="%(limit)s"),
            "The index gives 10 candidates, and 40 were asked for",
        ),
        "as many candidates as there may be": (
            rerank(taken="40"),
            r"The index gives 40 candidates, and \d\d were asked",
        ),
        "without the cast to bit(128)": (
            rerank("binary_quantize(embedding) <~> binary_quantize(%(vector)s::vector)"),
            "does not use the index documents_bits. Its plan is Limit over Sort over",
        ),
        "does not say that it is a vector": (
            rerank("binary_quantize(embedding)::bit(128) <~> binary_quantize(%(vector)s)"),
            r"search_rerank raised AmbiguousFunction: function binary_quantize\(unknown\) is not unique",
        ),
        "Euclidean distance in the end": (
            rerank(outer="embedding <-> %(vector)s"),
            "The result is ranked by Euclidean distance, not by cosine distance",
        ),
        "returns every candidate": (
            rerank().replace("LIMIT %(limit)s", ""),
            "The result holds 40 ids, which is too many: 10 were asked for",
        ),
    },
}
