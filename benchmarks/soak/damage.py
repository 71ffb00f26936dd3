"""Damages bundled files in every way and draws with them: a sentence or the same picture.

    python -m benchmarks.soak.damage

A copy of the bundled files takes the damage, one file at a time. Each case loads what reads the
file and draws one small picture in two steps. What is damaged follows from the seed.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.core import images
from pipelines.core.assets import ASSETS
from pipelines.core.errors import UserError
from pipelines.models import checkpoints, clip, integrity, judges, table
from pipelines.products import color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import comparison, example_files

SENTENCE, SAME, WRONG, TRACEBACK = "a sentence", "the same picture", "another picture", "traceback"
CASES, SECONDS = 150, 360.0

_PATTERNS = (*integrity.PATTERNS[:2], *integrity.PATTERNS)  # networks break in the most ways
_KINDS = [pattern for pattern in _PATTERNS if any(ASSETS.glob(pattern))]
_ZEROS = 4096
_PREVIEWS = {"color": color.Preview, "text": text.Preview, "digits": digits.Preview}


def _flip(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    place = chance.randrange(len(content))
    return (
        content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
    )


def _zeros(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    place = chance.randrange(max(len(content) - _ZEROS, 1))
    zeros = bytes(min(_ZEROS, len(content)))
    return content[:place] + zeros + content[place + len(zeros) :]


def _truncated(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    return content[: chance.randrange(1, len(content))]


DAMAGES: dict[str, Callable[[bytes, random.Random, bytes], bytes | None]] = {
    "one bit": _flip,
    "4 KB of zeros": _zeros,
    "truncated": _truncated,
    "swapped": lambda _content, _chance, other: other,
    "empty": lambda _content, _chance, _other: b"",
    "missing": lambda _content, _chance, _other: None,
}
"""Ways to damage a file: content, source of chance and a sibling's content to a new content."""


@dataclass(frozen=True)
class Case:
    """One damaged file.

    Attributes:
        name: path of the file below the assets.
        damage: key of `DAMAGES`.
        sibling: path of the file that a swap takes the content of.
        seed: of where the damage is.
    """

    name: str
    damage: str
    sibling: str
    seed: str


