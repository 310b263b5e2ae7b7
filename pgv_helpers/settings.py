"""Where things come from: environment variables and their defaults.

This is the one file that reads `os.environ`. An empty variable counts as unset.
"""

import os
import sys
from pathlib import Path
from typing import Literal

import platformdirs

COURSE_DIR = Path(__file__).resolve().parent.parent
"""The checkout: the folder that holds notebooks/, exercises/ and pgv_helpers/."""

OFFLINE_EMBEDDING_MODEL = "all-MiniLM-L6-v2"
OFFLINE_CHAT_MODEL = "offline-extractive"
OFFLINE_URL = "http://offline.invalid/v1"
"""Looked up by nobody: the names under .invalid never exist (RFC 6761)."""
OPENAI_EMBEDDING_MODEL = "text-embedding-3-small"
OPENAI_CHAT_MODEL = "gpt-5.4-mini"

Provider = Literal["openai", "compatible", "offline"]


def running_as_root() -> bool:
    """Whether this process is root, which PostgreSQL refuses to run as."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def home() -> Path:
    """Folder of the embedded server, the caches and the learner's progress (`PGV_HOME`).

    The default is the platform's per-user data directory; for root it is
    /var/lib/pgv, since the server then runs as another user, who must get there.
    """
    if value := os.environ.get("PGV_HOME"):
        return Path(value).expanduser().absolute()
    if running_as_root():
        return Path("/var/lib/pgv")
    return platformdirs.user_data_path("pgv", appauthor=False)


def database_url() -> str | None:
    """URL of a PostgreSQL with pgvector, or None for the embedded server."""
    return os.environ.get("PGV_DATABASE_URL") or os.environ.get("DATABASE_URL") or None


def openai_api_key() -> str | None:
    """The key for OpenAI or for the server at `OPENAI_BASE_URL`, or None."""
    return os.environ.get("OPENAI_API_KEY") or None


def openai_base_url() -> str | None:
    """URL of an OpenAI-compatible server, or None for OpenAI's own."""
    return os.environ.get("OPENAI_BASE_URL") or None


def provider() -> Provider:
    """Who answers for the models: OpenAI, a compatible server, or this process."""
    if openai_base_url():
        return "compatible"
    return "openai" if openai_api_key() else "offline"


def embedding_model() -> str:
    """Name of the model that turns text into vectors (`PGV_EMBEDDING_MODEL`)."""
    default = OFFLINE_EMBEDDING_MODEL if provider() == "offline" else OPENAI_EMBEDDING_MODEL
    return os.environ.get("PGV_EMBEDDING_MODEL") or default


def chat_model() -> str:
    """Name of the model that answers questions (`PGV_CHAT_MODEL`)."""
    default = OFFLINE_CHAT_MODEL if provider() == "offline" else OPENAI_CHAT_MODEL
    return os.environ.get("PGV_CHAT_MODEL") or default


def forget_models() -> None:
    """From here on this process uses the offline models, whatever the environment says."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PGV_EMBEDDING_MODEL", "PGV_CHAT_MODEL"):
        os.environ.pop(name, None)


def server_environment() -> dict[str, str]:
    """What the server's processes get to see of the environment: no keys, no `PG…` variables."""
    needed = ("PATH", "TZ", "SystemRoot", "TEMP", "TMP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in needed if name in os.environ} | {"LC_ALL": "C"}


def lab_environment() -> dict[str, str]:
    """The environment of JupyterLab: its terminals find `pgv`, and it asks the network for nothing.

    The folder jupyter/ switches off the news feed, the look for updates and the
    catalogue of extensions.
    """

    def prepended(folder: Path, name: str) -> str:
        return os.pathsep.join(filter(None, [str(folder), os.environ.get(name)]))

    return os.environ | {
        "PATH": prepended(Path(sys.executable).parent, "PATH"),
        "JUPYTER_CONFIG_PATH": prepended(Path(__file__).parent / "jupyter", "JUPYTER_CONFIG_PATH"),
    }
