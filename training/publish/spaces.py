"""What of this project goes to a Space of the Hub, and whether the README says what one needs."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any

from huggingface_hub import SpaceCard, SpaceHardware, constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from training.publish.uploads import File

ROOT = Path(__file__).resolve().parent.parent.parent
README = "README.md"
PATTERNS = (
    *("app.py", "requirements.txt", "README*.md", "LICENSE*", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("docs/*", "tabs/*", "pipelines/*", "assets/*"),
)
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
HARDWARE = {hardware.value for hardware in SpaceHardware}
LONGEST_DESCRIPTION = 60  # characters

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg")
_CODE = (".py", ".css", ".js", ".toml")
_SHOWN = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)|<img[^>]+src=[\"']([^\"']+)")


def files_of(root: Path, repo_id: str) -> list[File]:
    """All that the Space should have: the app, what it imports and reads, and the README.

    Args:
        root: of the project.
        repo_id: of the Space, whose README then shows its thumbnail by its full address.
    """
    readme = (root / README).read_text(encoding="utf-8")
    kept = _without_idle_pictures(root, _listed(root))
    files = [File(path, root / path) for path in kept if path != README]
    return [File(README, _with_address(readme, repo_id).encode()), *files]


def _listed(root: Path) -> list[str]:
    """Paths of what may go along: what Git knows or would take, or all that lies there."""
    git = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True)
        found = [path for path in done.stdout.split("\0") if path]
    except (OSError, subprocess.CalledProcessError):  # no Git, or no repository
        found = []
    found = found or list(_not_ignored(root))
    return sorted(path for path in set(found) if _is_wanted(path) and (root / path).is_file())


def _not_ignored(root: Path) -> Iterator[str]:
    """What lies in the folder, but for what its `.gitignore` names (plain names and patterns)."""
    ignore = root / ".gitignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    names = ["__pycache__", "*.pyc", *(line.strip().strip("/") for line in lines)]
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if not any(fnmatch.fnmatchcase(part, name) for part in parts for name in names):
            yield "/".join(parts)


def _is_wanted(path: str) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and any(fnmatch.fnmatchcase(path, pattern) for pattern in PATTERNS)


def _without_idle_pictures(root: Path, paths: Sequence[str]) -> list[str]:
    """Leaves out pictures in `assets/` and its screenshots that no document and no code shows."""
    texts = {path: (root / path).read_text(encoding="utf-8") for path in paths if _is_text(path)}
    shown = {metadata_of(texts[README]).get("thumbnail", "")}
    for path in texts:
        shown.update(normpath(join(dirname(path), link)) for link in pictures_shown(texts[path]))
    code = "\n".join(text for path, text in texts.items() if path.endswith(_CODE))
    return [
        path
        for path in paths
        if not _is_for_readers(path) or path in shown or Path(path).name in code
    ]


def _is_text(path: str) -> bool:
    return path.endswith((*_CODE, ".md"))


def _is_for_readers(path: str) -> bool:
    return path.endswith(_PICTURES) and Path(path).parent.as_posix() in (
        "assets",
        "assets/screenshots",
    )


def pictures_shown(readme: str) -> list[str]:
    """Paths of the pictures of the project that a document shows, seen from its folder."""
    links = [first or second for first, second in _SHOWN.findall(readme)]
    return [link for link in links if "://" not in link]


def metadata_of(readme: str) -> dict[str, Any]:
    """The front matter of a README.

    Raises:
        ValueError: if it has none, or it cannot be read.
    """
    try:
        return SpaceCard(readme).data.to_dict()
    except Exception as error:  # of YAML and of the Hub's client
        reason = str(error).splitlines()[0]
        raise ValueError(f"{README} must begin with the settings of the Space: {reason}") from error


def _with_address(readme: str, repo_id: str) -> str:
    """The README with its thumbnail's full address, by which alone others can show it."""
    place = f"{constants.ENDPOINT}/spaces/{repo_id}/resolve/main"
    return re.sub(r"(?m)\A(---\n(?:.+\n)*?thumbnail: )(assets/)", rf"\1{place}/\2", readme)


def check(readme: str, files: Iterable[File]) -> None:
    """Makes sure that a Space can be built of the files.

    Args:
        readme: text of the project's README.
        files: what `files_of` found.

    Raises:
        ValueError: with everything that is wrong.
    """
    problems = list(problems_of(readme, {file.path for file in files}))
    if problems:
        raise ValueError(f"{README} must say what a Space needs: " + "; ".join(problems))


def problems_of(readme: str, paths: set[str]) -> Iterator[str]:
    """What is wrong with a README's front matter and pictures, each in a clause.

    Args:
        readme: its text.
        paths: of all files of the Space.
    """
    data = metadata_of(readme)
    for key in ("title", "emoji", "license"):
        if not data.get(key):
            yield f"{key} must not be empty"
    expected = {"sdk": "gradio", "sdk_version": version("gradio")}  # the one that was tested
    for key, value in expected.items():
        if data.get(key) != value:
            yield f"{key} must be {value}, got {data.get(key)!r}"
    for key in ("colorFrom", "colorTo"):
        if data.get(key) not in COLORS:
            yield f"{key} must be one of {', '.join(sorted(COLORS))}, got {data.get(key)!r}"
    if not re.fullmatch(r"3\.\d+(\.\d+)?", str(data.get("python_version"))):
        yield f"python_version must be in quotes, got {data.get('python_version')!r}"
    if data.get("app_file") not in paths:
        yield f"app_file must be one of the Space's files, got {data.get('app_file')!r}"
    described = data.get("short_description", "")
    if not 0 < len(described) <= LONGEST_DESCRIPTION:
        yield f"short_description must have 1 to 60 characters, got {len(described)}"
    if data.get("suggested_hardware") not in HARDWARE:
        yield f"suggested_hardware must be known, got {data.get('suggested_hardware')!r}"
    if not isinstance(data.get("pinned", False), bool):
        yield f"pinned must be true or false, got {data['pinned']!r}"
    thumbnail = str(data.get("thumbnail", ""))
    if thumbnail not in paths and "://" not in thumbnail:
        yield f"thumbnail must be one of the Space's files, got {thumbnail!r}"
    yield from _wrong_ids(data)
    for path in pictures_shown(readme):
        if path not in paths:
            yield f"the pictures that it shows must be there, got {path}"


def _wrong_ids(data: dict[str, Any]) -> Iterator[str]:
    preloaded = [str(line).split(" ")[0] for line in data.get("preload_from_hub", [])]
    ids = {"models": data.get("models", []), "datasets": data.get("datasets", [])}
    for key, values in {**ids, "preload_from_hub": preloaded}.items():
        for value in values:
            try:
                validate_repo_id(value)
            except HFValidationError:
                yield f"{key} must be ids of the Hub, got {value!r}"