def cases(number: int, seed: int) -> Iterator[Case]:
    """Yields cases; every kind of file meets every kind of damage, as far as the number goes."""
    for i in range(number):
        chance = random.Random(f"{seed}:{i}")
        damage = list(DAMAGES)[i % len(DAMAGES)]
        pattern = _KINDS[(i // len(DAMAGES)) % len(_KINDS)]
        files = sorted(path.relative_to(ASSETS).as_posix() for path in ASSETS.glob(pattern))
        name = chance.choice(files)
        same_ending = [file for file in files if Path(file).suffix == Path(name).suffix]
        siblings = [file for file in same_ending if file != name] or [name]
        yield Case(name, damage, chance.choice(siblings), f"{seed}:{i}:place")


@contextmanager
def copied_assets() -> Iterator[Path]:
    """Yields a folder with links to all files of the assets, from which the models are read."""
    before = table.BUNDLED, judges.WEIGHTS
    with tempfile.TemporaryDirectory() as temporary:
        assets = Path(temporary) / "assets"
        for path in ASSETS.rglob("*"):
            if path.is_file():
                copy = assets / path.relative_to(ASSETS)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.symlink_to(path)
        table.BUNDLED, judges.WEIGHTS = assets / "checkpoints", assets / judges.WEIGHTS.name
        try:
            yield assets
        finally:
            table.BUNDLED, judges.WEIGHTS = before
            forget()


@contextmanager
def damaged(assets: Path, case: Case) -> Iterator[None]:
    """Damages a file for the time of the context."""
    path, original = assets / case.name, ASSETS / case.name
    sibling = (ASSETS / case.sibling).read_bytes()
    content = DAMAGES[case.damage](original.read_bytes(), random.Random(case.seed), sibling)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        path.symlink_to(original)


def forget() -> None:
    """Drops everything that was loaded, so that files are read anew."""
    checkpoints.unload_all()
    clip.unload_all()
    comparison.unguided_runs.clear()
    digits._judge.cache_clear()


def drawn(assets: Path, name: str) -> str:
    """Returns a digest of the pictures and scores that a file has a part in.

    Raises:
        Exception: of any kind, if a file is damaged and nobody says so.
    """
    preview = _preview(assets, name)
    digest = hashlib.sha256()
    for picture in [*preview.pictures, *preview.unguided]:
        digest.update(images.to_png(picture))
    digest.update(repr((preview.score_after, getattr(preview, "unseen_words", []))).encode())
    return digest.hexdigest()


def _preview(assets: Path, name: str) -> Any:
    folder, _, rest = name.partition("/")
    key = rest.partition("/")[0]
    if folder == "examples":
        return example_files.load_example(assets / name, _PREVIEWS[rest.partition("-")[0]])
    *_, last = _run(key if folder == "checkpoints" else "digits-channels")
    return last


def _run(key: str) -> Iterator[Any]:
    if key.startswith("digits-"):
        conditioning = key.removeprefix("digits-")
        return digits.generate(
            DigitsSettings(digits="3", conditioning=conditioning, num_inference_steps=2)
        )
    if key in table.CLIPS:
        return text.generate(
            TextSettings(
                prompt="a red heart, zyx", model="emoji", num_inference_steps=2, method="fast"
            )
        )
    return color.generate(ColorSettings(model=key, num_inference_steps=2, method="fast"))


def outcome(assets: Path, case: Case, expected: str) -> tuple[str, str]:
    """Returns what comes of a damaged file, one of the four words, and its sentence or error."""
    forget()
    with damaged(assets, case):
        try:
            found = drawn(assets, case.name)
        except UserError as error:
            return SENTENCE, str(error)
        except Exception as error:  # the fault that this looks for
            return TRACEBACK, f"{type(error).__name__}: {error}"
    return (SAME, "") if found == expected else (WRONG, "")


def run(
    number: int = CASES, seed: int = 0, seconds: float = SECONDS
) -> list[tuple[Case, str, str]]:
    """Tries cases until they are done or the time is over.

    Args:
        number: of cases.
        seed: of what is damaged.
        seconds: after which no further case begins.

    Returns:
        Each case with what came of it, one of the four words, and its sentence or error.
    """
    began, expected, results = time.monotonic(), {}, []
    with copied_assets() as assets:
        for case in cases(number, seed):
            if time.monotonic() - began > seconds:
                break
            if case.name not in expected:
                forget()
                expected[case.name] = drawn(assets, case.name)
            results.append((case, *outcome(assets, case, expected[case.name])))
    return results


def main(
    number: Annotated[int, typer.Option("--cases", min=1, help="damaged files")] = CASES,
    seed: Annotated[int, typer.Option(help="of what is damaged")] = 0,
    seconds: Annotated[float, typer.Option(help="after which no case begins")] = SECONDS,
) -> None:
    """Prints what came of each kind of damage; exits with 1 after a wrong picture or traceback."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    results = run(number, seed, seconds)
    outcomes = (SENTENCE, SAME, WRONG, TRACEBACK)
    counts = Counter((case.damage, what) for case, what, _ in results)
    print(f"| damage | {' | '.join(outcomes)} |\n| --- |{' --- |' * len(outcomes)}")
    for damage in DAMAGES:
        row = " | ".join(str(counts[damage, what]) for what in outcomes)
        print(f"| {damage} | {row} |")
    bad = [result for result in results if result[1] in (WRONG, TRACEBACK)]
    for case, what, message in bad:
        print(f"{case.name}, {case.damage}: {what} {message.splitlines()[0] if message else ''}")
    print(f"{len(results)} of {number} cases, {len(bad)} bad")
    raise typer.Exit(1 if bad or len(results) < number else 0)


if __name__ == "__main__":
    typer.run(main)
