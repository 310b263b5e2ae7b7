"""Exercise 05_filtering: the nearest among the rows that fit, all of them, and nobody else's."""

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extras import Json, execute_values

from pgv_helpers.bulk import bulk_load
from pgv_helpers.course import expect
from pgv_helpers.course.question import question
from pgv_helpers.datasets import clustered_vectors
from pgv_helpers.db import query
from pgv_helpers.distances import find_metric

question = partial(question, exercise="05_filtering")

HOSTILE = "O'Hara\"; '); DROP TABLE passages; -- 100 %s"
"""A text that breaks whatever pastes it into SQL, and passes unharmed where it is bound."""

ROWS = 10_000
"""As many as it takes for PostgreSQL to prefer an HNSW index at a filter of 1 % of its own accord."""


def vectors_around(rng: np.random.Generator, number: int, near: int, dimension: int = 8) -> tuple:
    """Vectors and one to search for; the first `near` are by far the nearest to it.

    Their lengths differ, so that Euclidean distance and inner product rank otherwise than cosine distance.
    """
    wanted = rng.normal(size=dimension).astype(np.float32)
    vectors = rng.normal(size=(number, dimension))
    vectors[:near] = wanted + 0.1 * vectors[:near]
    return (vectors * rng.uniform(0.2, 5, size=(number, 1))).astype(np.float32), wanted


