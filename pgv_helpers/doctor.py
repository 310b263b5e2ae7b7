"""What `pgv doctor` looks at: each finding says how it stands and what to do about it."""

import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from pgv_helpers import settings
from pgv_helpers.errors import CourseError

INSTALL = "pip install -c requirements.lock -e ."


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `remedy` is empty when nothing needs doing.
    """

    subject: str
    state: Literal["good", "warning", "broken"]
    detail: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Look at Python, packages, disk, server, pgvector, models and key, one after the other.

    The embedded server is started for it. With a key, the provider is asked
    for one embedding; the key itself is never shown.
    """
    yield python()
    yield packages()
    yield disk()
    yield from database()
    yield key()
    yield embedding_model()


def python() -> Finding:
    return Finding("Python", "good", ".".join(map(str, sys.version_info[:3])))


def packages() -> Finding:
    """The installed packages against the lock file."""
    lock = settings.COURSE_DIR / "requirements.lock"
    if not lock.exists():
        return Finding(
            "packages", "broken", "no requirements.lock beside pgv_helpers/", "Work in a checkout of the course."
        )
    pins = dict(line.split("==") for line in lock.read_text().split())
    needed = [re.match(r"[\w.-]+", need)[0] for need in requires("pgv-helpers") or [] if "extra ==" not in need]
    missing = [name for name in needed if _installed(name) is None]
    if missing:
        return Finding("packages", "broken", f"missing: {', '.join(missing)}", INSTALL)
    other = [
        f"{name} {found} instead of {pin}"
        for name, pin in pins.items()
        if (found := _installed(name)) not in (None, pin)
    ]
    if other:
        return Finding("packages", "warning", "; ".join(other), INSTALL)
    return Finding("packages", "good", f"{len(needed)} of {len(needed)} as locked")


def disk() -> Finding:
    folder = settings.home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    detail = f"{free:.1f} GB free for {settings.home()}"
    if free > 2:
        return Finding("disk", "good", detail)
    return Finding(
        "disk", "warning" if free > 0.5 else "broken", detail, "Free some space, or set PGV_HOME to another disk."
    )


def database() -> Iterator[Finding]:
    """The server, by connecting to it, and its pgvector."""
    from pgv_helpers.db import connect, query

    embedded = settings.database_url() is None
    began = time.perf_counter()
    try:
        conn = connect()
    except CourseError as error:
        detail, _, remedy = str(error).partition("\n")
        yield Finding("server", "broken", detail, remedy)
        return
    seconds = time.perf_counter() - began
    row = query(
        conn,
        """SELECT current_setting('server_version') AS server, extversion AS pgvector
           FROM pg_extension WHERE extname = 'vector'""",
    ).iloc[0]
    conn.close()
    which = "embedded" if embedded else "from PGV_DATABASE_URL"
    yield Finding("server", "good", f"PostgreSQL {row.server}, {which}, ready in {seconds:.2f} s")
    yield Finding("pgvector", "good", row.pgvector)


def key() -> Finding:
    details = {
        "offline": "none: the models run on this machine, nothing leaves it",
        "openai": "OPENAI_API_KEY is set: texts are sent to OpenAI",
        "compatible": f"texts are sent to {settings.openai_base_url()}",
    }
    return Finding("key", "good", details[settings.provider()])


def embedding_model() -> Finding:
    from pgv_helpers.models import openai_client
    from pgv_helpers.models.client import explained_errors

    name = settings.embedding_model()
    began = time.perf_counter()
    try:
        with explained_errors(name):
            client = openai_client().with_options(max_retries=0)
            answer = client.embeddings.create(model=name, input=["Are you there?"])
    except CourseError as error:
        detail, _, remedy = str(error).partition("\n")
        return Finding("embeddings", "broken", detail, remedy)
    seconds = time.perf_counter() - began
    return Finding("embeddings", "good", f"{name}, {len(answer.data[0].embedding)} dimensions, {seconds:.2f} s")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
