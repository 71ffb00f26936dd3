"""The parts of `benchmarks.words`: what is drawn, who judges it, and the tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import frechet, words_copies
from benchmarks.emoji import PROMPTS, SETTINGS
from benchmarks.judges import emoji_judge, name_judge, things_judge
from benchmarks.scoring import markdown
from benchmarks.text import PRESETS
from benchmarks.words_copies import COPIED, FLAT, NEAR_HEADER, Real, Trained
from benchmarks.words_drawing import Conditioned, Guided, Studio, Unguided, Way
from training.core import held_out
from training.core.told import with_article

INTERVAL = (0.1, 0.6)
"""Shares of the steps between which guidance is on, in the row with an interval."""

QUICK_EVERY, QUICK_STEPS = 6, 10
NO_DATA = "The data sets are not in {}, so {} is left out."


@dataclass
class Bench:
    """What the parts share.

    Attributes:
        studio: draws.
        num_images: seeds of each of the twenty prompts; other sentences have half as many.
        scales: of classifier-free guidance in the table of the twenty prompts.
        cfg_scale: of classifier-free guidance in all other tables.
        quick: whether to draw little.
        data_folder: of the data sets.
        results: raw numbers of each part.
        sheets: pictures of each part, for grids.
    """

    studio: Studio
    num_images: int
    scales: Sequence[float]
    cfg_scale: float
    quick: bool
    data_folder: Path
    results: dict[str, Any] = field(default_factory=dict)
    sheets: dict[str, list[Tensor]] = field(default_factory=dict)
    real: Real | None = None

    @property
    def few(self) -> int:
        """Seeds of a sentence that is not one of the twenty prompts."""
        return max(1, self.num_images // 2)

    @property
    def conditioned(self) -> Conditioned:
        """The way to draw with words that all parts share."""
        return self.told(self.cfg_scale)

    @property
    def ways(self) -> list[Way]:
        """The ways that all parts but the first compare."""
        if self.quick:
            return [self.conditioned]
        return [Unguided(PRESETS[0]), Guided(PRESETS[0]), self.conditioned]

    def told(self, scale: float, **more: Any) -> Conditioned:
        """Returns a way to draw with words."""
        way = Conditioned(scale, **more)
        return replace(way, num_inference_steps=QUICK_STEPS) if self.quick else way

    def some(self, texts: Iterable[str]) -> list[str]:
        """Returns all texts, or some of them if there is little time."""
        return list(itertools.islice(texts, 0, None, QUICK_EVERY if self.quick else 1))

    def draw(self, way: Way, texts: Sequence[str], num_images: int) -> dict[str, Tensor]:
        """Returns the pictures of each text, `(n, 3, h, w)` in [-1, 1]."""
        bar = tqdm(texts, desc=way.name, leave=False)
        return {text: self.studio.draw(way, text, num_images) for text in bar}

    def keep_sheet(self, part: str, texts: Sequence[str], num_images: int) -> None:
        """Keeps the conditioned pictures of some texts for the grid of a part."""
        self.sheets[part] = list(self.draw(self.conditioned, texts, num_images).values())

    def cost(self, way: Way) -> str:
        """Returns what one picture costs, as a table says it."""
        cost = self.studio.costs[way.name]
        return f"{cost.describe()} ({cost.seconds / cost.pictures:.2f} s)"

    def load_real(self) -> Real | None:
        """Returns real emoji; None where there are no data sets."""
        if self.real is None and all((self.data_folder / n).is_dir() for n in emoji_judge.SOURCES):
            self.real = words_copies.load_real(self.data_folder)
        return self.real


def judged(right: Sequence[bool]) -> str:
    """Returns a share with its 95 % interval, as tables say it."""
    if not right:
        return ""
    share = frechet.wilson(sum(right), len(right))
    return f"{share.value:.0%} ({share.low:.0%}-{share.high:.0%})"


def share(right: Sequence[bool]) -> float:
    """Returns the share of what is right, 0 of nothing."""
    return sum(right) / max(1, len(right))


def prompt_ways(bench: Bench) -> list[Way]:
    """Returns the ways to draw the twenty prompts."""
    if bench.quick:
        return [bench.conditioned]
    start, stop = INTERVAL
    told = [bench.told(scale) for scale in sorted({*bench.scales, bench.cfg_scale})]
    more = [
        bench.told(bench.cfg_scale, from_sibling=True),
        bench.told(bench.cfg_scale, start=start, stop=stop),
    ]
    return [Unguided(PRESETS[0]), *map(Guided, SETTINGS), *told, *more]


def pairs_row(
    name: str, cost: str, things: Sequence[bool], colors: Sequence[bool]
) -> tuple[list[str], dict[str, float]]:
    """Returns a row of things and colours, and its numbers."""
    both = [thing and color for thing, color in zip(things, colors, strict=True)]
    row = [name, cost, f"{len(both)}", f"{share(things):.0%}", f"{share(colors):.0%}", judged(both)]
    numbers = {"things": share(things), "colors": share(colors), "both": share(both)}
    return row, numbers | {"pictures": len(both)}


PAIRS_HEADER = ("pictures", "evaluations (time) each", "judged", "thing", "colour", "both (95 %)")


def judge_pairs(
    bench: Bench, part: str, wanted: Mapping[str, tuple[str, str]], ways: Sequence[Way], count: int
) -> list[list[str]]:
    """Draws and judges sentences on a thing in a colour; returns a row for each way."""
    judge, rows = emoji_judge.load(), []
    for way in ways:
        drawn = bench.draw(way, list(wanted), count)
        things, colors = emoji_judge.classify(judge, torch.cat(list(drawn.values())))
        expected = [pair for pair in wanted.values() for _ in range(count)]
        row, numbers = pairs_row(
            way.name,
            bench.cost(way),
            [seen == thing for seen, (thing, _) in zip(things, expected, strict=True)],
            [seen == color for seen, (_, color) in zip(colors, expected, strict=True)],
        )
        rows.append(row)
        bench.results.setdefault(part, {})[way.name] = numbers
    bench.keep_sheet(part, list(wanted), count)
    return rows


def show_prompts(bench: Bench) -> None:
    """Prints how often the twenty prompts are drawn right, with real emoji beside it."""
    count = 1 if bench.quick else bench.num_images
    rows = judge_pairs(bench, "prompts", PROMPTS, prompt_ways(bench), count)
    real = None if bench.quick else bench.load_real()
    if real is None and not bench.quick:
        print(NO_DATA.format(bench.data_folder, "the row of real emoji"), end="\n\n")
    if real is not None:
        seen = words_copies.judged_real(emoji_judge.load(), real)
        row, numbers = pairs_row("real emoji by the held-out designer", "", *seen)
        rows.append(row)
        bench.results["prompts"]["real"] = numbers
    print(f"{len(PROMPTS)} prompts, seeds of each: {count}\n")
    print(markdown(PAIRS_HEADER, rows), end="\n\n", flush=True)


def show_pairs(bench: Bench) -> None:
    """Prints how often held-out pairs of thing and colour are drawn right."""
    pairs = sorted(pair for pair in held_out.load().pairs if pair[0] in emoji_judge.THINGS)
    texts = {with_article(f"{color} {thing}"): (thing, color) for thing, color in pairs}
    wanted = {text: texts[text] for text in bench.some(texts)}
    rows = judge_pairs(bench, "pairs", wanted, bench.ways, bench.few)
    print(f"{len(wanted)} held-out pairs of thing and colour, seeds of each: {bench.few}\n")
    print(markdown(PAIRS_HEADER, rows), end="\n\n", flush=True)


def show_things(bench: Bench) -> None:
    """Prints how often everyday things are drawn so that the judge sees them."""
    try:
        judge = things_judge.load()
    except FileNotFoundError as error:
        print(f"Everyday things are left out: {error}", end="\n\n", flush=True)
        return
    rows: list[list[str]] = []
    texts = {with_article(thing): thing for thing in bench.some(things_judge.THINGS)}
    by_thing: dict[str, dict[str, float]] = {}
    for way in bench.ways:
        drawn = bench.draw(way, list(texts), bench.few)
        right = {
            thing: [seen == thing for seen in things_judge.classify(judge, drawn[text])]
            for text, thing in texts.items()
        }
        all_right = [is_right for of_thing in right.values() for is_right in of_thing]
        rows.append([way.name, bench.cost(way), f"{len(all_right)}", judged(all_right)])
        by_thing[way.name] = {thing: share(of_thing) for thing, of_thing in right.items()}
    bench.keep_sheet("things", list(texts), bench.few)
    bench.results["things"] = by_thing
    real = things_judge.stored_accuracies()["all things"]
    rows.append(["real emoji by the held-out designer", "", "", f"{real:.0%}"])
    print(f"{len(texts)} everyday things, seeds of each: {bench.few}\n")
    header = ("pictures", "evaluations (time) each", "judged", "thing (95 %)")
    print(markdown(header, rows), end="\n\n", flush=True)
    _say_extremes(by_thing[bench.conditioned.name])


def _say_extremes(by_thing: Mapping[str, float]) -> None:
    always = [thing for thing, value in by_thing.items() if value == 1]
    never = [thing for thing, value in by_thing.items() if value == 0]
    print(f"Conditioned, always seen: {', '.join(always) or 'none'}.")
    print(f"Never: {', '.join(never) or 'none'}.", end="\n\n", flush=True)


def show_names(bench: Bench) -> None:
    """Prints how often held-out names are drawn so that the CLIP judge chooses them."""
    held = sorted(held_out.load().names)
    names = bench.some(held)
    texts = list(map(with_article, names))
    judge, rows = name_judge.NameJudge(name_judge.load_judge(), held), []
    for way in bench.ways:
        drawn = bench.draw(way, texts, bench.few)
        wanted = [name for name in names for _ in range(bench.few)]
        found = judge.share(torch.cat(list(drawn.values())), wanted)
        first, nearest = found.chance
        rows.append(
            [
                way.name,
                bench.cost(way),
                f"{len(wanted)}",
                f"{found.first:.1%} ({first:.1%})",
                f"{found.in_nearest:.1%} ({nearest:.1%})",
            ]
        )
        numbers = {"first": found.first, "nearest": found.in_nearest, "chance": first}
        bench.results.setdefault("names", {})[way.name] = numbers
    bench.keep_sheet("names", texts, bench.few)
    print(f"{len(names)} held-out names, judged among {len(held)}, seeds of each: {bench.few}\n")
    header = (
        "pictures",
        "evaluations (time) each",
        "judged",
        "right (chance)",
        f"among {name_judge.NEAREST} nearest (chance)",
    )
    print(markdown(header, rows), end="\n\n", flush=True)


def show_copies(bench: Bench) -> None:
    """Prints how near drawn pictures are to those trained on, beside another designer's."""
    real = bench.load_real()
    if real is None:
        print(NO_DATA.format(bench.data_folder, "the search for copies"), end="\n\n", flush=True)
        return
    trained, found = Trained(real), []
    things = [*FLAT, *bench.some(thing for thing in COPIED if thing not in FLAT)]
    drawn = bench.draw(bench.conditioned, list(map(with_article, things)), bench.few)
    for thing, pictures in zip(things, drawn.values(), strict=True):
        compared = words_copies.nearness(trained, real, thing, pictures)
        if compared is not None:
            found.append(compared)
    flat = [near for near in found if near.thing in FLAT]
    others = sorted((n for n in found if n.thing not in FLAT), key=lambda near: near.ratio)
    rows = [
        words_copies.nearness_row(title, part)
        for title, part in (("flat shapes", flat), ("all others", others))
        if part
    ]
    rows += [words_copies.nearness_row(near.thing, [near]) for near in others[:10]]
    bench.results["copies"] = {n.thing: {"drawn": n.drawn, "real": n.real} for n in found}
    print("Copies, the ten nearest things of the others apart:\n")
    print(markdown(NEAR_HEADER, rows), end="\n\n", flush=True)


PARTS: dict[str, Callable[[Bench], None]] = {
    "prompts": show_prompts,
    "things": show_things,
    "pairs": show_pairs,
    "names": show_names,
    "copies": show_copies,
}
