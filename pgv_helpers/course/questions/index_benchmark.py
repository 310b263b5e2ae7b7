"""Exercise capstone_index_benchmark: recall and latency without an index, with IVFFlat and with HNSW."""

import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas

from pgv_helpers.bulk import bulk_load
from pgv_helpers.course import expect
from pgv_helpers.course.question import question
from pgv_helpers.db import query
from pgv_helpers.distances import exact_neighbours, find_metric
from pgv_helpers.indexes import describe_indexes, search_settings

question = partial(question, exercise="capstone_index_benchmark")

MEASURES = ["recall", "median_ms", "p95_ms"]
COLUMNS = ["index", "setting", "build_s", *MEASURES]

RECALL_TOLERANCE = 0.02
"""The same searches through the same index find the same rows; what is left are ties."""

OTHER_LISTS_TOLERANCE = 0.2
"""IVFFlat begins with centres drawn at random: two indexes on the same rows differ in recall."""

MEMORY_FOR_THE_BUILD = 256 * 1024
"""In kB, the unit of maintenance_work_mem."""

SECONDS_TO_MILLISECONDS_HALFWAY = 30
"""A busy machine is not so many times slower within a moment; a wrong unit is, a thousand times."""


def draw_vectors(rng: np.random.Generator, dimension: int = 64, most: int = 53) -> np.ndarray:
    """Vectors of different lengths, so that distances rank them differently; their number is a square."""
    number = int(rng.integers(most - 5, most)) ** 2
    vectors = rng.normal(size=(number, dimension)) * rng.uniform(0.5, 2, size=(number, 1))
    return vectors.astype(np.float32)


def make_table(db, name: str, vectors: np.ndarray, index: str = "", ids: np.ndarray | None = None) -> None:
    """The table that the first question makes, with an index after USING: `hnsw (embedding vector_cosine_ops)`."""
    query(db, f"CREATE TABLE {name} (id integer PRIMARY KEY, embedding vector({vectors.shape[1]}))")
    bulk_load(db, name, {"id": np.arange(len(vectors)) if ids is None else ids, "embedding": vectors})
    if index:
        query(db, f"CREATE INDEX {name}_vectors ON {name} USING {index}")
    query(db, f"ANALYZE {name}")


@question(
    "benchmark.load",
    points=1,
    changes=["load"],
    objective="load vectors into a table, in a way that can be repeated",
    hints=[
        "A table that is there from the last time goes first: DROP TABLE IF EXISTS.",
        "`sql.SQL('CREATE TABLE {} …').format(sql.Identifier(table))` puts the name in, quoted, whatever it is; "
        "`query` and `cur.execute` take it as a statement.",
        "`bulk_load(conn, table, {'id': np.arange(len(vectors)), 'embedding': vectors})`, then ANALYZE, then commit.",
    ],
)
def load(learner, db, rng) -> Iterator[str]:
    name = f"Vectors{rng.integers(100)}"
    first, second = draw_vectors(rng, int(rng.integers(3, 20)), 20), draw_vectors(rng, int(rng.integers(20, 40)), 30)
    for turn, vectors in (("", first), (", loaded a second time with other vectors,", second)):
        with expect.settings_kept(learner):
            _call_load(learner, name, vectors)
            expect.committed(learner)
        _expect_the_name_as_it_is(db, name)
        types = {"id": "integer", "embedding": f"vector({vectors.shape[1]})"}
        expect.columns(db, name, types)
        expect.unique(db, name, ["id"], primary=True)
        expect.count(db, name, len(vectors), learner)
        stored = query(db, f'SELECT id, embedding FROM "{name}" ORDER BY id')
        if stored["id"].tolist() != list(range(len(vectors))):
            raise expect.Wrong(f"The ids{turn} run from {stored['id'].min()} to {stored['id'].max()}; they begin at 0.")
        found = np.stack([vector.to_numpy() for vector in stored.embedding])
        expect.close(found, vectors, f"The column embedding{turn}")
        yield "a second call replaces the rows" if turn else "the table has a row for each vector, numbered from 0"
        _expect_statistics(db, name, len(vectors))
    yield "the planner knows the table: it was analyzed"


