"""Indexes for nearest neighbours: build them, describe them, tune them for one query, read a plan."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Thread
from typing import Any, Literal

import pandas
import psycopg2
from psycopg2 import sql
from psycopg2.errors import DuplicateTable, LockNotAvailable, ProgramLimitExceeded
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS
from psycopg2.extensions import connection as Connection
from tqdm import tqdm

from pgv_helpers.db import connect, query, transaction
from pgv_helpers.distances import MetricName, find_metric
from pgv_helpers.errors import CourseError, IndexProblem
from pgv_helpers.tables import require_ready, table_columns

Method = Literal["hnsw", "ivfflat"]
Cast = Literal["halfvec", "bit"]

OPTIONS = {
    "hnsw": {"m": range(2, 101), "ef_construction": range(4, 1001)},
    "ivfflat": {"lists": range(1, 32769)},
}
"""What each method can be built with, and the values, from pgvector's documentation."""

SETTINGS = {
    "ef_search": ("hnsw.ef_search", range(1, 1001)),
    "max_scan_tuples": ("hnsw.max_scan_tuples", range(1, 2**31)),
    "probes": ("ivfflat.probes", range(1, 32769)),
    "max_probes": ("ivfflat.max_probes", range(1, 32769)),
}
"""What a search can be tuned with: the setting's name and its values, from pgvector's documentation."""

ITERATIVE_SCANS = {
    "hnsw.iterative_scan": ("off", "relaxed_order", "strict_order"),
    "ivfflat.iterative_scan": ("off", "relaxed_order"),
}

MOST_DIMENSIONS = {"vector": 2000, "halfvec": 4000, "bit": 64_000, "sparsevec": 10**9}
"""How long a vector an index takes; of a sparse one it takes 1,000 numbers that are not 0."""

LONGEST_NAME = 63
"""PostgreSQL cuts a name off behind so many bytes."""

SECONDS_WITHOUT_BAR, SECONDS_BETWEEN_LOOKS = 3, 0.2


def create_index(
    conn: Connection,
    table: str,
    *,
    method: Method = "hnsw",
    metric: MetricName = "cosine",
    column: str = "embedding",
    cast: Cast | None = None,
    m: int | None = None,
    ef_construction: int | None = None,
    lists: int | None = None,
    name: str | None = None,
    concurrently: bool = False,
    progress: bool = True,
    show_sql: bool = False,
) -> str:
    """Build an index for nearest neighbours, commit it, and return its name.

    What PostgreSQL remarks on the way is printed, such as that the index outgrew
    `maintenance_work_mem`. Ctrl-C stops the build and leaves nothing behind.

    Args:
        method: `"hnsw"` or `"ivfflat"`.
        metric: the distance that it serves, by name or operator (`"cosine"`, `"<=>"`); a search
            with another operator does not use it.
        cast: index `column::halfvec` (half the size, up to 4000 dimensions) or the bits of
            `binary_quantize(column)` in place of the column; a search must write the same expression.
        m, ef_construction: HNSW's edges of a node, and candidates while building (pgvector: 16 and 64).
        lists: IVFFlat's lists; by default as many as pgvector advises: rows / 1000, above a million
            rows the square root of their number.
        name: of the index; by default made of table, column, metric and method.
        concurrently: let others write meanwhile. It takes longer, and no rollback takes it back.
        progress: a bar, from what PostgreSQL says of its progress, when it takes longer than three seconds.

    Raises:
        IndexProblem: before anything is built: an option that the method does not have, a value
            out of range, a distance that does not suit the type, too many dimensions, IVFFlat on
            fewer rows than lists; and what the server refuses, such as a name that is taken.
        DocumentError: there is no such table.
        CourseError: there is no such distance.
    """
    target = _target(conn, table, column, metric, method, cast)
    if method == "ivfflat":
        lists = _lists(conn, table, column, lists)
    options = _options(method, {"m": m, "ef_construction": ef_construction, "lists": lists})
    name = _cut(name) if name else _default_name(table, column, cast, find_metric(metric).name, method)
    taken = f"The name {name!r} is taken, by an index or a table. Pass another name=, or drop that index first."
    if _own_index(conn, table, name):
        raise IndexProblem(taken)
    statement = sql.SQL("CREATE INDEX {concurrently}{name} ON {table} USING {method} ({target}){options}").format(
        concurrently=sql.SQL("CONCURRENTLY " if concurrently else ""),
        name=sql.Identifier(name),
        table=sql.Identifier(table),
        method=sql.SQL(method),
        target=target,
        options=options,
    )
    if show_sql:
        print(statement.as_string(conn))
    try:
        with _autocommitted(conn) if concurrently else transaction(conn):
            _build(conn, statement, progress)
    except DuplicateTable:
        raise IndexProblem(taken) from None
    except BaseException as error:
        if concurrently and not conn.closed:
            _clear_away(conn, table, name)
        if isinstance(error, psycopg2.Error):
            raise IndexProblem(_refusal(error, table)) from None
        raise
    return name


