"""Many rows at once by binary COPY: loading, replacing, and reading every vector."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pandas
import psycopg2
from psycopg2 import sql
from psycopg2.errors import CardinalityViolation
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from tqdm import tqdm

from pgv_helpers import binary_copy
from pgv_helpers.binary_copy import Column
from pgv_helpers.errors import DocumentError
from pgv_helpers.tables import (
    advance_identity,
    execute,
    identifiers,
    primary_key,
    shared_key,
    table_columns,
    upsert_statement,
    writing,
)  # fmt: skip

CHUNK_BYTES = 500_000
"""About how much is encoded or decoded at a time: little enough to stay in the processor's cache."""

PROGRESS_FROM = 20_000
"""A progress bar appears from this many rows on."""

INTEGERS = ("int2", "int4", "int8")

Block = Mapping[str, Sequence] | pandas.DataFrame
"""Rows as columns: column -> values."""


def bulk_load(
    conn: Connection,
    table: str,
    rows: Block | Iterable[Block],
    *,
    upsert: bool = False,
    total: int | None = None,
    progress: bool | None = None,
    show_sql: bool = False,
) -> int:
    """Load many rows by binary COPY, in one transaction, and return how many there were.

    It works on any table, with columns of the types in `binary_copy.TYPES`. The
    rows come as columns, so that NumPy encodes many of them at once.

    Args:
        rows: column -> values, or a DataFrame; the embeddings as an array of shape
            (n, dimension). Or an iterator of such blocks, of which one at a time is
            in memory. None, NaN and NaT become NULL; columns that are not given get
            their defaults.
        upsert: rows whose primary key exists replace the stored ones. All rows go into a
            temporary table first, and from there with one INSERT … ON CONFLICT.
        total: the number of rows that an iterator will give, for the progress bar.
        progress: show the bar; by default from 20,000 rows on, and for an iterator.

    Raises:
        DocumentError: a column that the table does not have, columns of unequal length,
            a value that its column cannot hold (a vector of another dimension, NaN or
            infinity in a vector, NUL in a text), a key that exists or that two rows
            share. The message names the row, counted from 0.
    """
    if isinstance(rows, (Mapping, pandas.DataFrame)):
        total = _length(rows) if total is None else total
        rows = [rows]
    blocks = iter(rows)
    if (first := next(blocks, None)) is None:
        return 0
    show = (total is None or total >= PROGRESS_FROM) if progress is None else progress
    with (
        writing(conn) as cur,
        ThreadPoolExecutor(1) as encoder,
        tqdm(total=total, desc=f"loading {table}", unit=" rows", leave=False, disable=not show) as bar,
    ):
        columns = _columns_for(conn, table, first)
        names = identifiers(column.name for column in columns)
        target = sql.Identifier(table)
        if upsert:
            target = sql.Identifier("pg_temp", "pgv_incoming")
            make = sql.SQL("CREATE TEMPORARY TABLE pgv_incoming ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA")
            execute(cur, make.format(names, sql.Identifier(table)), show_sql=show_sql)
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(target, names)
        if show_sql:
            print(copy.as_string(cur))
        time_zone = conn.get_parameter_status("TimeZone")
        source = _EncodedRows(columns, chain([first], blocks), time_zone, encoder, bar)
        try:
            cur.copy_expert(copy, source)
        except psycopg2.Error as error:
            if conn.closed and isinstance(source.error, psycopg2.Error):
                raise DocumentError(
                    "The connection broke while the rows were read. If what gives the rows queries the database, let "
                    "it use a connection of its own."
                ) from source.error
            if source.error or "error in .read() call" in str(error):
                raise source.error or KeyboardInterrupt from None  # Ctrl-C may come before read() begins
            raise
        if upsert:
            _merge(cur, table, columns, show_sql)
        loaded = cur.rowcount
        advance_identity(cur, table, [column.name for column in columns])
    return loaded


