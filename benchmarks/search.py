"""How long a search by words, by vectors and by both takes, side by side with the SQL that people use instead.

    .venv/bin/python benchmarks/search.py

It works in a schema of its own, which it drops at the end. README.md says what is compared and how.
"""

import argparse
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from pgv_helpers.bulk import bulk_load
from pgv_helpers.datasets import embedded_text, load_passages, load_python_docs, load_questions, random_vectors
from pgv_helpers.db import connect, query
from pgv_helpers.documents import create_documents_table
from pgv_helpers.evaluation import measure_latency
from pgv_helpers.indexes import create_index
from pgv_helpers.models import embed, get_embedding
from pgv_helpers.search import FUSED_DEPTH, RRF_K, Fusion, add_full_text, full_text_search, hybrid_search, nearest

HERE = Path(__file__).parent
SENTENCES = 5
"""In a document: about sixty words."""
SPREAD = 0.5
"""How far a document's vector lies from that of its subject, as in `clustered_vectors`."""
HITS = 10

ANY_WORD = "SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery FROM unnest(to_tsvector('english', %(text)s))"
EVERY_WORD = "SELECT websearch_to_tsquery('english', %(text)s)"

BY_RANK = """
    SELECT id, title, content, ts_rank(words, asked, 1) AS score
    FROM documents, ({asked}) AS question (asked)
    WHERE words @@ asked
    ORDER BY score DESC, id
    LIMIT {hits}"""

RANK_FUSION = """
    WITH by_vector AS (
        SELECT id, rank() OVER (ORDER BY embedding <=> %(vector)s) AS place
        FROM documents
        ORDER BY embedding <=> %(vector)s
        LIMIT {depth}
    ), by_words AS (
        SELECT id, rank() OVER (ORDER BY ts_rank(words, asked, 1) DESC) AS place
        FROM documents, ({asked}) AS question (asked)
        WHERE words @@ asked
        ORDER BY ts_rank(words, asked, 1) DESC
        LIMIT {depth}
    )
    SELECT id, title, content,
           coalesce(1.0 / ({k} + by_vector.place), 0) + coalesce(1.0 / ({k} + by_words.place), 0) AS score
    FROM by_vector FULL OUTER JOIN by_words USING (id) JOIN documents USING (id)
    ORDER BY score DESC, id
    LIMIT {hits}"""

WORDS_WITH_INDEX = sql.SQL("""
    ALTER TABLE {table} ADD COLUMN words tsvector
        GENERATED ALWAYS AS (to_tsvector('english', coalesce(title, '') || ' ' || content)) STORED;
    CREATE INDEX ON {table} USING gin (words)""")

INSERT = sql.SQL("INSERT INTO {table} (title, content, embedding) VALUES (%(title)s, %(content)s, %(embedding)s)")

OR, WORDS_ALONE = "OR, ts_rank", "words and GIN alone"
SEARCHES, BULK_LOAD, SINGLE_INSERTS = "searches", "bulk_load", "single INSERTs"

YARDSTICKS = {SEARCHES: OR, BULK_LOAD: WORDS_ALONE, SINGLE_INSERTS: WORDS_ALONE}
"""Task -> the method that its times are divided by."""

Methods = Mapping[str, Callable[[Any], object]]


def make_documents(rows: int) -> dict[str, Sequence]:
    """Texts of five of the course's sentences, drawn at random, with the title of what the first is from.

    The vector lies around that of the title's document, so that questions have neighbours.
    """
    source = pandas.concat([load_python_docs(), load_passages()], ignore_index=True)
    sentences = source["content"].str.split(r"(?<=[.:])\s+|\n\n", regex=True).explode()
    sentences = sentences[sentences.str.split().str.len() > 3]
    drawn = np.random.default_rng(0).integers(len(sentences), size=(rows, SENTENCES))
    subjects = sentences.index[drawn[:, 0]]
    centres = embed(embedded_text(source))[subjects]
    noise = np.concatenate(list(random_vectors(rows, centres.shape[1])))
    return {
        "title": source["title"][subjects].tolist(),
        "content": [" ".join(some) for some in sentences.to_numpy()[drawn]],
        "embedding": centres + SPREAD * noise,
    }


def cut(documents: dict[str, Sequence], start: int, stop: int) -> dict[str, Sequence]:
    return {column: values[start:stop] for column, values in documents.items()}