@question(
    "benchmark.exact",
    points=2,
    objective="find the exact nearest neighbours, also where an index would answer",
    hints=[
        "A search by SQL goes through an index if there is one, and an index may miss neighbours.",
        "Read the vectors and compare all of them: `read_embeddings` and `exact_neighbours`. "
        "In SQL, `SET LOCAL enable_indexscan = off` keeps the planner from the index.",
        "`exact_neighbours` returns numbers of rows; `ids[rows]` makes ids of them.",
    ],
)
def exact(learner, db, rng) -> Iterator[str]:
    vectors, limit = draw_vectors(rng), int(rng.integers(5, 15))
    vectors, queries = vectors[:-20], vectors[-20:]
    ids = np.sort(rng.permutation(3 * len(vectors))[: len(vectors)]) + 7
    weak = "hnsw (embedding vector_cosine_ops) WITH (m = 4, ef_construction = 8)"
    make_table(db, "weak", vectors, weak, ids)
    with expect.settings_kept(learner):
        returned = learner.call("exact", learner.conn, "weak", queries, limit)
    if "hnsw" not in describe_indexes(db, "weak").method.tolist():
        raise expect.Wrong("After the call the table has lost its index: the table is to stay as it is.")
    expect.is_a(returned, np.ndarray, "The result")
    if returned.shape != (len(queries), limit):
        raise expect.Wrong(f"The result has the shape {returned.shape}; it takes a row for each query, and k columns.")
    if returned.dtype.kind not in "iu":
        raise expect.Wrong(f"The result holds {returned.dtype}; ids are whole numbers.")
    yield "the result has a row of ids for each query"
    rows, _ = exact_neighbours(vectors, queries, limit)
    if np.mean(returned == rows) > 0.5:
        raise expect.Wrong("The result holds the vectors' places in the array, not the ids that the table gives them.")
    if np.mean(returned == ids[rows[:, ::-1]]) > 0.9:
        raise expect.Wrong("The result holds the right neighbours in the wrong order: the nearest comes first.")
    for metric, name in (("l2", "Euclidean distance"), ("inner_product", "inner product")):
        if np.mean(returned == ids[exact_neighbours(vectors, queries, limit, metric)[0]]) > 0.9:
            raise expect.Wrong(f"The neighbours are those by {name}; cosine distance is asked for.")
    if np.mean([set(some) == set(right) for some, right in zip(returned, _search(db, "weak", queries, limit))]) > 0.9:
        raise expect.Wrong(
            "The result is what the HNSW index finds, which is not all that is near: exact search goes past the index."
        )
    sent = " ".join(statement.text for statement in learner.statements)
    if "ef_search" in sent and "enable_" not in sent:
        raise expect.Wrong(
            "A larger ef_search finds more, and nobody knows whether it finds all: exact search goes past the index."
        )
    distances = find_metric("cosine").distances(queries, vectors)
    for number, found in enumerate(returned.tolist()):
        of_each = dict(zip(ids.tolist(), distances[number]))
        expect.nearest(found, of_each, limit, f"Row {number + 1} of the result", tolerance=1e-5)
    yield "they are the nearest by cosine distance, although an index stands by"
    yield "no setting was left behind"


