"""The optional packages: those of single lessons, which the rest of the course does not need."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement


def require_extra(extra: str) -> None:
    """Make sure that the packages of an extra are here, in versions that the course was written for.

    Args:
        extra: a name under `[project.optional-dependencies]` in pyproject.toml, such as "drivers" or "alternatives".

    Raises:
        ImportError: which packages are missing or of another version, and the command that installs them.
        ValueError: there is no such extra.
    """
    known = distribution("pgv-helpers").metadata.get_all("Provides-Extra", [])
    if extra not in known:
        raise ValueError(f"The course has no extra {extra!r}. Its extras: {', '.join(sorted(known))}.")
    if missing := list(dict.fromkeys(_missing(Requirement(f"pgv-helpers[{extra}]")))):
        raise ImportError(
            f"Not installed: {', '.join(missing)}. In the course's folder, in a terminal:\n"
            f'    pip install -c requirements.lock -e ".[{extra}]"\nThen restart the kernel.'
        )


def _missing(requirement: Requirement) -> Iterator[str]:
    """What is not here of a requirement and of what its own extras require, such as psycopg[pool]."""
    try:
        found = distribution(requirement.name)
    except PackageNotFoundError:
        yield requirement.name
        return
    if not requirement.specifier.contains(found.version, prereleases=True):
        yield f"{requirement.name}{requirement.specifier} (here is {found.version})"
    for extra in requirement.extras:
        for part in map(Requirement, found.requires or []):
            if part.marker and part.marker.evaluate({"extra": extra}) and not part.marker.evaluate({"extra": ""}):
                yield from _missing(part)