def make_table(conn: Connection, table: str) -> None:
    """A new table that autovacuum leaves alone while others are measured."""
    create_documents_table(conn, table)
    keep_away = "ALTER TABLE {} SET (autovacuum_enabled = false, toast.autovacuum_enabled = false)"
    query(conn, sql.SQL(keep_away).format(sql.Identifier(table)))


# -- measuring -----------------------------------------------------------------

UNMEASURED = "unmeasured"
"""Whoever comes first fetches an input's pages for all others, so the first call is not counted."""


def measure(task: str, methods: Methods, inputs: Iterable) -> pandas.DataFrame:
    """The time of every single call: each input is given to every method in turn."""
    calls = [
        measure_latency(methods, [given], warmup=0, progress=False).assign(task=task, call=number)
        for number, given in enumerate(tqdm(inputs, task, leave=False, delay=3))
    ]
    times = pandas.concat(calls).rename(columns={"median (ms)": "milliseconds"})
    return times.loc[times["method"] != UNMEASURED, ["task", "method", "call", "milliseconds"]]


# -- searching -----------------------------------------------------------------


def run(conn: Connection, statement: str, text: str) -> pandas.DataFrame:
    """The hits of a statement; the vector comes from the cache, as it does for the helpers."""
    vector = get_embedding(text) if "%(vector)s" in statement else None
    return query(conn, statement, {"text": text, "vector": vector})


def search_methods(conn: Connection) -> Methods:
    by_any_word = partial(run, conn, BY_RANK.format(asked=ANY_WORD, hits=HITS))
    recipe = RANK_FUSION.format(asked=ANY_WORD, depth=FUSED_DEPTH, k=RRF_K, hits=HITS)
    return {
        UNMEASURED: by_any_word,
        OR: by_any_word,
        "AND (websearch), ts_rank": partial(run, conn, BY_RANK.format(asked=EVERY_WORD, hits=HITS)),
        "nearest": partial(nearest, conn, limit=HITS),
        "full_text_search": partial(full_text_search, conn, limit=HITS),
        **{
            f"hybrid_search, {method}": partial(hybrid_search, conn, limit=HITS, method=method)
            for method in get_args(Fusion)
        },
        "the usual recipe: RRF, OR, ts_rank": partial(run, conn, recipe),
    }


def measure_searches(conn: Connection, documents: dict[str, Sequence]) -> pandas.DataFrame:
    make_table(conn, "documents")
    load(conn, "documents", documents)
    add_full_text(conn)
    create_index(conn, "documents", progress=False)
    for table in ("documents", "documents_words"):
        query(conn, sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(table)))
    questions = load_questions("python_docs")["question"]
    embed(questions)  # all at once; the searches then find them in the cache
    return measure(SEARCHES, search_methods(conn), questions)


# -- writing -------------------------------------------------------------------


def add_words_alone(conn: Connection, table: str) -> None:
    query(conn, WORDS_WITH_INDEX.format(table=sql.Identifier(table)))


WRITERS = {"no words": lambda conn, table: None, WORDS_ALONE: add_words_alone, "add_full_text": add_full_text}


def load(conn: Connection, table: str, documents: dict[str, Sequence]) -> None:
    bulk_load(conn, table, documents, progress=False)


def insert(conn: Connection, table: str, document: dict) -> None:
    query(conn, INSERT.format(table=sql.Identifier(table)), document)


def measure_writes(
    conn: Connection, documents: dict[str, Sequence], rows: int, rounds: int, inserts: int
) -> pandas.DataFrame:
    """Blocks of documents by bulk_load, one after another, then single ones, each in a transaction of its own."""
    tables = {name: f"written_{number}" for number, name in enumerate(WRITERS)}
    for name, table in tables.items():
        make_table(conn, table)
        WRITERS[name](conn, table)
    blocks = [cut(documents, start, start + rows) for start in range(0, rounds * rows, rows)]
    singles = pandas.DataFrame({column: list(values[-inserts:]) for column, values in documents.items()})

    loaders, inserters = (
        {name: partial(write, conn, table) for name, table in tables.items()} for write in (load, insert)
    )
    return pandas.concat([
        measure(BULK_LOAD, loaders, blocks),
        measure(SINGLE_INSERTS, inserters, singles.to_dict("records")),
    ])  # fmt: skip


