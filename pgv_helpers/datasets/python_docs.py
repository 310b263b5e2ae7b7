"""The documentation of Python and of the course's libraries, read from the docstrings on this machine."""

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import distributions
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pgv_helpers import settings
from pgv_helpers.errors import CourseError

if TYPE_CHECKING:
    import pandas

WORDS = 120
"""No passage is longer: the offline embedding model reads 256 tokens."""
FEWEST_WORDS = 5
FEWEST_WORDS_OF_MATPLOTLIB = 12
"""Nor is any shorter. Matplotlib has a getter and a setter for everything, with as little to say as their names."""

_PARSED_PACKAGES = ("matplotlib", "tqdm")
"""Packages whose docstrings stand in their source. Importing matplotlib would write a cache of fonts."""

_IMPORTED_PACKAGES = """
numpy numpy.ctypeslib numpy.exceptions numpy.fft numpy.lib numpy.lib.array_utils numpy.lib.format
numpy.lib.introspect numpy.lib.mixins numpy.lib.npyio numpy.lib.scimath numpy.lib.stride_tricks numpy.linalg numpy.ma
numpy.polynomial numpy.polynomial.polynomial numpy.polynomial.polyutils numpy.random numpy.rec numpy.strings
pandas pandas.api.extensions pandas.api.indexers pandas.api.types pandas.api.typing pandas.errors
pandas.io.formats.style pandas.plotting pandas.tseries.frequencies pandas.tseries.holiday pandas.tseries.offsets
psycopg2 psycopg2.extensions psycopg2.extras psycopg2.pool psycopg2.sql
""".split()
"""Public modules of packages whose docstrings are made while they are imported, or stand in C."""

_IMPORTED_STDLIB = dict.fromkeys(
    "array atexit binascii builtins cmath collections contextvars csv decimal gc io itertools marshal math"
    " random re string struct unicodedata weakref zlib".split()
) | {
    module: names.split()
    for module, names in {
        # what every operating system has, in equal words, and Jupyter does not replace
        "os": "DirEntry abort access chdir chmod close closerange cpu_count dup dup2 fsdecode fsencode fspath fstat"
        " fsync ftruncate get_exec_path get_terminal_size getcwd getcwdb getenv getlogin getpid getppid isatty kill"
        " link listdir lseek lstat makedirs mkdir open pipe read readlink remove removedirs rename renames replace"
        " rmdir scandir stat stat_result strerror symlink system terminal_size times truncate umask unlink urandom"
        " utime walk write",
        "signal": "default_int_handler getsignal raise_signal signal strsignal valid_signals",
        "socket": "create_connection create_server getaddrinfo getdefaulttimeout getfqdn gethostbyaddr gethostbyname"
        " gethostname getnameinfo getservbyname has_dualstack_ipv6 setdefaulttimeout socket socketpair",
        "sqlite3": "Blob Connection Cursor Row adapt complete_statement connect enable_callback_tracebacks"
        " register_adapter register_converter",
        "sys": "addaudithook audit exc_info exception exit getdefaultencoding getfilesystemencoding getprofile"
        " getrecursionlimit getrefcount getsizeof getswitchinterval gettrace intern setprofile setrecursionlimit"
        " setswitchinterval settrace",
        "time": "asctime ctime get_clock_info gmtime localtime mktime monotonic monotonic_ns perf_counter"
        " perf_counter_ns process_time process_time_ns sleep strftime strptime struct_time time time_ns",
    }.items()
}
"""Standard modules that C implements, wholly or behind a Python module, and which names. The rest is parsed."""

