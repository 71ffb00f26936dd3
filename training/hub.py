"""Uploading a trained model to the Hub, and making sure beforehand that this will work."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi


def make_repository(repo_id: str) -> str:
    """Creates the model repository unless it is there; returns its full id.

    Done before any training, since it is what proves that the token may write.

    Raises:
        ValueError: if nobody is logged in, the token may not write, or the Hub cannot be reached.
    """
    api = HfApi()
    try:
        api.whoami()
        return api.create_repo(repo_id, exist_ok=True).repo_id
    except Exception as error:  # no token, wrong token, offline: each has an error of its own
        raise ValueError(
            "push_to_hub must be the id of a model repository that your token (`hf auth login`) "
            f"may write to, got {repo_id!r}: {_reason(error)}"
        ) from error


def upload(folder: Path, repo_id: str) -> str:
    """Uploads a checkpoint folder; returns the address of the commit.

    Raises:
        ConnectionError: if that fails.
    """
    try:
        return HfApi().upload_folder(repo_id=repo_id, folder_path=folder).commit_url
    except Exception as error:  # network and Hub each have errors of their own
        raise ConnectionError(
            f"{repo_id} could not be uploaded ({_reason(error)}); the checkpoint is in {folder}"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