def clusters(rng: np.random.Generator, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in 50 clusters, of different lengths, and held-out ones to search for."""
    chunks = clustered_vectors(ROWS + queries, 32, clusters=50, spread=0.8, seed=int(rng.integers(2**31)))
    vectors = np.concatenate(list(chunks)) * rng.uniform(0.3, 3, size=(ROWS + queries, 1)).astype(np.float32)
    return vectors[:ROWS], vectors[ROWS:]


def make_table(db, name: str, columns: dict[str, str], rows: Sequence[tuple] = ()) -> None:
    """A table with these columns, named with their types, filled with rows."""
    definitions = sql.SQL(", ").join(sql.SQL("{} " + kind).format(sql.Identifier(key)) for key, kind in columns.items())
    query(db, sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(name), definitions))
    with db.cursor() as cur:
        execute_values(cur, sql.SQL("INSERT INTO {} VALUES %s").format(sql.Identifier(name)), rows, page_size=1000)


def make_documents(db, vectors: np.ndarray, categories: list[str]) -> None:
    """The large table as the exercise describes it, analyzed; the ids count from 1."""
    columns = {"id": "integer PRIMARY KEY", "category": "text NOT NULL", "embedding": "vector(32) NOT NULL"}
    make_table(db, "documents", columns)
    bulk_load(db, "documents", {"id": np.arange(1, len(vectors) + 1), "category": categories, "embedding": vectors})
    query(db, "ANALYZE documents")


@question(
    "filtering.search_since",
    points=1,
    objective="search within a category and from a date on, every value bound",
    hints=[
        "Which rows are looked at is the business of WHERE; ORDER BY and LIMIT see what it leaves.",
        "Two conditions, joined by AND. The day itself counts, and a date that is NULL is not `>=` anything.",
        "`WHERE category = %(category)s AND published >= %(since)s ORDER BY embedding <=> %(vector)s LIMIT %(limit)s`",
    ],
)
def search_since(learner, db, rng) -> Iterator[str]:
    since = date(2023, 1, 1) + timedelta(int(rng.integers(600)))
    # Alike for whoever ignores case or space, or takes a category for a pattern.
    kinds = ["space", "Space", "space ", "s%", HOSTILE]
    very_day, unknown = "it was published on the very day", "nobody knows when it was published"
    vectors, wanted = vectors_around(rng, 250, near=25)
    rows, whys = [], []
    for place, vector in enumerate(vectors):
        # The near ones, kind by kind: of the day, of the day before, long before, undated, after; then as it comes.
        later, before = timedelta(int(rng.integers(1, 200))), timedelta(int(rng.integers(2, 200)))
        days = [since, since - timedelta(1), since - before, None, since + later]
        published = days[place // 5 % 5]
        why = unknown if published is None else "it was published before that day" if published < since else ""
        rows.append((place + 1, kinds[place % 5], published, vector))
        whys.append(why)
    columns = {
        "id": "integer PRIMARY KEY",
        "category": "text NOT NULL",
        "published": "date",
        "embedding": "vector(8) NOT NULL",
    }
    make_table(db, "passages", columns, rows)
    for category, right in (
        ("space", "the nearest of the category that are new enough come, those of the day itself among them"),
        ("s%", "a category that looks like a pattern is a category like any other"),
        (HOSTILE, "so is one that would break SQL it is pasted into"),
    ):
        limit = int(rng.integers(5, 9))
        others = {
            id: "its category is another one" if kind != category else why
            for (id, kind, *_), why in zip(rows, whys)
            if kind != category or why
        }
        fits = {id: very_day if day == since else "" for id, _, day, _ in rows if id not in others}
        returned = learner.call("search_since", learner.conn, wanted, category, since, limit)
        _expect_nearest(returned, vectors, wanted, limit, fits, others)
        _expect_limited(learner, limit)
        expect.committed(learner)
        yield right
    nothing = learner.call("search_since", learner.conn, wanted, "space", since + timedelta(900), 5)
    expect.equal(nothing, [], "The result for a day after which nothing was published")
    yield "where nothing is new enough the list is empty"


@question(
    "filtering.search_short",
    points=2,
    objective="filter by what is in a JSON column, and by what is not",
    hints=[
        "`->>` gives a text, whatever stands in the JSON, and as a text '9' comes after '10'. A key that is missing "
        "gives NULL, and a comparison with NULL is not true, whichever way it is put.",
        "A cast makes a number of the text: `(metadata->>'minutes')::float`. And `metadata @> '{\"draft\": true}'` is "
        "false, not NULL, for metadata without the key, so that NOT before it is true.",
        "`WHERE metadata->>'level' = %(level)s AND (metadata->>'minutes')::float <= %(minutes)s "
        "AND NOT metadata @> '{\"draft\": true}'`",
    ],
)
def search_short(learner, db, rng) -> Iterator[str]:
    minutes, level = int(rng.integers(20, 40)), HOSTILE
    good = {"level": level, "minutes": minutes - 10.5}
    no_draft = "their metadata say nothing of a draft, so they are none"
    kinds = [  # metadata, and why they fit (None: they do not), or why they do not
        (good, no_draft, ""),
        (good | {"draft": False}, "their metadata say that they are no draft", ""),
        (good | {"minutes": minutes}, "they take just as many minutes as were given", ""),
        (good | {"minutes": minutes + 0.4}, None, "it takes a fraction of a minute too many"),
        (good | {"minutes": 100 + minutes}, None, "it takes too many minutes (which are numbers, not texts)"),
        (good | {"minutes": 9, "draft": False}, "they take less than ten minutes (which are numbers, not texts)", ""),
        ({"level": level}, None, "its metadata do not say how many minutes it takes"),
        (good | {"draft": True}, None, "it is a draft"),
        (good | {"level": "beginner"}, None, "its level is another one"),
        (good | {"level": level.lower()}, None, "its level is another one: capitals count"),
        (
            good | {"level": level.replace("%", "of them")},
            None,
            "its level is another one: the one given is no pattern",
        ),
        ({"minutes": 12, "draft": False}, None, "its metadata say nothing of a level"),
    ]
    number = 18 * len(kinds)
    vectors, wanted = vectors_around(rng, number, near=3 * len(kinds))
    drawn = [kinds[place % len(kinds)] for place in range(number)]
    fits = {id: fit for id, (_, fit, _) in enumerate(drawn, 1) if fit is not None}
    others = {id: why for id, (_, fit, why) in enumerate(drawn, 1) if fit is None}
    columns = {"id": "integer PRIMARY KEY", "metadata": "jsonb NOT NULL", "embedding": "vector(8) NOT NULL"}
    make_table(db, "passages", columns, [(id, Json(kind[0]), vectors[id - 1]) for id, kind in enumerate(drawn, 1)])
    for limit, right in (
        (int(rng.integers(14, 20)), "the nearest that are of the level, short enough and no drafts come"),
        (int(rng.integers(25, 30)), "so they do when more are asked for"),
    ):
        returned = learner.call("search_short", learner.conn, wanted, level, minutes, limit)
        _expect_nearest(returned, vectors, wanted, limit, fits, others)
        _expect_limited(learner, limit)
        expect.committed(learner)
        yield right


@question(
    "filtering.mend_permitted",
    points=2,
    objective="find out why a search returns too few rows, and filter before the limit",
    hints=[
        "The inner query takes its rows before anybody has asked who may read them.",
        "One query on `documents` alone, with the permission as a condition in its WHERE: a row is permitted, or it is "
        "not, however often.",
        "`FROM documents WHERE EXISTS (SELECT FROM permissions WHERE document = documents.id AND reader = %(reader)s) "
        "ORDER BY embedding <=> %(vector)s LIMIT %(limit)s`",
    ],
)
def mend_permitted(learner, db, rng) -> Iterator[str]:
    vectors, wanted = vectors_around(rng, 400, near=200)
    make_table(
        db,
        "documents",
        {"id": "integer PRIMARY KEY", "embedding": "vector(8) NOT NULL"},
        list(zip(range(1, 401), vectors)),
    )
    # What may be read lies far away, and its ids are in no order.
    may_read = {
        reader: [int(id) for id in rng.choice(np.arange(201, 401), size, replace=False)]
        for reader, size in (("ada", 60), ("O'Brien", 30), ("%", 30), ("eve", 4))
    }
    permissions = [
        (id, reader, via)
        for reader, ids in may_read.items()
        for id in ids
        for via in ("herself", "a group", "a link")[: int(rng.integers(2, 4))]
    ] + [(id, "Ada", "a group") for id in range(1, 301)]
    rng.shuffle(permissions)
    columns = {"document": "integer NOT NULL", "reader": "text NOT NULL", "via": "text NOT NULL"}
    make_table(db, "permissions", columns, permissions)
    for reader, right in (
        ("ada", "as many come as were asked for, the nearest of those that the reader may read"),
        ("O'Brien", "so they do for another reader"),
        ("%", "a reader whose name looks like a pattern is a reader like any other"),
        ("eve", "a reader who may read less gets all of it"),
    ):
        limit = int(rng.integers(10, 20))
        fits = dict.fromkeys(may_read[reader], "")
        others = {id: "this reader may not read it" for id in range(1, 401) if id not in fits}
        returned = learner.call("search_permitted", learner.conn, reader, wanted, limit)
        twice = "A reader may have a document in several ways."
        _expect_nearest(returned, vectors, wanted, limit, fits, others, twice=twice)
        _expect_limited(learner, limit)
        expect.committed(learner)
        yield right
    nothing = learner.call("search_permitted", learner.conn, "mallory", wanted, 5)
    expect.equal(nothing, [], "The result for a reader who may read nothing")
    yield "who may read nothing gets an empty list"


@question(
    "filtering.search_rare",
    points=3,
    objective="get as many rows as asked for from an approximate index under a filter of 1 %",
    hints=[
        "The index hands over its forty candidates, and the filter leaves one of a hundred: the scan has to go on.",
        "`SET LOCAL hnsw.iterative_scan = strict_order` in the same transaction as the search. With relaxed_order more "
        "of the nearest are found, a little out of order.",
        "With relaxed_order: `WITH found AS MATERIALIZED (SELECT id, embedding <=> %(vector)s AS distance FROM "
        "documents WHERE … ORDER BY distance LIMIT %(limit)s) SELECT id FROM found ORDER BY distance + 0`.",
    ],
)
def search_rare(learner, db, rng) -> Iterator[str]:
    vectors, queries = clusters(rng, 20)
    # Two others are alike, for whoever ignores case or takes a category for a pattern; pasted into SQL it breaks it.
    category = f"it's {rng.integers(100)} % rare"
    rare, *alike = rng.permutation(ROWS)[: 3 * ROWS // 100].reshape(3, -1).tolist()
    categories = ["common"] * ROWS
    for places, name in zip((rare, *alike), (category, category.upper(), category.replace("%", "per cent"))):
        for place in places:
            categories[place] = name
    make_documents(db, vectors, categories)
    query(
        db,
        """CREATE INDEX documents_hnsw ON documents
           USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 32)""",
    )
    fits = {place + 1: "" for place in rare}
    others = {id: "its category is another one" for id in range(1, ROWS + 1) if id not in fits}
    recalls = []
    for wanted in queries:
        limit = int(rng.integers(7, 11))
        with expect.settings_kept(learner):
            returned = learner.call("search_rare", learner.conn, wanted, category, limit)
            expect.committed(learner)
        ids = _expect_ids(returned, fits, others)
        _expect_enough(ids, limit, len(fits), _why_too_few(learner))
        _expect_limited(learner, limit)
        distances = _distances(vectors, wanted)
        relaxed = any("relaxed_order" in sent.text for sent in learner.statements)
        if relaxed and (np.diff(distances[np.array(ids) - 1]) < -1e-6).any():
            raise expect.Wrong(
                "The result is out of order, a little, as relaxed_order finds it. Sort it again in a query around it, "
                "by distance + 0: by the bare distance PostgreSQL takes it for sorted already."
            )
        _expect_metric(ids, vectors, wanted, fits)
        expect.ordered(distances[np.array(ids) - 1], "The result, by cosine distance,")
        exact = sorted(fits, key=lambda id: distances[id - 1])[:limit]
        recalls.append(expect.mean_recall([ids], [exact]))
    yield "as many rows come as were asked for, all of the category, the nearest first"
    expect.search_uses_index(db, learner, "documents", "documents_hnsw", last=True)
    yield "the search uses the index"
    if np.mean(recalls) < 0.4:
        raise expect.Wrong("The result is in order, and most of the nearest are missing: does the scan end too early?")
    yield "most of the nearest are found"
    learner.set("hnsw.iterative_scan", "strict_order" if relaxed else "relaxed_order")
    learner.set("hnsw.max_scan_tuples", int(rng.integers(15_000, 19_000)))
    with expect.settings_kept(learner):
        learner.call("search_rare", learner.conn, wanted, category, limit)
        expect.committed(learner)
    yield "the session's settings are as they were, whatever they were"


@question(
    "filtering.partial_index",
    points=2,
    objective="give one category an index of its own, and write the search that uses it",
    hints=[
        "An index may be of some rows only: CREATE INDEX takes a WHERE.",
        "PostgreSQL uses it for a query whose own WHERE says the same, with a value that it sees: psycopg2 puts what "
        "you bind into the statement before it is sent, in both statements.",
        "`CREATE INDEX ON documents USING hnsw (embedding vector_cosine_ops) WHERE category = %s`, and "
        "`WHERE category = %s ORDER BY embedding <=> %s LIMIT %s`.",
    ],
)
def partial_index(learner, db, rng) -> Iterator[str]:
    vectors, queries = clusters(rng, 6)
    kinds = np.array(["it's rare", "often", "common"], dtype=object)
    drawn = kinds[rng.choice(3, ROWS, p=[0.05, 0.15, 0.8])]
    make_documents(db, vectors, drawn.tolist())
    with expect.settings_kept(learner):
        learner.call("index_category", learner.conn, kinds[0])
        expect.committed(learner)
    name = expect.index(db, "documents", "hnsw", "vector_cosine_ops")
    (condition,) = query(
        db, "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = quote_ident(%s)::regclass", [name]
    ).iloc[0]
    if condition is None:
        raise expect.Wrong("The HNSW index is of every row. A partial index has a WHERE of its own.")
    held = query(db, sql.SQL("SELECT category, count(*) FROM documents WHERE {} GROUP BY 1").format(sql.SQL(condition)))
    if held.category.tolist() != [kinds[0]] or held["count"][0] != (drawn == kinds[0]).sum():
        raise expect.Wrong(f"The index is of the rows WHERE {condition}, which are not those of the category.")
    yield "there is an HNSW index of the rows of the category"
    for wanted, category in zip(queries, [kinds[0]] * 4 + [kinds[1]] * 2):
        limit = int(rng.integers(5, 12))
        fits = {int(place) + 1: "" for place in np.flatnonzero(drawn == category)}
        others = {id: "its category is another one" for id in range(1, ROWS + 1) if id not in fits}
        with expect.settings_kept(learner):
            returned = learner.call("search_category", learner.conn, wanted, category, limit)
            expect.committed(learner)
        _expect_nearest(returned, vectors, wanted, limit, fits, others, exact=category != kinds[0])
        _expect_limited(learner, limit)
        if category == kinds[0]:
            expect.search_uses_index(db, learner, "documents", name, last=True)
    yield "the search of the category uses it, and returns the nearest"
    yield "a search of another category, which has no index, returns the nearest as well"
    yield "the session's settings are as they were"


@question(
    "filtering.partitions",
    points=3,
    objective="keep each tenant's rows apart, so that a search reads those of one tenant",
    hints=[
        "A table that is `PARTITION BY LIST (tenant)` holds no row itself: each tenant needs a partition before its "
        "rows are inserted.",
        "`CREATE TABLE {} PARTITION OF documents FOR VALUES IN (%s)`, a name for each through "
        '`sql.Identifier(f"documents_{tenant}")`. An index on `documents` is made in every partition.',
        "The primary key has to contain the tenant: `PRIMARY KEY (tenant, id)`. A search with `WHERE tenant = %s` "
        "reads one partition.",
    ],
)
def partitions(learner, db, rng) -> Iterator[str]:
    tenants = [int(tenant) for tenant in rng.choice(900, 5, replace=False)]
    vectors, wanted = vectors_around(rng, 600, near=60)
    # The nearest of all belong to the last tenant; the search is for others.
    owners = [tenants[4] if place < 60 else tenants[place % 5] for place in range(600)]
    ids = rng.permutation(600) + 1
    rows = [(owner, int(id), vector) for owner, id, vector in zip(owners, ids, vectors)]
    learner.call("build_documents", learner.conn, [rows[place] for place in rng.permutation(600)])
    expect.committed(learner)
    expect.columns(db, "documents", {"tenant": "integer", "id": "integer", "embedding": "vector(8)"})
    _expect_partitioned_by_tenant(db)
    yield "the table is partitioned by list, by tenant"
    expect.rows(db, "SELECT id, tenant, embedding FROM documents", [], [(id, t, v) for t, id, v in rows], "The table")
    home = query(
        db,
        """SELECT DISTINCT tenant, relname AS partition
           FROM documents JOIN pg_class ON pg_class.oid = documents.tableoid""",
    )
    if len(shared := home.partition[home.partition.duplicated()]):
        raise expect.Wrong(f"The partition {shared.iloc[0]} holds several tenants.")
    yield "it holds every row, each tenant's in a partition of its own"
    expect.unique(db, "documents", ["tenant", "id"], primary=True)
    expect.index(db, "documents", "hnsw", "vector_cosine_ops")
    yield "it has its primary key, and an HNSW index for cosine distance in every partition, those to come included"
    by_id = np.empty_like(vectors)
    by_id[ids - 1] = vectors
    for tenant in tenants[:2]:
        limit = int(rng.integers(5, 12))
        fits = {id: "" for owner, id, _ in rows if owner == tenant}
        others = {id: "it is of another tenant" for owner, id, _ in rows if owner != tenant}
        returned = learner.call("search_tenant", learner.conn, tenant, wanted, limit)
        expect.committed(learner)
        _expect_nearest(returned, by_id, wanted, limit, fits, others, exact=False)
        _expect_limited(learner, limit)
        _expect_one_partition(db, learner, home.partition[home.tenant == tenant].iloc[0])
    yield "a search returns the nearest of the tenant, and reads its partition alone"


@question(
    "filtering.row_security",
    points=3,
    changes=["protect_documents"],
    objective="make the database keep tenants apart, so that no query can forget to",
    hints=[
        "Three statements: a policy says which rows, `ALTER TABLE … ENABLE ROW LEVEL SECURITY` puts it in force, and "
        "one thing more holds the owner to it.",
        "`CREATE POLICY … ON documents USING (…)` is for every role and every command; what it lets nobody see it lets "
        "nobody write.",
        "`CREATE POLICY tenants ON documents USING (tenant = current_setting('course.tenant')::int)`, then "
        "`ALTER TABLE documents ENABLE ROW LEVEL SECURITY` and `ALTER TABLE documents FORCE ROW LEVEL SECURITY`.",
    ],
)
def row_security(learner, db, rng) -> Iterator[str]:
    # A tenant 0, for whoever takes it for the tenant of those who name none.
    tenants = [0, *(int(tenant) for tenant in rng.choice(np.arange(1, 900), 3, replace=False))]
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    columns = {"id": "integer PRIMARY KEY", "tenant": "integer NOT NULL", "embedding": "vector(8) NOT NULL"}
    rows = [(id, tenants[id % 4], vector) for id, vector in enumerate(vectors, 1)]
    make_table(db, "documents", columns, rows)
    learner.call("protect_documents", learner.conn)
    expect.committed(learner)
    expect.table(db, "documents")
    enabled, forced = query(
        db, "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'documents'::regclass"
    ).iloc[0]
    if not enabled:
        raise expect.Wrong("Row-level security is not enabled for documents: without it a policy does nothing.")
    if not forced:
        raise expect.Wrong("The owner of documents is not held by its policies, and reads every row. FORCE is missing.")
    yield "row-level security is in force, for the owner too"
    for_all = """SELECT polname FROM pg_policy
                 WHERE polrelid = 'documents'::regclass AND polpermissive AND polroles = '{0}'"""
    if query(db, for_all).empty:
        raise expect.Wrong("The table documents has no policy that is for every role. Who has none sees no row.")
    yield "there is a policy for every role"
    with _as_reader(db):
        for tenant in (None, ""):  # as on a new connection, and as after a transaction that had named one
            if seen := _seen(db, tenant):
                raise expect.Wrong(
                    f"Whoever names no tenant in course.tenant sees {len(seen)} rows of documents: forgetting it must "
                    "show none."
                )
        yield "who does not name a tenant sees nothing"
        for tenant in tenants[1:3]:
            own = {id for id, owner, _ in rows if owner == tenant}
            seen = _seen(db, tenant)
            who = f"With course.tenant = {tenant} a role that is no superuser"
            if strange := seen - own:
                raise expect.Wrong(f"{who} sees {len(strange)} rows of other tenants.")
            if seen < own:
                raise expect.Wrong(
                    f"{who} sees {len(seen)} of the {len(own)} rows of this tenant. Does a policy compare the tenant "
                    "with this setting?"
                )
        yield "who names one sees the rows of this tenant, and no other"
        if not _changed(db, tenant, "INSERT INTO documents VALUES (1000, %s, %s)", [tenant, vectors[0]]):
            raise expect.Wrong(f"{who} may not insert a row of this tenant. Is the policy for every command?")
        for what, statement in (
            ("insert a row of another", "INSERT INTO documents VALUES (1001, %s, %s)"),
            ("give a row to another", "UPDATE documents SET tenant = %s, embedding = %s"),
        ):
            if _changed(db, tenant, statement, [tenants[1], vectors[0]]):
                raise expect.Wrong(f"{who} may {what} tenant. Let the policy's condition hold for what is written too.")
        # Without WHERE: what names a column there needs the right to read the row as well.
        for command, statement in (("update", "UPDATE documents SET tenant = %s"), ("delete", "DELETE FROM documents")):
            changed = _changed(db, tenant, statement, [tenant])
            if changed > len(own):
                raise expect.Wrong(f"{who} may {command} rows of another tenant. Is there a second policy?")
            if changed < len(own):
                raise expect.Wrong(
                    f"{who} may {command} {changed} of the {len(own)} rows of this tenant. Is the policy for every "
                    "command?"
                )
        yield "and writes rows of this tenant, and of no other"


@question(
    "filtering.next_page",
    points=3,
    objective="page through what is near enough, nothing twice and nothing left out",
    hints=[
        "The next page begins after the last row of the page before: a condition in WHERE, no OFFSET.",
        "Rows at the same distance are told apart by their id, so both belong to the condition and to ORDER BY. "
        "PostgreSQL compares rows as Python compares tuples: `(a, b) > (c, d)`.",
        "`WHERE embedding <=> %(v)s < %(radius)s AND (embedding <=> %(v)s, id) > (%(distance)s, %(id)s) ORDER BY "
        "embedding <=> %(v)s, id LIMIT %(limit)s`; for the first page (-1, 0) stands before every row.",
    ],
)
def next_page(learner, db, rng) -> Iterator[str]:
    limit = int(rng.integers(3, 6))
    single, wanted = vectors_around(rng, 40, near=4)
    # Some vectors occur as often as two pages take, so that a page ends amid rows at the same distance.
    nearest = np.argsort(_distances(single, wanted))
    vectors = np.concatenate([single, *[np.repeat(single[[place]], 2 * limit, axis=0) for place in nearest[[1, 5, 9]]]])
    ids = rng.permutation(len(vectors)) + 1
    columns = {"id": "integer PRIMARY KEY", "embedding": "vector(8) NOT NULL"}
    make_table(db, "documents", columns, list(zip(ids.tolist(), vectors)))
    levels = np.sort(_distances(single, wanted))
    radius = float((levels[13] + levels[14]) / 2)
    for number in _turn_pages(learner, db, wanted, radius, limit):
        if number == 1:
            yield "the first page holds the nearest with their distances"
            # A row that comes meanwhile moves the others on, for whoever counts them.
            query(db, "INSERT INTO documents VALUES (1000, %s)", [wanted])
    yield "each page goes on where the one before ended, amid rows at the same distance too"
    yield "a row that was added meanwhile changes nothing"
    yield "rows that are too far away never come, and the page after the last is empty"
    # More rows at distance 0 than two pages take, and no id above 0, for whoever begins after (0, 0).
    wanted = single[nearest[5]]
    query(db, "UPDATE documents SET id = -id")
    radius = _rows(db, wanted)[6 * limit][0]
    for _ in _turn_pages(learner, db, wanted, radius, limit):
        pass
    yield "distance 0 is a distance like any other, and a negative id an id like any other"
    yield "a row that is just as far away as `radius` does not come"


# -- results ----------------------------------------------------------------------


def _distances(vectors: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return find_metric("cosine").distances(wanted[None], vectors)[0]


def _expect_ids(returned: Any, fits: dict[int, str], others: dict[int, str], twice: str = "") -> list[int]:
    """A list of ids of rows that fit, each once; as ints, which NumPy's need not be."""
    expect.is_a(returned, list, "The result")
    for item in returned:
        expect.is_a(item, (int, np.integer), "Each id of the result")
    ids = [int(id) for id in returned]
    if strange := [id for id in ids if id not in fits]:
        why = others.get(strange[0], "no row has this id")
        raise expect.Wrong(f"The row {strange[0]} does not belong in the result: {why}.")
    if len(set(ids)) < len(ids):
        raise expect.Wrong(f"The result holds an id twice. {twice}".strip())
    return ids