_NOT_SEARCHED = set(
    # games, tools, internals, what some systems package apart, what one system has alone
    "antigravity bdb curses distutils encodings ensurepip genericpath idlelib lib2to3 msilib ntpath nturl2path opcode"
    " pdb pty pydoc pydoc_data sre_compile sre_constants sre_parse symtable tkinter this tty turtle turtledemo venv"
    # gone from later versions of Python
    " aifc asynchat asyncore audioop cgi cgitb chunk crypt imghdr imp mailcap nntplib pipes smtpd sndhdr sunau"
    " telnetlib uu xdrlib".split()
)
_LEFT_OUT = re.compile(
    r"(?:.*\.(?:tests?|testing|backends|sphinxext|pylab)"
    r"|copyright|credits|license|input"  # put into builtins by `site`; Jupyter has an `input` of its own
    r"|numpy\.u?(?:int(?:c|p|_|32|64)?|long(?:long)?)"  # the C type behind these is another one on Windows
    r"|os\.stat_result\..*|socket\.socket\.(?:ioctl|recvmsg\w*|send_?fds|sendmsg\w*|share)"  # as the system has them
    # internals
    r"|asyncio\.(?:base_\w+|\w+_events|constants|format_helpers|log|sslproto|staggered|trsock|windows_utils)"
    r"|multiprocessing\.(?:dummy|forkserver|heap|popen_\w+|process|reduction|resource_\w+|spawn|util)"
    r"|matplotlib\.(?:backend_(?:managers|tools)|bezier|category|cbook|container|dviread|font_manager"
    r"|hatch|legend_handler|projections|rcsetup|texmanager|textpath|units)"
    r"|tqdm\.(?:cli|contrib\.(?:bells|discord|slack|telegram|utils_worker)|dask|gui|keras|main|rich|std|tk|utils"
    r"|version|TMonitor|Tqdm\w+|tqdm_\w+)"
    # the same once more
    r"|pandas\.(?:\w*Index\.str|plotting\.PlotAccessor))(?:\..*)?"
)


class _Found(NamedTuple):
    """A docstring under one of the names of what it documents."""

    title: str
    doc: str | None
    kind: str
    category: str
    alias: bool = False  # it calls itself otherwise


def load_python_docs() -> "pandas.DataFrame":
    """What the docstrings of Python, numpy, pandas, matplotlib, psycopg2 and tqdm say: about 8,000 passages.

    The docstrings are those installed, so the same for everybody with the same versions of these
    packages and the same minor version of Python. Left out are private names, tests, internals,
    and what not every operating system has. Of one text under several names stays the name with
    the fewest dots; among those the one that the object gives itself; then the first in the
    alphabet: `os.path.join`, not `posixpath.join`; `matplotlib.axes.Axes.plot`, of which
    `pyplot.plot` is a copy made at run time.

    Returns:
        A row for each passage, ordered by title: `id` (1 to n), `title` (the qualified name, unique;
        builtins stand without their module), `content` (plain text, 5 to 120 words: the summary, and
        what follows as far as it fits), `category` (the top-level module) and `kind` (module, class,
        function, method, property or object).

    Reading and parsing takes seconds; what was found is kept below `PGV_HOME` for these very versions.

    Raises CourseError if one of the packages is not installed.
    """
    return _passages().copy()


@cache
def _passages() -> "pandas.DataFrame":
    import pandas

    kept = settings.home() / "cache" / f"python_docs-{_versions()}.jsonl"
    with suppress(OSError, ValueError, KeyError):  # not there yet, or broken
        docs = pandas.read_json(kept, lines=True, dtype=False)
        return docs[["id", "title", "content", "category", "kind"]]
    docs = _read_docstrings()
    with suppress(OSError):  # without it the next lesson takes seconds longer, and nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_name(f"{kept.name}.{os.getpid()}")
        docs.to_json(unfinished, orient="records", lines=True)
        unfinished.replace(kept)
    return docs


def _versions() -> str:
    """Changes with Python, with the packages that are read, and with how they are read."""
    packages = {module.partition(".")[0] for module in (*_IMPORTED_PACKAGES, *_PARSED_PACKAGES)}
    names = sorted({*packages, "psycopg2-binary"})
    found = [(name, *(it.version for it in distributions(name=name))) for name in names]
    return sha256(f"{sys.version} {found} {Path(__file__).read_text(encoding='utf-8')}".encode()).hexdigest()[:16]