# -- reporting -----------------------------------------------------------------


def summarise(measurements: pandas.DataFrame) -> pandas.DataFrame:
    """Medians and 95th percentiles of each method's times, and of their ratios to the yardstick.

    `median ratio` and `p95 ratio` are quotients of these; `same input` and `same input p95` are median and
    95th percentile of the quotients that single calls have with the yardstick's call for the same input.
    """
    tasks = []
    for task, group in measurements.groupby("task", sort=False):
        times = group.pivot(index="call", columns="method", values="milliseconds")[group["method"].unique()]
        yardstick = times[YARDSTICKS[task]]
        ratios = times.div(yardstick, axis=0)
        tasks.append(pandas.DataFrame({
            "task": task,
            "median (ms)": times.median(),
            "p95 (ms)": times.quantile(0.95),
            "median ratio": times.median() / yardstick.median(),
            "p95 ratio": times.quantile(0.95) / yardstick.quantile(0.95),
            "same input": ratios.median(),
            "same input p95": ratios.quantile(0.95),
            "calls": times.count(),
        }))  # fmt: skip
    return pandas.concat(tasks).reset_index(names="method")


def show(summary: pandas.DataFrame) -> None:
    for task, group in summary.groupby("task", sort=False):
        table = Table(title=f"{task}; ratios to “{YARDSTICKS[task]}”", title_justify="left")
        table.add_column("")
        columns = group.columns.drop(["task", "method"])
        for heading in columns:
            table.add_column(heading, justify="right")
        for method, *values, calls in group[["method", *columns]].itertuples(index=False):
            table.add_row(method, *(f"{value:.2f}" for value in values), str(calls))
        Console().print(table)


def draw(summary: pandas.DataFrame, file: Path) -> None:
    """The searches' ratios to the OR query as bars: medians and 95th percentiles."""
    import matplotlib.pyplot as plt

    from pgv_helpers.plots import BLUE, GREY, ORANGE, STYLE

    searches = summary[summary["task"] == SEARCHES].sort_values("median ratio", ascending=False)
    heights = np.arange(len(searches))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 1 + 0.5 * len(searches)))
        for name, colour, shift in (("median ratio", BLUE, 0.2), ("p95 ratio", ORANGE, -0.2)):
            bars = axes.barh(heights + shift, searches[name], height=0.38, color=colour, label=name)
            axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=8)
        axes.axvline(1, color=GREY, linewidth=1)
        axes.set_yticks(heights, searches["method"])
        axes.set_xlabel("time of a search, as a multiple of the OR query's")
        axes.margins(x=0.1)
        axes.tick_params(axis="y", length=0)
        axes.legend(frameon=False)
        figure.savefig(file, dpi=150)


# -- the program ---------------------------------------------------------------


@contextmanager
def connect_to_new_schema() -> Iterator[Connection]:
    """A connection to a schema that is dropped at the end."""
    schema = f"search_benchmark_{secrets.token_hex(4)}"
    with closing(connect(schema)) as conn:
        conn.autocommit = True
        try:
            yield conn
        finally:
            query(conn, sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000, help="how many are searched")
    parser.add_argument("--load", type=int, default=20_000, help="how many bulk_load writes at a time")
    parser.add_argument("--rounds", type=int, default=5, help="how often it does")
    parser.add_argument("--inserts", type=int, default=1000, help="how many are written singly")
    parser.add_argument("--out", type=Path, default=HERE, help="where search.csv and search.png go")
    arguments = parser.parse_args()
    if arguments.load * arguments.rounds > arguments.documents:
        parser.error(f"There are {arguments.documents} documents, too few for {arguments.rounds} × {arguments.load}.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    documents = make_documents(arguments.documents)
    with connect_to_new_schema() as conn:
        writes = measure_writes(conn, documents, arguments.load, arguments.rounds, arguments.inserts)
        searches = measure_searches(conn, documents)
    measurements = pandas.concat([searches, writes])
    measurements.to_csv(arguments.out / "search.csv", index=False, float_format="%.3f")
    summary = summarise(measurements)
    show(summary)
    draw(summary, arguments.out / "search.png")
    print(f"Every measurement: {arguments.out / 'search.csv'}; the figure: {arguments.out / 'search.png'}")


if __name__ == "__main__":
    main()
