"""Rows in PostgreSQL's binary COPY format, whole blocks at a time by NumPy.

The format is described with the COPY statement in PostgreSQL's documentation
("Binary Format"), a vector's bytes by pgvector's vector_send(). Each value is
its length in bytes and then its bytes, numbers with the most significant byte
first. Values of fixed size that stand side by side are fields of one structured
array, so that NumPy writes them for all rows of a block at once.
"""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas

from pgv_helpers.errors import DocumentError

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
EPOCH = "2000-01-01"
"""PostgreSQL counts days and microseconds from here."""

NUMBERS = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8", "bool": "?"}
TIMES = {"date": ("D", ">i4"), "timestamp": ("us", ">i8"), "timestamptz": ("us", ">i8")}
VECTORS = {"vector": "f4", "halfvec": "f2"}
TEXTS = {"text": b"", "varchar": b"", "json": b"", "jsonb": b"\x01"}
"""With what stands before the text: 1 is the version of jsonb's format."""

TYPES = {*NUMBERS, *TIMES, *VECTORS, *TEXTS}
"""What can be encoded, by the names in pg_type."""

Fields = list[tuple[object, object]]
"""The parts of a value: a NumPy type, and the data of all rows or one number for every row."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its type's name in pg_type, the dimension of a vector."""

    name: str
    type: str
    dimension: int | None = None


def encode(columns: Sequence[Column], values: Sequence[Sequence], first_row: int = 0, time_zone: str = "UTC") -> bytes:
    """The bytes of a block of rows, without header and trailer.

    Args:
        columns: what a row consists of; fastest with those of `TEXTS` at the end.
        values: for each column n values; for a vector an array (n, dimension) or n
            vectors. None, NaT, and NaN in a column of numbers become NULL.
        first_row: index of the block's first row, for messages.
        time_zone: where times without a zone belong, as PostgreSQL's session setting TimeZone.

    Raises:
        DocumentError: a value that its column cannot hold; the message names the row.
    """
    rows = len(values[0])
    segments: list[list[bytes]] = []
    fields: Fields = [(">i2", len(columns))]
    for column, given in zip(columns, values):
        if column.type in TEXTS:
            lengths, pieces = _texts(column, given, first_row)
            fields.append((">i4", lengths))
        else:
            present, data = _present(column, given)
            parts = _fields(column, data, first_row + present, time_zone)
            if len(present) == rows:
                fields += parts
                continue
            pieces = _with_nulls(_pieces(parts, len(present)), present, rows)
        segments += [_pieces(fields, rows), pieces] if fields else [pieces]
        fields = []
    if not segments:
        return _block(fields, rows).tobytes()
    if fields:
        segments.append(_pieces(fields, rows))
    return b"".join(chain.from_iterable(zip(*segments)))


def decode_vectors(data: bytes, type: str) -> tuple[np.ndarray, np.ndarray]:
    """Keys and vectors from rows of `COPY (SELECT key::bigint, vector …) TO STDOUT (FORMAT binary)`.

    Args:
        data: complete rows, without header and trailer, none of their values NULL.
        type: `"vector"` or `"halfvec"`.

    Returns:
        Views of the data, of shape (n,) and (n, dimension), their bytes in the order of the format.

    Raises:
        DocumentError: the vectors are not all of one dimension.
    """
    dimension = int.from_bytes(data[18:20], "big")
    row = np.dtype([
        ("count", ">i2"), ("key length", ">i4"), ("key", ">i8"), ("length", ">i4"),
        ("dimension", ">i2"), ("unused", ">i2"), ("vector", np.dtype(VECTORS[type]).newbyteorder(">"), dimension),
    ])  # fmt: skip
    if len(data) % row.itemsize == 0:
        rows = np.frombuffer(data, row)
        if (rows["dimension"] == dimension).all():
            return rows["key"], rows["vector"]
    raise several_dimensions()


def several_dimensions() -> DocumentError:
    """The error of vectors that do not fit into one array."""
    return DocumentError("The vectors are not all of one dimension, so they do not fit into one array.")


