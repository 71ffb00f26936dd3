"""Measures the digits: accuracy, Fréchet distance and time.

    python -m benchmarks.digits
    python -m benchmarks.digits --conditioning channels --course-digits 200
    python -m benchmarks.digits --conditioning embedding --sweep

The judge is a classifier that guidance never uses (`pipelines.models.judges`); the distance is the
Fréchet distance between its features of the pictures and of MNIST's test pictures. Pictures are
judged in 8 bits, as users get them. `--sweep`, for the choice of defaults, draws with other seeds
than the report and measures the distance to training pictures instead.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from benchmarks import course, scoring, timing
from benchmarks.figures import write_cards
from benchmarks.scoring import Score, Scorer, cycled_labels
from pipelines.core import devices
from pipelines.core.rules import rule
from pipelines.models import checkpoints
from pipelines.models.judges import NUM_CLASSES, load_judge, stored_accuracy
from pipelines.products.digits import generate
from pipelines.products.settings import MAX_DIGITS, DigitsSettings
from training.digits.data import Digits, default_mnist, load_digits

REPORT_SEED = 1_000_000
TUNING_SEED = 500_000
SWEEP_REFERENCE = 10_000
CONDITIONINGS: tuple[str, ...] = rule(DigitsSettings, "conditioning").options

TIMING_HEADER = (
    "row 0-9",
    "ours",
    "course, 1000 steps",
    "times less",
    "judged as asked, ours / course",
    "Fréchet distance, ours / course",
)


def draw(settings: DigitsSettings, count: int, seed: int) -> Digits:
    """Draws `count` digits 0, 1, ... 9, 0, ... with the product; picture i takes `seed + i`."""
    labels, parts = cycled_labels(count), []
    with tqdm(total=count, unit="digit", desc=f"ours {settings.conditioning}") as bar:
        for start in range(0, count, MAX_DIGITS):
            digits = "".join(str(int(digit)) for digit in labels[start : start + MAX_DIGITS])
            *_, last = generate(
                dataclasses.replace(settings, digits=digits, seed=seed + start), compare=False
            )
            parts.append(course.as_pixels(last.pictures))
            bar.update(len(digits))
    return Digits(torch.cat(parts), labels)


def describe(settings: DigitsSettings) -> str:
    """Returns the settings that determine quality, as text of a table cell."""
    return (
        f"{settings.conditioning}: {settings.num_inference_steps} steps of {settings.solver}, "
        f"CFG {settings.cfg_scale:g}"
    )


def score_conditioning(
    scorer: Scorer, conditioning: str, *, num_digits: int, course_digits: int, cache: Path
) -> list[Score]:
    """Returns the scores of our default settings and of the course.

    If the course draws fewer digits, the scores of as many of ours come in between, so that the
    last two are comparable.
    """
    settings = DigitsSettings(conditioning=conditioning)
    ours = draw(settings, num_digits, REPORT_SEED)
    scores = [scorer.score(describe(settings), ours)]
    if course_digits == 0:
        return scores
    if course_digits < num_digits:
        fewer = Digits(ours.pixels[:course_digits], ours.labels[:course_digits])
        scores.append(scorer.score(describe(settings), fewer))
    loaded = checkpoints.load(f"digits-{conditioning}")
    pixels = course.pictures(loaded, count=course_digits, seed=REPORT_SEED, cache=cache)
    course_data = Digits(pixels, cycled_labels(course_digits))
    return [
        *scores,
        scorer.score(f"{conditioning}: course, 1000 steps of DDPM, no guidance", course_data),
    ]


def timing_row(measured: timing.Timing, scores: Sequence[Score]) -> list[str]:
    """Returns a row of the table of times, with the quality of equally many digits of both."""
    pair: list[Score | None] = [scores[-2], scores[-1]] if len(scores) > 1 else [scores[0], None]
    shares = ["not run" if s is None else f"{100 * s.accuracy.value:.1f} %" for s in pair]
    distances = ["not run" if s is None else f"{s.distance.value:.2f}" for s in pair]
    return [
        measured.conditioning,
        f"{measured.seconds:.3f} s",
        f"{measured.course_seconds:.1f} s ({measured.method})",
        f"{measured.ratio:.0f}",
        " / ".join(shares),
        " / ".join(distances),
    ]


def grid(
    cfg_scales: Sequence[float], steps: Sequence[int], solvers: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns all combinations, as changes to the default settings."""
    names = ("solver", "num_inference_steps", "cfg_scale")
    return [
        dict(zip(names, values, strict=True))
        for values in itertools.product(solvers, steps, cfg_scales)
    ]


def sweep(
    scorer: Scorer, conditioning: str, combinations: Iterable[dict[str, Any]], num_digits: int
) -> list[Score]:
    """Scores every combination on the tuning seeds."""
    base = DigitsSettings(conditioning=conditioning)
    all_settings = [dataclasses.replace(base, **changes) for changes in combinations]
    scores = []
    for settings in all_settings:
        scores.append(scorer.score(describe(settings), draw(settings, num_digits, TUNING_SEED)))
        tqdm.write(" | ".join(scoring.row(scores[-1])), file=sys.stderr)
    return scores


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Writes raw numbers atomically: an interruption leaves the old or the new file complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(figures, indent=2) + "\n")
    os.replace(temporary, path)


def last_line() -> str:
    """Returns a sentence about the machine and the judge of the figures."""
    return (
        f"Measured on {devices.describe_device()}, PyTorch {torch.__version__}; the judge is right "
        f"on {100 * stored_accuracy():.2f} % of MNIST's test pictures."
    )


