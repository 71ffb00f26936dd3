"""What a product is: a kind of run, with everything that others need to draw, show and restore it.

`pipelines.products` has one file for each and fills `PRODUCTS`. Tabs, endpoints, records, links,
sweeps, examples and the warm-up go through it, and know no product by name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core import devices
from pipelines.core.rules import validate
from pipelines.runs import provenance, time_limit, timing, zero_gpu
from pipelines.runs.explanation import Explanation


@dataclass(frozen=True)
class Curve:
    """Values to plot per step, with and without guidance.

    Attributes:
        label: key of the plotted quantity's name in the product's texts.
        guided: one value per step.
        unguided: the same values without guidance.
    """

    label: str
    guided: list[float]
    unguided: list[float]


@dataclass(frozen=True, eq=False)
class Product:
    """A kind of run.

    Attributes:
        name: of its tab and its endpoint.
        settings: settings class.
        preview: class of the previews that `generate` yields.
        generate: function from settings to previews; `compare=False` leaves out the unguided run.
        checkpoints: function from settings to the keys of the checkpoints that they need; the first
            draws.
        load: loads those checkpoints, and downloads missing ones.
        work: function from valid settings to the amount of computation; `compare` as above.
        facts: function from preview to its scores, for API callers and saved files.
        details: function from preview to what API callers get besides.
        curve: function from preview to the plotted values.
        noise_shape: `(c, h, w)` of the noise that the page shows before the first run.
        first_sweep: names of the settings of rows and columns in a new sweep.
        explanation: equations, code and papers of how it works.
        texts: English texts of its pages by key; a language may have others for them.
        description: of its endpoint, for callers.
        only_setting: setting that no other product has, by which pictures that do not name their
            product are known; empty if there is none.
        file_name: name of saved files.
        columns: columns of the saved sheet, of a page of few pictures, and of one of many.
        scale: screen pixels per image pixel on the saved sheet.
        crisp: whether enlarged pixels are shown as squares.
        unguided: function from preview and index of a picture to the settings that draw its
            unguided picture, alone or at the same index; without it that one carries no record.
        has_tab: whether it has a tab; it has an endpoint anyway.
        position: among the tabs, from left to right.
    """

    name: str
    settings: type[Any]
    preview: type[Any]
    generate: Callable[..., Iterator[Any]]
    checkpoints: Callable[[Any], tuple[str, ...]]
    load: Callable[[Any], None]
    work: Callable[..., timing.Work]
    facts: Callable[[Any], dict[str, Any]]
    details: Callable[[Any], dict[str, Any]]
    curve: Callable[[Any], Curve]
    noise_shape: tuple[int, int, int]
    first_sweep: tuple[str, str]
    explanation: Explanation
    texts: Mapping[str, str]
    description: str
    only_setting: str = ""
    file_name: str = "picture"
    columns: tuple[int, int, int] = (4, 2, 3)
    scale: int = 4
    crisp: bool = False
    unguided: Callable[[Any, int], Any] | None = None
    has_tab: bool = True
    position: int = 100

    @property
    def prefix(self) -> str:
        """Prefix of the element ids."""
        return f"{self.name}-"

    def run(
        self, settings: Any, *, compare: bool = True, limit_seconds: float | None = None
    ) -> Iterator[Any]:
        """Yields the previews of a run, and notes its time for later estimates.

        Args:
            settings: of the run.
            compare: whether to draw the unguided run too.
            limit_seconds: longest time of the run; None is no limit.

        Raises:
            SettingsError: if a setting is wrong, or the run cannot end in time.
            CheckpointError: if a checkpoint cannot be loaded.
        """
        settings = validate(settings)
        self.check_time(settings, limit_seconds, compare=compare)
        work = self.work(settings, compare=compare)
        if devices.ZERO_GPU:
            self.load(settings)  # needs no GPU, and errors are reported from here
            stream = zero_gpu.run(self.generate, settings, compare, work)
        else:
            stream = self.generate(settings, compare=compare)
        return _with_timing(stream, work) if compare else stream

    def check_time(
        self, settings: Any, limit_seconds: float | None, *, compare: bool = True
    ) -> None:
        """Checks that a run with valid settings can end in time.

        Raises:
            SettingsError: if it cannot; the message says what could.
        """
        if limit_seconds is not None:
            work_of = functools.partial(self.work, compare=compare)
            time_limit.check_run(settings, work_of, limit_seconds=limit_seconds)

    def metadata(self, preview: Any) -> dict[str, Any]:
        """Returns the metadata of all pictures of a run together."""
        progress = provenance.progress_of(preview)
        return provenance.facts_of(preview) | self.facts(preview) | progress

    def picture_metadata(self, preview: Any, index: int) -> dict[str, Any]:
        """Returns the metadata of one picture, from 0."""
        return self.metadata(preview) | provenance.place_of(preview.settings, index)

    def unguided_metadata(self, preview: Any, index: int) -> dict[str, Any]:
        """Returns the metadata of the unguided picture beside picture `index`; may be empty."""
        if self.unguided is None:
            return {}
        settings = self.unguided(preview, index)
        drawn = dataclasses.replace(preview, settings=settings)
        told = provenance.facts_of(drawn) | provenance.progress_of(preview)
        return told | provenance.place_of(settings, index)


def _with_timing(stream: Iterator[Any], work: timing.Work) -> Iterator[Any]:
    """Yields a run; notes its time when it has finished, and frees its memory when it ends."""
    try:
        for preview in stream:
            if preview.finished:
                timing.estimator.note(work, preview.seconds)
            yield preview
    finally:
        devices.return_freed_memory()


def mean(values: Sequence[float]) -> float:
    """Returns the mean of one value per image; NaN if there are none."""
    return sum(values) / len(values) if values else float("nan")
