"""What learners write for the capstone that is not right, and words of the message that each must get."""

LOAD = """
def load(conn, table, vectors):
    name = sql.Identifier(table)
    with conn, conn.cursor() as cur:
        cur.execute(sql.SQL("{drop}").format(name))
        cur.execute(sql.SQL("CREATE TABLE {{}} ({columns})").format(name))
    bulk_load(conn, table, {{"id": np.arange(len(vectors)) + {first}, "embedding": {vectors}}})
    {analyze}
"""

DROP = "DROP TABLE IF EXISTS {}"
ANALYZE = 'with conn: conn.cursor().execute(sql.SQL("ANALYZE {}").format(name))'


def load(
    drop=DROP, columns="id integer PRIMARY KEY, embedding vector(%d)", first=0, vectors="vectors", analyze=ANALYZE
):
    """The solution of `load` with something changed."""
    columns = columns.replace("vector(%d)", "vector({})")
    code = LOAD.format(drop=drop, columns=columns, first=first, vectors=vectors, analyze=analyze)
    if "vector({})" in code:
        code = code.replace('vector({}))").format(name)', 'vector({}))").format(name, sql.Literal(vectors.shape[1]))')
    return code


EXACT = """
def exact(conn, table, queries, k):
    ids, vectors = read_embeddings(conn, table)
    rows, _ = exact_neighbours(vectors, queries, k)
    return {result}
"""

BY_SQL = """
def exact(conn, table, queries, k):
    found = []
    with conn, conn.cursor() as cur:
        {before}
        for vector in queries:
            cur.execute(f"SELECT id FROM {{table}} ORDER BY embedding {operator} %s LIMIT %s", [vector, k])
            found.append([id for (id,) in cur.fetchall()])
    return np.array(found)
"""

BUILD = """
def build(conn, table, method):
    {drop}
    options = {options}
    begin = time.perf_counter()
    {memory}
    create_index(conn, table, method=method, progress=False, {metric}**options[method])
    {after}
    return {result}
"""

DROP_INDEXES = (
    'there = describe_indexes(conn, table)\n    for name in there["index"][there["method"] != "btree"]: '
    "drop_index(conn, name)"
)
ROWS = 'query(conn, f"SELECT count(*) FROM {table}").iloc[0, 0]'
OPTIONS = f'{{"hnsw": {{}}, "ivfflat": {{"lists": round({ROWS} ** 0.5)}}}}'
MEMORY = "query(conn, \"SET LOCAL maintenance_work_mem = '256MB'\")"
SECONDS = "time.perf_counter() - begin"


def build(drop=DROP_INDEXES, options=OPTIONS, memory=MEMORY, metric="", after="", result=SECONDS):
    """The solution of `build` with something changed."""
    return BUILD.format(drop=drop, options=options, memory=memory, metric=metric, after=after, result=result)


MEASURE = """
def measure(conn, table, queries, truth):
    recalls, times = [], []
    with conn.cursor() as cur:
        for vector, right in zip(queries, truth):
            begin = time.perf_counter()
            cur.execute(f"SELECT id FROM {{table}} ORDER BY {order} LIMIT %s", [vector, {limit}])
            found = [id for (id,) in cur.fetchall()]
            times.append(time.perf_counter() - begin)
            recalls.append({recall})
    times = {unit} * np.array(times)
    return {result}
"""

RECALL = "len(set(found) & set(right)) / len(right)"
MEASURES = '{"recall": np.mean(recalls), "median_ms": np.median(times), "p95_ms": np.quantile(times, 0.95)}'


def measure(order="embedding <=> %s", limit="len(right)", recall=RECALL, unit="1000", result=MEASURES):
    """The solution of `measure` with something changed."""
    return MEASURE.format(order=order, limit=limit, recall=recall, unit=unit, result=result)


