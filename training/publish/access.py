"""Whether one may write to a repository of the Hub, and making it, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NoReturn

import httpx
from huggingface_hub import HfApi, constants, get_session
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

from pipelines.models.hub import chain_of

Kind = Literal["model", "space"]

_WRITING_ROLES = {"admin", "write", "contributor"}


def check_access(repo_id: str, kind: Kind = "model", option: str = "repo_id") -> str:
    """The full id of a repository that the token may write to, as far as reading can tell.

    Args:
        repo_id: `name` or `owner/name`.
        kind: "model" or "space".
        option: what the error calls the id.

    Raises:
        ValueError: one sentence, if nobody is logged in, the token may only read, the owner is
            somebody else, or the Hub does not answer.
    """
    try:
        validate_repo_id(repo_id)
        me = HfApi().whoami()
    except Exception as error:  # no token, wrong token, offline: each has an error of its own
        _refuse(repo_id, kind, option, reason_of(error), error)
    owner, _, name = repo_id.rpartition("/")
    owner = owner or me["name"]
    if _role(me) == "read":
        _refuse(repo_id, kind, option, f"the token of {me['name']} may only read")
    if owner not in _writable(me):
        _refuse(repo_id, kind, option, f"{me['name']} may not write to what belongs to {owner}")
    return f"{owner}/{name}"


def _role(me: dict[str, Any]) -> str:
    return me.get("auth", {}).get("accessToken", {}).get("role", "")


def _writable(me: dict[str, Any]) -> Iterator[str]:
    """Names that repositories may begin with: one's own, and those of one's organizations."""
    yield me["name"]
    for organization in me.get("orgs", []):
        if organization.get("roleInOrg", "write") in _WRITING_ROLES:
            yield organization["name"]


def make_repository(repo_id: str, kind: Kind = "model", option: str = "repo_id") -> str:
    """Creates the repository unless it is there; returns its full id.

    Done before any training, since it is what proves that the token may write.

    Args:
        repo_id: `name` or `owner/name`.
        kind: "model" or "space".
        option: what the error calls the id.

    Raises:
        ValueError: one sentence, if the token may not write, or the Hub cannot be reached.
    """
    full_id = check_access(repo_id, kind, option)
    create(full_id, kind, option=option)
    return full_id


def create(
    repo_id: str, kind: Kind = "model", *, private: bool = False, option: str = "repo_id"
) -> None:
    """Creates a repository unless it is there, and makes sure that it may be written to.

    Args:
        repo_id: `owner/name`.
        kind: "model" or "space", which then is one of Gradio.
        private: whether nobody else may see it.
        option: what the error calls the id.

    Raises:
        ValueError: one sentence, if the token may not write, the Hub cannot be reached, or the
            repository is there and can be seen by all against one's wish.
    """
    try:
        found = visibility_of(repo_id, kind)
        if found is None:
            HfApi().create_repo(
                repo_id,
                repo_type=kind,
                private=private,
                exist_ok=True,
                space_sdk="gradio" if kind == "space" else None,
            )
        _check_may_write(repo_id, kind)
    except Exception as error:  # network and Hub each have errors of their own
        _refuse(repo_id, kind, option, reason_of(error), error)
    if private and found == "public":
        raise ValueError(f"private must be off: {repo_id} is there, and public")


def visibility_of(repo_id: str, kind: Kind) -> Literal["private", "public"] | None:
    """Who may see a repository; None if there is no such one, or none that one may see.

    Raises:
        HfHubHTTPError: if the Hub does not tell.
    """
    try:
        info = HfApi().repo_info(repo_id, repo_type=kind)
    except RepositoryNotFoundError:
        return None
    return "private" if info.private else "public"


def _check_may_write(repo_id: str, kind: Kind) -> None:
    """Raises if the token may not; `create_repo` passes over that where the repository exists."""
    address = f"{constants.ENDPOINT}/api/{kind}s/{repo_id}/auth-check/write"
    hf_raise_for_status(get_session().get(address, headers=build_hf_headers()))


def reason_of(error: BaseException) -> str:
    """Why the Hub did not do as asked, in a few words."""
    for cause in chain_of(error):
        if words := _words_for(cause):
            return words
    return _first_line(str(error)) or type(error).__name__


def _words_for(error: BaseException) -> str:
    if isinstance(error, LocalTokenNotFoundError):
        return "there is no token; make one at https://huggingface.co/settings/tokens"
    if isinstance(error, HFValidationError):
        return _first_line(str(error))
    if isinstance(error, httpx.TransportError):
        return "the Hub does not answer"
    if isinstance(error, HfHubHTTPError):
        return _words_for_status(error.response.status_code, error.server_message or "")
    return ""


def _words_for_status(status: int, said: str) -> str:
    known = {401: "the token is not valid", 403: "forbidden", 429: "too many requests for now"}
    words = known.get(status, f"the Hub answers {status}")
    return f"{words}: {_first_line(said)}" if said and status != 401 else words


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "").rstrip(".")


def _refuse(
    repo_id: str, kind: Kind, option: str, reason: str, error: Exception | None = None
) -> NoReturn:
    raise ValueError(
        f"{option} must be the id of a {kind} repository that your token (`hf auth login`) "
        f"may write to, got {repo_id!r}: {reason}"
    ) from error