def drop_index(conn: Connection, name: str, *, show_sql: bool = False) -> None:
    """Drop an index if it is there, and commit.

    Raises:
        IndexProblem: what the server refuses, such as a name that is a table's.
    """
    require_ready(conn)
    statement = sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(name))
    if show_sql:
        print(statement.as_string(conn))
    try:
        with transaction(conn) as cur:
            cur.execute(statement)
    except psycopg2.Error as error:
        raise IndexProblem(_refusal(error, name)) from None


def describe_indexes(conn: Connection, table: str, *, show_sql: bool = False) -> pandas.DataFrame:
    """The indexes of a table.

    Returns:
        A row for each: `index` (its name), `method`, `on` (column or expression, and WHERE),
        `operator_class`, `serves` (the operator that it finds neighbours by), `options`,
        `size (MB)`, `valid` (False after a concurrent build that failed).

    Raises:
        DocumentError: there is no such table.
    """
    table_columns(conn, table)
    find = """
        SELECT pg_class.relname AS index, amname AS method,
               (SELECT string_agg(pg_get_indexdef(indexrelid, place, true), ', ' ORDER BY place)
                FROM generate_series(1, indnkeyatts) AS place)
               || coalesce(' WHERE ' || pg_get_expr(indpred, indrelid, true), '') AS on,
               opcname AS operator_class,
               coalesce((SELECT string_agg(oprname, ', ') FROM pg_amop JOIN pg_operator ON pg_operator.oid = amopopr
                         WHERE amopfamily = opcfamily AND amoppurpose = 'o'), '') AS serves,
               coalesce(array_to_string(reloptions, ', '), '') AS options,
               pg_relation_size(indexrelid) / 1e6::float8 AS "size (MB)", indisvalid AS valid
        FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid
        JOIN pg_am ON pg_am.oid = relam
        JOIN pg_opclass ON pg_opclass.oid = indclass[0]
        WHERE indrelid = to_regclass(quote_ident(%s))
        ORDER BY pg_class.relname"""
    if show_sql:
        with conn.cursor() as cur:
            print(cur.mogrify(find, [table]).decode())
    return query(conn, find, [table])


# -- tuning a search -------------------------------------------------------------