def _read_docstrings() -> "pandas.DataFrame":
    rows, seen = [], set()
    for it in sorted((*_stdlib(), *_packages()), key=lambda it: (it.title.count("."), it.alias, it.title)):
        if not it.doc or {it.doc, it.title} & seen or _LEFT_OUT.fullmatch(it.title):
            continue
        content = _clean(it.doc)
        fewest = FEWEST_WORDS_OF_MATPLOTLIB if it.category == "matplotlib" else FEWEST_WORDS
        if len(content.split()) >= fewest and content not in seen:
            rows.append((it.title, content, it.category, it.kind))
            seen |= {it.title, content}
        seen.add(it.doc)

    import pandas  # only now, that it may be missed by name above

    docs = pandas.DataFrame(sorted(rows), columns=["title", "content", "category", "kind"])
    docs.insert(0, "id", range(1, len(docs) + 1))
    return docs


def _stdlib() -> Iterator[_Found]:
    for module, names in _IMPORTED_STDLIB.items():
        yield from _imported(module, names)
    source = _Source(Path(inspect.__file__).parent)
    for name in sorted(sys.stdlib_module_names - _NOT_SEARCHED - set(_IMPORTED_STDLIB)):
        for module in source.modules(name):
            yield from source.found(module)


def _packages() -> Iterator[_Found]:
    for module in _IMPORTED_PACKAGES:
        yield from _imported(module)
    for package in _PARSED_PACKAGES:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise _missing(package)
        source = _Source(Path(spec.origin).parents[1])
        for module in source.modules(package):
            yield from source.found(module)


def _missing(module: str) -> CourseError:
    return CourseError(
        f"The package {module.split('.')[0]} is not installed, or is broken. "
        "Install what the course needs: pip install -c requirements.lock -e ."
    )


# Imported ------------------------------------------------------------------------------


def _imported(module: str, names: list[str] | None = None) -> Iterator[_Found]:
    """What a module documents, by importing it; of `names` alone, if given."""
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise _missing(module) from error
    category = module.split(".")[0]
    prefix = "" if module == "builtins" else f"{module}."
    yield _Found(module, loaded.__doc__, "module", category)
    for name in names or getattr(loaded, "__all__", vars(loaded)):
        if name in vars(loaded) and not inspect.ismodule(vars(loaded)[name]):
            yield from _object(prefix + name, vars(loaded)[name], category)


def _object(title: str, thing: object, category: str, inside: tuple[type, ...] = ()) -> Iterator[_Found]:
    """An object that a module or a class holds, and its members."""
    if title.rpartition(".")[2].startswith("_"):
        return
    thing = getattr(thing, "_accessor", thing)  # of pandas, such as Series.str
    thing = thing.__func__ if isinstance(thing, (classmethod, staticmethod)) else thing
    origin = getattr(thing, "fget", None) or thing
    home = _home(origin)
    # Whoever is imported may put things of its own here: IPython into builtins, tqdm into pandas.
    if home != category and not {home, category} <= sys.stdlib_module_names:
        return
    own = getattr(origin, "__qualname__", title)
    alias = not f".{title}".endswith(f".{own}")
    if not inspect.isclass(thing):
        kind = ("method" if inside else "function") if callable(thing) else ("property" if inside else "object")
        yield _Found(title, thing.__doc__, kind, category, alias)
    elif thing not in inside:
        yield _Found(title, thing.__doc__, "class", category, alias)
        for name in dir(thing):
            yield from _object(f"{title}.{name}", inspect.getattr_static(thing, name), category, (*inside, thing))


def _home(thing: object) -> str:
    """The top-level module that an object comes from."""
    for owner in (thing, getattr(thing, "__objclass__", None), type(getattr(thing, "__self__", None)), type(thing)):
        if isinstance(module := getattr(owner, "__module__", None), str):
            return module.split(".")[0]
    return ""