VARY = """
def vary(conn, table, queries, truth, setting, values):
    setting = {{"ef_search": "hnsw.ef_search", "probes": "ivfflat.probes"}}[setting]
    rows = []
    for value in values:
        {set}
        rows.append({{"value": value, **measure(conn, table, queries, truth)}})
        {after}
    return {result}
"""

SET_LOCAL = 'query(conn, "SELECT set_config(%s, %s, true)", [setting, str(value)])'


def vary(set=SET_LOCAL, after="conn.rollback()", result="pd.DataFrame(rows)"):
    """A right answer to `vary` with something changed."""
    return VARY.format(set=set, after=after, result=result)


BENCHMARK = """
def benchmark(conn, table, vectors, queries, probes, ef_search):
    load(conn, table, {stored})
    {first}
    truth = exact(conn, table, queries, 10)
    without = {{"index": "none", "setting": 0, "build_s": 0, **measure(conn, table, queries, truth)}}
    parts = [pd.DataFrame([without])]
    for method, setting, values in {methods}:
        seconds = {seconds}
        part = vary(conn, table, queries, truth, setting, values)
        parts.append(part.rename(columns={{"value": "setting"}}).assign(index={index}, build_s=seconds))
    {last}
    return {result}
"""

METHODS = '[("ivfflat", "probes", probes), ("hnsw", "ef_search", ef_search)]'
RESULT = "pd.concat(parts, ignore_index=True)[list(without)]"


def benchmark(
    stored="vectors", first="", methods=METHODS, seconds="build(conn, table, method)", index="method", last="",
    result=RESULT,
):  # fmt: skip
    """The solution of `benchmark` with something changed."""
    return BENCHMARK.format(
        stored=stored, first=first, methods=methods, seconds=seconds, index=index, last=last, result=result
    )


CHOOSE = "def choose(frame, at_least):\n    {}"
ENOUGH = "enough = frame[frame.recall >= at_least]\n    if enough.empty: return None\n    "
PAIR = "return best['index'], best['setting']"

