"""One throw-away server for the whole run, so that nobody's own tables are touched.

Without `PGV_DATABASE_URL` it is the embedded server in a temporary `PGV_HOME`; with
it, a temporary database on that server. Notebooks' kernels and the workers of
pytest-xdist inherit the environment that is set here.
"""

import os
import shutil
import tempfile
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql

from pgv_helpers.server import EmbeddedServer, server_home
from tests.api_server import KEY, serve


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        return
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PGV_EMBEDDING_MODEL", "PGV_CHAT_MODEL"):
        os.environ.pop(name, None)
    home = tempfile.mkdtemp(prefix="pgv-test-")
    os.environ["PGV_HOME"] = home
    given = os.environ.pop("DATABASE_URL", "")
    if given := os.environ.get("PGV_DATABASE_URL") or given:
        database = f"pgv_test_{os.getpid()}"
        _administer(given, "CREATE DATABASE {}", database)
        config.add_cleanup(lambda: _administer(given, "DROP DATABASE {} WITH (FORCE)", database))
        os.environ["PGV_DATABASE_URL"] = psycopg2.extensions.make_dsn(given, dbname=database)
    else:
        # Nobody will miss these tables after a power cut, and waiting for the disk takes its time.
        url = EmbeddedServer(server_home(Path(home))).url()
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            _administer(url, "ALTER SYSTEM SET {} = off", setting)
        _administer(url, "SELECT {}()", "pg_reload_conf")

    def remove_home():
        server = EmbeddedServer(server_home(Path(home)))
        server.stop()
        for folder in {server.home, Path(home)}:
            shutil.rmtree(folder, ignore_errors=True)

    config.add_cleanup(remove_home)


def _administer(url, statement, name):
    conn = psycopg2.connect(url)
    conn.autocommit = True
    with conn.cursor() as cur:
        cur.execute(sql.SQL(statement).format(sql.Identifier(name)))
    conn.close()


@pytest.fixture
def short_tmp_path():
    """A temporary folder whose path is short enough for a socket, and that every user can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="pgv-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def embedded(short_tmp_path):
    """An embedded server of the test's own, not yet started."""
    server = EmbeddedServer(short_tmp_path / "home")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def password_server(tmp_path_factory):
    """Another server: it listens on 127.0.0.1 and asks for a password, as the container does."""
    folder = Path(tempfile.mkdtemp(prefix="pgv-tcp-", dir="/tmp"))
    server = EmbeddedServer(folder, tcp=True)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def api():
    """An OpenAI-compatible server of the test's own, which nobody asks yet."""
    with serve() as running:
        yield running


@pytest.fixture
def online(api, monkeypatch):
    """The same, and the settings lead to it."""
    monkeypatch.setenv("OPENAI_BASE_URL", api.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return api