def _many(things: Sequence, name: str) -> str:
    """How many there are: "1 id", "2 ids"."""
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _expect_enough(ids: list[int], limit: int, fitting: int, why: str) -> None:
    if len(ids) > limit:
        raise expect.Wrong(f"The result holds {_many(ids, 'id')}, which is too many: {limit} were asked for.")
    if len(ids) < min(limit, fitting):
        raise expect.Wrong(
            f"The result holds {_many(ids, 'id')}, which is too few: {limit} were asked for, and more rows fit. {why}"
        )


def _expect_metric(ids: list[int], vectors: np.ndarray, wanted: np.ndarray, fits: dict[int, str]) -> None:
    """It is not the ranking by another metric, nor that of the farthest."""

    def ranking(metric: str, sign: int = 1) -> list[int]:
        distances = sign * find_metric(metric).distances(wanted[None], vectors)[0]
        return sorted(fits, key=lambda id: distances[id - 1])[: len(ids)]

    if ids == ranking("cosine"):
        return
    for name, other in (("l2", "Euclidean distance"), ("inner_product", "the negative inner product")):
        if ids == ranking(name):
            raise expect.Wrong(f"The result is ranked by {other}, not by cosine distance.")
    if ids == ranking("cosine", -1):
        raise expect.Wrong("The result begins with the farthest of all. A distance is small where vectors are alike.")


