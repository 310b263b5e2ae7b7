"""The openai client for whoever answers: OpenAI, a compatible server, or this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pgv_helpers import settings
from pgv_helpers.errors import ModelError

if TYPE_CHECKING:
    # Imported where they are used: openai takes half a second.
    import openai

OPENAI_URL = "https://api.openai.com/v1"
OFFLINE_URL = "http://offline.invalid/v1"
"""Looked up by nobody: the names under .invalid never exist (RFC 6761)."""


def base_url() -> str:
    """URL of the API that the settings choose, `OFFLINE_URL` when it is this process.

    Raises ModelError if `OPENAI_BASE_URL` is no http URL.
    """
    provider = settings.provider()
    if provider == "offline":
        return OFFLINE_URL
    url = settings.openai_base_url() or OPENAI_URL
    if not re.match(r"https?://[^/]", url):
        raise ModelError(
            f"OPENAI_BASE_URL is {url!r}, which is no URL. Write it in full, such as "
            "http://localhost:11434/v1, or unset it."
        )
    return url


def openai_client() -> openai.OpenAI:
    """An openai client for the settings' provider.

    `OPENAI_BASE_URL` chooses a compatible server, else `OPENAI_API_KEY` chooses
    OpenAI; with neither the same client is answered inside the process (see
    `OfflineTransport`) and nothing leaves the machine.

    Raises ModelError if one of the two settings cannot be right.
    """
    import httpx2
    import openai

    return openai.OpenAI(**_access(httpx2.Client))


def async_openai_client() -> openai.AsyncOpenAI:
    """The same as `openai_client`, for `await`. Raises ModelError like it."""
    import httpx2
    import openai

    return openai.AsyncOpenAI(**_access(httpx2.AsyncClient))


def _access(http_client: type) -> dict[str, Any]:
    """How a client gets to the API; offline with an HTTP client that has the API in the place of a network."""
    if settings.provider() != "offline":
        return {"base_url": base_url(), "api_key": _api_key()}
    from pgv_helpers.models.offline import OfflineTransport

    return {
        "base_url": OFFLINE_URL,
        "api_key": "offline",
        "http_client": http_client(transport=OfflineTransport(), trust_env=False),
    }


def _api_key() -> str:
    key = settings.openai_api_key() or "not-needed"
    if not re.fullmatch(r"[!-~]+", key):
        raise ModelError(
            "OPENAI_API_KEY has a space, a line break or a letter that no key has. "
            "Copy the key again, without quotation marks."
        )
    return key


@contextmanager
def explained_errors(model: str, setting: str = "PGV_EMBEDDING_MODEL") -> Iterator[None]:
    """Turn the openai client's exceptions into ModelError with the remedy.

    `model` is the model asked for, `setting` the variable that names it
    (`PGV_EMBEDDING_MODEL` or `PGV_CHAT_MODEL`). No message holds a key.
    """
    import openai

    try:
        yield
    except openai.OpenAIError as error:
        message = _explain(error, model, setting)
        # A server may quote the key it refuses.
        if key := settings.openai_api_key():
            message = message.replace(key, "(the key)")
        raise ModelError(message) from None


def _explain(error: openai.OpenAIError, model: str, setting: str) -> str:
    import openai

    asked = server()
    said = _api_message(error)
    match error:
        case openai.AuthenticationError():
            return (
                f"{asked} refused the key. Check OPENAI_API_KEY, or unset it"
                f"{' and OPENAI_BASE_URL' if settings.openai_base_url() else ''} to work offline."
            )
        case openai.PermissionDeniedError():
            return (
                f"The key may not use the model {model!r} at {asked}: {said} Name another "
                f"model in {setting}, or use another key."
            )
        case openai.NotFoundError():
            return f"{asked} knows no model {model!r}: {said} Name one that it knows in {setting}" + (
                ", or set OPENAI_API_KEY to use OpenAI's models."
                if settings.provider() == "offline"
                else ", and check OPENAI_BASE_URL."
                if settings.openai_base_url()
                else "."
            )
        case openai.RateLimitError(code="insufficient_quota"):
            return (
                f"The account of this key has no credit left at {asked}. Add credit, use "
                "another key, or unset OPENAI_API_KEY to work offline."
            )
        case openai.RateLimitError():
            return (
                f"{asked} has had too many requests: {said} Wait a minute and run this again; "
                "what has been embedded is not sent again."
            )
        case openai.APITimeoutError():
            return f"{asked} did not answer in time. Check the network, then run this again."
        case openai.APIConnectionError():
            return (
                f"No connection to {asked} ({error.__cause__ or error}). Check the network"
                + (" and OPENAI_BASE_URL" if settings.openai_base_url() else "")
                + "; without OPENAI_API_KEY and OPENAI_BASE_URL you work offline."
            )
        case openai.APIStatusError(status_code=status) if status >= 500:
            return f"{asked} failed (HTTP {status}): {said}" + (
                "" if settings.provider() == "offline" else " Run this again later."
            )
        case openai.APIStatusError(status_code=status):
            return f"{asked} refused the request (HTTP {status}): {said}"
    return f"{asked}: {said}"


def server() -> str:
    """Who is asked, for messages: the URL without a password that it may hold."""
    if settings.provider() == "offline":
        return "The offline API"
    parts = urlsplit(base_url())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _api_message(error: openai.OpenAIError) -> str:
    """What the API said, as a sentence."""
    body = getattr(error, "body", None)
    message = (body.get("message") if isinstance(body, dict) else None) or str(error)
    return message if message.endswith((".", "!", "?")) else f"{message}."
