"""How fast vectors get into PostgreSQL and out again, side by side with what people use instead.

    .venv/bin/python benchmarks/loading.py --peers --memory

It works in a schema of its own, which it drops at the end. README.md says what is compared and how.
"""

import argparse
import asyncio
import gc
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import asyncpg
import numpy as np
import pandas
import pgvector.asyncpg
import pgvector.psycopg
import psycopg
from pgvector import Vector
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from pgv_helpers import settings
from pgv_helpers.bulk import bulk_load, read_embeddings
from pgv_helpers.datasets import load_passages, random_vectors
from pgv_helpers.db import connect, database_url, query, transaction

HERE = Path(__file__).parent
PEERS = ("langchain-postgres", "llama-index", "vecs")

COPY_IN = "COPY passages (id, content, category, embedding) FROM STDIN (FORMAT binary)"
INSERT = "INSERT INTO passages (id, content, category, embedding) VALUES"
SELECT = "SELECT id, embedding FROM passages ORDER BY id"

SLOW_ROUNDS = 2
"""Who takes many times as long as COPY runs in the first rounds only, and on the logged table only."""

OURS, PREPARED, DISCARDED = "bulk_load", "floor: prepared bytes", "floor: bytes discarded"

YARDSTICKS = {"load": ("load", PREPARED), "upsert": ("load", OURS), "read": ("read", DISCARDED)}
"""Task -> the task and the contender that its times are divided by."""


class Data:
    """Rows to load: passages of the course, cut to 200 characters, with random vectors.

    Every contender gets them in the shape it works with, made before the clock starts.
    """

    def __init__(self, rows: int, dimension: int):
        passages = load_passages()
        passages = passages.iloc[np.arange(rows) % len(passages)]
        self.ids = list(range(rows))
        self.contents = passages["content"].str[:200].tolist()
        self.categories = passages["category"].tolist()
        self.embeddings = np.concatenate(list(random_vectors(rows, dimension)))
        self.lists = self.embeddings.tolist()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimension(self) -> int:
        return self.embeddings.shape[1]

    def columns(self) -> dict[str, Sequence]:
        return {"id": self.ids, "content": self.contents, "category": self.categories, "embedding": self.embeddings}

    def rows(self, embeddings: Iterable | None = None) -> Iterator[tuple]:
        """Tuples in the order of the columns, with arrays unless other embeddings are given."""
        return zip(self.ids, self.contents, self.categories, self.embeddings if embeddings is None else embeddings)


class Database:
    """A connection by each driver, in one schema."""

    def __init__(self, schema: str, stack: ExitStack):
        self.psycopg2 = connect(schema)
        stack.callback(self.psycopg2.close)
        path = query(self.psycopg2, "SELECT current_setting('search_path')").iat[0, 0]
        home = query(self.psycopg2, "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'vector'")
        self.psycopg2.commit()
        self.psycopg = stack.enter_context(psycopg.connect(database_url("psycopg"), autocommit=True))
        self.psycopg.execute("SELECT set_config('search_path', %s, false)", [path])
        pgvector.psycopg.register_vector(self.psycopg)
        self.runner = stack.enter_context(asyncio.Runner())
        self.asyncpg = self.runner.run(asyncpg.connect(database_url("asyncpg"), server_settings={"search_path": path}))
        stack.callback(self.asyncpg.terminate)
        self.runner.run(pgvector.asyncpg.register_vector(self.asyncpg, schema=home.iat[0, 0]))

    def make_table(self, dimension: int, kind: str) -> None:
        """A new table, `"logged"` or `"unlogged"`, that autovacuum leaves alone while others are measured."""
        create = """
            DROP TABLE IF EXISTS passages;
            CREATE {kind} TABLE passages (
                id bigint PRIMARY KEY, content text NOT NULL, category text, embedding vector({dimension})
            ) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)"""
        unlogged = sql.SQL("UNLOGGED" if kind == "unlogged" else "")
        with transaction(self.psycopg2) as cur:
            cur.execute(sql.SQL(create).format(kind=unlogged, dimension=sql.Literal(dimension)))

    def settle(self) -> None:
        """Let the server write what it still has to, so that the next measurement does not pay for it."""
        try:
            self.psycopg.execute("CHECKPOINT")
        except psycopg.errors.InsufficientPrivilege:
            pass