def _expect_nearest(
    returned: Any,
    vectors: np.ndarray,
    wanted: np.ndarray,
    limit: int,
    fits: dict[int, str],
    others: dict[int, str],
    *,
    twice: str = "",
    exact: bool = True,
) -> None:
    """The `limit` nearest of the rows that fit, as a list of their ids, the nearest first.

    Args:
        vectors: of all rows; the first is of the row with the id 1.
        fits: the ids of the rows that fit, each with what is peculiar to it, for whoever leaves it out.
        others: the ids of the others, each with why it does not.
        exact: False where an approximate index may miss a few.
    """
    ids = _expect_ids(returned, fits, others, twice)
    _expect_enough(ids, limit, len(fits), "Does the LIMIT see only rows that fit, each of them once?")
    _expect_metric(ids, vectors, wanted, fits)
    distances = _distances(vectors, wanted)
    right = sorted(fits, key=lambda id: distances[id - 1])[:limit]
    # Of a kind none of which came, although several should have, that is what is wrong.
    missing = {fits[id] for id in right if id not in ids} - {fits[id] for id in ids} - {""}
    for kind in sorted(missing):
        raise expect.Wrong(f"Rows are missing that fit and are near: {kind}.")
    if exact:
        expect.nearest(ids, {id: distances[id - 1] for id in fits}, limit, "The result")
    expect.ordered(distances[np.array(ids, int) - 1], "The result, by cosine distance,")
    if expect.mean_recall([ids], [right]) < 0.4:
        raise expect.Wrong("The result is in order, and most of the nearest are missing: is every row searched?")


