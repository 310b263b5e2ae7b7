"""What a check can look at. Each expectation returns quietly or raises `Wrong` with what is wrong.

A message names the aspect (type, then shape, then value, then what the
database holds) and never the expected value itself. `what` begins the message:
"the result", "the third row", "the table notes".
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pgv_helpers.course.learner import Learner, Statement
from pgv_helpers.course.verdict import Wrong
from pgv_helpers.db import query
from pgv_helpers.errors import IndexProblem
from pgv_helpers.evaluation import recall_at_k
from pgv_helpers.extras import require_extra
from pgv_helpers.indexes import Plan, explain, undone

# -- what a check needs ---------------------------------------------------------


def packages(extra: str) -> None:
    """The packages of an extra of the course are installed."""
    try:
        require_extra(extra)
    except ImportError as error:
        raise Wrong(str(error)) from None


# -- values ---------------------------------------------------------------------


def is_a(value: Any, kinds: type | tuple[type, ...], what: str) -> None:
    """The value is of one of these types (a bool is no int)."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(dict.fromkeys(map(_a, kinds)))
        hint = " Does the function end with a return?" if value is None else ""
        raise Wrong(f"{what} should be {wanted}; it is {_a(type(value))}.{hint}")


def has_length(value: Any, length: int, what: str, things: str = "items", *, asked: bool = False) -> None:
    """The value holds so many things. Says whether there are too few or too many.

    Args:
        asked: the function was given the number, so that the message may say it.
    """
    if len(value) != length:
        amount = "few" if len(value) < length else "many"
        number = f": {length} were asked for" if asked else ""
        raise Wrong(f"{what} holds {len(value)} {things}, which is too {amount}{number}.")


def tuples(value: Any, kinds: dict[str, type | tuple[type, ...]], what: str) -> None:
    """The value is a list of tuples with these parts, each of its type.

    Args:
        kinds: the parts' types by the names that messages call them.
    """
    is_a(value, list, what)
    item_of = f"item of {what[:1].lower()}{what[1:]}"
    for item in value:
        is_a(item, tuple, f"Each {item_of}")
        if len(item) != len(kinds):
            raise Wrong(f"Each {item_of} should be ({', '.join(kinds)}); it holds {len(item)} values.")
        for part, (name, kind) in zip(item, kinds.items()):
            if part is None:
                raise Wrong(f"{what} holds a {name} that is None, NULL in the database: such rows do not belong there.")
            is_a(part, kind, f"The {name} in each {item_of}")


def is_array(value: Any, shape: tuple[int, ...], dtype: str, what: str) -> None:
    """The value is a NumPy array of this shape and kind of number."""
    is_a(value, np.ndarray, what)
    if value.dtype == object:
        raise Wrong(f"{what} is an array of objects, not of numbers.")
    if value.shape != shape:
        raise Wrong(f"{what} has the shape {value.shape}, not {shape}.")
    if value.dtype != np.dtype(dtype):
        raise Wrong(f"{what} holds numbers of type {value.dtype}, not {dtype}.")


def close(value: Any, expected: Any, what: str, tolerance: float = 1e-6) -> None:
    """Number by number the value is what was expected, within a tolerance relative to 1 or to the number."""
    value, expected = np.asarray(value, float), np.asarray(expected, float)
    if value.shape != expected.shape:
        raise Wrong(f"{what} has the shape {value.shape}, not {expected.shape}.")
    wrong = ~np.isclose(value, expected, rtol=tolerance, atol=tolerance)
    if wrong.any():
        where = "" if value.ndim == 0 else f" ({wrong.sum()} of {value.size} numbers, the first at {_first(wrong)})"
        rounded = any(np.array_equal(value, np.round(expected, places)) for places in range(6))
        raise Wrong(f"{what} is wrong{where}.{' Was it rounded? Return it as it is.' if rounded else ''}")


def equal(value: Any, expected: Any, what: str) -> None:
    """The value is what was expected."""
    if value != expected:
        raise Wrong(f"{what} is wrong.")


def same_items(values: Iterable, expected: Iterable, what: str) -> None:
    """The same things in any order, each as often."""
    values, left = list(values), list(expected)
    extra = []
    for value in values:
        left.remove(value) if value in left else extra.append(value)
    if extra:
        raise Wrong(f"{what} holds something that does not belong there: {extra[0]!r}.")
    if left:
        raise Wrong(f"{what} lacks {len(left)} of {len(left) + len(values)}.")


def ordered(keys: Sequence[float], what: str, *, descending: bool = False, tolerance: float = 1e-6) -> None:
    """The keys rise (or fall); equal ones may stand in any order."""
    steps = np.diff(np.asarray(keys, float)) * (-1 if descending else 1)
    if (steps < -tolerance).any():
        first, place = "largest" if descending else "smallest", int(np.argmax(steps < -tolerance)) + 2
        raise Wrong(f"{what} is out of order at place {place}: the {first} comes first.")