def read_embeddings(
    conn: Connection, table: str, *, column: str = "embedding", key: str = "id", show_sql: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Every vector of a column as one array, by binary COPY.

    Args:
        column: of the type vector or halfvec; rows where it is NULL are left out.
        key: a column of whole numbers that names the rows, and orders them.

    Returns:
        The keys, int64 of shape (n,), and the vectors, float32 of shape (n, dimension).

    Raises:
        DocumentError: no such table or column, or vectors of several dimensions.
    """
    with conn.cursor() as cur:
        columns = table_columns(conn, table)
        for name, kinds in ((column, binary_copy.VECTORS), (key, INTEGERS)):
            if name not in columns or columns[name].type not in kinds:
                raise DocumentError(
                    f"{table!r} has no column {name!r} of the type {' or '.join(kinds)}. Its columns are: "
                    + ", ".join(f"{column.name} ({column.type})" for column in columns.values())
                )
        copy = sql.SQL(
            "COPY (SELECT {key}::bigint, {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY {key}) "
            "TO STDOUT (FORMAT binary)"
        ).format(key=sql.Identifier(key), column=sql.Identifier(column), table=sql.Identifier(table))
        if show_sql:
            print(copy.as_string(cur))
        sink = _DecodedVectors(columns[column].type)
        cur.copy_expert(copy, sink)
    return sink.arrays(columns[column].dimension)


class _EncodedRows:
    """The file that COPY … FROM STDIN reads: blocks of rows, encoded a chunk at a time.

    A thread encodes the next chunk while the server takes this one. The blocks are taken from
    their iterator in the caller's thread, to which it may be bound.
    """

    def __init__(
        self, columns: list[Column], blocks: Iterable[Block], time_zone: str, encoder: ThreadPoolExecutor, bar: tqdm
    ):
        self.columns, self.blocks, self.time_zone, self.encoder, self.bar = columns, blocks, time_zone, encoder, bar
        self.rows = 0
        self.error: BaseException | None = None
        self.parts = self._parts()
        self.next_chunk = encoder.submit(bytes, binary_copy.HEADER)

    def read(self, size: int) -> bytes:
        try:
            chunk = self.next_chunk.result()
            self.next_chunk = self.encoder.submit(*next(self.parts, (bytes,)))
            return chunk
        except BaseException as error:  # psycopg2 keeps its name and forgets the rest
            self.error = error
            raise

    def _parts(self) -> Iterator[tuple]:
        """A function and its arguments for each chunk, which make its bytes."""
        names = [column.name for column in self.columns]
        row_bytes = 100 + sum(4 * (column.dimension or 0) for column in self.columns)
        step = max(1, CHUNK_BYTES // row_bytes)
        for block in self.blocks:
            if set(block) != set(names):
                raise DocumentError(
                    f"Row {self.rows}: this block has the columns {', '.join(block)}, and the first one had "
                    f"{', '.join(names)}. Give every block the same."
                )
            length = _length(block)
            values = [_sliceable(block[name]) for name in names]
            for start in range(0, length, step):
                chunk = [column[start : start + step] for column in values]
                yield binary_copy.encode, self.columns, chunk, self.rows, self.time_zone
                self.rows += len(chunk[0])
                self.bar.update(len(chunk[0]))
        yield bytes, binary_copy.TRAILER


class _DecodedVectors:
    """The file that COPY … TO STDOUT writes, whole rows with each call; decoded a chunk at a time."""

    def __init__(self, type: str):
        self.type = type
        self.pending: list[bytes] = []
        self.size = 0
        self.first = True
        self.decoded: list[tuple[np.ndarray, np.ndarray]] = []

    def write(self, data: bytes) -> None:
        if self.size >= CHUNK_BYTES:  # before the new data, so that the end is left to arrays()
            self.decode()
        self.pending.append(data)
        self.size += len(data)

    def decode(self, end: int | None = None) -> None:
        data = b"".join(self.pending)[len(binary_copy.HEADER) if self.first else 0 : end]
        self.pending, self.size, self.first = [], 0, False
        if data:
            self.decoded.append(binary_copy.decode_vectors(data, self.type))

    def arrays(self, dimension: int | None) -> tuple[np.ndarray, np.ndarray]:
        """All keys and vectors; without any row of the column's dimension, or 0."""
        self.decode(end=-len(binary_copy.TRAILER))
        if not self.decoded:
            return np.empty(0, np.int64), np.empty((0, dimension or 0), np.float32)
        if len({vectors.shape[1] for _, vectors in self.decoded}) > 1:
            raise binary_copy.several_dimensions()
        keys, vectors = zip(*self.decoded)
        return np.concatenate(keys, dtype=np.int64), np.concatenate(vectors, dtype=np.float32)


def _columns_for(conn: Connection, table: str, block: Block) -> list[Column]:
    """The columns that a block fills, those of fixed size first, as `encode` likes them."""
    known = table_columns(conn, table)
    if unknown := [name for name in block if name not in known]:
        raise DocumentError(f"{table!r} has no column {unknown[0]!r}. Its columns are: {', '.join(known)}.")
    columns = [known[name] for name in block]
    if not columns:
        raise DocumentError(f"The rows have no columns. Name what they fill: {', '.join(known)}.")
    for column in columns:
        if column.type not in binary_copy.TYPES:
            raise DocumentError(
                f"bulk_load cannot write the type {column.type} of the column {column.name!r}; it knows "
                f"{', '.join(sorted(binary_copy.TYPES))}. Use store_documents_batch."
            )
    return sorted(columns, key=lambda column: column.type in binary_copy.TEXTS)


def _length(block: Block) -> int:
    """The number of rows. Raises DocumentError unless all columns have it."""
    for name in block:
        values = block[name]
        if isinstance(values, str) or not (isinstance(values, Sequence) or hasattr(values, "__array__")):
            raise DocumentError(
                f"The column {name!r} takes a list or an array, a value for each row, not {values!r:.60}. Rows that "
                "are dictionaries are loaded as pandas.DataFrame(rows)."
            )
    lengths = {name: len(block[name]) for name in block}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DocumentError(f"The columns have different lengths: {counts}. Every row needs a value in each.")
    return max(lengths.values(), default=0)


def _sliceable(values: Sequence) -> Sequence:
    """A column of which slices can be taken; whole numbers as an array, once and not for every chunk."""
    if isinstance(values, list) and set(map(type, values)) == {int}:
        return np.array(values)
    return getattr(values, "iloc", values)


def _merge(cur: Cursor, table: str, columns: list[Column], show_sql: bool) -> None:
    """Move the rows of the temporary table `pgv_incoming` into the table, over those whose primary key exists."""
    key = primary_key(cur.connection, table, [column.name for column in columns])
    select = sql.SQL("SELECT {} FROM pg_temp.pgv_incoming").format(identifiers(column.name for column in columns))
    cur.execute("SAVEPOINT before_merge")
    try:
        execute(cur, upsert_statement(table, [column.name for column in columns], key, select), show_sql=show_sql)
    except CardinalityViolation:
        cur.execute("ROLLBACK TO SAVEPOINT before_merge")
        # In a table that was filled by one COPY, rows lie in the order in which they came.
        cur.execute(
            sql.SQL("""
                SELECT min(row), max(row), {key}
                FROM (SELECT {key}, row_number() OVER (ORDER BY ctid) - 1 AS row FROM pg_temp.pgv_incoming) AS numbered
                GROUP BY {key} HAVING count(*) > 1
                ORDER BY 1 LIMIT 1""").format(key=identifiers(key))
        )
        first, second, *values = cur.fetchone()
        raise shared_key(first, second, key, values) from None