def report(
    dataset_name: str,
    conditionings: Sequence[str],
    *,
    num_digits: int,
    course_digits: int,
    repeats: int,
    course_steps_timed: int,
    cache: Path,
    cards: bool,
) -> dict[str, Any]:
    """Measures everything, prints the tables, and returns the raw numbers."""
    scorer = Scorer(load_judge(), load_digits(dataset_name, "test"))
    real = scoring.balanced_sample(load_digits(dataset_name, "train"), num_digits)
    scores = {"real": [scorer.score("real training digits", real)]}
    if 0 < course_digits < num_digits:
        fewer = scoring.balanced_sample(real, course_digits)
        scores["real"].append(scorer.score("real training digits", fewer))
    timings = []
    for conditioning in conditionings:
        timings.append(
            timing.time_row(conditioning, repeats=repeats, course_steps_timed=course_steps_timed)
        )
        scores[conditioning] = score_conditioning(
            scorer, conditioning, num_digits=num_digits, course_digits=course_digits, cache=cache
        )
    lines = [scoring.row(score) for part in scores.values() for score in part]
    print(scoring.markdown(scoring.HEADER, lines), end="\n\n")
    rows = [timing_row(timed, scores[timed.conditioning]) for timed in timings]
    print(scoring.markdown(TIMING_HEADER, rows))
    if cards:
        write_cards(scores, timings)
    return {
        "scores": {k: [dataclasses.asdict(score) for score in v] for k, v in scores.items()},
        "timings": [dataclasses.asdict(t) | {"ratio": t.ratio} for t in timings],
    }


def report_sweep(
    dataset_name: str, conditioning: str, combinations: list[dict[str, Any]], num_digits: int
) -> dict[str, Any]:
    """Sweeps, prints the table, and returns the raw numbers."""
    train = load_digits(dataset_name, "train")
    reference = scoring.balanced_sample(train, min(SWEEP_REFERENCE, len(train) // 2))
    scorer = Scorer(load_judge(), reference)
    scores = sweep(scorer, conditioning, combinations, num_digits)
    print(scoring.markdown(scoring.HEADER, [scoring.row(score) for score in scores]))
    return {"sweep": [dataclasses.asdict(score) for score in scores]}


def check_counts(num_digits: int, course_digits: int) -> None:
    """Checks that the numbers can be split evenly over the classes and compared.

    Raises:
        typer.BadParameter: if they cannot.
    """
    if num_digits % NUM_CLASSES or num_digits < 2 * NUM_CLASSES:
        raise typer.BadParameter(f"--num-digits must be a multiple of 10 from 20, got {num_digits}")
    if course_digits % NUM_CLASSES or course_digits > num_digits:
        raise typer.BadParameter(
            f"--course-digits must be a multiple of 10, at most --num-digits, got {course_digits}"
        )


def main(
    conditioning: Annotated[str, typer.Option(help="one of them [all; embedding to sweep]")] = "",
    num_digits: Annotated[int, typer.Option(help="0 is 1,000, or 200 to sweep")] = 0,
    course_digits: Annotated[int, typer.Option(help="1000 steps each; 0 is none")] = -1,
    repeats: Annotated[int, typer.Option(min=1, help="of the row 0-9")] = 10,
    course_steps_timed: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    dataset_name: Annotated[str, typer.Option(help="Hub id or folder [MNIST]")] = "",
    cache_dir: Annotated[Path, typer.Option(help="keeps the course's digits")] = (
        course.DEFAULT_CACHE
    ),
    json_path: Annotated[Path | None, typer.Option("--json", help="raw numbers")] = None,
    cards: Annotated[bool, typer.Option("--cards", help="write the model cards anew")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
    sweep_settings: Annotated[bool, typer.Option("--sweep", help="compare settings")] = False,
    cfg_scale: Annotated[list[float] | None, typer.Option(help="to sweep; repeatable")] = None,
    steps: Annotated[list[int] | None, typer.Option(help="to sweep; repeatable")] = None,
    solver: Annotated[list[str] | None, typer.Option(help="to sweep; repeatable")] = None,
) -> None:
    """Prints the tables of the digits, or with --sweep one of many settings."""
    if conditioning and conditioning not in CONDITIONINGS:
        raise typer.BadParameter(
            f"--conditioning must be one of {', '.join(CONDITIONINGS)}, got {conditioning!r}"
        )
    num_digits = num_digits or (200 if sweep_settings else 1000)
    course_digits = min(1000, num_digits) if course_digits < 0 else course_digits
    check_counts(num_digits, course_digits)
    if threads:
        torch.set_num_threads(threads)
    name = dataset_name or default_mnist()
    if sweep_settings:
        combinations = grid(
            cfg_scale or (1.0, 1.5, 2.0, 3.0), steps or (8, 10, 12), solver or ("dpm++", "ddim")
        )
        figures = report_sweep(name, conditioning or CONDITIONINGS[0], combinations, num_digits)
    else:
        figures = report(
            name,
            [conditioning] if conditioning else CONDITIONINGS,
            num_digits=num_digits,
            course_digits=course_digits,
            repeats=repeats,
            course_steps_timed=course_steps_timed,
            cache=cache_dir,
            cards=cards,
        )
    print(f"\n{last_line()}")
    if json_path:
        write_json(json_path, figures | {"machine": last_line()})


if __name__ == "__main__":
    typer.run(main)
