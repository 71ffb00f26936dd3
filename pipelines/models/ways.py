"""Ways to compute a network, and which of them is fastest on this machine.

`measure` times them once, and keeps what it found in a file. Before that, and on graphics cards,
the choice needs no measurement. A way counts only if its pictures stay as they are in fp32.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.core import devices, graphs
from pipelines.core.limits import MEGABYTE
from pipelines.core.packages import installed

logger = logging.getLogger("studio")

TOLERANCE = 2.0
"""Steps of 255 by which no pixel of a picture may differ from fp32 in PyTorch."""

MOST_BYTES = 128 * MEGABYTE
"""Networks with more weights stay in PyTorch, for graphs take memory as well."""

GRAPH_COPIES = 3
"""How often a graph holds the weights: as they are, and as processors want them."""

_GRAPHS, _FILE = "STUDIO_GRAPHS", "passes.json"
_TURNS = 7
_PACKAGES = ("torch", "openvino", "diffusers")


@dataclass(frozen=True)
class Way:
    """How networks are computed.

    Attributes:
        engine: "PyTorch" or "OpenVINO".
        precision: key of `devices.PRECISIONS`.
    """

    engine: str
    precision: str

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}"


PLAIN = Way("PyTorch", "fp32")
GRAPH = Way("OpenVINO", "fp32")
WAYS = {way.name: way for way in (PLAIN, GRAPH, Way("PyTorch", "bf16"), Way("OpenVINO", "bf16"))}


MEASURED = "measured"
CHOICES = (MEASURED, *WAYS)
"""How a run may ask to be computed: in the way that this machine chose, or in a named one."""


@dataclass(frozen=True)
class Measured:
    """What was measured on a machine.

    Attributes:
        machine: processor, threads and versions, which the figures hold for.
        chosen: name of the fastest way that keeps the pictures.
        milliseconds: of a pass, by name of the way.
        differences: largest difference of a pixel in steps of 255, by name of the way.
    """

    machine: str
    chosen: str
    milliseconds: Mapping[str, float]
    differences: Mapping[str, float]


def chosen(where: torch.device) -> Way:
    """Returns how networks on a device are computed.

    Raises:
        ValueError: if `STUDIO_PRECISION` or `STUDIO_GRAPHS` is wrong, or one contradicts the other.
    """
    allowed = _allowed(where)
    found = measured()
    if found is not None and found.chosen in [way.name for way in allowed]:
        return WAYS[found.chosen]
    return GRAPH if GRAPH in allowed else allowed[0]


def possible(where: torch.device) -> list[str]:
    """Returns the names of the ways that a device and the environment leave open.

    Raises:
        ValueError: as `chosen`.
    """
    return [way.name for way in _allowed(where)]


def asked(name: str, where: torch.device) -> Way:
    """Returns the way of a name of `CHOICES`."""
    return chosen(where) if name == MEASURED else WAYS[name]


def _allowed(where: torch.device) -> list[Way]:
    """Returns the ways that the environment leaves open; the first needs no measurement."""
    wanted = os.environ.get(_GRAPHS, "").strip()
    if wanted not in ("", "0", "1"):
        raise ValueError(f"{_GRAPHS} must be 0 or 1, got {wanted!r}")
    if wanted == "1" and not graphs.is_available():
        raise ValueError(f"{_GRAPHS} must be 0 where OpenVINO is not installed, got '1'")
    if wanted == "1" and where.type != "cpu":
        raise ValueError(f"{_GRAPHS} must be 0 on {where.type}, for graphs are for CPUs, got '1'")
    named = devices.named_precision(where)
    if where.type != "cpu":  # what a card is fastest in is not measured
        return [Way("PyTorch", named or "fp32")]
    engines = {"0": ["PyTorch"], "1": ["OpenVINO"]}.get(wanted, ["PyTorch", "OpenVINO"])
    if not graphs.is_available():
        engines = ["PyTorch"]
    fitting = (way for way in WAYS.values() if way.precision == (named or way.precision))
    return [way for way in fitting if way.engine in engines]


def measured() -> Measured | None:
    """Returns what the file says of this machine; None if it says nothing."""
    found = _read(_folder() / _FILE)
    return found if found is not None and found.machine == machine() else None


@functools.cache
def _read(path: Path) -> Measured | None:
    try:
        found = Measured(**json.loads(path.read_text(encoding="utf-8")))
        return found if _is_sound(found) else None
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None


def _is_sound(found: Measured) -> bool:
    """Returns whether a file holds what `measure` writes."""
    figures = [*found.milliseconds.values(), *found.differences.values()]
    return (
        found.differences[found.chosen] <= TOLERANCE
        and found.milliseconds.keys() == found.differences.keys() <= WAYS.keys()
        and all(math.isfinite(figure) and figure >= 0 for figure in figures)
    )


def _folder() -> Path:
    named = os.environ.get("STUDIO_CACHE", "").strip()
    return Path(named).expanduser() if named else Path.home() / ".cache" / "guided-diffusion-studio"


def is_graph(way: Way, weights: int) -> bool:
    """Returns whether a network with so many bytes of weights is computed as a graph."""
    return way.engine == "OpenVINO" and weights <= MOST_BYTES


def memory_of(weights: int, where: torch.device) -> int:
    """Returns the bytes that a network takes, with its graphs."""
    return weights * (1 + GRAPH_COPIES if is_graph(chosen(where), weights) else 1)


@functools.cache
def machine() -> str:
    """Returns what the figures depend on: processor, threads, versions."""
    packages = (f"{name} {number}" for name, number in installed(_PACKAGES).items())
    return ", ".join([_processor(), f"{torch.get_num_threads()} threads", *packages])


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Trial:
    """One way, ready to be timed.

    Attributes:
        compute: makes one pass.
        difference: largest difference of a pixel from fp32 in PyTorch, in steps of 255.
    """

    compute: Callable[[], Any]
    difference: float


def measure(where: torch.device, trial_of: Callable[[Way], Trial]) -> Measured | None:
    """Finds the fastest way that keeps the pictures, and writes it to the file.

    Args:
        where: the device.
        trial_of: prepares a way; may fail, then the way does not count.

    Returns:
        What was found; None where nothing was to be measured, because only one way is open or the
        file has it already.
    """
    ways = _allowed(where)
    if len(ways) < 2 or measured() is not None:
        return None
    trials: dict[str, Trial] = {}
    for way in ways:
        try:
            trials[way.name] = trial_of(way)
            trials[way.name].compute()
        except Exception as error:  # of whatever a processor does not have
            trials.pop(way.name, None)
            logger.info("%s is not possible here: %s", way.name, error)
    times = _times({name: trial.compute for name, trial in trials.items()})
    differences = {name: round(trial.difference, 3) for name, trial in trials.items()}
    kept = [name for name in times if differences[name] <= TOLERANCE] or [PLAIN.name]
    best = min(kept, key=lambda name: times.get(name, 0.0))
    found = Measured(machine(), best, times, differences)
    _write(found)
    return found


def _times(works: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Returns the median milliseconds of each work; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(_TURNS):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def _write(found: Measured) -> None:
    """Keeps what was found; where the folder cannot be written, it is measured at every start."""
    path = _folder() / _FILE
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(found), indent=2), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        logger.info("%s cannot be written: %s", path, error)
    _read.cache_clear()