# -- loading -------------------------------------------------------------------


class Chunks:
    """A file whose every read gives the next of some chunks."""

    def __init__(self, chunks: Iterable[bytes]):
        self.chunks = iter(chunks)

    def read(self, size: int) -> bytes:
        return next(self.chunks, b"")


def record_bulk_load(db: Database, data: Data) -> tuple[sql.Composed, list[bytes]]:
    """What bulk_load gives to the driver: the statement, and the bytes in its chunks."""
    recorded = []

    class RecordingCursor(Cursor):
        def copy_expert(self, statement: sql.Composed, file: Any) -> None:
            recorded.append((statement, list(iter(lambda: file.read(8192), b""))))

    db.make_table(data.dimension, "logged")
    db.psycopg2.cursor_factory = RecordingCursor
    load_by_bulk_load(db, data)
    db.psycopg2.cursor_factory = None
    return recorded[0]


def load_prepared_bytes(db: Database, statement: sql.Composed, chunks: list[bytes]) -> None:
    with transaction(db.psycopg2) as cur:
        cur.copy_expert(statement, Chunks(chunks))


def load_by_bulk_load(db: Database, data: Data, upsert: bool = False) -> None:
    bulk_load(db.psycopg2, "passages", data.columns(), upsert=upsert, progress=False)


def load_by_write_row(db: Database, data: Data) -> None:
    """As pgvector-python documents it in examples/loading."""
    with db.psycopg.transaction(), db.psycopg.cursor().copy(COPY_IN) as copy:
        copy.set_types(["int8", "text", "text", "vector"])
        for id, content, category, embedding in data.rows():
            copy.write_row([id, content, category, Vector(embedding)])


def load_by_asyncpg(db: Database, data: Data) -> None:
    columns = ["id", "content", "category", "embedding"]
    db.runner.run(db.asyncpg.copy_records_to_table("passages", records=data.rows(), columns=columns))


def load_by_executemany(db: Database, data: Data) -> None:
    with db.psycopg.transaction(), db.psycopg.cursor() as cur:
        cur.executemany(f"{INSERT} (%s, %s, %s, %s)", data.rows())


def load_by_execute_values(db: Database, data: Data, page_size: int, lists: bool) -> None:
    with transaction(db.psycopg2) as cur:
        rows = data.rows(data.lists if lists else None)
        execute_values(cur, f"{INSERT} %s", rows, page_size=page_size)


def load_by_single_inserts(db: Database, data: Data) -> None:
    with transaction(db.psycopg2) as cur:
        for row in data.rows(data.lists):
            cur.execute(f"{INSERT} (%s, %s, %s, %s)", row)


# -- reading -------------------------------------------------------------------


class Nowhere:
    """A file that forgets what is written to it."""

    def write(self, data: bytes) -> None:
        pass


def read_and_discard(db: Database) -> None:
    with transaction(db.psycopg2) as cur:
        cur.copy_expert(f"COPY ({SELECT}) TO STDOUT (FORMAT binary)", Nowhere())


def read_by_read_embeddings(db: Database) -> np.ndarray:
    ids, embeddings = read_embeddings(db.psycopg2, "passages")
    db.psycopg2.commit()
    return embeddings


def read_by_psycopg(db: Database) -> np.ndarray:
    with db.psycopg.cursor(binary=True) as cur:
        return np.stack([embedding.to_numpy() for _, embedding in cur.execute(SELECT).fetchall()])


def read_by_psycopg2(db: Database) -> np.ndarray:
    with transaction(db.psycopg2) as cur:
        cur.execute(SELECT)
        return np.stack([embedding.to_numpy() for _, embedding in cur.fetchall()])


# -- the frameworks, in an environment of their own -----------------------------