def _expect_limited(learner, limit: int) -> None:
    """No SELECT fetched more rows than were asked for."""
    for sent in learner.statements:
        command, _, rows = sent.status.partition(" ")
        if command == "SELECT" and int(rows) > limit:
            raise expect.Wrong(
                f"A query fetched {rows} rows, and {limit} were asked for: filter, sort and limit in SQL."
            )


def _why_too_few(learner) -> str:
    """What to look at when a search by an approximate index returned too few rows."""
    text = " ".join(sent.text for sent in learner.statements)
    if "iterative_scan" in text:
        return "An iterative scan was asked for: in the same transaction as the search, and far enough?"
    return "An index hands over its candidates, and the filter comes after it."


# -- partitions --------------------------------------------------------------------


def _expect_partitioned_by_tenant(db) -> None:
    found = query(
        db,
        """SELECT partstrat AS strategy, pg_get_partkeydef(partrelid) AS key FROM pg_partitioned_table
           WHERE partrelid = 'documents'::regclass""",
    )
    if found.empty:
        raise expect.Wrong("The table documents is not partitioned: the rows of all tenants stand in one table.")
    if found.key[0] != "LIST (tenant)":
        raise expect.Wrong(f"The table documents is partitioned by {found.key[0]}, not by a list of tenants.")