@contextmanager
def search_settings(
    conn: Connection,
    *,
    ef_search: int | None = None,
    probes: int | None = None,
    iterative_scan: Literal["off", "relaxed_order", "strict_order"] | None = None,
    max_scan_tuples: int | None = None,
    max_probes: int | None = None,
    show_sql: bool = False,
) -> Iterator[None]:
    """Tune the searches within a `with` block, by SET LOCAL, and leave nothing behind.

    SET LOCAL holds to the end of the transaction, so the block belongs to one: COMMIT or
    ROLLBACK within it is an error. Outside of any transaction the block is one of its own,
    as with `with conn:`, committed at its end and rolled back after an error.

    Args:
        ef_search: HNSW's candidates: more find more and take longer; also the most rows that it returns.
        probes: IVFFlat's lists to look into.
        iterative_scan: go on scanning while a filter leaves too few rows. IVFFlat has no strict_order.
        max_scan_tuples, max_probes: where an iterative scan ends: of HNSW, of IVFFlat.

    Raises:
        IndexProblem: a value out of range, or settings that did not last to the end of the block.
    """
    given = {"ef_search": ef_search, "probes": probes, "max_scan_tuples": max_scan_tuples, "max_probes": max_probes}
    wanted = {}
    for name, value in given.items():
        if value is not None:
            setting, values = SETTINGS[name]
            wanted[setting] = _checked(name, value, values)
    if iterative_scan is not None:
        modes = ITERATIVE_SCANS["hnsw.iterative_scan"]
        if iterative_scan not in modes:
            raise IndexProblem(f"iterative_scan is {iterative_scan!r}; it takes one of: {', '.join(modes)}.")
        wanted |= {name: iterative_scan for name, known in ITERATIVE_SCANS.items() if iterative_scan in known}
    if show_sql:
        for name, value in wanted.items():
            print(f"SET LOCAL {name} = {value};")
    require_ready(conn)
    alone = conn.info.transaction_status == TRANSACTION_STATUS_IDLE
    with transaction(conn) if alone else nullcontext():
        query(conn, "SELECT '[0]'::vector")  # loads pgvector, which knows the names and their ranges
        before = {name: _setting(conn, name) for name in wanted}
        _set_local(conn, wanted)
        try:
            yield
            if any(_setting(conn, name) != str(value) for name, value in wanted.items()):
                raise IndexProblem(
                    "A COMMIT, a ROLLBACK or another SET within the block replaced its settings, and what was searched "
                    "after it ran without them. Leave the `with` block first."
                )
        finally:
            if conn.info.transaction_status == TRANSACTION_STATUS_INTRANS:  # otherwise they ended with it
                _set_local(conn, before)


def _checked(name: str, value: int, values: range) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) not in values:
        raise IndexProblem(f"{name} is {value!r}; it takes a whole number from {values[0]} to {values[-1]}.")
    return int(value)


def _setting(conn: Connection, name: str) -> str:
    return query(conn, "SELECT current_setting(%s)", [name]).iloc[0, 0]


