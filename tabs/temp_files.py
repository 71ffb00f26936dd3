"""The picture files that the app serves: few at a time, and bounded on the disk.

Gradio serves only files in its upload folder, in a folder that is named by their content, so runs
that draw the same picture share its file. While a run goes on, new previews replace older ones; the
files of its result stay until they are the oldest of all and `STUDIO_TEMP_MB` is used up.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from pipelines.core.limits import MEGABYTE, limit

KEPT_SETS = 3
"""Sets of previews that a run keeps, because a client fetches one while the next is drawn."""

GRACE_SECONDS = 20.0
"""An older set stays for this long, for clients that lag behind a fast run."""

RUN_BYTES = 32 * MEGABYTE
"""Older sets give way earlier than that if the previews of one run take more."""

MAX_SECONDS = 3600.0
"""A file that was written longer ago is deleted."""


def budget_mb() -> int:
    """Returns the space for all files of the app in MiB: `STUDIO_TEMP_MB`, 512 by default.

    Raises:
        ValueError: if the variable is not a whole number of 1 or more.
    """
    return limit("STUDIO_TEMP_MB", 512)


@dataclass
class _File:
    """A file on the disk.

    Attributes:
        bytes: its size.
        written_at: in seconds of the monotonic clock.
        runs: number of sets of files, of runs that go on, with this one among them.
    """

    bytes: int
    written_at: float = 0.0
    runs: int = 0


class TempFiles:
    """The files that this process wrote; thread-safe.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._files: OrderedDict[str, _File] = OrderedDict()  # the oldest first
        self._bytes = 0
        self._ending: deque[tuple[float, Sequence[str]]] = deque()
        self._lock = threading.RLock()
        self._apps: weakref.WeakSet[gr.Blocks] = weakref.WeakSet()

    def watch(self, demo: gr.Blocks) -> None:
        """Makes an app forget the paths of deleted files; it would list them without end."""
        for block in demo.blocks.values():
            block.temp_files = _Paths(block.temp_files)
        demo.upload_file_set = _Paths(demo.upload_file_set)
        lists = [demo.upload_file_set, *(block.temp_files for block in demo.blocks.values())]
        demo.temp_file_sets = lists
        self._apps.add(demo)

    def save_png(self, picture: Image.Image, name: str) -> str:
        """Saves a picture with its text entries; returns the path."""
        folder = get_upload_folder()
        return self._saved(lambda: save_pil_to_cache(picture, folder, name=name, format="png"))

    def save_bytes(self, content: bytes, name: str) -> str:
        """Saves a file of that name; returns the path."""
        return self._saved(lambda: save_bytes_to_cache(content, name, get_upload_folder()))

    def _saved(self, save: Callable[[], str]) -> str:
        with self._lock:  # so that no other run deletes the file that this one writes again
            path = save()
            if path not in self._files:
                self._files[path] = _File(Path(path).stat().st_size)
                self._bytes += self._files[path].bytes
            self._files[path].written_at = self._clock()
            self._files.move_to_end(path)
            self._make_room(path)
            return path

    def _make_room(self, newest: str) -> None:
        """Deletes previews of ended runs, and the oldest files if they are too old or too many."""
        now, most = self._clock(), budget_mb() * MEGABYTE
        while self._ending and now - self._ending[0][0] > GRACE_SECONDS:
            self.delete(*self._ending.popleft())
        for path, file in list(self._files.items()):
            if self._bytes <= most and now - file.written_at <= MAX_SECONDS:
                return
            if not file.runs and path != newest:
                self._delete(path)

    def __contains__(self, path: str) -> bool:
        """Returns whether a file is one of these."""
        with self._lock:
            return path in self._files

    def bytes_of(self, paths: Iterable[str]) -> int:
        """Returns the size of files together; 0 for those that are deleted."""
        with self._lock:
            return sum(self._files[path].bytes for path in paths if path in self._files)

    def hold(self, paths: Iterable[str]) -> None:
        """Keeps files while a run goes on."""
        with self._lock:
            for path in paths:
                if path in self._files:
                    self._files[path].runs += 1

    def release(self, paths: Iterable[str]) -> None:
        """Ends `hold`; the files stay until they are the oldest."""
        with self._lock:
            for path in paths:
                if path in self._files:
                    self._files[path].runs -= 1

    def delete(self, shown_at: float, paths: Sequence[str]) -> None:
        """Ends `hold`, and deletes the files that no other run holds or is about to hold.

        Args:
            shown_at: when they were shown last; files that were written again since are another
                run's, which has drawn the same picture.
            paths: the files.
        """
        with self._lock:
            self.release(paths)
            for path in paths:
                file = self._files.get(path)
                if file is not None and not file.runs and file.written_at <= shown_at:
                    self._delete(path)

    def release_later(self, paths: Sequence[str]) -> None:
        """Ends `hold` after a grace, and deletes those files that no other run holds."""
        with self._lock:
            self._ending.append((self._clock(), paths))

    def _delete(self, path: str) -> None:
        self._bytes -= self._files.pop(path).bytes
        for demo in self._apps:
            for paths in demo.temp_file_sets:
                paths.discard(path)
        try:
            Path(path).unlink(missing_ok=True)
            Path(path).parent.rmdir()  # each content has a folder of its own
        except OSError:  # another file of the same content lies there
            return


class _Paths(set[str]):
    """A set that may change while it is read, as Gradio's own cleaning of its folder does."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().__iter__()))


@dataclass
class RunFiles:
    """The files of one run of an endpoint: the latest previews, at the end the result.

    Attributes:
        files: of the process.
        clock: returns seconds that never go back.
    """

    files: TempFiles
    clock: Callable[[], float] = time.monotonic
    _sets: deque[tuple[float, Sequence[str]]] = field(default_factory=deque)

    def show(self, paths: Sequence[str]) -> None:
        """Takes a newer set of files, and deletes sets that nobody fetches any more."""
        self.files.hold(paths)
        self._sets.append((self.clock(), paths))
        while len(self._sets) > KEPT_SETS and self._is_too_much():
            self.files.delete(*self._sets.popleft())

    def _is_too_much(self) -> bool:
        """Returns whether the oldest set is too old, or all sets take too much space."""
        if self.clock() - self._sets[0][0] > GRACE_SECONDS:
            return True
        return sum(self.files.bytes_of(paths) for _, paths in self._sets) > RUN_BYTES

    def close(self) -> None:
        """Ends the run: the last set stays, the others are deleted after a grace."""
        while len(self._sets) > 1:
            self.files.release_later(self._sets.popleft()[1])
        if self._sets:
            self.files.release(self._sets.popleft()[1])


files = TempFiles()
"""The files of this process."""