def _expect_one_partition(db, learner, partition: str) -> None:
    """The last search of documents, or of this partition by its name, reads one relation."""
    plans = expect.search_plans(db, learner, f"(documents|{re.escape(partition)})")
    if not plans:
        raise expect.Wrong("No search of documents was sent over the connection that the function was given.")
    read = {node["Relation Name"] for _, node in plans[-1].nodes if "Relation Name" in node}
    if len(read) > 1:
        raise expect.Wrong(
            f"The search reads {len(read)} partitions. PostgreSQL leaves out those that a condition on the bare column "
            "tenant excludes."
        )


# -- row-level security -------------------------------------------------------------


@contextmanager
def _as_reader(db) -> Iterator[None]:
    """The block runs as a role of its own, which no policy lets through; whatever it does is undone.

    A grader's checker has such a role, of its own name with _reader. Who has none and may not create roles is no
    superuser either, so that FORCE holds the policies against the checker's own role.
    """
    query(db, "BEGIN")
    try:
        schema, given = query(
            db, "SELECT current_schema(), (SELECT rolname FROM pg_roles WHERE rolname = session_user || '_reader')"
        ).iloc[0]
        role = given or f"reader_{secrets.token_hex(4)}"
        become_reader = """
            GRANT USAGE ON SCHEMA {schema} TO {role};
            GRANT ALL ON documents TO {role};
            SET LOCAL row_security = on;
            SET LOCAL ROLE {role}"""
        if not given:
            become_reader = "CREATE ROLE {role};" + become_reader
        query(db, "SAVEPOINT before")
        try:
            query(db, sql.SQL(become_reader).format(schema=sql.Identifier(schema), role=sql.Identifier(role)))
        except psycopg2.errors.InsufficientPrivilege:
            query(db, "ROLLBACK TO SAVEPOINT before")
            if not query(db, "SELECT row_security_active('documents')").iloc[0, 0]:
                raise expect.Wrong(
                    "The check cannot read as a role that the policies hold: its own role passes them all and may not "
                    "create another. Give PGV_DATABASE_URL a role that has CREATEROLE, or none that has BYPASSRLS."
                ) from None
        yield
    finally:
        query(db, "ROLLBACK")


