"""The documentation of Python and of the course's libraries, on what is installed here."""

import hashlib
import os
import re
import subprocess
import sys

import pandas as pd
import pytest

from pgv_helpers.datasets import python_docs
from pgv_helpers.datasets.python_docs import WORDS, load_python_docs
from pgv_helpers.errors import CourseError


@pytest.fixture(scope="module")
def docs():
    return load_python_docs()


def test_a_passage_for_each_id_title_and_content(docs):
    assert docs.columns.tolist() == ["id", "title", "content", "category", "kind"]
    assert docs.id.tolist() == list(range(1, len(docs) + 1))
    assert docs.title.is_unique and docs.content.is_unique
    assert not docs.isna().any(axis=None)
    words = docs.content.str.split().str.len()
    assert (words >= 12).sum() >= 6000 and len(docs) <= 8500
    assert words.max() <= WORDS
    assert set(docs.kind) == {"module", "class", "function", "method", "property", "object"}


@pytest.mark.parametrize(
    "title, category, kind",
    [
        ("zip", "builtins", "class"),
        ("len", "builtins", "function"),
        ("dict.setdefault", "builtins", "method"),
        ("str.removeprefix", "builtins", "method"),
        ("itertools.accumulate", "itertools", "class"),
        ("math.sqrt", "math", "function"),
        ("random.choice", "random", "function"),
        ("collections.Counter", "collections", "class"),
        ("collections.deque.appendleft", "collections", "method"),
        ("functools.lru_cache", "functools", "function"),
        ("os.makedirs", "os", "function"),
        ("os.path.join", "os", "function"),
        ("os.path.exists", "os", "function"),
        ("datetime.datetime.fromtimestamp", "datetime", "method"),
        ("decimal.Decimal.quantize", "decimal", "method"),
        ("pathlib.Path.glob", "pathlib", "method"),
        ("pathlib.PurePath.stem", "pathlib", "property"),
        ("asyncio.gather", "asyncio", "function"),
        ("json.dumps", "json", "function"),
        ("concurrent.futures.as_completed", "concurrent", "function"),
        ("ipaddress.IPv4Network.subnets", "ipaddress", "method"),
        ("unittest.mock.patch", "unittest", "function"),
        ("csv", "csv", "module"),
        ("numpy.zeros", "numpy", "function"),
        ("numpy.linalg.norm", "numpy", "function"),
        ("numpy.ndarray.reshape", "numpy", "method"),
        ("numpy.r_", "numpy", "object"),
        ("pandas.merge", "pandas", "function"),
        ("pandas.DataFrame.groupby", "pandas", "method"),
        ("pandas.Series.str.upper", "pandas", "method"),
        ("pandas.DataFrame.plot.bar", "pandas", "method"),
        ("matplotlib.axes.Axes.plot", "matplotlib", "method"),
        ("matplotlib.pyplot.subplots", "matplotlib", "function"),
        ("psycopg2.extras.execute_values", "psycopg2", "function"),
        ("psycopg2.extensions.cursor.execute", "psycopg2", "method"),
        ("psycopg2.extensions.connection.autocommit", "psycopg2", "property"),
        ("tqdm.tqdm", "tqdm", "class"),
    ],
)
def test_what_a_user_looks_for_has_the_name_a_user_knows(docs, title, category, kind):
    assert docs[docs.title == title][["category", "kind"]].values.tolist() == [[category, kind]]


def test_titles_are_public(docs):
    parts = docs.title.str.split(".").explode()
    assert not parts.str.startswith("_").any()
    assert not parts.isin(["tests", "testing", "idlelib", "tkinter", "posixpath"]).any()


@pytest.mark.parametrize(
    "leftover",
    [
        r"\bat 0x[0-9a-f]",
        r"%\(\w+\)s",
        r"\{klass\}",
        r"^\s*\.\. [\w-]+::",
        r":\w+:`",
        r"^>>> ",
        r"^-{3,}$",
        r"/home/\w|/root/",
    ],
)
def test_contents_are_plain_text(docs, leftover):
    assert docs.title[docs.content.str.contains(leftover, flags=re.MULTILINE)].tolist() == []


def test_no_content_begins_with_its_signature(docs):
    for title, content in zip(docs.title, docs.content):
        name = re.escape(title.rpartition(".")[2])
        assert not re.match(rf"(\w+\.)*{name}\(.*\)( *->.*)?$", content.split("\n")[0]), title


