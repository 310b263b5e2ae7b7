"""What was handed in: finding the notebooks, whosever they are, and reading their code.

Nothing here runs a learner's code, and nothing is unpacked to the disk. What a
notebook says about itself (metadata, ids, names inside a learner's own zip) is
never believed where it would decide whose work it is or what it answers.

The names of an export were read off the programs that write them: Canvas'
`ContentZipper` (`<name>_[LATE_]<user id>_<file id>_<file name>`) and Moodle's
`mod_assign\\downloader` (`<full name>_<participant id>_assignsubmission_file…`).
"""

import ast
import io
import json
import os
import re
import stat
import struct
import time
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pgv_helpers.course.question import Question, all_questions
from pgv_helpers.errors import CourseError

MOST_BYTES = 200 * 2**20
"""How large a notebook may be, outputs included, and a zip within a zip."""

MOST_CODE = 4 * 2**20
"""How many characters of code a notebook may hold."""

MOST_VALUES = 10_000_000
"""How many values the JSON of a notebook may hold: each takes memory, however little it takes in the file."""

MOST_MEMBERS = 50_000
"""How many files a zip may hold."""

DEEPEST_ZIP = 2
"""How many zips may lie in one another: the class's, and in it a learner's own."""

MOST_FILE_BYTES, MOST_FILES = 20 * 2**20, 200
"""How much may lie beside a notebook for its code to read."""

MOST_GROWTH = 100
"""How many times its size a zip within a zip may take: it is compressed already."""

LONGEST_NAME = 200

NOTEBOOK = re.compile(r"\.ipynb(\.txt|\.json)?$", re.I)  # some browsers add an ending of their own
ZIP = re.compile(r"\.zip$", re.I)
PASSED_OVER = {"__MACOSX", "__pycache__", "node_modules", "site-packages", "Thumbs.db", "desktop.ini"}

# Two numbers that begin with a year and a month are a date, and no ids.
CANVAS = re.compile(
    r"(?P<name>\w+?)(?:_late)?_(?!(?:19|20)\d\d_(?:0?[1-9]|1[0-2])_)(?P<id>[1-9]\d*)_"
    r"(?:(?P<upload>[1-9]\d*)_(?P<file>.+)|(?:text|link)\.html)",
    re.I,
)
CANVAS_ANONYMOUS = re.compile(r"(?:LATE_)?(?P<name>anon_[^\W_]+)_(?P<upload>\d+)_(?P<file>.+)")
MOODLE = re.compile(r"(?P<name>[^_]+)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)(?:_(?P<file>.*))?")

COPY = r"(?:\s*\(\d+\)|[\s_-]*\b(?<!_)copy\d*(?![^\W_])|[\s_-]+(?:copy\d*|final|solved|v\d+)(?![^\W_]))"
COPY_OF_EXERCISE = re.compile(rf"(?:{COPY}|[\s-]+\d{{1,2}}(?![^\W_]))+", re.I)
COPY_OF_ANYTHING = re.compile(rf"{COPY}+$", re.I)
COPY_OF = re.compile(r"^copy of\s+", re.I)

MAGIC = re.compile(r"^([ \t]*)[%!].*", re.M)
MOST_PARSED = 200_000
"""How long a cell may be for its syntax to be looked at."""


class NothingHandedIn(CourseError):
    """There are no submissions where they were looked for."""


class Unreadable(Exception):
    """Why a notebook cannot be read; the message goes to the teacher."""


@dataclass(frozen=True)
class Cell:
    """A code cell; `number` is its place among all cells of the notebook, from 1."""

    number: int
    source: str


@dataclass(frozen=True)
class Entry:
    """A file among the submissions, on the disk or in a zip.

    Attributes:
        parts: its path within the submissions; a zip counts as a folder.
        path: the file on the disk; of what lies in a zip, the zip.
        members: the way through the zips: the name in the first, the name in the second.
        size: in bytes, as the disk or the zip says.
        modified: seconds since 1970.
        problem: why it cannot be read, as far as its place tells.
    """

    parts: tuple[str, ...]
    path: Path
    members: tuple[str, ...] = ()
    size: int = 0
    modified: float = 0
    problem: str = ""

    @property
    def where(self) -> str:
        return "/".join(map(cleaned, self.parts))

    @property
    def is_notebook(self) -> bool:
        return bool(NOTEBOOK.search(self.parts[-1]))