def _seen(db, tenant: int | str | None) -> set[int]:
    """The ids of the rows that are seen when the setting names this tenant (None: it is not set); none on an error."""
    with _tenant_set(db, tenant):
        try:
            return set(query(db, "SELECT id FROM documents").get("id", []))
        except psycopg2.Error:
            return set()


def _changed(db, tenant: int, statement: str, parameters: list) -> int:
    """How many rows the statement changes when the setting names this tenant; none on an error. It is undone."""
    with _tenant_set(db, tenant), db.cursor() as cur:
        try:
            cur.execute(statement, parameters)
            return cur.rowcount
        except psycopg2.Error:
            return 0


@contextmanager
def _tenant_set(db, tenant: int | str | None) -> Iterator[None]:
    query(db, "SAVEPOINT before")
    if tenant is not None:
        query(db, "SELECT set_config('course.tenant', %s, true)", [str(tenant)])
    try:
        yield
    finally:
        query(db, "ROLLBACK TO SAVEPOINT before")


# -- pages --------------------------------------------------------------------------


def _rows(db, wanted: np.ndarray) -> list[tuple]:
    """Every row of the table as (distance, id), in this order."""
    found = query(db, "SELECT embedding <=> %s AS distance, id FROM documents ORDER BY 1, 2", [wanted])
    return list(found.itertuples(index=False, name=None))