WRONG_ANSWERS = {
    "benchmark.load": {
        "pastes the name in": (
            "def load(conn, table, vectors):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute(f'DROP TABLE IF EXISTS {table}')\n"
            "        cur.execute(f'CREATE TABLE {table} (id int PRIMARY KEY, embedding vector({vectors.shape[1]}))')",
            r"There is a table vectors\d+ and none called Vectors\d+",
        ),
        "pastes the name in, and loads": (
            "def load(conn, table, vectors):\n    query(conn, f'DROP TABLE IF EXISTS {table}')\n"
            "    query(conn, f'CREATE TABLE {table} (id int PRIMARY KEY, embedding vector({vectors.shape[1]}))')\n"
            "    bulk_load(conn, table, {'id': np.arange(len(vectors)), 'embedding': vectors})",
            r"(?s)load raised DocumentError: There is no table.*There is a table vectors\d+ and none called Vectors\d+",
        ),
        "binds the name": (
            "def load(conn, table, vectors):\n    query(conn, 'DROP TABLE IF EXISTS %s', [table])",
            r"A table's name cannot be bound: %s makes the text 'Vectors\d+' of it",
        ),
        "leaves autocommit": (
            load(analyze="conn.autocommit = True; " + ANALYZE.removeprefix("with conn: ")),
            "After the call conn.autocommit is still on",
        ),
        "numbers from 1": (load(first=1), r"The ids run from 1 to \d+; they begin at 0"),
        "another dimension": (
            load(columns="id integer PRIMARY KEY, embedding vector(1536)"),
            r"load raised DocumentError: Row 0.*a vector of \d+ numbers, and the column takes 1536",
        ),
        "no dimension": (
            load(columns="id integer PRIMARY KEY, embedding vector"),
            "The column embedding is of type vector; it should be vector",
        ),
        "no primary key": (load(columns="id integer, embedding vector(%d)"), "has no PRIMARY KEY on id"),
        "fails the second time": (load(drop="SELECT 1"), "load raised DuplicateTable"),
        "leaves the rows of the first time": (
            "def load(conn, table, vectors):\n    name = sql.Identifier(table)\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute(sql.SQL('CREATE TABLE IF NOT EXISTS {} (id int PRIMARY KEY, embedding vector({}))')\n"
            "                    .format(name, sql.Literal(vectors.shape[1])))\n"
            "    bulk_load(conn, table, {'id': np.arange(len(vectors)), 'embedding': vectors}, upsert=True)\n"
            "    with conn: conn.cursor().execute(sql.SQL('ANALYZE {}').format(name))",
            "load raised DocumentError",
        ),
        "makes them of length 1": (
            load(vectors="vectors / np.linalg.norm(vectors, axis=1, keepdims=True)"),
            "The column embedding is wrong",
        ),
        "no statistics": (load(analyze=""), "The planner knows nothing of the rows that are now in the table"),
        "forgets to commit at the end": (
            load(analyze='query(conn, sql.SQL("ANALYZE {}").format(name))'),
            "A transaction is still open",
        ),
    },
    "benchmark.exact": {
        "through the index": (BY_SQL.format(before="", operator="<=>"), "The result is what the HNSW index finds"),
        "by Euclidean distance": (BY_SQL.format(before="", operator="<->"), "are those by Euclidean distance"),
        "by inner product": (BY_SQL.format(before="", operator="<#>"), "are those by inner product"),
        "leaves the index off": (
            BY_SQL.format(before="cur.execute('SET enable_indexscan = off')", operator="<=>"),
            "After the call enable_indexscan is still off",
        ),
        "drops the index": (
            EXACT.format(result="ids[rows]").replace("    ids,", "    drop_index(conn, 'weak_vectors')\n    ids,"),
            "After the call the table has lost its index",
        ),
        "with a larger ef_search": (
            BY_SQL.format(before="cur.execute('SET LOCAL hnsw.ef_search = 1000')", operator="<=>"),
            "A larger ef_search finds more, and nobody knows whether it finds all",
        ),
        "places in the array": (EXACT.format(result="rows"), "places in the array, not the ids"),
        "the farthest first": (EXACT.format(result="ids[rows][:, ::-1]"), "the nearest comes first"),
        "a list": (EXACT.format(result="ids[rows].tolist()"), "should be a NumPy array; it is a list"),
        "of one query": (EXACT.format(result="ids[rows[0]]"), r"has the shape \(\d+,\); it takes a row for each"),
        "the nearest left out, as if it were the query": (
            EXACT.replace("queries, k)\n", "queries, k + 1)\n").format(result="ids[rows][:, 1:]"),
            "Row 1 of the result is not the nearest: something nearer is missing",
        ),
        "distances": (EXACT.format(result="_"), "The result holds float(32|64); ids are whole numbers"),
    },
    "benchmark.build": {
        "leaves the other index": (
            build(drop="query(conn, f'DROP INDEX IF EXISTS {table}_embedding_cosine_{method}')"),
            "After building hnsw there is another index for neighbours as well: built_vectors",
        ),
        "the planner's advice for lists": (
            build(options=f'{{"hnsw": {{}}, "ivfflat": {{"lists": {ROWS} // 1000}}}}'),
            r"For \d+ rows there are 2 lists; the square root of the rows is due",
        ),
        "another m": (
            build(options=f'{{"hnsw": {{"m": 24}}, "ivfflat": {{"lists": round({ROWS} ** 0.5)}}}}'),
            "The HNSW index has the options {'m': '24'}",
        ),
        "Euclidean distance": (build(metric='metric="l2", '), "has the operator class vector_l2_ops"),
        "no memory": (build(memory=""), "The build of hnsw had no memory of its own"),
        "memory before the indexes are dropped": (
            build(drop=MEMORY + "\n    " + DROP_INDEXES, memory=""),
            "When CREATE INDEX was sent, maintenance_work_mem was no longer set",
        ),
        "too little memory": (
            build(memory=MEMORY.replace("256", "8")),
            "When CREATE INDEX was sent, maintenance_work_mem was 8 MB: too little",
        ),
        "memory afterwards": (build(memory="", after=MEMORY + "; conn.commit()"), "was set after the index was built"),
        "leaves the memory": (
            build(memory=MEMORY.replace("SET LOCAL", "SET").replace("256", "300")),
            "After the call maintenance_work_mem is still 307200",
        ),
        "forgets to commit": (
            "def build(conn, table, method):\n    "
            + DROP_INDEXES
            + "\n    begin = time.perf_counter()\n    "
            + MEMORY
            + "\n    query(conn, f'CREATE INDEX ON {table} USING {method} (embedding vector_cosine_ops)')\n"
            "    conn.cursor().execute('RESET maintenance_work_mem')\n    return time.perf_counter() - begin",
            "A transaction is still open",
        ),
        "returns the name": (build(result="f'{table}_{method}'"), "The result should be a float or an int"),
        "returns milliseconds": (build(result=f"1000 * ({SECONDS})"), r"The result is \d.*, and the whole call took"),
        "the clock stands still": (
            build(memory=MEMORY + "; taken = time.perf_counter() - begin", result="taken"),
            "less than the build took. Does the clock run all along",
        ),
    },
    "benchmark.measure": {
        "found at its own place": (
            measure(recall="np.mean([a == b for a, b in zip(found, right)] + [0] * (len(right) - len(found)))"),
            "share of neighbours found at their own place",
        ),
        "by the number that was found": (
            measure(recall="len(set(found) & set(right)) / len(found)"),
            "the share of what was found that is right",
        ),
        "a number": (measure(recall="len(set(found) & set(right))"), "It is the number of neighbours found"),
        "per cent": (measure(recall="100 * " + RECALL), "It is in per cent"),
        "the share missed": (measure(recall="1 - " + RECALL), "It is the share that was missed"),
        "ten neighbours": (measure(limit="10"), r"The searches asked for LIMIT 10; truth has \d+ columns"),
        "the columns' names": (
            "def measure(conn, table, queries, truth):\n    recalls, times = [], []\n"
            "    for vector, right in zip(queries, truth):\n        begin = time.perf_counter()\n"
            "        found = query(conn, f'SELECT id FROM {table} ORDER BY embedding <=> %s LIMIT %s', "
            "[vector, len(right)])\n        times.append(1000 * (time.perf_counter() - begin))\n"
            f"        recalls.append({RECALL})\n    return {MEASURES}",
            "The recall is 0: nothing matched. .* A loop over a DataFrame gives the names of its columns",
        ),
        "one clock for all": (
            measure(result='{"recall": np.mean(recalls), "median_ms": times.mean(), "p95_ms": times.mean()}'),
            "median_ms and p95_ms are the same to the last digit",
        ),
        "commits": (
            measure(result="conn.commit() or " + MEASURES),
            "The transaction was ended: COMMIT, ROLLBACK and `with conn:` also end what was SET LOCAL",
        ),
        "another distance": (measure(order="embedding <-> %s"), "The query uses no index; its plan is Limit over Sort"),
        "the function in place of the operator": (
            measure(order="cosine_distance(embedding, %s)"),
            "0 searches were sent|The query uses no index",
        ),
        "in seconds": (measure(unit="1"), "are these milliseconds, or seconds"),
        "in microseconds": (measure(unit="1e6"), "are these milliseconds"),
        "all at once": (
            measure(
                result=MEASURES.replace("np.median(times)", "times.sum()").replace("np.quantile(times, 0.95)", "1e9")
            ),
            "is more than the whole call took|are these milliseconds",
        ),
        "the wrong tail": (measure(result=MEASURES.replace("0.95", "0.05")), "A p95_ms is smaller than its median_ms"),
        "a tuple": (measure(result="np.mean(recalls), np.median(times)"), "The result should be a dict; it is a tuple"),
        "other names": (measure(result=MEASURES.replace("median_ms", "median")), "The result has no 'median_ms'"),
        "one statement for all": (
            "def measure(conn, table, queries, truth):\n    begin = time.perf_counter()\n"
            "    found = [query(conn, f'SELECT id FROM {table} ORDER BY embedding <=> %s LIMIT %s', [queries[0], 9])]\n"
            "    taken = 1000 * (time.perf_counter() - begin)\n"
            "    return {'recall': 0.5, 'median_ms': taken, 'p95_ms': taken}",
            "1 searches were sent for 30 queries",
        ),
    },
    "benchmark.vary": {
        "sets nothing": (vary(set="pass"), "For each value of ef_search the recall is .*, that of its default"),
        "commits before the searches": (vary(set=SET_LOCAL + "; conn.commit()"), "COMMIT and ROLLBACK end SET LOCAL"),
        "a measure that commits after each search": (
            measure(recall=RECALL + ", conn.commit()")
            .replace("append(len", "append((len")
            .replace("commit())", "commit())[0])")
            + vary(),
            "ef_search held for the first query only, and its default for the others",
        ),
        "leaves the setting": (
            vary(set=SET_LOCAL.replace("true", "false"), after="conn.commit()"),
            r"After the call hnsw.ef_search is still \d+, and whatever comes next",
        ),
        "leaves the transaction": (
            vary(after=""),
            r"After the call hnsw.ef_search is still \d+ and its transaction is still open",
        ),
        "a list": (vary(result="rows"), "The result should be a DataFrame; it is a list"),
        "sorted": (vary(result="pd.DataFrame(rows).sort_values('value')"), "not the values in their order"),
        "the value is the index of the frame": (
            vary(result="pd.DataFrame(rows).set_index('value')"),
            "The result has no 'value'",
        ),
        "another column": (
            vary(result="pd.DataFrame(rows).assign(setting=setting)"),
            "The result also has the columns setting, which were not asked for",
        ),
        "the first value for all": (
            vary(set=SET_LOCAL.replace("str(value)", "str(values[0])")),
            "The recall for ef_search 80 is|The recall for ef_search 10 is",
        ),
    },
    "benchmark.benchmark": {
        "stores the queries too": (
            benchmark(stored="np.concatenate([vectors, queries])"),
            r"The table compared holds \d+ rows, which is too many",
        ),
        "an index before exact search": (
            benchmark(first='build(conn, table, "ivfflat")'),
            "Without an index the recall is 0",
        ),
        "nine neighbours": (
            benchmark().replace("queries, 10)", "queries, 9)"),
            "The searches asked for LIMIT 9; ten neighbours are asked for",
        ),
        "the seconds of IVFFlat for both": (
            benchmark(last="parts[2]['build_s'] = parts[1]['build_s'][0]"),
            "build_s is the same for both indexes",
        ),
        "an earlier function is the stub": (
            "def build(conn, table, method):\n    raise NotImplementedError()\n" + benchmark(),
            "`build` is still to be written, and benchmark calls it",
        ),
        "builds no index": (benchmark(seconds="1.0"), "The table compared has no hnsw index"),
        "HNSW for both": (
            benchmark(seconds='build(conn, table, "hnsw")'),
            "The recall of ivfflat does not grow from 1 to",
        ),
        "IVFFlat last": (
            benchmark(last='build(conn, table, "ivfflat")'),
            "The table compared has no hnsw index. It has: .*ivfflat",
        ),
        "another index in the end": (
            benchmark(last='create_index(conn, table, method="ivfflat", progress=False)'),
            "In the end the table has more than one index for neighbours",
        ),
        "HNSW first": (
            benchmark(methods=METHODS + "[::-1]", last='build(conn, table, "hnsw")'),
            "The columns index and setting do not hold what was asked for",
        ),
        "without exact search": (
            benchmark(result="pd.concat(parts[1:], ignore_index=True)[list(without)]"),
            "The result holds 5 rows, which is too few",
        ),
        "forgets what it built": (
            benchmark(result="pd.concat(parts, ignore_index=True).drop(columns='build_s')"),
            "The result has no 'build_s'",
        ),
        "no time for the build": (
            benchmark(seconds="build(conn, table, method) * 0"),
            "build_s is wrong: 0 without an index, and the seconds of its build",
        ),
        "true is what the index finds": (
            benchmark(
                seconds="build(conn, table, method)\n"
                "        nearest = f'SELECT id FROM {table} ORDER BY embedding <=> %s LIMIT 10'\n"
                "        truth = np.stack([query(conn, nearest, [vector]).id for vector in queries])"
            ),
            "The recall of ivfflat does not grow from 1 to",
        ),
        "recalls that nobody measured": (
            benchmark(last="parts[2]['recall'] = [0.97, 0.99, 0.98]"),
            "The recall of hnsw 10 is 0.970, and that is not what these searches find",
        ),
    },
    "benchmark.choose": {
        "the highest recall": (
            CHOOSE.format(ENOUGH + "best = enough.loc[enough.recall.idxmax()]\n    " + PAIR),
            "It is the one with the highest recall, which was not asked for",
        ),
        "the fastest of all": (
            CHOOSE.format("best = frame.loc[frame.median_ms.idxmin()]\n    " + PAIR),
            r"A row with a recall of 0\.\d+ was chosen, and 0\.\d+ was asked for",
        ),
        "more than asked for": (
            CHOOSE.format(ENOUGH.replace(">=", ">") + "best = enough.loc[enough.median_ms.idxmin()]\n    " + PAIR),
            "A recall that is as high as demanded suffices",
        ),
        "the first that will do": (
            CHOOSE.format(ENOUGH + "best = enough.iloc[0]\n    " + PAIR),
            r"A row with a median of \d\.\d ms was chosen, and a faster one will do",
        ),
        "a label taken for a place": (
            CHOOSE.format(ENOUGH + "best = frame.iloc[enough.median_ms.idxmin()]\n    " + PAIR),
            "was chosen, and",
        ),
        "by the 95th percentile": (
            CHOOSE.format(ENOUGH + "best = enough.loc[enough.p95_ms.idxmin()]\n    " + PAIR),
            r"was chosen, and a faster one will do. It is the one with the smallest p95_ms; median_ms decides",
        ),
        "row.index": (
            CHOOSE.format(ENOUGH + "row = enough.sort_values('median_ms').iloc[0]\n    return row.index, row.setting"),
            r"The first of the pair is no name, but Index\(",
        ),
        "frame.index": (
            CHOOSE.format(
                ENOUGH + "good = enough.sort_values('median_ms')\n    return good.index[0], good.setting.iloc[0]"
            ),
            r"The first of the pair is no name, but .*\d",
        ),
        "takes the first of none": (
            CHOOSE.format("best = frame[frame.recall >= at_least].sort_values('median_ms').iloc[0]\n    " + PAIR),
            r"(?s)single positional indexer is out-of-bounds.*No row was good enough in this call",
        ),
        "fails when there is none": (
            CHOOSE.format(
                "enough = frame[frame.recall >= at_least]\n    best = enough.loc[enough.median_ms.idxmin()]\n    "
                + PAIR
            ),
            "choose raised ValueError",
        ),
        "the whole row": (
            CHOOSE.format(ENOUGH + "return enough.loc[enough.median_ms.idxmin()]"),
            "The result should be a tuple; it is a Series",
        ),
        "the pair the wrong way round": (
            CHOOSE.format(
                ENOUGH + "best = enough.loc[enough.median_ms.idxmin()]\n    return best['setting'], best['index']"
            ),
            "is no pair",
        ),
    },
}