def nearest(found: Sequence, distances: dict[Any, float], limit: int, what: str, tolerance: float = 1e-6) -> None:
    """The found items are the `limit` nearest in order; items at equal distances may change places.

    Args:
        found: what was found, nearest first.
        distances: the distance of every item that could be found.
    """
    has_length(found, min(limit, len(distances)), what, asked=limit <= len(distances))
    if strange := [item for item in found if item not in distances]:
        raise Wrong(f"{what} holds something that does not belong there: {strange[0]!r}.")
    if len(set(found)) < len(found):
        raise Wrong(f"{what} holds something twice.")
    ordered([distances[item] for item in found], what, tolerance=tolerance)
    best = sorted(distances.values())[: len(found)]
    if any(abs(distances[item] - right) > tolerance for item, right in zip(found, best)):
        raise Wrong(f"{what} is not the nearest: something nearer is missing.")


def recall(found: Sequence[Sequence], exact: Sequence[Sequence], at_least: float, what: str) -> None:
    """Of each query's exact neighbours enough were found: the mean share reaches `at_least` (recall@k)."""
    has_length(found, len(exact), what)
    if (share := mean_recall(found, exact)) < at_least:
        raise Wrong(f"{what}: the recall is {share:.2f}, and {at_least:.2f} is asked for.")


def mean_recall(found: Sequence[Sequence], exact: Sequence[Sequence]) -> float:
    """The share of each query's exact neighbours that was found, on average."""
    return float(np.mean([recall_at_k(some, right, len(some)) for some, right in zip(found, exact)]))


# -- what the database holds -----------------------------------------------------


def table(db: Connection, name: str) -> None:
    """There is such a table, no view and nothing else, in the schema that the check works in."""
    kinds = query(
        db, "SELECT relkind FROM pg_class WHERE relname = %s AND relnamespace = current_schema()::regnamespace", [name]
    )
    if kinds.empty:
        raise Wrong(f"There is no table {name}. Was it committed? Is the name right?")
    if kinds.relkind[0] not in "rp":
        raise Wrong(f"{name} is no table.")


def columns(db: Connection, table_name: str, types: dict[str, str], required: Iterable[str] = ()) -> None:
    """The table has these columns of these types (as format_type writes them); the required ones are NOT NULL."""
    table(db, table_name)
    found = query(
        db,
        """SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull AS required
           FROM pg_attribute WHERE attrelid = quote_ident(%s)::regclass AND attnum > 0 AND NOT attisdropped""",
        [table_name],
    ).set_index("attname")
    for column, type_name in types.items():
        if column not in found.index:
            raise Wrong(f"The table {table_name} has no column {column}.")
        if found.type[column] != type_name:
            raise Wrong(f"The column {column} is of type {found.type[column]}; it should be {type_name}.")
    for column in required:
        if not found.required[column]:
            raise Wrong(f"The column {column} accepts NULL.")


def unique(db: Connection, table_name: str, columns: Sequence[str], *, primary: bool = False) -> None:
    """No two rows may agree in just these columns: a primary key, or a unique constraint or index."""
    found = query(
        db,
        """SELECT (SELECT array_agg(attname::text) FROM pg_attribute
                   WHERE attrelid = indrelid AND attnum = ANY(indkey)) AS columns
           FROM pg_index
           WHERE indrelid = quote_ident(%s)::regclass AND indisunique AND indpred IS NULL
                 AND (indisprimary OR NOT %s)""",
        [table_name, primary],
    )
    if not any(set(names) == set(columns) for names in found["columns"]):
        kind = "PRIMARY KEY" if primary else "UNIQUE"
        raise Wrong(f"The table {table_name} has no {kind} on {', '.join(columns)}.")


def rows(db: Connection, statement: str, parameters: Sequence, expected: Sequence[tuple], what: str) -> None:
    """The query returns these rows in any order; numbers within a tolerance, vectors as lists.

    The first column should be the key: it must agree exactly, and names the row that is wrong.
    """
    found = [_plain(row) for row in query(db, statement, parameters).itertuples(index=False, name=None)]
    expected = [_plain(row) for row in expected]
    has_length(found, len(expected), what, "rows")
    by_key: dict[Any, list[tuple]] = {}
    for row in found:
        by_key.setdefault(row[0], []).append(row)
    for row in expected:
        if not any(_alike(row, other) for other in by_key.get(row[0], [])):
            raise Wrong(f"{what} is wrong, at least for {row[0]!r}.")