def _set_local(conn: Connection, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        query(conn, "SELECT set_config(%s, %s, true)", [name, str(value)])


# -- reading a plan --------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Plan:
    """What PostgreSQL did for a statement. A notebook draws it, `print` writes it as text.

    Attributes:
        tree: the plan as EXPLAIN (FORMAT JSON) gives it.
        milliseconds: that the execution took; None if it was only planned.
    """

    tree: dict
    milliseconds: float | None = None

    @property
    def nodes(self) -> list[tuple[int, dict]]:
        """Each node with its depth, from the top of the plan down."""

        def walk(node: dict, depth: int) -> Iterator[tuple[int, dict]]:
            yield depth, node
            for child in node.get("Plans", []):
                yield from walk(child, depth + 1)

        return list(walk(self.tree, 0))

    @property
    def steps(self) -> str:
        """The nodes in one line, such as `"Limit over Sort over Seq Scan"`."""
        return " over ".join(node["Node Type"] for _, node in self.nodes)

    @property
    def index(self) -> str | None:
        """The index that finds the nearest neighbours, or else the first that is read; None: no index is."""
        read = [node for _, node in self.nodes if "Index Name" in node and node.get("Actual Loops", 1)]
        return next((node["Index Name"] for node in sorted(read, key=lambda node: "Order By" not in node)), None)

    @property
    def rows(self) -> int | None:
        """Rows that came out; None if the statement was only planned."""
        return None if self.milliseconds is None else int(self.tree["Actual Rows"])

    @property
    def rows_read(self) -> int | None:
        """Rows that were read from tables, those included that a filter then removed.

        In a loop or in parallel PostgreSQL counts the mean of each run, so that their sum may be a little off.
        """
        if self.milliseconds is None:
            return None
        scans = [node for _, node in self.nodes if "Scan" in node["Node Type"] and "Relation Name" in node]
        kinds = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        return round(sum(node["Actual Loops"] * sum(node.get(kind, 0) for kind in kinds) for node in scans))

    @property
    def buffers(self) -> int | None:
        """Pages of 8 kB that were looked at, in memory or on disk; None if the statement was only planned."""
        if self.milliseconds is None:
            return None
        return sum(self.tree[f"{kind} {how} Blocks"] for kind in ("Shared", "Local") for how in ("Hit", "Read"))

    def __repr__(self) -> str:
        lines = [f"{'   ' * depth}{node_label(node)}" for depth, node in self.nodes]
        if self.milliseconds is not None:
            lines.append(f"{self.rows_read:,} rows read, {self.buffers:,} pages, {self.milliseconds:.2f} ms")
        return "\n".join(lines)

    def _repr_png_(self) -> bytes:
        from pgv_helpers.plots import plot_plan, png  # matplotlib takes a moment, and only a notebook draws

        return png(plot_plan(self))


def node_label(node: dict) -> str:
    """A node of a plan in a few words: "Index Scan on passages using passages_hnsw"."""
    words = [node["Node Type"]]
    if relation := node.get("Relation Name") or node.get("CTE Name"):
        words.append(f"on {relation}")
    if index := node.get("Index Name"):
        words.append(f"using {index}")
    return " ".join(words)


def explain(
    conn: Connection,
    statement: str | sql.Composable,
    parameters: Sequence | Mapping | None = None,
    *,
    analyze: bool = True,
) -> Plan:
    """What PostgreSQL does for a statement: EXPLAIN (ANALYZE, BUFFERS), read and drawn.

    The statement is run, and what it changed is undone; with `analyze=False` it is only
    planned. The settings of the current transaction (see `search_settings`) are in force.

    Raises:
        IndexProblem: a statement that PostgreSQL cannot plan or run, with its message.
    """
    with undone(conn), conn.cursor() as cur:
        try:
            text = cur.mogrify(statement, parameters)
        except (IndexError, KeyError, TypeError, ValueError):
            raise IndexProblem(
                "The parameters do not fit the statement. Each %s takes one of a list, each %(name)s one of a "
                "dictionary, and a percent sign that stands for itself is written %%."
            ) from None
        except psycopg2.Error as error:
            raise IndexProblem(f"These parameters cannot be sent: {str(error).strip()}") from None
        try:
            cur.execute(f"EXPLAIN ({'ANALYZE, BUFFERS, ' if analyze else ''}FORMAT JSON) ".encode() + text)
            found = cur.fetchone()[0]
        except psycopg2.Error as error:
            raise IndexProblem(f"PostgreSQL cannot run this: {str(error).strip()}") from None
    if not isinstance(found, list) or "Plan" not in found[0]:
        raise IndexProblem("PostgreSQL has no plan for this. Give explain one SELECT, INSERT, UPDATE or DELETE.")
    return Plan(found[0]["Plan"], found[0].get("Execution Time"))


@contextmanager
def undone(conn: Connection) -> Iterator[None]:
    """Whatever the block does, the database and the transaction are then as they were.

    Raises:
        DocumentError: the connection is closed, or waits for a rollback.
    """
    require_ready(conn)
    if conn.info.transaction_status == TRANSACTION_STATUS_IDLE:
        autocommit, conn.autocommit = conn.autocommit, False
        try:
            yield
        finally:
            if not conn.closed:
                conn.rollback()
                conn.autocommit = autocommit
    else:
        query(conn, "SAVEPOINT before_undone")
        try:
            yield
        finally:
            if not conn.closed:
                query(conn, "ROLLBACK TO SAVEPOINT before_undone")
                query(conn, "RELEASE SAVEPOINT before_undone")


# -- building --------------------------------------------------------------------


def _target(conn: Connection, table: str, column: str, metric: str, method: str, cast: str | None) -> sql.Composed:
    """What the index is on, and its operator class: `"embedding" vector_cosine_ops`."""
    columns, of = table_columns(conn, table), find_metric(metric)
    if column not in columns:
        raise IndexProblem(f"{table!r} has no column {column!r}. Its columns are: {', '.join(columns)}.")
    if method not in OPTIONS:
        raise IndexProblem(f"method is {method!r}; it takes one of: {', '.join(OPTIONS)}.")
    if cast not in (None, *Cast.__args__):
        raise IndexProblem(f"cast is {cast!r}; it takes one of: {', '.join(Cast.__args__)}.")
    stored, dimension = columns[column].type, columns[column].dimension
    type = cast or stored
    if stored not in MOST_DIMENSIONS:
        raise IndexProblem(f"{column!r} is of type {stored}, not one of {', '.join(MOST_DIMENSIONS)}.")
    if cast and (stored == "bit" or (stored, cast) == ("sparsevec", "bit")):
        raise IndexProblem(f"{column!r} is of type {stored}, of which cast={cast!r} cannot be made. Leave cast out.")
    known = query(
        conn,
        """SELECT opcname FROM pg_opclass JOIN pg_am ON pg_am.oid = opcmethod
           WHERE amname = %s AND opcintype = to_regtype(%s) ORDER BY opcname""",
        [method, type],
    )
    operator_class = f"{type}_{of.operator_class}"
    if operator_class not in known.opcname.tolist():
        raise IndexProblem(
            f"{method} has no operator class for {of.name} ({of.operator}) on {type}. "
            f"It has: {', '.join(known.opcname) or 'none at all'}."
        )
    if dimension is None:
        named = (sql.Identifier(name).as_string(conn) for name in (table, column))
        raise IndexProblem(
            f"The column {column!r} has no fixed dimension, and an index needs one. Give it one: "
            "ALTER TABLE {} ALTER COLUMN {} TYPE {}(384);".format(*named, stored)
        )
    if dimension > MOST_DIMENSIONS[type]:
        remedy = {"vector": " cast='halfvec' takes 4000, cast='bit' 64000.", "halfvec": " cast='bit' takes 64000."}
        raise IndexProblem(
            f"{column!r} has {dimension} dimensions, and an index on {type} takes {MOST_DIMENSIONS[type]}."
            + remedy.get(type, "")
        )
    on = {
        None: "{column}",
        "halfvec": "({column}::halfvec({dimension}))",
        "bit": "(binary_quantize({column})::bit({dimension}))",
    }[cast]
    on = sql.SQL(on).format(column=sql.Identifier(column), dimension=sql.Literal(dimension))
    return sql.SQL("{} {}").format(on, sql.SQL(operator_class))


def _options(method: str, given: Mapping[str, int | None]) -> sql.Composable:
    """The WITH clause; the caller's values are checked."""
    known, chosen = OPTIONS[method], {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        if name not in known:
            raise IndexProblem(f"{method} has no option {name}; it has: {', '.join(known)}.")
        chosen[name] = _checked(name, value, known[name])
    m, ef_construction = chosen.get("m", 16), chosen.get("ef_construction", 64)
    if ef_construction < 2 * m:
        raise IndexProblem(f"ef_construction is {ef_construction} and m is {m}; it must be at least twice m.")
    if not chosen:
        return sql.SQL("")
    pairs = [sql.SQL("{} = {}").format(sql.SQL(name), sql.Literal(value)) for name, value in chosen.items()]
    return sql.SQL(" WITH ({})").format(sql.SQL(", ").join(pairs))


def _lists(conn: Connection, table: str, column: str, lists: int | None) -> int:
    """IVFFlat's number of lists, if there are rows enough to find their centres among."""
    count = sql.SQL("SELECT count({}) FROM {}").format(sql.Identifier(column), sql.Identifier(table))
    rows = int(query(conn, count).iloc[0, 0])
    if lists is None:
        lists = max(1, rows // 1000 if rows <= 1_000_000 else round(rows**0.5))
    lists = _checked("lists", lists, OPTIONS["ivfflat"]["lists"])
    if rows < lists:
        raise IndexProblem(
            f"{table!r} has {rows} vectors, and IVFFlat finds the centres of its {lists} lists among them. "
            "Load the rows first, choose fewer lists, or use method='hnsw', which needs no rows."
        )
    return lists


def _default_name(table: str, *parts: str | None) -> str:
    """The table's name, cut where need be, and what tells its indexes apart."""
    end = "_".join(["", *filter(None, parts)])
    return _cut(_cut(table, LONGEST_NAME - len(end.encode())) + end)


def _cut(name: str, bytes: int = LONGEST_NAME) -> str:
    return name.encode()[: max(bytes, 0)].decode(errors="ignore")


def _own_index(conn: Connection, table: str, name: str) -> str | None:
    """The table's index of this name, as a statement writes it: quoted, with its schema if need be."""
    find = """
        SELECT indexrelid::regclass::text
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = to_regclass(quote_ident(%s)) AND relname = %s"""
    return next(iter(query(conn, find, [table, name]).indexrelid), None)


def _clear_away(conn: Connection, table: str, name: str) -> None:
    """Drop what a concurrent build left behind, which is of no use."""
    try:
        with transaction(conn) as cur:
            if left := _own_index(conn, table, name):
                cur.execute("SET LOCAL lock_timeout = '2s'")
                cur.execute(f"DROP INDEX {left}")
    except LockNotAvailable:
        print(
            f"The unfinished index {name!r} stays, because another connection works with {table!r}. "
            f"Once that has committed: drop_index(conn, {name!r})"
        )


@contextmanager
def _autocommitted(conn: Connection) -> Iterator[None]:
    """Without a transaction; one that is open is committed first."""
    conn.commit()
    autocommit, conn.autocommit = conn.autocommit, True
    try:
        yield
    finally:
        if not conn.closed:
            conn.autocommit = autocommit


def _build(conn: Connection, statement: sql.Composed, progress: bool) -> None:
    """Run the statement in a thread, so that its progress can be shown and Ctrl-C can stop it."""

    built = Future()  # not an executor's: Ctrl-C while that starts its thread would leave the build to itself

    def run() -> None:
        if not built.set_running_or_notify_cancel():
            return
        try:
            with conn.cursor() as cur:
                cur.execute(statement)
            built.set_result(None)
        except BaseException as error:
            built.set_exception(error)

    conn.notices.clear()
    try:
        Thread(target=run).start()
        if progress and not wait([built], timeout=SECONDS_WITHOUT_BAR).done:
            _show_progress(conn.info.backend_pid, built)
        while not wait([built], timeout=SECONDS_BETWEEN_LOOKS).done:
            pass  # a wait without an end may sleep through Ctrl-C
        built.result()
    except BaseException:
        built.cancel()  # what has not begun will not
        while not built.done():  # a cancel that the server gets before the statement does nothing
            conn.cancel()
            wait([built], timeout=SECONDS_BETWEEN_LOOKS)
        raise
    print("".join(conn.notices), end="")


def _show_progress(pid: int, built: Future) -> None:
    now = """
        SELECT phase, coalesce(100.0 * tuples_done / nullif(tuples_total, 0),
                               100.0 * blocks_done / nullif(blocks_total, 0), 0)
        FROM pg_stat_progress_create_index WHERE pid = %s"""
    try:
        other = connect()
    except (CourseError, psycopg2.Error):  # there may be no connection to spare; the build goes on without a bar
        return
    with closing(other), tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}", leave=False) as bar:
        other.autocommit = True
        while not wait([built], timeout=SECONDS_BETWEEN_LOOKS).done:
            for phase, percent in query(other, now, [pid]).itertuples(index=False):
                bar.set_description(phase)
                bar.n = min(round(float(percent)), 100)
                bar.refresh()


def _refusal(error: psycopg2.Error, table: str) -> str:
    said = str(error).strip()
    if isinstance(error, LockNotAvailable):
        return f"{said}\nAnother connection works with {table!r}: commit or close it there, then try again."
    if isinstance(error, ProgramLimitExceeded):
        return f"{said}\nGive the build more memory: SET maintenance_work_mem = '512MB'; or choose fewer lists."
    return said