# Parsed --------------------------------------------------------------------------------


class _Definition(NamedTuple):
    """A class, function, method or property in the source."""

    doc: str | None
    kind: str
    module: str
    bases: list[str]
    members: dict[str, "_Definition"]
    public: bool = True


class _Source:
    """Modules under a folder, read without importing them, each once."""

    def __init__(self, root: Path):
        self.root = root
        self.docs: dict[str, str | None] = {}
        self.names: dict[str, dict[str, _Definition]] = {}

    def modules(self, package: str) -> Iterator[str]:
        """The public modules of a package, itself first, in the order of their names."""
        paths = sorted((self.root / package).rglob("*.py")) or [self.root / f"{package}.py"]
        for path in paths:
            parts = path.relative_to(self.root).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if path.is_file() and "._" not in f".{module}" and not _LEFT_OUT.fullmatch(module):
                yield module

    def found(self, module: str) -> Iterator[_Found]:
        """What a module documents: what it defines, and what a package takes from its modules."""
        names, title = self.read(module), module.replace("posixpath", "os.path")
        yield _Found(title, self.docs[module], "module", title.split(".")[0])
        for name, definition in names.items():
            if definition.public and not name.startswith("_"):
                yield from self.members(f"{title}.{name}", definition)

    def members(self, title: str, definition: _Definition, alias: bool = False) -> Iterator[_Found]:
        """A definition and what it contains, also by those bases that are private and so not found themselves."""
        yield _Found(title, definition.doc, definition.kind, title.split(".")[0], alias)
        for base in self.lineage(definition):
            for name, member in base.members.items():
                if not name.startswith("_"):
                    yield from self.members(f"{title}.{name}", member, alias or base is not definition)

    def lineage(self, definition: _Definition) -> Iterator[_Definition]:
        yield definition
        for name in definition.bases:
            if name.startswith("_") and (base := self.read(definition.module).get(name)):
                yield from self.lineage(base)

    def read(self, module: str) -> dict[str, _Definition]:
        """The definitions of a module by name, with those that it imports from other modules here."""
        if module in self.names:
            return self.names[module]
        names = self.names[module] = {}
        base = self.root.joinpath(*module.split("."))
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if not path.is_file():
            return names
        tree = ast.parse(path.read_bytes())
        self.docs[module] = ast.get_docstring(tree)
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in _statements(tree.body):
            if not isinstance(node, ast.ImportFrom):
                _define(node, module, names)
                continue
            source = resolve_name("." * node.level + (node.module or ""), package)
            public = path.name == "__init__.py" and source.split(".")[0] == package.split(".")[0]
            for alias in node.names:
                if alias.name == "*":
                    names |= {n: d for n, d in self.read(source).items() if not n.startswith("_") and d.public}
                elif definition := self.read(source).get(alias.name):
                    names[alias.asname or alias.name] = definition._replace(public=public)
        return names


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Definitions and imports, also those that stand under `if` or `try`."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.ImportFrom)):
            yield node
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _statements([*node.body, *getattr(node, "handlers", []), *node.orelse])
        elif isinstance(node, ast.ExceptHandler):
            yield from _statements(node.body)


def _define(node: ast.stmt, module: str, names: dict[str, _Definition], inside: bool = False) -> None:
    """Put a class or function into `names`; of several with one name, the last that has a docstring."""
    if isinstance(node, ast.ImportFrom) or (node.name in names and not ast.get_docstring(node)):
        return
    bases, members = [], {}
    if isinstance(node, ast.ClassDef):
        kind = "class"
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        for inner in _statements(node.body):
            _define(inner, module, members, inside=True)
    elif any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
        kind = "property"
    else:
        kind = "method" if inside else "function"
    names[node.name] = _Definition(ast.get_docstring(node), kind, module, bases, members)


# Text ----------------------------------------------------------------------------------