@question(
    "benchmark.build",
    points=2,
    objective="build an HNSW or IVFFlat index with memory for the build, and one at a time",
    hints=[
        "Which indexes there are tells `describe_indexes(conn, table)`; those of the method hnsw or ivfflat go.",
        "`SET LOCAL maintenance_work_mem = '256MB'` holds until the next COMMIT, and `drop_index` commits.",
        "Drop first; then SET LOCAL and, in the same transaction, CREATE INDEX … WITH (lists = …) or "
        "`create_index(conn, table, method=method, lists=…)`; a clock before and after.",
    ],
)
def build(learner, db, rng) -> Iterator[str]:
    vectors = draw_vectors(rng)
    lists = round(len(vectors) ** 0.5)
    make_table(db, "built", vectors, "ivfflat (embedding vector_l2_ops) WITH (lists = 3)")
    for method in ("hnsw", "ivfflat", "hnsw"):
        begin = time.perf_counter()
        with expect.settings_kept(learner):
            seconds = learner.call("build", learner.conn, "built", method)
            taken = time.perf_counter() - begin
        expect.committed(learner)
        name = expect.index(db, "built", method, "vector_cosine_ops")
        options = _options(db, "built", name)
        if method == "ivfflat" and options.get("lists") != str(lists):
            found = options.get("lists", "pgvector's own number of")
            raise expect.Wrong(f"For {len(vectors)} rows there are {found} lists; the square root of the rows is due.")
        if method == "hnsw" and (options.get("m", "16"), options.get("ef_construction", "64")) != ("16", "64"):
            raise expect.Wrong(f"The HNSW index has the options {options}; m is to be 16 and ef_construction 64.")
        there = describe_indexes(db, "built")
        if others := sorted(set(there["index"][there.method != "btree"]) - {name}):
            raise expect.Wrong(
                f"After building {method} there is another index for neighbours as well: {others[0]}. "
                "With two of them the planner chooses, and you do not know which one you measure."
            )
        expect.unique(db, "built", ["id"], primary=True)
        _expect_memory_for_the_build(learner, method)
        expect.is_a(seconds, (float, int, np.floating), "The result")
        if seconds > taken:
            raise expect.Wrong(f"The result is {seconds:.3g}, and the whole call took {taken:.2f} seconds.")
        if method == "hnsw" and seconds < 0.3 * taken:
            raise expect.Wrong(f"The result is {seconds:.2g}: less than the build took. Does the clock run all along?")
        yield f"the {method} index is what was asked for, and the only one"
    yield "it had memory for the build, and no setting was left behind"
    yield "the result is the seconds that it took"


@question(
    "benchmark.measure",
    points=2,
    objective="measure recall against exact search, and latency",
    hints=[
        "Send each query on its own, with a clock (`time.perf_counter()`) before and after.",
        "Recall: of the ids in a row of `truth`, the share that was found, at whatever place. "
        "`LIMIT` is the number of columns of `truth`.",
        "`len(set(found) & set(right)) / len(right)`, its mean over the queries; "
        "`1000 * np.median(times)`, `1000 * np.quantile(times, 0.95)`.",
    ],
)
def measure(learner, db, rng) -> Iterator[str]:
    # More neighbours are asked for than ef_search, 40 unless it is set, so that a search returns fewer.
    vectors, limit = draw_vectors(rng), int(rng.integers(52, 60))
    vectors, queries = vectors[:-30], vectors[-30:]
    make_table(db, "measured", vectors, "hnsw (embedding vector_cosine_ops) WITH (m = 10, ef_construction = 40)")
    truth = exact_neighbours(vectors, queries, limit)[0]
    begin = time.perf_counter()
    returned = learner.call("measure", learner.conn, "measured", queries, truth)
    taken = 1000 * (time.perf_counter() - begin)
    expect.is_a(returned, dict, "The result")
    _expect_names(returned, MEASURES, "The result")
    for name in MEASURES:
        expect.is_a(returned[name], (float, int, np.floating), f"{name} in the result")
    yield "the result has a recall and two latencies"
    searches = [sent for sent in learner.statements if sent.status.startswith("SELECT") and "<" in sent.text]
    if len(searches) < len(queries):
        raise expect.Wrong(
            f"{len(searches)} searches were sent for {len(queries)} queries; each query is sent, and timed, on its own."
        )
    expect.uses_index(db, searches[-1].text)
    _expect_limit(learner, limit, f"truth has {limit} columns")
    if not learner.in_transaction:
        raise expect.Wrong("The transaction was ended: COMMIT, ROLLBACK and `with conn:` also end what was SET LOCAL.")
    yield "each query was sent on its own, and went through the index"
    found = _search(db, "measured", queries, limit)
    _expect_recall(returned["recall"], found, truth)
    yield "the recall is what the check measures"
    _expect_latencies(pandas.DataFrame([returned]), _median_ms(db, "measured", queries, limit))
    if returned["median_ms"] == returned["p95_ms"]:
        raise expect.Wrong("median_ms and p95_ms are the same to the last digit: time each query on its own.")
    if returned["median_ms"] * len(queries) / 2 > taken:
        raise expect.Wrong("median_ms times half the queries is more than the whole call took: time each query alone.")
    yield "the latencies can be true"