def count(db: Connection, table_name: str, expected: int, learner: Learner) -> None:
    """The table has so many committed rows. Says so when they were not committed."""
    found = query(db, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table_name))).iloc[0, 0]
    if found != expected:
        amount = "too few" if found < expected else "too many"
        reason = ""
        if learner.in_transaction:
            reason = " A transaction is still open: was it committed?"
        elif not learner.statements:
            reason = " Nothing was sent over the connection that the function was given."
        raise Wrong(f"The table {table_name} holds {found} rows, which is {amount}.{reason}")


def committed(learner: Learner) -> None:
    """The last call left no transaction open."""
    if learner.in_transaction:
        raise Wrong("A transaction is still open. End it: commit, or use `with conn:`.")


@contextmanager
def unchanged(db: Connection, tables: Iterable[str], what: str) -> Iterator[None]:
    """The block leaves the rows of these tables as they were."""

    def contents() -> dict[str, list]:
        every = sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1")
        return {name: query(db, every.format(sql.Identifier(name))).t.tolist() for name in tables}

    before = contents()
    yield
    for name, after in contents().items():
        if after != before[name]:
            raise Wrong(f"{what}: the table {name} was changed.")


def index(
    db: Connection, table_name: str, method: str, operator_class: str, options: dict[str, str] | None = None
) -> str:
    """The table has a valid index of this method and operator class, with these options; its name is returned."""
    found = query(
        db,
        """SELECT pg_class.relname AS name, amname AS method, opcname AS class, indisvalid AS valid,
                  COALESCE(reloptions, '{}') AS options
           FROM pg_index
           JOIN pg_class ON pg_class.oid = indexrelid
           JOIN pg_am ON pg_am.oid = relam
           JOIN pg_opclass ON pg_opclass.oid = indclass[0]
           WHERE indrelid = quote_ident(%s)::regclass""",
        [table_name],
    )
    if (of_method := found[found.method == method]).empty:
        others = f" It has: {', '.join(found.method)}." if len(found) else ""
        raise Wrong(f"The table {table_name} has no {method} index.{others}")
    if (of_class := of_method[of_method["class"] == operator_class]).empty:
        found_class = of_method["class"].iloc[0]
        serves = "serves another operator"
        if operator_class.startswith("vector") and not found_class.startswith("vector"):
            serves = "is for an index on a cast; here one on the column itself is asked for"
        raise Wrong(f"The {method} index has the operator class {found_class}, which {serves}.")
    if (valid := of_class[of_class.valid]).empty:
        raise Wrong(f"The {method} index is not valid: its build did not finish. Drop it and build it again.")
    wanted = {f"{name}={value}" for name, value in (options or {}).items()}
    for row in valid.itertuples():
        if wanted <= set(row.options):
            return row.name
    raise Wrong(f"The {method} index has the options {valid.options.iloc[0]}, not those that were asked for.")


def uses_index(db: Connection, statement: str, name: str | None = None) -> None:
    """The statement's plan reads an index, this one if a name is given, and does not sort the whole table."""
    nodes = list(_nodes(_plan(db, statement)))
    used = [node["Index Name"] for node in nodes if "Index Name" in node]
    if not used:
        steps = " over ".join(node["Node Type"] for node in nodes)
        raise Wrong(f"The query uses no index; its plan is {steps}.")
    if name and name not in used:
        raise Wrong(f"The query uses the index {used[0]}, not {name}.")


def reads_whole_table(db: Connection, statement: str) -> None:
    """The statement's plan uses no index."""
    used = [node["Index Name"] for node in _nodes(_plan(db, statement)) if "Index Name" in node]
    if used:
        raise Wrong(f"The query uses the index {used[0]}.")


@contextmanager
def settings_kept(learner: Learner) -> Iterator[None]:
    """The calls in the block leave the settings of the learner's connection as they were."""
    before = learner.settings
    yield
    for name, value in learner.settings.items():
        if value != before.get(name, value):
            reason = " and its transaction is still open" if learner.in_transaction else ""
            remedy = (
                "Put it back in the function."
                if name == "conn.autocommit"
                else "SET stays, and RESET goes back to PostgreSQL's default. SET LOCAL ends with its transaction and "
                "leaves what was there before."
            )
            raise Wrong(
                f"After the call {name} is still {value}{reason}, and whatever comes next runs with it; before, it "
                f"was {before[name]}. {remedy}"
            )


# -- what the learner's code sent -------------------------------------------------