@pytest.mark.parametrize(
    "title, opening",
    [
        ("numpy.zeros", "Return a new array of given shape and type, filled with zeros.\n\nParameters\nshape : "),
        ("dict.pop", "Remove specified key and return the corresponding value."),
        ("str.find", "Return the lowest index in S where"),
        ("time.localtime", "Convert seconds since the Epoch to a time tuple"),
        ("psycopg2.extensions.cursor.mogrify", "Return query after vars binding."),
    ],
)
def test_contents_begin_with_the_summary(docs, title, opening):
    assert docs.content[docs.title == title].item().startswith(opening)


def run(code, tmp_path, **environment):
    """What a fresh Python prints that runs the code in an empty folder, with an empty home."""
    for folder in (work := tmp_path / "work", home := tmp_path / "home"):
        folder.mkdir()
    homes = {"HOME": str(home), "USERPROFILE": str(home), "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    homes["PGV_HOME"] = str(tmp_path / "nothing kept")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=work,
        env=os.environ | homes | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout, [*work.rglob("*"), *home.rglob("*")]


def test_the_same_for_everybody(docs, tmp_path):
    code = """
import asyncio, builtins, hashlib, unittest.mock, xml.dom.minidom, zoneinfo
import numpy.testing, pandas, tqdm
tqdm.tqdm.pandas()  # puts methods into pandas
builtins.display = builtins.input = lambda: "What Jupyter puts there, in more words than a passage needs."
from pgv_helpers.datasets.python_docs import load_python_docs
print(hashlib.sha256(load_python_docs().to_csv().encode()).hexdigest())
"""
    printed, _ = run(code, tmp_path, PYTHONHASHSEED="7", TERM="dumb", MPLBACKEND="svg", LC_ALL="C")
    assert printed.strip() == hashlib.sha256(docs.to_csv().encode()).hexdigest()


def test_no_side_effects(tmp_path):
    code = """
import locale, logging, os, signal, sys, warnings
import pgv_helpers.datasets.python_docs as python_docs

def state():
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    hooks = sys.displayhook, sys.excepthook, sys.stdout, sys.stderr
    loggers = list(logging.root.handlers), logging.root.level
    return (dict(os.environ), list(sys.path), os.getcwd(), locale.setlocale(locale.LC_ALL), list(warnings.filters),
            handlers, hooks, loggers)

import numpy, pandas, psycopg2  # what their import does is theirs
before = state()
python_docs.load_python_docs()
assert state() == before
unwanted = {"antigravity", "idlelib", "matplotlib", "test", "this", "tkinter", "turtle", "webbrowser"}
assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
"""
    assert run(code, tmp_path) == ("", [])


def test_matplotlib_stays_as_it_is(tmp_path):
    code = """
import sys, matplotlib
matplotlib.use("svg")
before, modules = dict(matplotlib.rcParams), {name for name in sys.modules if name.startswith("matplotlib")}
from pgv_helpers.datasets.python_docs import load_python_docs
load_python_docs()
assert dict(matplotlib.rcParams) == before and matplotlib.get_backend() == "svg"
assert {name for name in sys.modules if name.startswith("matplotlib")} == modules
"""
    assert run(code, tmp_path)[0] == ""


def test_what_was_read_is_kept_and_a_broken_file_is_read_anew(docs, tmp_path, monkeypatch):
    monkeypatch.setenv("PGV_HOME", str(tmp_path))

    def load():
        python_docs._passages.cache_clear()
        return load_python_docs()

    pd.testing.assert_frame_equal(load(), docs)
    (kept,) = (tmp_path / "cache").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(python_docs, "_read_docstrings", None)
        pd.testing.assert_frame_equal(load(), docs)
    fresh = docs.head(3)
    monkeypatch.setattr(python_docs, "_read_docstrings", lambda: fresh)
    with monkeypatch.context() as patch:  # another version of a package is another file
        patch.setattr(python_docs, "_PARSED_PACKAGES", ("matplotlib", "tqdm", "numpy-next"))
        pd.testing.assert_frame_equal(load(), fresh)
    pd.testing.assert_frame_equal(load(), docs)
    kept.write_text('{"id": 1')
    pd.testing.assert_frame_equal(load(), fresh)
    monkeypatch.setenv("PGV_HOME", str(kept))  # where nothing can be kept
    pd.testing.assert_frame_equal(load(), fresh)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PGV_HOME", str(tmp_path))
    python_docs._passages.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "numpy.fft", None)
        with pytest.raises(CourseError, match=r"numpy is not installed.*pip install -c requirements.lock -e \."):
            load_python_docs()
    monkeypatch.setattr(python_docs, "_IMPORTED_PACKAGES", [])
    monkeypatch.setattr(python_docs, "find_spec", lambda package: None)
    with pytest.raises(CourseError, match="matplotlib is not installed"):
        load_python_docs()
