"""The optional packages of single lessons: what a learner reads who has not installed them."""

import pytest

from pgv_helpers import require_extra


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Says what metadata the course has, and what other packages are installed beside it."""

    def install(name, version, *lines):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines])
        )

    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_nothing_is_said_when_all_packages_are_here():
    require_extra("drivers")
    require_extra("alternatives")


def test_missing_packages_are_named_with_the_command_that_installs_them(installed):
    installed("pgv-helpers", "9", "Provides-Extra: maps", 'Requires-Dist: no-such-atlas>=2; extra == "maps"')
    with pytest.raises(ImportError, match=r"no-such-atlas\b(.|\n)*pip install .*\.\[maps\](.|\n)*restart the kernel"):
        require_extra("maps")


def test_another_version_is_as_good_as_none(installed):
    installed("pgv-helpers", "9", "Provides-Extra: maps", 'Requires-Dist: atlas>=2; extra == "maps"')
    installed("atlas", "1.4")
    with pytest.raises(ImportError, match=r"atlas>=2 \(here is 1\.4\)"):
        require_extra("maps")


def test_what_a_package_brings_by_an_extra_of_its_own_is_looked_for(installed):
    """psycopg[pool] is psycopg and psycopg-pool; the first may be there without the second."""
    installed("pgv-helpers", "9", "Provides-Extra: maps", 'Requires-Dist: atlas[index]; extra == "maps"')
    installed(
        "atlas", "1", 'Requires-Dist: atlas-index; extra == "index"', "Requires-Dist: never-mind; python_version < '3'"
    )
    with pytest.raises(ImportError, match="Not installed: atlas-index[.]"):
        require_extra("maps")


def test_packages_of_other_extras_are_not_asked_for(installed):
    installed("pgv-helpers", "9", "Provides-Extra: maps", 'Requires-Dist: no-such-atlas; extra == "atlas"')
    require_extra("maps")


def test_an_unknown_extra_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'driver'.*alternatives.*drivers"):
        require_extra("driver")