def statements(learner: Learner, command: str, at_most: int = 1) -> Statement:
    """Between one and `at_most` statements of this command (INSERT, SELECT, …) were sent; the last of them.

    A DELETE within a WITH counts as a DELETE, although the command is then a SELECT.
    """

    def does(sent: Statement) -> bool:
        inside = re.match(r"\s*WITH\b", sent.text, re.I) and re.search(rf"\b{command}\b", sent.text, re.I)
        return sent.status.split(" ")[0] == command or bool(command != "SELECT" and inside)

    found = [sent for sent in learner.statements if does(sent)]
    if not found:
        raise Wrong(f"No {command} was sent over the connection that the function was given.")
    if len(found) > at_most:
        wanted = "one is enough" if at_most == 1 else f"{at_most} are enough"
        raise Wrong(f"{len(found)} statements of {command} were sent; {wanted}.")
    return found[-1]


def search_plans(db: Connection, learner: Learner, table_name: str, setting: str = "") -> list[Plan]:
    """The plans of the learner's searches of a table, each in the settings that were sent before it.

    Args:
        setting: a statement, such as a SET LOCAL, to run before them all.
    """
    plans = []
    query(db, "BEGIN")
    try:
        if setting:
            query(db, setting)
        # One text may hold several statements; no vector holds a semicolon, two hyphens or a slash.
        sent = [re.sub(r"--.*|/\*(?s:.*?)\*/", "", sent.text) for sent in learner.statements if sent.status]
        for statement in ";".join(sent).split(";"):
            # Nothing else, above all nothing that would end the transaction.
            if re.match(r"\s*((RE)?SET\b|(SELECT|WITH)\b.*\bset_config\b)", statement, re.I | re.S):
                query(db, statement)
            elif re.search(rf"\bSELECT\b.*\b{table_name}\b", statement, re.I | re.S):
                with suppress(IndexProblem):  # of what is no query, such as an EXPLAIN
                    plans.append(explain(db, statement))
    finally:
        query(db, "ROLLBACK")
    return plans


def search_uses_index(
    db: Connection, learner: Learner, table_name: str, index_name: str, setting: str = "", *, last: bool = False
) -> Plan:
    """A search that was sent (the last one) reads this index, in the settings that were sent before it.

    Returns its plan.

    Args:
        setting: as of `search_plans`.
    """
    plans = search_plans(db, learner, table_name, setting)[-1 if last else 0 :]
    if not plans:
        raise Wrong(f"No search of {table_name} was sent over the connection that the function was given.")
    for plan in plans:
        if index_name in [node.get("Index Name") for _, node in plan.nodes]:
            return plan
    text = " ".join(sent.text for sent in learner.statements)
    sent = re.findall(r"(hnsw\.ef_search|ivfflat\.probes)\W+(?:TO\W+)?\d", text, re.I)
    if sent and search_plans(db, learner, table_name, "SET LOCAL enable_seqscan = off")[-1].index == index_name:
        raise Wrong(
            f"The search does not use the index {index_name}. With the settings of your search PostgreSQL reckons that "
            f"reading the whole table is cheaper: a large {sent[-1]} makes the index dear. Ask for no more than needed."
        )
    keys = [key for _, node in plans[-1].nodes for key in node.get("Sort Key", [])]
    by = ", sorted by " + re.sub(r"'[^' ]{20,}'", "'…'", keys[-1]) if keys else ""  # without the vector's numbers
    raise Wrong(f"The search does not use the index {index_name}. Its plan is {plans[-1].steps}{by}.")


def _plan(db: Connection, statement: str) -> dict:
    if ";" in statement.strip().rstrip(";"):
        raise Wrong("The query cannot be planned: it is several statements in one go. Send it by itself.")
    with undone(db), db.cursor() as cur:  # a function may be called while the plan is made
        try:
            cur.execute(b"EXPLAIN (FORMAT JSON) " + statement.encode())  # bytes: a % in it stands for itself
        except psycopg2.Error as error:
            raise Wrong(f"The query cannot be planned: {error}") from error
        return cur.fetchone()[0][0]["Plan"]


def _nodes(plan: dict) -> Iterator[dict]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _plain(row: tuple) -> tuple:
    return tuple(tuple(value.to_list()) if hasattr(value, "to_list") else value for value in row)


def _alike(row: tuple, other: tuple) -> bool:
    def same(a, b) -> bool:
        if isinstance(a, (float, tuple, list, np.ndarray)):
            return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-6, atol=1e-6)
        return a == b

    return len(row) == len(other) and all(map(same, row, other))


def _first(wrong: np.ndarray) -> Any:
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"place {place[0] + 1}" if len(place) == 1 else f"position {place}"


def _a(kind: type) -> str:
    if kind is type(None):
        return "None"
    # NumPy's own numbers are accepted beside Python's, and need no name of their own.
    name = {np.ndarray: "NumPy array", np.integer: "int", np.floating: "float", np.bool_: "bool"}.get(
        kind, kind.__name__
    )
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"