def _block(fields: Fields, rows: int) -> np.ndarray:
    block = np.empty(rows, {"names": [str(i) for i in range(len(fields))], "formats": [kind for kind, _ in fields]})
    for name, (_, data) in zip(block.dtype.names, fields):
        block[name] = data
    return block


def _pieces(fields: Fields, rows: int) -> list[bytes]:
    block = _block(fields, rows)
    return block.view(f"V{block.itemsize}").tolist()


def _with_nulls(pieces: list[bytes], present: np.ndarray, rows: int) -> list[bytes]:
    everywhere = [NULL] * rows
    for row, piece in zip(present, pieces):
        everywhere[row] = piece
    return everywhere


def _present(column: Column, values: Sequence) -> tuple[np.ndarray, Sequence]:
    """Indexes of the values that are not NULL, and these values: an array, a Series of numbers or times, or a list."""
    if getattr(values, "ndim", 1) > 1:
        if column.type not in VECTORS:
            raise DocumentError(f"The column {column.name!r} takes one value for each row, not {values.shape[1:]}.")
        return np.arange(len(values)), np.asarray(values)
    if type(values) is np.ndarray and values.dtype.kind in "biu":
        return np.arange(len(values)), values
    series = pandas.Series(values, dtype=None if hasattr(values, "dtype") else object)
    present = np.flatnonzero(series.notna())
    series = series.iloc[present]
    return present, list(series) if column.type in VECTORS else series


def _refuse(column: Column, row: int, fault: str) -> DocumentError:
    return DocumentError(f"Row {row}, column {column.name!r}: {fault}. Nothing was stored.")


def _fields(column: Column, values: Sequence, rows: np.ndarray, time_zone: str) -> Fields:
    """The parts of values of fixed size, their length first."""
    if column.type in VECTORS:
        return _vectors(column, values, rows)
    data = _times(column, values, rows, time_zone) if column.type in TIMES else _numbers(column, values, rows)
    return [(">i4", data.dtype.itemsize), (data.dtype, data)]


def _numbers(column: Column, values: pandas.Series, rows: np.ndarray) -> np.ndarray:
    kind = np.dtype(NUMBERS[column.type])
    found = values if isinstance(values, np.ndarray) else np.array(values.tolist())
    if found.dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            data = found.astype(kind)
        if kind.kind == "f":
            kept = np.isfinite(data) == np.isfinite(found)
        elif found.dtype.kind == "f":  # compared as Python's numbers, of which none was rounded
            kept = data.astype(object) == np.array(values, object)
        else:
            kept = data == found
    else:  # texts, or a whole number beyond 64 bits
        kept = np.array([isinstance(value, (int, float)) and abs(value) < 2**63 for value in values], bool)
        data = None
    if data is None or not kept.all():
        wrong = kept.argmin()
        raise _refuse(column, rows[wrong], f"{list(values)[wrong]!r} is no {column.type}")
    return data


def _times(column: Column, values: pandas.Series, rows: np.ndarray, time_zone: str) -> np.ndarray:
    """Days or microseconds since `EPOCH`."""
    if values.dtype.kind == "M":
        times = values.dt
    else:
        for row, value in zip(rows, values):
            if not isinstance(value, (str, datetime.date, np.datetime64)):
                raise _refuse(column, row, f"{value!r} is no {column.type}")
        try:
            parsed, naive = pandas.to_datetime(values, format="ISO8601"), []
        except ValueError:  # one that is no time, or several time zones
            parsed = pandas.to_datetime(values, format="ISO8601", errors="coerce", utc=True)
            naive = [pandas.Timestamp(value).tz is None for value in values[parsed.notna()]]
        if parsed.isna().any():
            wrong = parsed.isna().to_numpy().argmax()
            raise _refuse(column, rows[wrong], f"{values.iloc[wrong]!r} is no time as in 2026-01-31 12:00")
        if any(naive):
            wrong = np.argmax(naive)
            raise _refuse(column, rows[wrong], f"{values.iloc[wrong]!r} has no time zone, and others have one")
        times = parsed.dt
    if column.type == "timestamptz" and times.tz is None:
        # As PostgreSQL reads a time that a change of the clocks doubles or leaves out.
        times = times.tz_localize(time_zone, ambiguous=np.zeros(len(values), bool), nonexistent="shift_forward").dt
    if times.tz is not None:
        times = times.tz_convert("UTC" if column.type == "timestamptz" else time_zone).dt.tz_localize(None).dt
    unit, kind = TIMES[column.type]
    since = times.as_unit("us").to_numpy().astype(f"datetime64[{unit}]") - np.datetime64(EPOCH, unit)
    return since.astype(np.int64).astype(kind)