@dataclass(frozen=True)
class Place:
    """Where a submission lies, and whose it is: what `read` needs, in this process or in another.

    Attributes:
        learner: as it is written in the folder's or file's name, made unique.
        exercise: such as "02_crud"; of an unknown one what the file is called.
        lms_id: the user id of Canvas, the participant id of Moodle; empty for others.
        problem: why it cannot be graded; empty when it may be read.
        beside: what lies beside it in the learner's own folder, with the name to give it.
    """

    learner: str
    exercise: str
    entry: Entry
    lms_id: str = ""
    problem: str = ""
    beside: tuple[tuple[str, Entry], ...] = ()

    @property
    def where(self) -> str:
        """The path within the submissions, for messages."""
        return self.entry.where


@dataclass(frozen=True)
class Submission:
    """A notebook as it was handed in.

    Attributes:
        learner, exercise, where, lms_id: see `Place`.
        cells: the code cells, without those tagged `skip-execution`.
        files: what the learner put beside the notebook, by relative names that lead nowhere else.
        problem: why it cannot be graded; empty when it can.
        notes: what else the teacher and the learner should know.
    """

    learner: str
    exercise: str
    where: str
    lms_id: str = ""
    cells: tuple[Cell, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()


def find_submissions(root: Path, *, most_bytes: int = MOST_BYTES) -> list[Place]:
    """List what was handed in, sorted by learner and exercise, without reading the notebooks.

    These layouts are understood, in a folder or in a zip: a folder for each
    learner, with the notebooks at any depth (so nbgrader's `submitted/` as well);
    a flat folder of notebooks whose names hold the exercise and the learner; a
    folder for each exercise with a notebook for each learner; and the exports of
    Canvas and Moodle. Learners may have handed in zips of their own. A folder that
    is the only one, and holds folders, is taken for one around those of the learners.

    What cannot be graded has a row too, with its `problem`: one for each notebook
    that is not the newest, for each zip that cannot be opened, and for whoever
    handed in no notebook.

    Args:
        root: the folder, the zip, or a single notebook.
        most_bytes: how large a zip within a zip may be.

    Raises:
        NothingHandedIn: when there is no such path or nothing in it.
    """
    root = Path(root).absolute()
    found = sorted(_entries(root, most_bytes), key=lambda entry: entry.parts)
    owned = _named_apart(_owned(found, root.name if root.is_dir() else root.parent.name))
    by_learner: dict[tuple[str, str], list[_Owned]] = defaultdict(list)
    for item in owned:
        by_learner[item.learner, item.lms_id].append(item)
    places = [place for items in by_learner.values() for place in _places(items)]
    if not places:
        raise NothingHandedIn(f"There are no notebooks in {root}. Name the folder or the zip with the submissions.")
    return sorted(places, key=lambda place: (place.learner.casefold(), place.learner, place.exercise, place.where))


def read(place: Place, *, most_bytes: int = MOST_BYTES) -> Submission:
    """Read one submission. What is wrong with it becomes its `problem`; nothing is raised."""
    submission = Submission(place.learner, place.exercise, place.where, place.lms_id, problem=place.problem)
    if place.problem:
        return submission
    try:
        cells = code_cells(_contents([place.entry], most_bytes)[0])
    except Unreadable as error:
        return replace(submission, problem=str(error))
    chosen, notes = [], []
    total = 0
    for name, entry in sorted(place.beside, key=lambda item: (item[1].size, item[0])):
        total += entry.size
        if total <= MOST_FILE_BYTES and len(chosen) < MOST_FILES:
            chosen.append((name, entry))
    if left_out := len(place.beside) - len(chosen):
        notes.append(
            f"{left_out} of the {len(place.beside)} files beside the notebook were left out: together they have "
            f"{_size(total)}, and up to {MOST_FILES} files of {_size(MOST_FILE_BYTES)} together are taken along."
        )
    try:
        contents = _contents([entry for _, entry in chosen], MOST_FILE_BYTES)
    except Unreadable as error:
        return replace(submission, cells=cells, notes=(*notes, f"The files beside the notebook were left out. {error}"))
    own = tuple(sorted(zip([name for name, _ in chosen], contents)))
    return replace(submission, cells=cells, files=own, notes=tuple(notes))


def code_cells(data: bytes) -> tuple[Cell, ...]:
    """The code cells of a notebook file, of any version of the format since 2, valid or not.

    Raises:
        Unreadable: when it is no notebook, or one that cannot be graded.
    """
    if not data or data.isspace():
        raise Unreadable("The file is empty. Have the notebook handed in again.")
    # Counted before parsing: a file of "[],[],[],…" takes twenty times its size in memory.
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise Unreadable("The notebook holds millions of values. Have it handed in again without outputs.")
    try:
        notebook = json.loads(data)
    except RecursionError:
        raise Unreadable(
            "Its JSON is nested too deeply to be read. Have it saved in Jupyter and handed in again."
        ) from None
    except ValueError as error:
        said = getattr(error, "msg", "its text is not UTF-8" if isinstance(error, UnicodeError) else str(error))
        place = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(
            f"The file is no JSON, as a notebook is: {said}{place}. It may have been cut off or edited by hand; "
            "have it saved in Jupyter and handed in again."
        ) from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells", notebook.get("worksheets")), list):
        raise Unreadable("The file is JSON, but no notebook: it has no cells. Have the notebook itself handed in.")
    _expect_python(notebook.get("metadata"))
    cells = notebook.get("cells")
    if not isinstance(cells, list):  # format 2 and 3
        sheets = [sheet.get("cells") for sheet in notebook["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets if isinstance(sheet, list) for cell in sheet]
    found = tuple(
        Cell(number, _source(cell))
        for number, cell in enumerate(cells, start=1)
        if isinstance(cell, dict) and cell.get("cell_type") == "code" and not _is_skipped(cell)
    )
    if (length := sum(len(cell.source) for cell in found)) > MOST_CODE:
        raise Unreadable(
            f"The code has {length:,} characters, more than the {MOST_CODE:,} that are read. "
            "Data belongs into a file beside the notebook."
        )
    return found


@cache
def functions_of(question: Question) -> tuple[str, ...]:
    """The names of the functions that a question asks for, as the course's own exercise has them."""
    text = (package_files("pgv_helpers.course") / "pristine" / f"{question.exercise}.ipynb").read_text(encoding="utf-8")
    for cell in json.loads(text)["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == question.grade_id:
            body = ast.parse("".join(cell["source"])).body
            return tuple(node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    raise CourseError(f"The package's copy of {question.exercise} has no cell for {question.name}: run `pgv build`.")


def answers(cells: Sequence[Cell], questions: Sequence[Question]) -> dict[str, str]:
    """The code that answers each question, by its name: the last cell that defines each of its functions.

    A cell counts by what it defines, never by its metadata. Where several cells
    answer a question they stand in their order; a question without an answer has "".
    """
    wanted = {name for question in questions for name in functions_of(question)}
    found: dict[str, list[int]] = {}
    # A definition that Python cannot read counts only where there is no other: it never came into being.
    attempted: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        if not any(name in cell.source for name in wanted):
            continue
        definitions = _definitions(cell.source)
        if definitions is None:
            said = set(re.findall(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", cell.source, re.M))
            attempted |= {name: [place] for name in said & wanted}
            continue
        functions, others = definitions
        found |= {name: [place] for name in functions & wanted}
        for name in (others - functions) & wanted:  # a decorated or renamed one is told with its function
            found.setdefault(name, []).append(place)
    found = attempted | found
    return {
        question.name: "\n\n\n".join(
            cells[place].source.strip("\n")
            for place in sorted({place for name in functions_of(question) for place in found.get(name, [])})
        )
        for question in questions
    }


def _definitions(source: str) -> tuple[set[str], set[str]] | None:
    """The global names that a cell binds to functions, and to anything else; None where it is no Python.

    Lines of IPython's own (`%%time`, `!pip`) are passed over.
    """
    if len(source) > MOST_PARSED:
        return None
    for text in (source, MAGIC.sub(r"\1pass", source)):
        try:
            todo: list[ast.AST] = list(ast.parse(text).body)
            break
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    else:
        return None
    functions, others = set(), set()
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions.add(node.name)  # and what stands within it is no global name
        elif isinstance(node, ast.ClassDef):
            others.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            others |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            others |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            todo += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]
    return functions, others


def cleaned(name: str) -> str:
    """A name that may be shown: any script, but no control characters, and none that turn the line's direction."""
    name = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
    kept = [sign for sign in name if unicodedata.category(sign) != "Cc" and sign not in BIDIRECTIONAL]
    return " ".join("".join(kept).split())[:LONGEST_NAME].strip()


BIDIRECTIONAL = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff")


# ------------------------------------------------------------------------------ files, on the disk and in zips


def _entries(root: Path, most_bytes: int) -> Iterator[Entry]:
    """All files below root, or of the zip root, without those that systems leave behind."""
    if not root.exists():
        raise NothingHandedIn(f"There is no {root}. Name the folder or the zip with the submissions.")
    if root.is_file():
        status = root.stat()
        entry = Entry((root.name,), root, size=status.st_size, modified=status.st_mtime)
        if ZIP.search(root.name):
            with root.open("rb") as file:
                yield from _in_zip(entry, file, most_bytes)
        elif entry.is_notebook:
            yield entry
        return
    yield from _in_folder(root, (), most_bytes)


def _in_folder(folder: Path, parts: tuple[str, ...], most_bytes: int) -> Iterator[Entry]:
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except OSError as error:
        yield Entry((*parts, ""), folder, problem=_cannot_be_opened(error))
        return
    for child in children:
        here = (*parts, child.name)
        if _passed_over(child.name):
            continue
        try:
            status = child.stat(follow_symlinks=False)
            is_folder = child.is_dir()
        except OSError as error:
            yield Entry(here, Path(child.path), problem=_cannot_be_opened(error))
            continue
        entry = Entry(here, Path(child.path), size=status.st_size, modified=status.st_mtime)
        matters = entry.is_notebook or ZIP.search(child.name)
        if stat.S_ISLNK(status.st_mode):
            # Never followed: it may lead to another learner's work, or to the teacher's own files.
            if matters or is_folder:
                yield replace(entry, problem="It is a symbolic link, and links are not followed. Put a copy there.")
        elif stat.S_ISDIR(status.st_mode):
            yield from _in_folder(Path(child.path), here, most_bytes)
        elif not stat.S_ISREG(status.st_mode):
            if matters:
                yield replace(entry, problem="It is no ordinary file (a pipe, a device). Have the notebook handed in.")
        elif ZIP.search(child.name):
            try:
                with open(child.path, "rb") as file:
                    yield from _in_zip(entry, file, most_bytes)
            except OSError as error:
                yield replace(entry, problem=_cannot_be_opened(error))
        else:
            yield entry


def _in_zip(zipped: Entry, file: BinaryIO, most_bytes: int) -> Iterator[Entry]:
    """The files of a zip, those of zips within it included; nothing is unpacked to the disk."""
    if len(zipped.members) >= DEEPEST_ZIP:
        yield replace(zipped, problem="It is a zip in a zip in a zip. Have the notebook handed in by itself.")
        return
    try:
        with _zip(file) as archive:
            # A name that comes twice stands for the last one, here and when it is read.
            for info in {info.filename: info for info in archive.infolist()}.values():
                names = _parts(info)
                if info.is_dir() or not names or any(map(_passed_over, names)):
                    continue
                entry = Entry(
                    (*zipped.parts, *names), zipped.path, (*zipped.members, info.filename),
                    info.file_size, _modified(info),
                )  # fmt: skip
                if not ZIP.search(names[-1]):
                    yield entry
                    continue
                try:
                    if info.file_size > MOST_GROWTH * info.compress_size + 2**20:
                        raise Unreadable("It is a zip that grows more than a zip does. Have the notebook handed in.")
                    inner = _member(archive, info.filename, most_bytes)
                except Unreadable as error:
                    yield replace(entry, problem=str(error))
                    continue
                yield from _in_zip(entry, io.BytesIO(inner), most_bytes)
    except Unreadable as error:
        yield replace(zipped, problem=str(error))


def _parts(info: zipfile.ZipInfo) -> tuple[str, ...]:
    """The path of a member, without what would lead out of the zip."""
    name = info.filename
    if not info.flag_bits & 0x800:
        # macOS writes UTF-8 without saying so.
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    names = re.split(r"[/\\]", re.sub(r"^[A-Za-z]:", "", name))
    # Cut to what a file system takes: matching patterns takes the square of a name's length.
    return tuple(part[:200] + part[200:][-50:] for part in names if part.strip() not in ("", ".", ".."))


def _modified(info: zipfile.ZipInfo) -> float:
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (ValueError, OverflowError):  # a month 0, say
        return 0


def _passed_over(name: str) -> bool:
    """Whether it is what systems and editors leave behind: `.ipynb_checkpoints`, `._x.ipynb`, `.DS_Store`."""
    return name.startswith((".", "~$")) or name in PASSED_OVER


@contextmanager
def _zip(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """Open a zip; whatever is wrong with it is raised as Unreadable."""
    with _told(), zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > MOST_MEMBERS:
            raise Unreadable(
                f"The zip holds {len(archive.infolist()):,} files, more than the {MOST_MEMBERS:,} that are "
                "looked at. Have the notebook handed in by itself."
            )
        yield archive


@lru_cache(maxsize=1)
def _outer_zip(path: Path, modified: int, process: int) -> zipfile.ZipFile:
    """A zip on the disk, kept open: to read the list of a whole class for each notebook takes longer than the rest.

    A process that was forked has its own, since both would move one place in the file.
    """
    return zipfile.ZipFile(path)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        raise Unreadable(f"The zip is broken ({error or type(error).__name__}). Have it handed in again.") from None


BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error)
BROKEN += (EOFError, RuntimeError, ValueError, KeyError, OverflowError)
"""What zipfile raises for a zip that is not as it should be."""


def _member(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    """A file of a zip, however large it turns out to be no more than most_bytes of it in memory."""
    info = archive.getinfo(name)
    if info.flag_bits & 0x1:
        raise Unreadable("The zip is encrypted. Have it handed in without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable("The zip is compressed in an unusual way. Have it made anew, with the system's own means.")
    if info.file_size > most_bytes:
        raise Unreadable(_too_large(info.file_size, most_bytes))
    with archive.open(info) as member:
        data = member.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise Unreadable(_too_large(len(data), most_bytes))
    return data


def _contents(entries: Sequence[Entry], most_bytes: int) -> list[bytes]:
    """What these files hold; each may have most_bytes, and a zip is opened once for neighbours."""
    found = []
    opened = archive = None
    try:
        with _told(), ExitStack() as stack:
            for entry in entries:
                if not entry.members:
                    with entry.path.open("rb") as file:
                        data = file.read(most_bytes + 1)
                    if len(data) > most_bytes:
                        raise Unreadable(_too_large(max(entry.size, len(data)), most_bytes))
                    found.append(data)
                    continue
                *outer, member = entry.members
                if opened != (entry.path, outer):
                    stack.close()
                    archive = _outer_zip(entry.path, entry.path.stat().st_mtime_ns, os.getpid())
                    for name in outer:
                        inner = io.BytesIO(_member(archive, name, MOST_BYTES))
                        archive = stack.enter_context(_zip(inner))
                    opened = (entry.path, outer)
                found.append(_member(archive, member, most_bytes))
    except OSError as error:
        raise Unreadable(_cannot_be_opened(error)) from None
    return found


def _cannot_be_opened(error: OSError) -> str:
    return f"It cannot be opened: {error.strerror or error}. Look at its permissions."


def _too_large(size: int, most: int) -> str:
    return f"It has {_size(size)}, and up to {_size(most)} are read. Have it handed in again without outputs."


def _size(number: int) -> str:
    return f"{number / 2**20:,.0f} MB" if number >= 2**20 else f"{number / 2**10:,.0f} kB"


# ------------------------------------------------------------------------------ whose is it?


@dataclass(frozen=True)
class _Owned:
    """A file, and what its path says of it.

    Attributes:
        written: the learner's name as it is written; `learner` may be shown.
        is_named: whether the exercise stands in the file's own name, not in a folder's.
        upload: Canvas' number of the upload; the newest has the largest.
        version: 1 for `…-Copy1` and the like.
        inner: the path within the learner's own folder; None in a flat folder, which belongs to all.
    """

    entry: Entry
    written: str
    exercise: str
    is_named: bool = True
    lms_id: str = ""
    upload: int = 0
    version: int = 0
    inner: tuple[str, ...] | None = None
    learner: str = ""


def _owned(found: list[Entry], base: str) -> list[_Owned]:
    """Whose each file is, and for which exercise; `base` is the name of the folder they lie in."""
    owned = []
    for entry, depth in _unwrapped(found):
        around = [base, *(ZIP.sub("", part) for part in entry.parts[:depth])]
        # Exports are called after the assignment.
        hint = next((exercise for part in reversed(around) if (exercise := _split(part)[0])), "")
        item = _owner(entry, entry.parts[depth:], hint)
        if item.written:
            owned.append((item, around[-1]))
        elif entry.is_notebook or entry.problem:
            owned.append((replace(item, written=around[-1]), around[-1]))
    # A notebook without an exercise in its name, beside one that is called as the exercise: both are one learner's.
    ones_own = {outer for item, outer in owned if item.inner is None and item.exercise and item.written == outer}
    return [
        replace(item, written=outer) if item.inner is None and not item.exercise and outer in ones_own else item
        for item, outer in owned
    ]


def _unwrapped(entries: list[Entry]) -> list[tuple[Entry, int]]:
    """The files, and how many folders and zips lie around what the learners handed in.

    A learner may name files as another learner's are called, so only a wrapping
    that lies around everything is taken off: no folder is opened for what is in it.
    """
    depth, wrapped = 0, entries
    others: list[tuple[Entry, int]] = []
    while True:
        tops = {entry.parts[depth] for entry in wrapped if entry.is_notebook or entry.problem}
        if "submitted" in tops:  # nbgrader's course, with source/ and release/ beside it
            wrapped, others, tops = [entry for entry in wrapped if entry.parts[depth] == "submitted"], [], {"submitted"}
        within = [entry for entry in wrapped if entry.parts[depth] in tops]
        inner = [entry.parts[depth + 1 :] for entry in within]
        is_wrapping = tops and all(inner) and not any(map(_lms, tops))
        if not is_wrapping or not (all(_lms(path[0]) for path in inner) or len(tops) == 1 and _wraps(*tops, inner)):
            return others + [(entry, depth) for entry in wrapped]
        others += [(entry, depth) for entry in wrapped if entry.parts[depth] not in tops]
        depth, wrapped = depth + 1, within


def _wraps(top: str, inner: list[tuple[str, ...]]) -> bool:
    """Whether the only folder there is holds a class, and is no learner's own."""
    if ZIP.search(top) or top == "submitted":
        return True
    notebooks = [path for path in inner if NOTEBOOK.search(path[-1])]
    if not any(len(path) == 1 for path in notebooks):
        folders = {path[0] for path in notebooks if not _is_exercise(path[0])}
        return len(folders) > 1 or any(not ZIP.search(folder) for folder in folders)
    learners = defaultdict(set)
    for name in (path[0] for path in notebooks if len(path) == 1):
        exercise, learner, _ = _split(_stem(name))
        learners[exercise].add(learner)
    return any(exercise and len(names - {""}) > 1 for exercise, names in learners.items())


def _lms(name: str) -> re.Match | None:
    """Canvas' or Moodle's name for what a learner handed in."""
    return MOODLE.fullmatch(name) or CANVAS.fullmatch(name) or CANVAS_ANONYMOUS.fullmatch(name)


def _owner(entry: Entry, path: tuple[str, ...], hint: str) -> _Owned:
    """Read off a path whose a file is; the outermost name decides, for within it the learner chose the names."""
    first, *rest = path
    if match := _lms(first):
        named = match.groupdict()
        inner = (*filter(None, [named.get("file")]), *rest) or (first,)
        exercise, is_named, version = _exercise(inner, hint)
        upload = int(named.get("upload") or 0)
        return _Owned(entry, match["name"], exercise, is_named, named.get("id") or "", upload, version, inner)
    exercise, left, version = _split(ZIP.sub("", first) if rest else _stem(first))
    if not rest:
        if exercise or not hint:
            return _Owned(entry, left, exercise, bool(exercise), version=version)
        return _Owned(entry, COPY_OF_ANYTHING.sub("", _stem(first)), hint, False)
    if exercise and not left:
        return _owner(entry, tuple(rest), exercise)
    named_by, is_named, version = _exercise(tuple(rest), exercise or hint)
    return _Owned(entry, left or ZIP.sub("", first), named_by, is_named, version=version, inner=tuple(rest))


def _exercise(path: tuple[str, ...], hint: str) -> tuple[str, bool, int]:
    """The exercise by the file's own name, else by a folder's; whether it was the file's; and which copy it is."""
    exercise, _, version = _split(_stem(path[-1]))
    if exercise:
        return exercise, True, version
    return (
        next((_split(ZIP.sub("", folder))[0] for folder in reversed(path[:-1]) if _is_exercise(folder)), hint),
        False,
        0,
    )


def _is_exercise(folder: str) -> bool:
    exercise, left, _ = _split(ZIP.sub("", folder))
    return bool(exercise and not left)


def _stem(name: str) -> str:
    return NOTEBOOK.sub("", name) if NOTEBOOK.search(name) else os.path.splitext(name)[0]


@lru_cache
def _split(name: str) -> tuple[str, str, int]:
    """The exercise within a name ("" for none), what else stands there, and which copy it is."""
    name = name[:300]  # a zip may hold names of any length
    match = _known_exercises().search(name)
    if not match:
        return "", name, 0
    exercise = next(exercise for exercise in exercises() if _words(exercise) == _words(match[0]))
    before, after = COPY_OF.sub("", name[: match.start()]), name[match.end() :]
    copy = COPY_OF_EXERCISE.match(after)
    if copy:
        after = after[copy.end() :]
    trailing = COPY_OF_ANYTHING.search(after)
    if trailing:
        after = after[: trailing.start()]
    left = " ".join(filter(None, (part.strip(" _-.") for part in (before, after))))
    marks = "".join(found[0] for found in (copy, trailing) if found)
    numbers = [int(number[:9]) for number in re.findall(r"\d+", marks)]
    return exercise, left, max(numbers, default=int(bool(marks)))


def exercises() -> list[str]:
    """The exercises of the course, in their order."""
    return list(dict.fromkeys(question.exercise for question in all_questions().values()))


@cache
def _known_exercises() -> re.Pattern:
    """Finds an exercise's name within another, whatever stands between its words."""
    longest_first = sorted(exercises(), key=len, reverse=True)
    names = "|".join(r"[\W_]*".join(map(re.escape, name.split("_"))) for name in longest_first)
    return re.compile(rf"(?<![^\W_])(?:{names})(?![^\W_])", re.I)


def _words(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


def _named_apart(owned: list[_Owned]) -> list[_Owned]:
    """Give each learner the name that is shown, different ones to different learners."""
    learners = dict.fromkeys((unicodedata.normalize("NFC", item.written), item.lms_id) for item in owned)
    shown: dict[tuple[str, str], str] = {}
    namesakes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for learner in learners:
        namesakes[cleaned(learner[0]) or "(no name)"].append(learner)
    taken = set(namesakes)
    for name, same in namesakes.items():
        # Who is called exactly so keeps the name; who looks so has a number added.
        for place, learner in enumerate(sorted(same, key=lambda learner: (learner[0] != name, learner))):
            number = learner[1] if len({lms_id for _, lms_id in same}) == len(same) else str(place + 1)
            candidate = name if len(same) == 1 or not learner[1] and not place else f"{name} ({number})"
            while candidate in taken and candidate != name:
                candidate += "'"
            taken.add(candidate)
            shown[learner] = candidate
    return [
        replace(item, learner=shown[unicodedata.normalize("NFC", item.written), item.lms_id]) for item in owned
    ]  # fmt: skip


# ------------------------------------------------------------------------------ rows


def _places(items: list[_Owned]) -> Iterator[Place]:
    """The rows of one learner."""
    notebooks: dict[str, list[_Owned]] = defaultdict(list)
    for item in items:
        if item.entry.is_notebook and not item.entry.problem:
            notebooks[item.exercise].append(item)
    for exercise, candidates in notebooks.items():
        if not exercise:
            yield from map(_unknown, candidates)
            continue
        newest = max(candidates, key=_newness)
        for item in candidates:
            problem = "" if item is newest else (
                f"{exercise} was handed in more than once. The newest was graded, {newest.entry.where}; not this one."
            )  # fmt: skip
            yield _place(item, problem, () if problem else _beside(item, items))
    reported = set(notebooks)
    for item in sorted(items, key=lambda item: (not item.entry.problem, not _is_like_an_answer(item))):
        if item.entry.problem:
            reported.add(item.exercise)
            yield _place(item, item.entry.problem)
        elif item.entry.is_notebook or item.exercise in reported:
            continue
        elif item.exercise and (item.is_named or _is_like_an_answer(item)) or item.inner is not None and not reported:
            reported.add(item.exercise)
            yield _place(item, _no_notebook(item))


def _newness(item: _Owned) -> tuple:
    # A minute is within what copying and unpacking do to times; there the number in the name decides.
    return item.is_named, item.upload, item.entry.modified // 60, item.version, item.entry.modified, item.entry.parts


def _is_like_an_answer(item: _Owned) -> bool:
    return item.entry.parts[-1].lower().endswith((".py", ".html", ".pdf"))


def _place(item: _Owned, problem: str = "", beside: tuple = ()) -> Place:
    return Place(item.learner, item.exercise, item.entry, item.lms_id, problem, beside)


def _unknown(item: _Owned) -> Place:
    name = cleaned(_stem(item.inner[-1] if item.inner else item.entry.parts[-1]))
    like = get_close_matches(name.casefold(), exercises(), cutoff=0.6)
    help = f"Did you mean {' or '.join(like)}?" if like else f"The exercises are: {', '.join(exercises())}."
    problem = f"There is no exercise {name!r}. {help} Give the file the name of its exercise."
    return replace(_place(item, problem), exercise=name)


def _no_notebook(item: _Owned) -> str:
    name = cleaned(item.entry.parts[-1])
    return f"{name} is no notebook, and no notebook lies beside it. Have the notebook (.ipynb) handed in."


def _beside(notebook: _Owned, items: list[_Owned]) -> tuple[tuple[str, Entry], ...]:
    """What the learner put beside a notebook or below, by its name as seen from there."""
    if notebook.inner is None:
        return ()
    folder = notebook.inner[:-1]
    found = {
        "/".join(item.inner[len(folder) :]): item.entry
        for item in items
        if item.inner is not None
        and item.inner[: len(folder)] == folder
        and not item.entry.is_notebook
        and not item.entry.problem
    }
    # In a zip, a file and a folder may have one name; and names may be such that no system takes them.
    return tuple(
        (name, entry)
        for name, entry in found.items()
        if not any(str(parent) in found for parent in PurePosixPath(name).parents)
        and not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name)
    )


def _expect_python(metadata: object) -> None:
    def text(key: str, name: str) -> str:
        value = metadata.get(key) if isinstance(metadata, dict) else None
        value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) else ""

    language = text("kernelspec", "language") or text("language_info", "name")
    if not language and text("kernelspec", "name") == "ir":
        language = "R"
    if language and "python" not in language.lower():
        raise Unreadable(
            f"The notebook is written for {cleaned(language)}, and the course's exercises are in Python. "
            "If its code is Python, choose a Python kernel in Jupyter and save it again."
        )


def _is_skipped(cell: dict) -> bool:
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return isinstance(tags, list) and "skip-execution" in tags


def _source(cell: dict) -> str:
    """A cell's code: one text or a list of lines, which format 3 calls input."""
    source = cell.get("source", cell.get("input", ""))
    lines = source if isinstance(source, list) else [source]
    text = "".join(line for line in lines if isinstance(line, str))
    # Half a surrogate pair is no text that could be sent or stored.
    return text.replace("\r\n", "\n").encode("utf-8", "replace").decode()