@question(
    "benchmark.vary",
    points=2,
    objective="vary ef_search and probes for some searches and leave no setting behind",
    hints=[
        "`search_settings(conn, ef_search=…)` holds within its `with` block, as SET LOCAL does in a transaction.",
        "A name that is in a variable: `search_settings(conn, **{setting: value})`. "
        "COMMIT and ROLLBACK end SET LOCAL, also within `measure`.",
        "For each value: `with search_settings(conn, **{setting: value}): "
        "rows.append({'value': value, **measure(conn, table, queries, truth)})`",
    ],
)
def vary(learner, db, rng) -> Iterator[str]:
    vectors = draw_vectors(rng)
    vectors, queries = vectors[:-30], vectors[-30:]
    truth = exact_neighbours(vectors, queries, 10)[0]
    cases = {
        "ef_search": ("hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 32)", [20, 80, 10]),
        "probes": ("ivfflat (embedding vector_cosine_ops) WITH (lists = 48)", [8, 1, 3]),
    }
    for setting, (index, values) in cases.items():
        values = [*values, values[0] + int(rng.integers(1, 5))]
        make_table(db, f"vary_{setting}", vectors, index)
        usual, found = _search(db, f"vary_{setting}", queries, 10), []
        for value in values:
            with search_settings(db, **{setting: value}):
                found.append(_search(db, f"vary_{setting}", queries, 10))
        # In front comes a query to which the setting matters, should it hold for the first query only.
        telling = [
            any(len({*of_value[i]} & {*right}) != len({*usual[i]} & {*right}) for of_value in found)
            for i, right in enumerate(truth)
        ]
        order = np.argsort(np.logical_not(telling), kind="stable")
        queries, truth = queries[order], truth[order]
        usual, *found = ([of_value[i] for i in order] for of_value in (usual, *found))
        with expect.settings_kept(learner):
            returned = learner.call("vary", learner.conn, f"vary_{setting}", queries, truth, setting, values)
        _expect_frame(returned, ["value", *MEASURES], len(values))
        if returned["value"].tolist() != values:
            raise expect.Wrong(f"The column value holds {returned['value'].tolist()}, not the values in their order.")
        yield f"{setting}: a row for each value, and no setting was left behind"
        never = expect.mean_recall(usual, truth)
        once = [expect.mean_recall([of_value[0], *usual[1:]], truth) for of_value in found]
        if np.allclose(returned.recall, once, atol=1e-9) and not np.allclose(once, never, atol=1e-9):
            raise expect.Wrong(
                f"{setting} held for the first query only, and its default for the others: COMMIT and ROLLBACK end "
                "SET LOCAL, and so does `with conn:`, also within measure."
            )
        if np.allclose(returned.recall, never, atol=0.005):
            raise expect.Wrong(
                f"For each value of {setting} the recall is {never:.3f}, that of its default. Is it set when the "
                "queries run? COMMIT and ROLLBACK end SET LOCAL, and so does `with conn:`, also within measure."
            )
        for value, recall, of_value in zip(values, returned.recall, found):
            _expect_recall(recall, of_value, truth, f" for {setting} {value}")
        _expect_latencies(returned, _median_ms(db, f"vary_{setting}", queries, 10))
        yield f"{setting}: the recalls are what the check measures"