_CALL = r"(?:async |[\w, ]+ = |\(.*\) = )?[\w.<>]+\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_SIGNATURE = re.compile(
    rf"\s*{_CALL}:?(?=\s|$)(?:"
    r"\s*(?:--?>|=>) *(?:"  # and what it returns: `-> range object` alone in a line, `-> v, remove the key`
    r"(?:\([^()]*\)[.,:;]?|\w+[.,:;]|\w+\s+--)\s+|.{1,40}\n(?=\s*\n)|\S+(?: \S+)?\n(?=\s*\S)|)"
    r"| *--\s+|(?<=:) +|\s*?(?:\n(?:--\n)?|$))"
)
_HEADING = (
    r"(?:(?:Other )?Parameters|Returns|Yields|Raises|Warns|Notes?|Warnings?|Attributes|Methods|Args|Usage|Examples?)"
)
_CLEANING = [
    (re.compile(pattern, re.MULTILINE), replacement)
    for pattern, replacement in [
        # Examples, what they print, and what names other things
        (r"^ *>>>.*\n(?: *\S.*\n)*", "\n"),
        (r"^( *)(?:See [Aa]lso|References|Examples?)\n\1-{3,}\n(?:(?!.*\n *-{3,}$).*\n)*", "\n"),
        # directives and comments with what is indented under them; of a note only the first line
        (r"^( *)\.\. (?!(?:note|warning|important|tip|caution|attention)::).*\n(?:\1 +\S.*\n| *\n)*", "\n"),
        (r"^( *)\.\. (\w)(\w+)::", lambda found: f"{found[1]}{found[2].upper()}{found[3]}:"),
        # templates that would be filled in while the package is imported
        (r"^.*(?:%\([\w:]+\)s|\{\w*klass\w*\}).*\n", ""),
        # numpy's scalars only point to its arrays, and to the platform's C types
        (r"\AScalar (?:method|attribute) identical to (?:.*\n)*", ""),
        (r"^:Alias on this platform.*\n", ""),
        # lines under headings and of tables, headings of what is gone
        (r"^[ |+]*([-=~^*])\1{2,}[-=~^*+| ]*\n", ""),
        (r"^ *(?:Examples?|Usage|For example|See also):{0,2} *\n(?!\S)", "\n"),
        # inline markup
        (r"(?::[\w:+-]+:)?(``?)[~!]?(?:\.(?=[A-Z]))?([^`]+?)(?:\s*<[^`>]*>)?\1_{0,2}", r"\2"),
        (r"(?<![\w*])\*\*?(\w[^*\n]*?)\*\*?(?![\w*])", r"\1"),
        (r" ?\[[\w-]+\]_|\|(?=\w+\|)|(?<=\w)\|(?=\W)", ""),
        (r"^( *):(?:param |type )?([\w ]+):", r"\1\2:"),
        (r"::(?= *\n)", ":"),
        (r" +\n", "\n"),
        (r"\n{3,}", "\n\n"),
    ]
]


def _clean(doc: str) -> str:
    """A docstring as plain text, without signature and examples, and not longer than `WORDS`."""
    text = unsigned = inspect.cleandoc(doc)
    while found := _SIGNATURE.match(unsigned):
        unsigned = unsigned[found.end() :]
    if unsigned != text:
        text = unsigned[:1].upper() + unsigned[1:]
    text += "\n"
    for pattern, replacement in _CLEANING:
        text = pattern.sub(replacement, text)
    return _cut(text.strip())


def _cut(text: str) -> str:
    """The beginning of the text: whole sentences if that keeps most of `WORDS`, else whole lines."""
    if len(text.split()) > WORDS:
        words = re.match(rf"(?:\s*\S+){{{WORDS}}}", text)[0]
        lines = words.rpartition("\n")[0]
        sentences = re.match(r"(?s).*[.!?](?=\s|$)|", words)[0]
        text = max(lines, sentences, key=len) if len(sentences) < len(words) / 2 else sentences
    return re.sub(rf"(?:\n\s*{_HEADING}:?\s*)+$", "", text).rstrip()
