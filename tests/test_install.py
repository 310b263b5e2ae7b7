"""The ways of installing the course agree with each other and with what is installed."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pgv_helpers.settings import COURSE_DIR

INSTALL = "-c requirements.lock -e ."
PROJECT = tomllib.loads((COURSE_DIR / "pyproject.toml").read_text())["project"]
PINS = dict(line.split("==") for line in (COURSE_DIR / "requirements.lock").read_text().splitlines())


def read(name):
    return (COURSE_DIR / name).read_text()


def every_requirement():
    extras = PROJECT["optional-dependencies"].values()
    requirements = map(Requirement, sum(extras, PROJECT["dependencies"]))
    return [requirement for requirement in requirements if requirement.name != PROJECT["name"]]


def test_the_lock_is_plain_lines_one_for_each_package():
    lines = read("requirements.lock").splitlines()
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[^\s;=]+", line) for line in lines)
    assert len(PINS) == len(lines)


@pytest.mark.parametrize("requirement", every_requirement(), ids=str)
def test_the_lock_is_within_the_ranges_of_pyproject(requirement):
    assert requirement.specifier.contains(PINS[requirement.name.lower()])


def test_the_fixed_packages_are_there():
    names = {requirement.name for requirement in every_requirement()}
    assert names >= {
        "jupyterlab", "psycopg2-binary", "pgvector", "openai", "numpy", "pandas", "matplotlib", "nbval", "pytest",
    }  # fmt: skip


def test_what_is_installed_here_is_what_the_lock_says():
    for requirement in every_requirement():
        assert version(requirement.name) == PINS[requirement.name.lower()], requirement.name


def test_make_installs_from_the_lock():
    assert f"pip install --quiet --disable-pip-version-check {INSTALL}\n" in read("Makefile")
    assert f'pip install --quiet --disable-pip-version-check {INSTALL.replace(" .", "")} ".[test]"\n' in read(
        "Makefile"
    )


def test_conda_installs_from_the_lock():
    dependencies = yaml.safe_load(read("environment.yml"))["dependencies"]
    assert dependencies[-1] == {"pip": ["-c requirements.lock", "-e ."]}
    python = Requirement(dependencies[0].replace("=", "==")).specifier
    assert any(spec.version in SpecifierSet(PROJECT["requires-python"]) for spec in python)


def test_docker_installs_from_the_lock():
    dockerfile = read("Dockerfile")
    assert f"pip install --no-cache-dir {INSTALL}\n" in dockerfile
    python = re.search(r"FROM python:([\d.]+)", dockerfile)[1]
    assert Version(python) in SpecifierSet(PROJECT["requires-python"])


def test_the_readme_installs_from_the_lock():
    commands = [line for line in read("README.md").splitlines() if re.search(r"pip install.* -e \.", line)]
    assert commands and all(INSTALL in command for command in commands)


def test_compose_and_workflow_use_the_same_server():
    compose = yaml.safe_load(read("docker-compose.yml"))["services"]
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    assert compose["db"]["image"] == workflow["container"]["services"]["postgres"]["image"] == "pgvector/pgvector:pg18"
    assert [job["steps"][-1]["run"] for job in workflow.values()] == ["make test"] * 2


def test_compose_is_private_and_waits_for_the_database():
    services = yaml.safe_load(read("docker-compose.yml"))["services"]
    ports = [port for service in services.values() for port in service["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert services["db"]["healthcheck"] and services["db"]["volumes"] == ["database:/var/lib/postgresql"]
    assert services["lab"]["volumes"] == [".:/course", "progress:/progress"]
    assert "ENV PGV_HOME=/progress" in read("Dockerfile")
    assert services["lab"]["depends_on"]["db"]["condition"] == "service_healthy"
    password = "${POSTGRES_PASSWORD:-pgvector-course}"
    assert services["db"]["environment"]["POSTGRES_PASSWORD"] == password
    assert f":{password}@db:5432/" in services["lab"]["environment"]["PGV_DATABASE_URL"]


def test_importing_the_helpers_loads_nothing_heavy():
    code = "import pgv_helpers, sys; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert "pgv_helpers" in loaded
    assert not loaded & {"numpy", "pandas", "matplotlib", "openai", "psycopg2", "onnxruntime"}


def test_every_public_name_exists_and_is_documented():
    import pgv_helpers

    for name in pgv_helpers.__all__:
        assert getattr(pgv_helpers, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pgv_helpers.nothing  # noqa: B018