def peers_python() -> Path:
    """The Python of an environment with the packages of peers.txt, made on first use."""
    folder = settings.home() / "benchmark-peers"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    installed = folder / "peers.txt"
    wanted = (HERE / "peers.txt").read_text()
    if not installed.exists() or installed.read_text() != wanted:
        print(f"Installing {', '.join(PEERS)} into an environment of their own: {folder}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "peers.txt"], check=True)
        installed.write_text(wanted)
    return python


class Peers:
    """The worker process peers.py, which loads as the frameworks do; see there for its commands."""

    def __init__(self, schema: str):
        command = [peers_python(), HERE / "peers.py"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        drivers = ("psycopg", "sqlalchemy+psycopg", "sqlalchemy+psycopg2", "sqlalchemy+asyncpg")
        self.ask(urls={driver: database_url(driver) for driver in drivers}, schema=schema)

    def ask(self, **command: Any) -> dict[str, Any]:
        print(json.dumps(command), file=self.process.stdin, flush=True)
        if not (answer := self.process.stdout.readline()):
            raise SystemExit("peers.py has ended; its last words are above.")
        return json.loads(answer)

    def give(self, data: Data) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "vectors.npy")
            np.save(file, data.embeddings)
            self.ask(vectors=str(file), contents=data.contents, categories=data.categories)

    def load(self, peer: str) -> "Timing":
        return Timing(**self.ask(load=peer))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


# -- measuring -----------------------------------------------------------------


class Timing(NamedTuple):
    """Seconds by the clock, seconds of the client's CPU, and what came of it: vectors, or a number of rows."""

    seconds: float
    cpu: float
    rows: np.ndarray | int | None = None


def timed(work: Callable[[], np.ndarray | None]) -> Timing:
    started, cpu = time.perf_counter(), time.process_time()
    rows = work()
    return Timing(time.perf_counter() - started, time.process_time() - cpu, rows)


@dataclass(frozen=True)
class Contender:
    task: str
    name: str
    run: Callable[[], Timing]
    slow: bool = False


def contenders(db: Database, data: Data, peers: Peers | None) -> list[Contender]:
    def ours(task: str, name: str, work: Callable, *arguments: Any, slow: bool = False) -> Contender:
        return Contender(task, name, partial(timed, partial(work, db, *arguments)), slow)

    load = partial(ours, "load")
    return [
        load(PREPARED, load_prepared_bytes, *record_bulk_load(db, data)),
        load(OURS, load_by_bulk_load, data),
        load("psycopg 3 COPY, write_row", load_by_write_row, data),
        load("asyncpg copy_records_to_table", load_by_asyncpg, data),
        load("psycopg 3 executemany", load_by_executemany, data, slow=True),
        load("execute_values, arrays, pages of 1000", load_by_execute_values, data, 1000, False, slow=True),
        load("execute_values, lists, pages of 1000", load_by_execute_values, data, 1000, True, slow=True),
        load("execute_values, lists, pages of 50", load_by_execute_values, data, 50, True, slow=True),
        load("single INSERTs, lists", load_by_single_inserts, data, slow=True),
        *(Contender("load", peer, partial(peers.load, peer), slow=True) for peer in PEERS if peers),
        ours("upsert", "bulk_load(upsert=True)", load_by_bulk_load, data, True),
        ours("read", DISCARDED, read_and_discard),
        ours("read", "read_embeddings", read_by_read_embeddings),
        ours("read", "psycopg 3, binary cursor", read_by_psycopg),
        ours("read", "psycopg2, fetchall", read_by_psycopg2, slow=True),
    ]


def measure(db: Database, data: Data, kind: str, contender: Contender) -> Timing:
    """One contender, once, on a new table; what it stored or read must be what was given."""
    db.make_table(data.dimension, kind)
    if contender.task != "load":
        load_by_bulk_load(db, data)
        db.psycopg.execute("VACUUM ANALYZE passages")
    db.settle()
    timing = contender.run()
    found = timing.rows
    if found is None and contender.task != "read":
        found = read_by_read_embeddings(db)
    if found is not None:
        expected = data.embeddings if isinstance(found, np.ndarray) else len(data)
        assert np.array_equal(found, expected), f"{contender.name} stored or read something else"
    return timing


def measure_size(db: Database, data: Data, rounds: int, peers: Peers | None, random: Random) -> pandas.DataFrame:
    """Every contender in every round that is its own, each round in an order of its own."""
    everyone = contenders(db, data, peers)
    turns = []
    for round in range(rounds):
        turn = [
            (round, kind, contender)
            for kind, contender in product(("logged", "unlogged"), everyone)
            if kind == "logged" or not (contender.slow or contender.task == "read")
            if round < SLOW_ROUNDS or not contender.slow
        ]
        turns += random.sample(turn, len(turn))
    measurements = []
    with tqdm(turns, desc=f"{len(data)} × {data.dimension}", unit=" measurements", leave=False) as bar:
        for round, kind, contender in bar:
            bar.set_postfix_str(f"{contender.name}, {kind}")
            timing = measure(db, data, kind, contender)
            measurements.append({
                "rows": len(data), "dimension": data.dimension, "table": kind, "task": contender.task,
                "contender": contender.name, "round": round, "seconds": timing.seconds, "cpu": timing.cpu,
            })  # fmt: skip
    return pandas.DataFrame(measurements)


MILLION, MILLION_DIMENSION = 1_000_000, 384


def load_a_million(schema: str) -> tuple[float, float, float]:
    """Load a million vectors from an iterator, in a process of its own.

    Returns:
        Seconds, and the megabytes of memory that the process held at most, before the loading and in all.
    """
    import resource  # not on Windows

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6

    def blocks() -> Iterator[dict[str, Sequence]]:
        start = 0
        for embeddings in random_vectors(MILLION, MILLION_DIMENSION):
            ids = np.arange(start, start := start + len(embeddings))
            contents = [f"The passage with the number {id}" for id in ids]
            yield {"id": ids, "content": contents, "category": ["random"] * len(ids), "embedding": embeddings}

    with connect(schema) as conn:
        before = peak()
        started = time.perf_counter()
        assert bulk_load(conn, "passages", blocks(), total=MILLION) == MILLION
        return time.perf_counter() - started, before, peak()


def measure_memory(schema: str) -> str:
    """What a million vectors take, in a sentence."""
    with ExitStack() as connections:
        Database(schema, connections).make_table(MILLION_DIMENSION, "unlogged")
    # Started before this process has grown: Linux counts what the parent held at the child's start.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        seconds, before, peak = pool.submit(load_a_million, schema).result()
    return (
        f"bulk_load of {MILLION:,} × {MILLION_DIMENSION} from an iterator into an unlogged table: {seconds:.0f} s, "
        f"at most {peak:.0f} MB of memory ({before:.0f} MB before it began)"
    )


# -- reporting -----------------------------------------------------------------


def summarise(measurements: pandas.DataFrame) -> pandas.DataFrame:
    """The medians of each contender, and their ratio to the yardstick of its task."""
    groups = measurements.groupby(["dimension", "rows", "table", "task", "contender"])
    summary = groups[["seconds", "cpu"]].median().assign(rounds=groups.size())
    summary["ratio"] = [
        seconds / summary["seconds"][(*where, *YARDSTICKS[task])]
        for (*where, task, _), seconds in summary["seconds"].items()
    ]
    return summary.reset_index()


def show(summary: pandas.DataFrame) -> None:
    """A table for each size, kind of table and task."""
    console = Console()
    for (dimension, rows, kind, task), group in summary.groupby(["dimension", "rows", "table", "task"]):
        title = f"{task} {rows:,} × {dimension}, {kind} table; ratios to “{YARDSTICKS[task][1]}”"
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for heading in ("seconds", "ratio", "client CPU, s", "rounds"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in group.sort_values("seconds").itertuples():
            table.add_row(row.contender, f"{row.seconds:.3f}", f"{row.ratio:.2f}", f"{row.cpu:.3f}", str(row.rounds))
        console.print(table)


def draw(summary: pandas.DataFrame, file: Path) -> None:
    """The loaders' ratios to the floor as bars, a panel for each size."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter

    from pgv_helpers.plots import BLUE, GREY, ORANGE, STYLE

    loads = summary[(summary["task"] == "load") & (summary["contender"] != PREPARED)]
    sizes = loads.groupby(["dimension", "rows"])
    names = loads[loads["table"] == "logged"].groupby("contender")["ratio"].median().sort_values().index
    on_both = set(loads.loc[loads["table"] == "unlogged", "contender"])
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(sizes), figsize=(3.2 + 4 * len(sizes), 1.4 + 0.42 * len(names)), sharey=True, squeeze=False
        )
        for panel, ((dimension, rows), group) in zip(panels[0], sizes):
            for kind, colour, shift in (("logged", BLUE, -0.2), ("unlogged", ORANGE, 0.2)):
                values = group[group["table"] == kind].set_index("contender")["ratio"].reindex(names).dropna()
                heights = [names.get_loc(name) + shift * (name in on_both) for name in values.index]
                bars = panel.barh(heights, values - 1, left=1, height=0.38, color=colour, label=f"{kind} table")
                labels = [f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in values]
                panel.bar_label(bars, labels, padding=4, fontsize=8)
            panel.axvline(1, color=GREY, linewidth=1)
            panel.set(xscale="log", xlim=(0.8, 2 * group["ratio"].max()), title=f"{rows:,} vectors × {dimension}")
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.set_xlabel("time, as a multiple of the floor (prepared bytes)")
            panel.tick_params(axis="y", length=0)
            panel.spines["left"].set_visible(False)
        panels[0, 0].set_yticks(range(len(names)), names)
        panels[0, 0].invert_yaxis()
        panels[0, -1].legend(loc="upper right", frameon=False)
        figure.savefig(file, dpi=150)


# -- the program ---------------------------------------------------------------


@contextmanager
def own_schema() -> Iterator[str]:
    """The name of a schema to be; it is dropped at the end, with what vecs keeps in a schema called vecs."""
    schema = f"loading_benchmark_{secrets.token_hex(4)}"
    conn = connect()
    conn.autocommit = True
    had_vecs = query(conn, "SELECT to_regnamespace('vecs') IS NOT NULL").iat[0, 0]
    try:
        yield schema
    finally:
        with conn.cursor() as cur:
            cur.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
            if query(conn, "SELECT to_regnamespace('vecs') IS NOT NULL").iat[0, 0]:
                cur.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("vecs", schema)))
                if not had_vecs:
                    cur.execute("DROP SCHEMA vecs")
        conn.close()


def size(text: str) -> tuple[int, int]:
    rows, dimension = text.split("x")
    return int(rows), int(dimension)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--sizes", type=size, nargs="+", default=[(20_000, 384), (10_000, 1536)], help="rows x dimension"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--peers", action="store_true", help=f"measure {', '.join(PEERS)} too")
    parser.add_argument("--memory", action="store_true", help="load a million vectors too: 2 GB on the disk")
    parser.add_argument("--out", type=Path, default=HERE, help="where loading.csv and loading.png go")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    measurements, random = [], Random(0)
    with ExitStack() as stack:
        schema = stack.enter_context(own_schema())
        if arguments.memory:
            print(measure_memory(schema))
        peers = None
        if arguments.peers:
            peers = Peers(schema)
            stack.callback(peers.stop)
        for rows, dimension in arguments.sizes:
            data = Data(rows, dimension)
            if peers:
                peers.give(data)
            gc.freeze()  # else the garbage collector walks through the data again and again
            with ExitStack() as connections:
                db = Database(schema, connections)
                measurements.append(measure_size(db, data, arguments.rounds, peers, random))
            gc.unfreeze()
    everything = pandas.concat(measurements)
    everything.to_csv(arguments.out / "loading.csv", index=False, float_format="%.6f")
    summary = summarise(everything)
    show(summary)
    draw(summary, arguments.out / "loading.png")
    print(f"Every measurement: {arguments.out / 'loading.csv'}; the figure: {arguments.out / 'loading.png'}")


if __name__ == "__main__":
    main()
