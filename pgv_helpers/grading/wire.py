"""Data between the grader and a sandbox: JSON, with the arrays' bytes behind it.

Never pickle, which runs what its sender likes. A frame is two lengths, a JSON text and
the bytes of its arrays. What JSON has no word for is an object with one key that says what
it is: `{"tuple": [1, 2]}`. Whatever has no form here arrives as a stand-in that has the
name of its type and nothing else, so that a check can say what it is.
"""

import datetime
import json
import math
import socket
import struct
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas
from pgvector import HalfVector, SparseVector, Vector

MOST_BYTES = 64 * 2**20
"""The largest frame that is sent or taken."""

MOST_VALUES = 2_000_000
"""How many values a frame may hold outside of its arrays: each takes far more memory than it takes in the frame."""

LENGTHS = struct.Struct("!II")
NUMBERS = "biufcSUmM"
"""The kinds of arrays that are nothing but bytes."""

PLAIN = (bool, int, float, str, type(None))
SEQUENCES = {"tuple": tuple, "set": set, "frozenset": frozenset}
DATES = {"datetime": datetime.datetime, "date": datetime.date, "time": datetime.time}


class NotData(Exception):
    """What was to be sent is no data or too much of it, or what came is no frame."""


class Stranger:
    """What arrives for an object that has no form as data; its class has the object's type's name."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def encode(value: Any, special: Callable[[Any], Any] = lambda value: None) -> bytes:
    """The frame of a value.

    Args:
        special: gives the JSON of what is no data and has a meaning to both sides, None for all else.

    Raises:
        NotData: it is larger than MOST_BYTES, or nested too deeply.
    """
    buffers: list[bytes] = []
    spent = 0

    def spend(size: int) -> None:
        nonlocal spent
        spent += size
        if spent > MOST_BYTES:
            raise NotData(f"it takes more than {MOST_BYTES / 2**20:.0f} MB")

    def array(values: np.ndarray) -> dict:
        if values.dtype.kind not in NUMBERS:
            return {"objects": list(values.shape)}
        spend(values.nbytes)
        begin = sum(map(len, buffers))
        buffers.append(np.ascontiguousarray(values).tobytes())
        return {"array": [values.dtype.str, list(values.shape), begin]}

    def column(values: pandas.Series | pandas.Index) -> list:
        plain = values.to_numpy()
        return [str(values.dtype), array(plain) if plain.dtype.kind in "biuf" else [form(item) for item in values]]

    def form(value: Any) -> Any:
        spend(len(value) if isinstance(value, str) else 1)
        if (meaning := special(value)) is not None:
            return meaning
        if isinstance(value, np.generic):
            return {"number": array(np.asarray(value))}
        if isinstance(value, PLAIN):
            return value if type(value) in PLAIN else next(k for k in PLAIN if isinstance(value, k))(value)
        if isinstance(value, list):
            return [form(item) for item in value]
        if isinstance(value, dict):
            return {"dict": [[form(key), form(item)] for key, item in value.items()]}
        for name, kind in SEQUENCES.items():
            if isinstance(value, kind):
                return {name: [form(item) for item in value]}
        if isinstance(value, np.ndarray):
            return array(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return {"bytes": array(np.frombuffer(bytes(value), np.uint8))}
        if isinstance(value, Decimal):
            return {"decimal": str(value)}
        for name, kind in DATES.items():
            if isinstance(value, kind):
                return {name: value.isoformat()}
        if isinstance(value, Vector):
            return {"vector": array(value.to_numpy())}
        if isinstance(value, HalfVector):
            return {"halfvec": array(value.to_numpy())}
        if isinstance(value, SparseVector):
            return {"sparsevec": value.to_text()}
        if isinstance(value, pandas.DataFrame):
            columns = [column(value.iloc[:, place]) for place in range(value.shape[1])]
            return {"frame": [form(list(value.columns)), column(value.index), columns]}
        if isinstance(value, pandas.Series):
            return {"series": [form(value.name), column(value.index), column(value)]}
        return {"stranger": type(value).__name__}

    try:
        text = json.dumps(form(value)).encode()
    except (RecursionError, ValueError) as error:
        raise NotData(f"it cannot be written down: {error}") from None
    if _values(text) > MOST_VALUES:
        raise NotData(f"it holds more than {MOST_VALUES:,} values")
    rest = sum(map(len, buffers))
    if len(text) + rest > MOST_BYTES:
        raise NotData(f"it takes more than {MOST_BYTES / 2**20:.0f} MB")
    return b"".join([LENGTHS.pack(len(text), rest), text, *buffers])


def decode(frame: bytes, special: Callable[[str, Any], Any] = lambda kind, value: None) -> Any:
    """The value of a frame's text and bytes.

    Args:
        special: gives what `encode`'s counterpart wrote, by the key and the JSON behind it; None for all else.

    Raises:
        NotData: it is no frame as `encode` makes them.
    """
    length, rest = LENGTHS.unpack(frame[: LENGTHS.size])
    text, buffers = frame[LENGTHS.size :][:length], memoryview(frame)[LENGTHS.size + length :]
    left = {"bytes": len(buffers), "objects": MOST_VALUES}

    def take(number: int, kind: str) -> None:
        """No byte may serve two arrays: thousands of large ones would come of a small frame."""
        left[kind] -= number
        if left[kind] < 0:
            raise ValueError(f"more {kind} than there are")

    def array(form: Any) -> np.ndarray:
        if "objects" in form:
            shape = tuple(map(int, form["objects"]))
            take(math.prod(shape), "objects")
            return np.empty(shape, object)
        name, shape, begin = form["array"]
        dtype = np.dtype(name)
        if dtype.kind not in NUMBERS or any(type(length) is not int or length < 0 for length in [*shape, begin]):
            raise ValueError(f"an array of {name}")
        size = math.prod(shape) * dtype.itemsize
        take(size, "bytes")
        return np.frombuffer(buffers[begin : begin + size], dtype).reshape(shape).copy()

    def column(form: Any) -> pandas.Series:
        dtype, values = form
        if isinstance(values, dict):
            return pandas.Series(array(values))
        return pandas.Series([value(item) for item in values], dtype=dtype if dtype in ("str", "string") else object)

    def index(form: Any) -> pandas.Index:
        made = pandas.Index(column(form))
        return made if made.dtype != object else pandas.Index(list(made))

    def value(form: Any) -> Any:
        if isinstance(form, list):
            return [value(item) for item in form]
        if not isinstance(form, dict):
            return form
        ((kind, inner),) = form.items()
        if (meaning := special(kind, inner)) is not None:
            return meaning
        if kind == "dict":
            return {value(key): value(item) for key, item in inner}
        if kind in SEQUENCES:
            return SEQUENCES[kind](value(item) for item in inner)
        if kind in ("array", "objects"):
            return array(form)
        if kind == "number":
            return array(inner)[()]
        if kind == "bytes":
            return array(inner).tobytes()
        if kind == "decimal":
            return Decimal(inner)
        if kind in DATES:
            return DATES[kind].fromisoformat(inner)
        if kind == "vector":
            return Vector(array(inner))
        if kind == "halfvec":
            return HalfVector(array(inner))
        if kind == "sparsevec":
            return SparseVector.from_text(inner)
        if kind == "frame":
            names, rows, columns = inner
            rows = index(rows)
            frame = pandas.DataFrame({place: column(form) for place, form in enumerate(columns)})
            return frame.set_axis(rows, axis=0).set_axis(value(names), axis=1) if len(columns) else frame
        if kind == "series":
            name, rows, values = inner
            rows = index(rows)
            return column(values).set_axis(rows).rename(value(name))
        if kind == "stranger":
            return type(str(inner)[:100], (Stranger,), {})()
        raise ValueError(f"an unknown kind, {kind!r}")

    if _values(text) > MOST_VALUES:
        raise NotData(f"it holds more than {MOST_VALUES:,} values")
    try:
        return value(json.loads(text))
    except Exception as error:  # from a stranger, who may have written anything
        raise NotData(f"it is no frame of data ({type(error).__name__})") from None


def _values(text: bytes) -> int:
    """How many values a JSON text holds at most."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def send(line: socket.socket, frame: bytes) -> None:
    """Send a frame."""
    line.sendall(frame)


def receive(line: socket.socket, deadline: float | None = None) -> bytes:
    """The next frame.

    Args:
        deadline: when all of it is to be there, by time.monotonic().

    Raises:
        EOFError: the other side is gone.
        NotData: it is larger than MOST_BYTES.
        TimeoutError: when it is not.
    """
    lengths = _exactly(line, LENGTHS.size, deadline)
    size = sum(LENGTHS.unpack(lengths))
    if size > MOST_BYTES:
        raise NotData(f"it takes {size / 2**20:,.0f} MB, and {MOST_BYTES / 2**20:.0f} MB are the most")
    return lengths + _exactly(line, size, deadline)


def _exactly(line: socket.socket, size: int, deadline: float | None) -> bytes:
    received = bytearray()
    while len(received) < size:
        if deadline is not None:
            if (seconds := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            line.settimeout(seconds)
        if not (some := line.recv(min(size - len(received), 2**20))):
            raise EOFError
        received += some
    return bytes(received)