@question(
    "benchmark.benchmark",
    points=3,
    objective="compare exact search, IVFFlat and HNSW on the same vectors and held-out queries",
    hints=[
        "The neighbours that are true are found once; load, measure, build, vary, build, vary.",
        "Measure the search without an index before you build one, and each index while it is the only one.",
        "`vary(…).rename(columns={'value': 'setting'}).assign(index='ivfflat', build_s=seconds)`; "
        "then `pd.concat([…], ignore_index=True)`.",
    ],
)
def benchmark(learner, db, rng) -> Iterator[str]:
    vectors = draw_vectors(rng)
    vectors, queries = vectors[:-30], vectors[-30:]
    probes, ef_search = [1, int(rng.integers(8, 12))], [10, int(rng.integers(38, 43)), 20]
    with expect.settings_kept(learner):
        frame = learner.call("benchmark", learner.conn, "compared", vectors, queries, probes, ef_search)
    rows = [("none", 0), *(("ivfflat", value) for value in probes), *(("hnsw", value) for value in ef_search)]
    _expect_frame(frame, COLUMNS, len(rows))
    _expect_limit(learner, 10, "ten neighbours are asked for")
    if list(zip(frame["index"], frame["setting"])) != rows:
        raise expect.Wrong(
            "The columns index and setting do not hold what was asked for: 'none' with 0, then 'ivfflat' with each "
            "number of probes, then 'hnsw' with each ef_search."
        )
    yield "a row for each way to search"
    expect.count(db, "compared", len(vectors), learner)
    lists, options = round(len(vectors) ** 0.5), describe_indexes(db, "compared")
    name = expect.index(db, "compared", "hnsw", "vector_cosine_ops")
    if len(options[options.method != "btree"]) > 1:
        raise expect.Wrong("In the end the table has more than one index for neighbours: only HNSW is to be left.")
    yield f"the table holds the vectors, and one index for neighbours, {name}"
    truth = exact_neighbours(vectors, queries, 10)[0]
    by_row = dict(zip(rows, frame.recall))
    if by_row["none", 0] < 1 - RECALL_TOLERANCE:
        raise expect.Wrong(
            f"Without an index the recall is {by_row['none', 0]:.3f}. Exact search misses nothing: was there an index, "
            "or are the true neighbours not true?"
        )
    yield "exact search finds all"
    for index, values in (("ivfflat", probes), ("hnsw", ef_search)):
        if by_row[index, max(values)] <= by_row[index, min(values)]:
            raise expect.Wrong(
                f"The recall of {index} does not grow from {min(values)} to {max(values)}: was it that index that "
                "answered, and was it the only one?"
            )
    for value in ef_search:
        with search_settings(db, ef_search=value):
            _expect_recall(by_row["hnsw", value], _search(db, "compared", queries, 10), truth, f" of hnsw {value}")
    make_table(db, "again", vectors, f"ivfflat (embedding vector_cosine_ops) WITH (lists = {lists})")
    for value in probes:
        with search_settings(db, probes=value):
            found = _search(db, "again", queries, 10)
        _expect_recall(by_row["ivfflat", value], found, truth, f" of ivfflat {value}", OTHER_LISTS_TOLERANCE)
    yield "the recalls are what the check measures"
    _expect_latencies(frame, _median_ms(db, "compared", queries, 10))
    times = frame.build_s.groupby(frame["index"]).agg(["min", "max"])
    if (times.loc["none"] != 0).any() or (times.loc[["ivfflat", "hnsw"], "min"] <= 0).any():
        raise expect.Wrong("build_s is wrong: 0 without an index, and the seconds of its build with each of the two.")
    if set(times.loc["ivfflat"]) & set(times.loc["hnsw"]):
        raise expect.Wrong("build_s is the same for both indexes: each was built, and has seconds of its own.")
    yield "the times can be true"


