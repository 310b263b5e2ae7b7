"""Data between the grader and a sandbox arrives as it was, and what is no data does no harm."""

import datetime
import json
import math
from collections import Counter, namedtuple
from decimal import Decimal

import numpy as np
import pandas
import pytest
from pgvector import HalfVector, SparseVector, Vector

from pgv_helpers.grading import wire
from pgv_helpers.grading.wire import LENGTHS, NotData, decode, encode


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(2**70), 1.5, 1e-300, "", "naïve ⟨\u202e⟩ \x00", "\ud800", [], [1, [2, [3]]], (1, ("a", None)),
        {"a": 1, 2: (3,), (4, 5): [6]}, {7}, frozenset({(1, 2)}), b"\x00\xff", Decimal("1.10"),
        datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3, 4, 5, 6), {"tuple": [1]}, {"array": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_arrives_with_its_type(value):
    arrived = decode(encode(value))
    assert arrived == value and type(arrived) is type(value)


def test_numbers_that_json_has_no_word_for():
    inf, minus, nan = decode(encode([math.inf, -math.inf, math.nan]))
    assert (inf, minus) == (math.inf, -math.inf) and math.isnan(nan)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64", "bool", "complex64", "<U3", ">i4"])
def test_an_array_arrives_bit_for_bit_and_can_be_changed(dtype):
    value = np.arange(12).reshape(3, 4).astype(dtype)[:, ::2]
    arrived = decode(encode({"x": [value, value.T]}))["x"]
    assert arrived[0].dtype == value.dtype and np.array_equal(arrived[0], value) and np.array_equal(arrived[1], value.T)
    arrived[0][0, 0] = arrived[0][1, 1]


def test_a_number_of_numpy_stays_one():
    for value in (np.float32(1.5), np.int64(3), np.bool_(True)):
        assert type(decode(encode(value))) is type(value)


def test_kinds_of_tuples_lists_and_dictionaries_arrive_as_the_plain_ones():
    pair = namedtuple("pair", "a b")(1, 2)
    assert decode(encode([pair, Counter("aab")])) == [(1, 2), {"a": 2, "b": 1}]


def test_vectors_of_pgvector_arrive():
    values = [Vector([1, 2]), HalfVector([1, 2]), SparseVector({0: 1.0}, 3)]
    assert decode(encode(values)) == values


@pytest.mark.parametrize(
    "frame",
    [
        pandas.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", None], "d": [True, False]}),
        pandas.DataFrame({"v": [0.1, 0.2]}, index=pandas.Index(["p", "q"], name="key")),
        pandas.DataFrame({"a": [(1, 2), {"x": 1}]}, index=[5, 3]),
        pandas.DataFrame(),
        pandas.DataFrame({"a": []}),
        pandas.DataFrame([[1, 2]], columns=["same", "same"]),
    ],
)
def test_a_data_frame_arrives(frame):
    arrived = decode(encode(frame))
    pandas.testing.assert_frame_equal(arrived, frame, check_names=False, check_dtype=False, check_index_type=False,
                                      check_column_type=False)  # fmt: skip
    if len(frame.columns) and frame.columns.is_unique:
        pandas.testing.assert_series_equal(decode(encode(frame.iloc[:, 0])), frame.iloc[:, 0], check_names=False)


def test_what_has_no_form_arrives_as_a_stranger_with_its_types_name():
    class Foo:
        pass

    arrived = decode(encode([Foo(), (number for number in [1]), len]))
    assert [type(item).__name__ for item in arrived] == ["Foo", "generator", "builtin_function_or_method"]


def test_an_array_of_objects_arrives_as_one_and_brings_none_of_them():
    class Trap:
        def __reduce__(self):
            return print, ("gone off",)

    arrived = decode(encode(np.array([Trap(), 1], dtype=object)))
    assert arrived.dtype == object and arrived.shape == (2,) and arrived.tolist() == [None, None]


def test_what_is_too_large_or_too_deep_is_not_sent(monkeypatch):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotData, match="nest|recursion|written down"):
        encode(deep)
    monkeypatch.setattr(wire, "MOST_BYTES", 1000)
    with pytest.raises(NotData, match="it takes more than"):
        encode(np.zeros(1000))


def frame(text: str | bytes, buffers: bytes = b"") -> bytes:
    text = text.encode() if isinstance(text, str) else text
    return LENGTHS.pack(len(text), len(buffers)) + text + buffers


@pytest.mark.parametrize(
    "form",
    [
        "", "nonsense", '{"array": ["<f4", [1000000000000], 0]}', '{"array": ["<f4", [-1], 0]}',
        '{"array": ["O", [1], 0]}', '{"array": ["V8", [1], 0]}', '{"array": ["<f4", ["a"], 0]}',
        '{"array": ["<f4", [1], 99]}', '{"objects": [1000000, 1000000]}', '{"unknown": 1}', '{"a": 1, "b": 2}', "{}",
        '{"dict": [[[], 1]]}', '{"set": [[]]}', '{"decimal": "x"}', '{"date": "x"}', '{"frame": 1}',
        '{"stranger": "\\u0000"}', "[" * 100_000, "9" * 10_000, b"\xff\xfe",
    ],
)  # fmt: skip
def test_a_frame_that_is_none_is_refused(form):
    with pytest.raises(NotData):
        decode(frame(form, bytes(8)))


def test_no_frame_ever_runs_anything():
    names = json.dumps({"stranger": "__import__('os').system('true')"})
    assert type(decode(frame(names))).__mro__[1] is wire.Stranger
