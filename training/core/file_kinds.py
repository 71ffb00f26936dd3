"""What kind of file a file is, by its suffix and, for unknown suffixes, by its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["picture", "table", "archive", "format", "video", "other"]

PICTURES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".avif"),
)
"""Suffixes of the formats that `pipelines.core.pictures` opens."""

CAPTIONS = (".txt", ".caption")
METADATA = ("metadata.csv", "metadata.jsonl")
TABLES = (".parquet", ".arrow", ".csv", ".jsonl", ".tsv")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
OTHER_FORMATS = (
    *(".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".psd", ".psb", ".svg", ".ico"),
    *(".ppm", ".pgm", ".pbm", ".tga", ".eps", ".pdf", ".xcf", ".exr", ".hdr", ".dds", ".pcx"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".raw"),
)
VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp")

LEFT_OUT = {
    "archive": "archives; unpack them to use what is in them",
    "format": "pictures of formats that are not read, such as HEIC; save them as JPEG or PNG",
    "video": "videos",
    "caption": "captions and texts that belong to no picture",
    "row": "rows of metadata that name no picture",
    "metadata": "metadata files that cannot be read or have no column file_name",
    "table": "tables",
    "hidden": "hidden files and files of the system",
    "closed": "folders that cannot be opened",
    "link": "links to nothing or to a folder that is listed already",
    "name": "files whose name is not Unicode",
    "other": "files of other kinds",
}
"""Why a file is not used: each reason in words, in the order in which they are told."""

_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "icon\r")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a system makes for itself."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def is_metadata(name: str) -> bool:
    """Whether a file says something of pictures that it names, as ImageFolder's do."""
    return name.lower() in METADATA


def kind_of(path: Path) -> Kind:
    """What a file is; one without a known suffix is a picture if it begins like one."""
    suffix = path.suffix.lower()
    kinds: dict[Kind, tuple[str, ...]] = {
        "picture": PICTURES,
        "table": TABLES,
        "archive": ARCHIVES,
        "format": OTHER_FORMATS,
        "video": VIDEOS,
    }
    fitting: list[Kind] = [kind for kind, suffixes in kinds.items() if suffix in suffixes]
    known = fitting[0] if fitting else "other"
    if known in ("other", "format") and suffix not in CAPTIONS and _begins_like_a_picture(path):
        return "picture"
    return known


def _begins_like_a_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    is_avif = start[4:12] == b"ftypavif"
    return start.startswith(_MAGIC) or is_webp or is_avif