def _turn_pages(learner, db, wanted: np.ndarray, radius: float, limit: int) -> Iterator[int]:
    """Turn pages to the empty one behind the last; the number of each that is right."""
    after, seen = None, set()
    for number in range(1, 60):
        every = _rows(db, wanted)
        left = [row for row in every if row[0] < radius and (after is None or row > after)]
        returned = learner.call("next_page", learner.conn, wanted, radius, limit, after)
        expect.committed(learner)
        _expect_page(returned, left, limit, radius, after, seen, {id: distance for distance, id in every}, number)
        _expect_limited(learner, limit)
        yield number
        if not left:
            return
        after = returned[-1]
        seen |= {id for _, id in returned}


def _expect_page(
    returned: Any,
    left: list[tuple],
    limit: int,
    radius: float,
    after: tuple | None,
    seen: set[int],
    distances: dict,
    number: int,
) -> None:
    """The first rows of those that are left, as tuples (distance, id)."""
    what = f"Page {number}"
    expect.tuples(returned, {"distance": float, "id": int}, what)
    if len(returned) > limit:
        raise expect.Wrong(f"{what} holds {_many(returned, 'row')}, and {limit} were asked for.")
    for _, id in returned:
        if id in seen:
            zero = "" if after[0] else " The page before ended at distance 0: go on from there, as from any other."
            raise expect.Wrong(f"The row {id} comes a second time, on page {number}.{zero}")
        if distances.get(id) == radius:
            raise expect.Wrong(f"{what} holds the row {id}, which is as far as `radius`, not nearer.")
        if distances.get(id, np.inf) > radius:
            raise expect.Wrong(f"{what} holds the row {id}, which is not nearer than `radius`.")
    if len({id for _, id in returned}) < len(returned):
        raise expect.Wrong(f"{what} holds a row twice.")
    if len(returned) < min(limit, len(left)):
        raise expect.Wrong(
            f"{what} holds {_many(returned, 'row')}, which is too few: more are near enough and come after."
        )
    found = [distance for distance, _ in returned]
    expect.close(found, [distances[id] for _, id in returned], f"The list of distances on page {number}", 0)
    if returned != sorted(returned):
        first = "at the same distance the smallest id" if found == sorted(found) else "the nearest"
        raise expect.Wrong(f"{what} is out of order: {first} comes first.")
    if returned != left[:limit]:
        distance, _ = next(row for row in left if row not in returned)
        which = "nearer" if distance else "at distance 0"
        if distance in {distances[id] for id in seen}:
            which = "at the same distance as one that came"
        raise expect.Wrong(f"{what} leaves out a row {which}.")
