"""The openai client for whoever answers: OpenAI, a compatible server, or this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pgv_helpers import settings
from pgv_helpers.errors import ModelError

if TYPE_CHECKING:
    # Imported where they are used: openai takes half a second.
    import openai

OPENAI_URL = "https://api.openai.com/v1"

TIMEOUT = 60.0
"""Seconds to wait for a server that says nothing, each time; the openai client's own default is ten minutes."""

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection."""

MAX_RETRIES = 5
"""How often the client tries again after a rate limit, a server's failure, a time-out or a cut connection; it waits
as long as the server says in Retry-After, up to two minutes, otherwise longer each time."""

_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window)|maximum (?:input|sequence) length|n_ctx|tokens must be reduced"
    r"|input is too large|less than \d+ tokens",
    re.IGNORECASE,
)
"""How OpenAI, vLLM, llama.cpp, Ollama and text-embeddings-inference say that a text has too many tokens."""


def base_url() -> str:
    """URL of the API that the settings choose, the offline one when it is this process.

    Raises ModelError if `OPENAI_BASE_URL` is no http URL.
    """
    provider = settings.provider()
    if provider == "offline":
        return settings.OFFLINE_URL
    url = settings.openai_base_url() or OPENAI_URL
    if not re.match(r"https?://[^/]", url):
        raise ModelError(
            f"OPENAI_BASE_URL is {url!r}, which is no URL. Write it in full, such as "
            "http://localhost:11434/v1, or unset it."
        )
    return url


def openai_client(*, timeout: float = TIMEOUT) -> openai.OpenAI:
    """An openai client for the settings' provider.

    `OPENAI_BASE_URL` chooses a compatible server, else `OPENAI_API_KEY` chooses
    OpenAI; with neither the same client is answered inside the process (see
    `OfflineTransport`) and nothing leaves the machine. The client waits `timeout`
    seconds for a server that says nothing, and then tries again, five times.

    Raises ModelError if one of the two settings cannot be right.
    """
    import httpx2
    import openai

    return openai.OpenAI(**_access(httpx2.Client, timeout))


def async_openai_client(*, timeout: float = TIMEOUT) -> openai.AsyncOpenAI:
    """The same as `openai_client`, for `await`. Raises ModelError like it."""
    import httpx2
    import openai

    return openai.AsyncOpenAI(**_access(httpx2.AsyncClient, timeout))


def _access(http_client: type, timeout: float) -> dict[str, Any]:
    """How a client gets to the API; offline with an HTTP client that has the API in the place of a network."""
    import httpx2

    if settings.provider() != "offline":
        return {
            "base_url": base_url(),
            "api_key": _api_key(),
            "timeout": httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT),
            "max_retries": MAX_RETRIES,
        }
    from pgv_helpers.models.offline import OfflineTransport

    return {
        "base_url": settings.OFFLINE_URL,
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
    import httpx2
    import openai

    asked = server()
    said = _api_message(error)
    chat = setting == "PGV_CHAT_MODEL"
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
        case openai.APIError() if _TOO_LONG.search(said):
            return (
                f"The prompt is too long for {model!r} at {asked}: {said} Retrieve fewer passages (a smaller k), "
                "or index the documents in smaller chunks (a smaller size)."
                if chat
                else f"A text is too long for {model!r} at {asked}: {said} Cut it into chunks, and embed these: "
                "split_into_chunks(text), with a smaller size if they are still too long."
            )
        case openai.RateLimitError(code="insufficient_quota"):
            return (
                f"The account of this key has no credit left at {asked}. Add credit, use "
                "another key, or unset OPENAI_API_KEY to work offline."
            )
        case openai.RateLimitError():
            return f"{asked} has had too many requests: {said} Wait a minute and run this again" + (
                "." if chat else "; what has been embedded is not sent again."
            )
        case openai.APITimeoutError():
            return f"{asked} did not answer in time. Check the network, then run this again" + (
                "; a slow model may need longer: timeout=…, in seconds." if chat else "."
            )
        case openai.APIConnectionError(
            __cause__=httpx2.ReadError() | httpx2.WriteError() | httpx2.CloseError() | httpx2.RemoteProtocolError()
        ):
            return f"The connection to {asked} broke off ({error.__cause__}). Run this again" + (
                ", and check OPENAI_BASE_URL if it stays so." if settings.openai_base_url() else "."
            )
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
    return f"{asked} failed: {said}"


def server() -> str:
    """Who is asked, for messages: the URL without a password that it may hold."""
    if settings.provider() == "offline":
        return "The offline API"
    parts = urlsplit(base_url())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _api_message(error: openai.OpenAIError) -> str:
    """What the API said, as a sentence."""
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    said = shorten(str(message or body or error), 500, placeholder=" …")
    return said if said.endswith((".", "!", "?")) else f"{said}."
