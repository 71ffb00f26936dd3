"""Refuses what cannot end within a time limit, before it starts, and says what would fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipelines.core.errors import Message, Setting, Several
from pipelines.core.rules import SettingsError
from pipelines.runs.timing import Estimator, Work, estimator, rounded

WorkOf = Callable[[Any], Work]
"""Maps checked settings to the work of a run."""

_EXACT_SLACK, _SIMILAR_SLACK = 1.2, 2.0  # how far over the limit an estimate must be
# Seconds per evaluation, and per picture in it, that hardly any device stays below. Used before
# anything was measured, so that only hopeless runs are refused.
_LEAST_SECONDS, _LEAST_SECONDS_PER_IMAGE = 0.01, 0.002


def check_run(
    settings: Any, work_of: WorkOf, *, limit_seconds: float, times: Estimator = estimator
) -> None:
    """Checks that a run can end in time.

    Args:
        settings: checked.
        work_of: maps settings to the work of a run.
        limit_seconds: longest time of a run, above 0.
        times: estimator of this device.

    Raises:
        SettingsError: if it would clearly take longer; the message says what would fit.
    """
    work = work_of(settings)
    if not _is_clearly_over([work], limit_seconds, times):
        return
    estimate, limit = _text(_seconds(work, times)), _text(limit_seconds)
    fits = _joined(_fitting_runs(settings, work_of, limit_seconds, times))
    if fits is None:
        faster = _that_take_time(settings)
        raise SettingsError("run_hopeless", estimate=estimate, limit=limit, faster=faster)
    raise SettingsError("run_too_long", estimate=estimate, limit=limit, fits=fits)


def check_sweep(
    cells: Sequence[Any], work_of: WorkOf, *, limit_seconds: float, times: Estimator = estimator
) -> None:
    """Checks that a sweep can end in time.

    Args:
        cells: checked settings of every cell, at least one, in the order in which they are drawn.
        work_of: maps the settings of a cell to its work.
        limit_seconds: longest time of the sweep, above 0.
        times: estimator of this device.

    Raises:
        SettingsError: if it would clearly take longer; the message says what would fit.
    """
    works = [work_of(cell) for cell in cells]
    if not _is_clearly_over(works, limit_seconds, times):
        return
    size, limit = _size_of(cells), _text(limit_seconds)
    estimate = _text(sum(_seconds(work, times) for work in works))
    fits = _joined(_fitting_sweeps(cells, work_of, limit_seconds, times))
    if fits is None:
        faster = _that_take_time(cells[0])
        raise SettingsError(
            "sweep_hopeless", size=size, estimate=estimate, limit=limit, faster=faster
        )
    raise SettingsError("sweep_too_long", size=size, estimate=estimate, limit=limit, fits=fits)


def _that_take_time(settings: Any) -> Several:
    """Returns the names of the settings whose choice says how long an evaluation takes."""
    names = ("method", "solver", "model", "conditioning", "clip_model")
    return Several(Setting(name) for name in names if hasattr(settings, name))


def _seconds(work: Work, times: Estimator) -> float:
    """Returns the estimated seconds of a run, or a lower bound if nothing was measured."""
    seconds = times.estimate(work)
    if seconds is None:
        per_evaluation = _LEAST_SECONDS + _LEAST_SECONDS_PER_IMAGE * work.num_images
        return work.evaluations * per_evaluation
    return seconds


def _is_clearly_over(works: Sequence[Work], limit_seconds: float, times: Estimator) -> bool:
    """Returns whether runs, one after the other, certainly take longer than a limit.

    An estimate from runs of another kind or number of images must be further over the limit.
    """
    is_exact = all(times.has_measured(work.kind, work.num_images) for work in works)
    slack = _EXACT_SLACK if is_exact else _SIMILAR_SLACK
    return sum(_seconds(work, times) for work in works) > slack * limit_seconds


def _fitting_runs(
    settings: Any, work_of: WorkOf, limit_seconds: float, times: Estimator
) -> Iterator[Message]:
    """Yields what would fit: fewer steps, pictures or tries, or if need be all of them."""

    def fits(changed: Any) -> bool:
        return _seconds(work_of(changed), times) <= limit_seconds

    steps = _largest(settings, "num_inference_steps", fits)
    pictures = _largest(settings, "num_images", fits)
    tries = _largest(settings, "tries", fits)
    if steps:
        yield Message("fits_steps", count=steps)
    if pictures:
        yield Message("fits_images", count=pictures)
    if tries:
        yield Message("fits_tries", count=tries)
    if steps or pictures or tries:
        return
    steps = _largest(_single(settings), "num_inference_steps", fits, and_itself=True)
    if steps:
        yield Message("fits_single", count=steps)


def _fitting_sweeps(
    cells: Sequence[Any], work_of: WorkOf, limit_seconds: float, times: Estimator
) -> Iterator[Message]:
    """Yields what would fit: the first cells, and all cells with fewer steps."""
    seconds, count = 0.0, 0
    for cell in cells:
        seconds += _seconds(work_of(cell), times)
        count += seconds <= limit_seconds
    if count:
        yield Message("fits_cells", count=count)
    if _shared_steps(cells) is None:
        return

    def fits(first: Any) -> bool:
        changed = [replace(c, num_inference_steps=first.num_inference_steps) for c in cells]
        return sum(_seconds(work_of(cell), times) for cell in changed) <= limit_seconds

    steps = _largest(cells[0], "num_inference_steps", fits)
    if steps:
        yield Message("fits_cells_of_steps", cells=len(cells), count=steps)


def _largest(
    settings: Any, name: str, fits: Callable[[Any], bool], *, and_itself: bool = False
) -> int:
    """Returns the largest value of a setting below its own that fits; 0 if there is none.

    Args:
        settings: checked.
        name: of a whole number; settings without it have no such value.
        fits: returns whether changed settings fit; smaller values fit sooner.
        and_itself: whether the value of the setting itself counts too.
    """
    low, high = 0, getattr(settings, name, 0) + (1 if and_itself else 0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(replace(settings, **{name: middle})) else (low, middle)
    return low


def _single(settings: Any) -> Any:
    """Returns the settings of one picture, with one seed tried."""
    one = settings.of_one_picture()
    return replace(one, tries=1) if hasattr(one, "tries") else one


def _shared_steps(cells: Sequence[Any]) -> int | None:
    """Returns the number of steps of all cells; None if it differs."""
    steps = {cell.num_inference_steps for cell in cells}
    return steps.pop() if len(steps) == 1 else None


def _size_of(cells: Sequence[Any]) -> Message:
    steps = _shared_steps(cells)
    if steps is None:
        return Message("fits_cells", count=len(cells))
    return Message("fits_cells_of_steps", cells=len(cells), count=steps)


def _joined(fitting: Iterator[Message]) -> Message | None:
    """Returns the parts with "or" between them; None if there are none."""
    joined: Message | None = None
    for message in fitting:
        joined = message if joined is None else Message("fits_or", first=joined, second=message)
    return joined


def _text(seconds: float) -> str:
    """Returns seconds as a person reads them: `1,900`, `300`, `0.3`."""
    return f"{rounded(seconds):,.0f}" if seconds >= 1 else f"{seconds:g}"