def _vectors(column: Column, values: np.ndarray | list, rows: np.ndarray) -> Fields:
    data = checked_vectors(column, values, rows)
    dimension, kind = data.shape[1], data.dtype.newbyteorder(">")
    return [(">i4", 4 + dimension * kind.itemsize), (">i2", dimension), (">i2", 0), ((kind, dimension), data)]


def checked_vectors(column: Column, values: np.ndarray | Sequence, rows: Sequence[int]) -> np.ndarray:
    """Vectors as one array (n, dimension) in the column's precision, float32 or float16.

    Args:
        column: of the type vector or halfvec.
        values: an array (n, dimension), or n arrays, lists or `pgvector.Vector`.
        rows: n row numbers, for messages.

    Raises:
        DocumentError: a vector of another dimension, or with a number that the column cannot hold.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or values.ndim != 2:
        values = _stacked(column, values, rows)
    elif values.shape[1] != (column.dimension or values.shape[1]):
        raise _refuse(column, rows[0], _wrong_shape(values.shape[1:], column.dimension))
    with np.errstate(over="ignore"):
        data = values.astype(VECTORS[column.type], copy=False)
    if not (finite := np.isfinite(data)).all():
        row, position = np.argwhere(~finite)[0]
        fault = f"number {position} of the vector is {values[row, position]}, which a {column.type} cannot hold"
        raise _refuse(column, rows[row], fault)
    return data


def _wrong_shape(shape: tuple[int, ...], dimension: int) -> str:
    given = f"a vector of {shape[0]} numbers" if len(shape) == 1 else f"an array of shape {shape} for a vector"
    return f"{given}, and the column takes {dimension}"


def _stacked(column: Column, vectors: Sequence, rows: Sequence[int]) -> np.ndarray:
    """Vectors as one array, each of the column's dimension or else of the first one's."""
    dimension = column.dimension
    arrays = []
    for row, vector in zip(rows, vectors):
        try:
            array = np.asarray(vector.to_numpy() if hasattr(vector, "to_numpy") else vector, np.float64)
        except (TypeError, ValueError):
            raise _refuse(column, row, f"{vector!r:.60} is no vector") from None
        dimension = dimension or array.size
        if array.shape != (dimension,):
            raise _refuse(column, row, _wrong_shape(array.shape, dimension))
        arrays.append(array)
    return np.array(arrays).reshape(len(arrays), dimension or 0)


def _texts(column: Column, values: Sequence, first_row: int) -> tuple[list[int], list[bytes]]:
    """Texts and JSON: the lengths in bytes, -1 for NULL, and the bytes."""
    values = values.tolist() if hasattr(values, "tolist") else values
    try:
        if column.type in ("text", "varchar") and "\0" not in "".join(values):
            pieces = [value.encode() for value in values]
            return list(map(len, pieces)), pieces
    except (TypeError, UnicodeEncodeError):
        pass  # one by one, to see which row it is, or NULL
    pieces = [_text(column, value, row) for row, value in enumerate(values, start=first_row)]
    return [-1 if piece is None else len(piece) for piece in pieces], [piece or b"" for piece in pieces]


def _text(column: Column, value: object, row: int) -> bytes | None:
    if value is None or value is pandas.NA or value != value:  # NaN is what pandas has for a text that is missing
        return None
    try:
        if column.type.startswith("json") and not isinstance(value, str):
            value = json.dumps(value, ensure_ascii=False, allow_nan=False)
        data = TEXTS[column.type] + value.encode()
    except (AttributeError, TypeError, ValueError) as error:
        raise _refuse(column, row, f"{value!r:.60} is no {column.type} ({error})") from None
    if b"\0" in data:
        raise _refuse(column, row, "the text has a NUL character, which PostgreSQL cannot store")
    return data