@question(
    "benchmark.choose",
    points=1,
    objective="choose an index by the recall that is needed",
    hints=[
        "Two steps: which rows have recall enough, and which of them is the fastest.",
        "`frame[frame.recall >= at_least]` may have no rows: `.empty`.",
        "`best = enough.loc[enough.median_ms.idxmin()]`, then `best['index'], best['setting']`.",
    ],
)
def choose(learner, db, rng) -> Iterator[str]:
    number = int(rng.integers(9, 14))
    recall = rng.permutation(np.linspace(0.3, 0.97, number)).round(3)
    frame = pandas.DataFrame({
        "index": rng.permutation(["hnsw", "ivfflat"] * number)[:number],
        "setting": rng.permutation(400)[:number] + 1,
        "build_s": rng.uniform(1, 20, number),
        "recall": recall,
        "median_ms": rng.permutation(np.linspace(1, 9, number)),
    })  # fmt: skip
    # The row that is just good enough is the fastest of those, and has the longest tail. A faster one is not good
    # enough, the two best are slow, and one of these stands first.
    by_recall = np.argsort(recall)
    enough, slow = by_recall[number // 2], by_recall[-2]
    frame.loc[[by_recall[0], enough, slow, by_recall[-1]], "median_ms"] = [0.5, 0.8, 9.2, 9.5]
    frame["p95_ms"] = frame.median_ms + rng.permutation(np.linspace(0.5, 9, number))
    # By p95_ms one chooses neither of those that other mistakes choose.
    runner_up = frame.median_ms[recall > recall[enough]].idxmin()
    frame.loc[[slow, enough, runner_up, by_recall[-1]], "p95_ms"] = [19, 20, 20, 20]
    at_least = float(recall[enough])
    frame = frame.loc[[slow, *np.delete(np.arange(number), slow)]]
    frame.index = rng.permutation(number)
    for demanded in (at_least, 0.0, at_least + 1e-4, float(recall.max())):
        enough = frame[frame.recall >= demanded]
        best = enough.loc[enough.median_ms.idxmin()]
        _expect_choice(learner.call("choose", frame, demanded), frame, best, demanded)
    yield "the fastest of those with recall enough is chosen"
    try:
        returned = learner.call("choose", frame, 0.99)
    except expect.Wrong as wrong:
        raise expect.Wrong(f"{wrong}\nNo row was good enough in this call; the result is then None.") from wrong
    if returned is not None:
        raise expect.Wrong(f"No row reaches a recall of 0.99, and the result is {returned!r}; None says so.")
    yield "where none is good enough, the result is None"


# -- what several checks ask -----------------------------------------------------


def _nearest_sql(table: str) -> str:
    return f"SELECT id FROM {table} ORDER BY embedding <=> %s LIMIT %s"


def _search(db, table: str, queries: np.ndarray, limit: int) -> list[list[int]]:
    """The ids that the planner's way to search finds for each query."""
    return [query(db, _nearest_sql(table), [vector, limit])["id"].tolist() for vector in queries]


def _median_ms(db, table: str, queries: np.ndarray, limit: int) -> float:
    times = []
    with db.cursor() as cur:
        for vector in queries:
            begin = time.perf_counter()
            cur.execute(_nearest_sql(table), [vector, limit])
            cur.fetchall()
            times.append(time.perf_counter() - begin)
    return 1000 * float(np.median(times))


def _options(db, table: str, index: str) -> dict[str, str]:
    described = describe_indexes(db, table).set_index("index").options[index]
    return dict(pair.split("=") for pair in described.split(", ") if pair)


def _expect_the_name_as_it_is(db, name: str) -> None:
    there = query(db, "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace").relname
    if name not in there.tolist() and name.lower() in there.tolist():
        raise expect.Wrong(_folded(name))
    expect.table(db, name)


def _call_load(learner, name: str, vectors: np.ndarray) -> None:
    """Call it; an error that comes of how the name was put in is told as that."""
    try:
        learner.call("load", learner.conn, name, vectors)
    except expect.Wrong as wrong:
        if f"'{name}'\"" in str(wrong):
            raise expect.Wrong(
                f"A table's name cannot be bound: %s makes the text '{name}' of it. sql.Identifier makes it a name."
            ) from wrong
        if any(re.search(rf'TABLE [^"]*\b{name}\b', sent.text) for sent in learner.statements):
            raise expect.Wrong(f"{wrong}\n{_folded(name)}") from wrong
        raise


def _folded(name: str) -> str:
    return (
        f"There is a table {name.lower()} and none called {name}: PostgreSQL folds a name that is not quoted to lower "
        "case. sql.Identifier quotes it."
    )


def _expect_limit(learner, number: int, why: str) -> None:
    """Most searches, all but one to warm up for instance, asked for so many rows."""
    limits = [re.search(r"<=>.*\bLIMIT\s+'?(\d+)", sent.text, re.I | re.S) for sent in learner.statements]
    limits = [int(limit[1]) for limit in limits if limit]
    if limits and (usual := max(set(limits), key=limits.count)) != number:
        raise expect.Wrong(f"The searches asked for LIMIT {usual}; {why}.")


def _expect_statistics(db, name: str, rows: int) -> None:
    known = query(
        db,
        """SELECT reltuples AS rows,
                  (SELECT count(*) FROM pg_stats WHERE schemaname = current_schema() AND tablename = relname) AS columns
           FROM pg_class WHERE relname = %s AND relnamespace = current_schema()::regnamespace""",
        [name],
    ).iloc[0]
    if known["columns"] == 0 or known["rows"] != rows:
        raise expect.Wrong("The planner knows nothing of the rows that are now in the table: ANALYZE it.")


def _expect_memory_for_the_build(learner, method: str) -> None:
    """maintenance_work_mem was set, and to enough, when CREATE INDEX was sent, whatever the server's own value is."""
    creating = re.compile(r"CREATE\s+INDEX\b.*\bUSING\b", re.I | re.S)
    setting = re.compile(r"\bSET(_CONFIG)?\b.*\bmaintenance_work_mem\b", re.I | re.S)
    texts = [sent.text for sent in learner.statements]
    places = [place for place, text in enumerate(texts) if creating.search(text)]
    if not places:
        raise expect.Wrong("No CREATE INDEX was sent over the connection that the function was given.")
    before, create = texts[: places[-1]], learner.statements[places[-1]]
    memory = int(create.session.get("maintenance_work_mem", 0))
    if memory >= MEMORY_FOR_THE_BUILD or setting.search(creating.split(create.text)[0]):
        return
    if memory:
        raise expect.Wrong(f"When CREATE INDEX was sent, maintenance_work_mem was {memory / 1024:g} MB: too little.")
    if any(map(setting.search, before)):
        raise expect.Wrong(
            "When CREATE INDEX was sent, maintenance_work_mem was no longer set: SET LOCAL ends at a COMMIT, and "
            "drop_index commits. Set it after dropping."
        )
    if any(map(setting.search, texts)):
        raise expect.Wrong("maintenance_work_mem was set after the index was built; the build needs it.")
    raise expect.Wrong(f"The build of {method} had no memory of its own: set maintenance_work_mem for it.")


def _expect_names(value: Any, names: list[str], what: str) -> None:
    for name in names:
        if name not in value:
            raise expect.Wrong(f"{what} has no {name!r}; it has: {', '.join(map(repr, value)) or 'nothing'}.")


def _expect_frame(frame: Any, columns: list[str], rows: int) -> None:
    expect.is_a(frame, pandas.DataFrame, "The result")
    _expect_names(frame, columns, "The result")
    if others := [str(name) for name in frame if name not in columns]:
        raise expect.Wrong(f"The result also has the columns {', '.join(others)}, which were not asked for.")
    expect.has_length(frame, rows, "The result", "rows")


def _expect_recall(
    value: float, found: list[list[int]], truth: np.ndarray, where: str = "", tolerance: float = RECALL_TOLERANCE
) -> None:
    """The recall is that of what was found; a usual mistake is named."""
    if abs(value - expect.mean_recall(found, truth)) <= tolerance:
        return
    if value == 0:
        raise expect.Wrong(
            f"The recall{where} is 0: nothing matched. Is it ids that are compared? A loop over a DataFrame gives the "
            "names of its columns, and fetchall gives tuples."
        )
    hits = [len(set(some) & set(right)) for some, right in zip(found, truth.tolist())]
    returned = [len(some) for some in found]
    in_place = [np.mean([place < len(some) and some[place] == right for place, right in enumerate(row)])
                for some, row in zip(found, truth.tolist())]  # fmt: skip
    mistakes = {
        "It is the share of neighbours found at their own place; found is found, at whatever place.": np.mean(in_place),
        "It is the share of what was found that is right; recall is the share of the true neighbours that was found. "
        "A search may return fewer rows than it was asked for.": np.mean(np.divide(hits, returned)),
        "It is the number of neighbours found; recall is their share.": np.mean(hits),
        "It is in per cent; recall lies between 0 and 1.": 100 * expect.mean_recall(found, truth),
        "It is the share that was missed.": 1 - expect.mean_recall(found, truth),
    }  # fmt: skip
    likely = min(mistakes, key=lambda why: abs(value - mistakes[why]))
    reason = likely if abs(value - mistakes[likely]) <= RECALL_TOLERANCE / 2 else ""
    raise expect.Wrong(f"The recall{where} is {value:.3f}, and that is not what these searches find. {reason}".strip())


def _expect_latencies(frame: pandas.DataFrame, median: float) -> None:
    """Positive, in order and in milliseconds, by a median that was measured here."""
    if not (frame.median_ms > 0).all():
        raise expect.Wrong(f"A median_ms is {frame.median_ms.min():g}: no search takes no time.")
    if not (frame.p95_ms >= frame.median_ms).all():
        raise expect.Wrong("A p95_ms is smaller than its median_ms: 95 of 100 searches take no longer than p95_ms.")
    if frame.median_ms.max() < median / SECONDS_TO_MILLISECONDS_HALFWAY:
        raise expect.Wrong(f"The longest median_ms is {frame.median_ms.max():.2g}: are these milliseconds, or seconds?")
    if frame.median_ms.min() > median * SECONDS_TO_MILLISECONDS_HALFWAY:
        raise expect.Wrong(f"The shortest median_ms is {frame.median_ms.min():.3g}: are these milliseconds?")


def _expect_choice(returned: Any, frame: pandas.DataFrame, best: pandas.Series, demanded: float) -> None:
    if returned is None:
        raise expect.Wrong(
            "The result is None, although a row has a recall that is just as high as asked for, or more."
        )
    expect.is_a(returned, tuple, "The result")
    expect.has_length(returned, 2, "The result")
    if not isinstance(returned[0], str) and not isinstance(returned[1], str):
        raise expect.Wrong(
            f"The first of the pair is no name, but {returned[0]!r}. `.index` is pandas' own index, the rows' labels; "
            'the column is `["index"]`.'
        )
    scalars = np.isscalar(returned[0]) and np.isscalar(returned[1])
    rows = frame[(frame["index"] == returned[0]) & (frame["setting"] == returned[1])] if scalars else frame[:0]
    if rows.empty:
        raise expect.Wrong(f"The result {returned!r} is no pair (index, setting) of a row.")
    if (row := rows.iloc[0]).recall < demanded:
        raise expect.Wrong(f"A row with a recall of {row.recall:g} was chosen, and {demanded:g} was asked for.")
    if row.median_ms > best.median_ms:
        reason = ""
        if row.recall == frame.recall.max():
            reason = " It is the one with the highest recall, which was not asked for."
        elif row.p95_ms == frame.p95_ms[frame.recall >= demanded].min():
            reason = " It is the one with the smallest p95_ms; median_ms decides."
        elif row.median_ms == frame.median_ms[frame.recall > demanded].min():
            reason = " A recall that is as high as demanded suffices."
        raise expect.Wrong(
            f"A row with a median of {row.median_ms:.1f} ms was chosen, and a faster one will do.{reason}"
        )
