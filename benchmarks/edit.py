"""Measures filling on held-out paintings and scenes, beside published methods at equal cost.

    python -m benchmarks.edit                   # filling: methods and masks
    python -m benchmarks.edit --lesson          # three models fill in paintings
    python -m benchmarks.edit --published       # RePaint as it is published, 16 pictures
    python -m benchmarks.edit --restyle         # structure kept against target reached
    python -m benchmarks.edit --speed           # time of a fill beside an unguided run

All methods are settings of one loop, and take as many evaluations of the network. A backward pass
counts two. Each picture loses what a mask covers: half of its 4x4 squares at random, a block in the
middle, its right half, or a border of an eighth. Measured are:

- the Fréchet distance of the filled pictures to the real ones, in features of the genre judge;
- the seam: how much pixels differ across the edge of the mask, over how much they differ inside of
  it, relative to the same of the real pictures; 1 is invisible;
- the distance to the picture that was there: the root mean square in the mask, 0 to 255. A good
  fill may be another picture than that, so less is not always better.

Scales and repeats were chosen on `paintings-256`, of which no picture is measured here.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from benchmarks import frechet
from benchmarks.recipes import looks
from benchmarks.scoring import markdown
from pipelines.core import devices, images
from pipelines.diffusion import denoisers, sampling
from pipelines.diffusion.denoisers import PlainPredictor
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.known import Known
from pipelines.diffusion.losses import Keep, Term, luma
from pipelines.diffusion.methods import PUBLISHED, TEXT_METHODS
from pipelines.diffusion.noise import draw_noise, seeded, spawn
from pipelines.diffusion.sampling import Correction, StepContext
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints, ways
from pipelines.models.checkpoints import Loaded
from pipelines.products import color, edit
from pipelines.products.color import ColorSettings
from pipelines.products.edit import EditSettings
from training.core.data import hold_out
from training.pictures.data import load_pictures
from training.pictures.recipe import num_held_out

DATA = "../shared/data"
MASKS = ("random", "block", "half", "border")
MODELS = {"paintings": "wikiart", "scenes": "scenes"}
"""Models and the data sets of which they were trained on all but the held-out pictures."""

LESSON = ("paintings", "scenes", "emoji")
STRENGTHS = (0.2, 0.35, 0.5, 0.65, 0.8)
SEED = 70_000
_AT_ONCE = 4  # as many as the studio has a graph for
_STREAM = 3  # of the noise that RePaint lays on known pixels


@dataclass(frozen=True)
class RePaint(Known):
    """RePaint (Lugmayr et al. 2022, arXiv:2201.09865): known pixels get new noise in each step.

    Attributes:
        generators: one per image, of that noise.
    """

    generators: Sequence[torch.Generator] = ()

    def __call__(self, context: StepContext) -> Correction:
        keep, correction = self.facts[0], super().__call__(context)
        assert isinstance(keep, Keep)
        alpha = context.alpha_prev
        sigma = (1 - alpha**2).sqrt()

        def with_known(x_prev: Tensor) -> Tensor:
            noise = draw_noise(self.generators, x_prev.shape[1:]).to(x_prev)
            noisy = alpha * keep.picture + sigma * noise
            return torch.lerp(noisy, x_prev, keep.redrawn.to(x_prev))

        return replace(correction, after=with_known)


@dataclass(frozen=True)
class Arm:
    """A method of filling, as settings of the sampler.

    Attributes:
        solver: key of `solvers.SOLVERS`.
        steps: number of steps.
        guide: function from the fact and the seeds to the guide.
        eta: fresh noise.
        jump: steps that are done again together.
    """

    solver: str
    steps: int
    guide: Callable[[Keep, Sequence[int]], sampling.Guide]
    eta: float = 0.0
    jump: int = 1

    def evaluations(self) -> float:
        """Returns what it costs, in evaluations of the network per picture."""
        fact = Keep(torch.zeros(3, 8, 8), torch.ones(8, 8))
        guide = self.guide(fact, (0,))
        visited = sampling.visits(
            self.steps, lambda index: guide.recurrence(index, self.steps), self.jump
        )
        return sum(1 + 2 * guide.differentiates(visit.index, self.steps) for visit in visited)


def ours(steps: int, repeats: int = 1, **settings: Any) -> Arm:
    """Returns the studio's method, `balanced`."""
    method = TEXT_METHODS["balanced"]
    eta = settings.pop("eta", method.eta)
    solver = settings.pop("solver", method.solver)
    jump = settings.pop("jump", 1)
    return Arm(solver, steps, lambda fact, _: Known([fact], None, repeats, **settings), eta, jump)


def ddnm(steps: int) -> Arm:
    """Returns DDNM (Wang et al. 2022, arXiv:2212.00490) with the authors' eta."""
    return Arm("ddim", steps, lambda fact, _: Known([fact], moves_all=False), eta=0.85)


def repaint(steps: int, repeats: int, jump: int, repeats_from: float = 0.0) -> Arm:
    """Returns RePaint, which does all steps again, of the longest runs all but the first ten."""

    def guide(fact: Keep, seeds: Sequence[int]) -> RePaint:
        generators = [spawn(generator, _STREAM) for generator in seeded(seeds)]
        return RePaint([fact], None, repeats, repeats_from, 1.0, False, generators)

    return Arm("ddim", steps, guide, eta=1.0, jump=jump)


def dps(steps: int, scale: float) -> Arm:
    """Returns DPS (Chung et al. 2023, arXiv:2209.14687), which follows a gradient alone."""
    method = PUBLISHED["DPS"]
    return Arm("ddim", steps, lambda fact, _: Guide(method, [Term(fact)], scale), eta=1.0)


ARMS: dict[str, Arm] = {
    "ours": ours(20),
    "DDNM": ddnm(20),
    "RePaint": repaint(10, 2, 1),
    "DPS": dps(7, 10.0),
}


def mask_of(kind: str, size_px: int, seed: int = 0) -> Tensor:
    """Returns what is redrawn, `(size_px, size_px)` of 0 and 1."""
    mask = torch.zeros(size_px, size_px)
    quarter, edge = size_px // 4, size_px // 8
    match kind:
        case "block":
            mask[quarter:-quarter, quarter:-quarter] = 1
        case "half":
            mask[:, size_px // 2 :] = 1
        case "border":
            mask[:] = 1
            mask[edge:-edge, edge:-edge] = 0
        case "random":
            generator = torch.Generator().manual_seed(seed)
            squares = (torch.rand(size_px // 4, size_px // 4, generator=generator) < 0.5).float()
            mask = squares.repeat_interleave(4, 0).repeat_interleave(4, 1)
    return mask


def held_out(name: str, size_px: int = 64) -> Tensor:
    """Returns the pictures `(n, 3, size_px, size_px)` that a model was not trained on."""
    data = load_pictures(f"{DATA}/{name}", image_size=size_px)
    _, left = hold_out(data, num_held_out(len(data)))
    return images.from_uint8(left.take(torch.arange(len(left))))


def filled(loaded: Loaded, arm: Arm, pictures: Tensor, redrawn: Tensor, seed: int) -> Tensor:
    """Returns pictures `(n, 3, h, w)` whose masked part is drawn anew."""
    predict = denoisers.unconditional(loaded.denoise.by(ways.chosen(loaded.device)))
    done = []
    for first in range(0, len(pictures), _AT_ONCE):
        part = pictures[first : first + _AT_ONCE]
        drawn = draw(predict, loaded.scheduler_config, arm, part, redrawn, seed + first)
        done.append(torch.lerp(part, drawn.clamp(-1, 1), redrawn))
    return torch.cat(done)


def draw(
    predict: PlainPredictor,
    config: Mapping[str, Any],
    arm: Arm,
    pictures: Tensor,
    redrawn: Tensor,
    seed: int,
    *,
    clip: bool = True,
) -> Tensor:
    """Returns what a method draws for pictures `(n, 3, h, w)`; picture i takes `seed + i`."""
    seeds = [seed + i for i in range(len(pictures))]
    generators = seeded(seeds)
    *_, last = sampling.sample(
        predict,
        draw_noise(generators, pictures.shape[1:]),
        make_schedule(config, solver=arm.solver, num_inference_steps=arm.steps, device="cpu"),
        prediction_type=config["prediction_type"],
        eta=arm.eta,
        generators=generators,
        clip=clip,
        guide=arm.guide(Keep(pictures, redrawn), seeds),
        jump=arm.jump,
    )
    return last.x_prev


def seam(pictures: Tensor, redrawn: Tensor) -> float:
    """Returns how much neighbours differ across the edge of a mask, over inside of it."""
    across, inside = [], []
    for dim in (-1, -2):
        first, second = (redrawn.narrow(dim, i, redrawn.shape[dim] - 1) for i in (0, 1))
        differences = pictures.diff(dim=dim).abs().mean(dim=1)  # (n, h, w)
        across.append(differences[:, first != second])
        inside.append(differences[:, (first == 1) & (second == 1)])
    means = [torch.cat(parts, dim=1).mean() for parts in (across, inside)]
    return float(means[0] / means[1])


def distance(pictures: Tensor, real: Tensor, redrawn: Tensor) -> float:
    """Returns the root mean square difference in the mask, 0 to 255."""
    return (
        float(((pictures - real).square().mean(dim=(0, 1)) * redrawn).sum() / redrawn.sum())
        ** (0.5)
        * 127.5
    )


@dataclass(frozen=True)
class Filled:
    """The results of one method, one model and one mask.

    Attributes:
        frechet: distance to the real pictures.
        seam: relative to that of the real pictures.
        distance: to the picture that was there, 0 to 255.
        seconds: per picture.
    """

    frechet: float
    seam: float
    distance: float
    seconds: float


def measure(loaded: Loaded, arm: Arm, pictures: Tensor, kind: str, seed: int = SEED) -> Filled:
    """Fills pictures and measures the results."""
    redrawn = mask_of(kind, pictures.shape[-1])
    began = time.perf_counter()
    results = filled(loaded, arm, pictures, redrawn, seed)
    seconds = (time.perf_counter() - began) / len(pictures)
    kept = redrawn == 0
    assert torch.equal(results[:, :, kept], pictures[:, :, kept])
    return Filled(
        frechet.between(looks(results), looks(pictures)),
        seam(results, redrawn) / seam(pictures, redrawn),
        distance(results, pictures, redrawn),
        seconds,
    )


def rows(
    model: str, pictures: Tensor, kinds: Sequence[str], arms: Mapping[str, Arm], seed: int = SEED
) -> dict[tuple[str, str], Filled]:
    """Returns the results of methods on pictures, by method and mask."""
    loaded = checkpoints.load(model)
    pairs = list(itertools.product(arms, kinds))
    return {
        (name, kind): measure(loaded, arms[name], pictures, kind, seed)
        for name, kind in tqdm(pairs, desc=model, unit="cell")
    }


def print_methods(count: int) -> None:
    """Prints the methods on held-out paintings and scenes."""
    of_models = [rows(model, held_out(data)[:count], MASKS, ARMS) for model, data in MODELS.items()]
    table = []
    for name, kind in of_models[0]:
        both = [results[name, kind] for results in of_models]
        table.append([kind, name, f"{ARMS[name].evaluations():g}", *_cells(both)])
    header = ("mask", "method", "evaluations", "Fréchet distance", "seam", "distance")
    print(markdown(header, sorted(table, key=lambda row: MASKS.index(row[0]))))
    print(f"\nEach cell: {' / '.join(MODELS)}; {count} held-out pictures each.")


def print_lesson(count: int) -> None:
    """Prints how well models of other pictures fill in paintings."""
    pictures, arms = held_out("wikiart")[:count], {"ours": ARMS["ours"]}
    kinds = ("random", "block", "half")
    of_models = {model: rows(model, pictures, kinds, arms) for model in LESSON}
    table = [
        [model, *(f"{found['ours', kind].frechet:.2f}" for kind in kinds)]
        for model, found in of_models.items()
    ]
    print(markdown(("model", *kinds), table))
    print(f"\nFréchet distance of {count} filled paintings to the real ones.")


def print_published() -> None:
    """Prints RePaint as it is published beside ours, with the time that both take."""
    arms = {"ours": ARMS["ours"], "RePaint, 250 steps": repaint(250, 10, 10, repeats_from=0.04)}
    found = rows("paintings", held_out("wikiart")[:16], ("block",), arms)
    table = [
        [name, f"{arms[name].evaluations():g}", f"{result.seconds:.1f}", *_cells([result])]
        for (name, _), result in found.items()
    ]
    header = ("method", "evaluations", "seconds a picture")
    print(markdown((*header, "Fréchet distance", "seam", "distance"), table))


def print_speed(turns: int = 7) -> None:
    """Prints how long a fill takes beside an unguided run, in turns."""
    picture, redrawn = held_out("wikiart")[:1], mask_of("block", 64)
    mask = images.to_data_uri(images.to_pil(redrawn[None, None] * 2 - 1)[0])
    fill = EditSettings(image=images.to_data_uri(images.to_pil(picture)[0]), mask=mask)
    runs: dict[str, tuple[Any, Any]] = {
        "unguided": (color, ColorSettings(guidance_scale=0)),
        "fill": (edit, fill),
        "fill, with words": (edit, replace(fill, prompt="ships on the sea")),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns + 1):
        for name, (product, settings) in runs.items():
            began = time.perf_counter()
            *_, _last = product.generate(settings, compare=False)
            seconds[name].append(time.perf_counter() - began)
    usual = statistics.median(seconds["unguided"][1:])
    medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    table = [[name, f"{found:.2f}", f"{found / usual:.2f}"] for name, found in medians.items()]
    print(markdown(("run", "seconds", "of unguided"), table))


def print_restyle(count: int) -> None:
    """Prints how much of scenes is kept, and how near to paintings they come, over strength."""
    scenes, paintings = held_out("scenes")[:count], looks(held_out("wikiart"))
    table = [["0", "1.00", f"{frechet.between(looks(scenes), paintings):.1f}"]]
    for strength in tqdm(STRENGTHS, unit="strength"):
        drawn = restyled(scenes, strength)
        kept = statistics.mean(correlations(drawn, scenes))
        distance = frechet.between(looks(drawn), paintings)
        table.append([f"{strength:g}", f"{kept:.2f}", f"{distance:.1f}"])
    print(markdown(("strength", "structure kept", "distance to paintings"), table))
    print(
        f"\n{count} held-out scenes, drawn by `paintings`. Structure: correlation of the luma with "
        "that of the scene. Distance: Fréchet distance to real paintings."
    )


def restyled(pictures: Tensor, strength: float) -> Tensor:
    """Returns pictures `(n, 3, 64, 64)` restyled by `paintings`, as the studio does it."""
    results = []
    for i, picture in enumerate(images.to_pil(pictures)):
        address = images.to_data_uri(picture)
        settings = EditSettings(image=address, task="restyle", strength=strength, seed=SEED + i)
        *_, last = edit.generate(settings, compare=False)
        results.append(images.to_tensor(last.pictures[0]))
    return torch.cat(results)


def correlations(first: Tensor, second: Tensor) -> list[float]:
    """Returns the correlation of the luma of pictures, one by one."""
    pairs = zip(luma(first).flatten(1), luma(second).flatten(1), strict=True)
    return [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs]


def _cells(results: Sequence[Filled]) -> list[str]:
    """Returns Fréchet distance, seam and distance, of one or more models."""
    return [
        " / ".join(f"{result.frechet:.2f}" for result in results),
        " / ".join(f"{result.seam:.2f}" for result in results),
        " / ".join(f"{result.distance:.0f}" for result in results),
    ]


def main(
    pictures: Annotated[int, typer.Option(min=8, max=128, help="held-out ones per model")] = 128,
    lesson: Annotated[bool, typer.Option("--lesson", help="three models fill paintings")] = False,
    published: Annotated[bool, typer.Option("--published", help="RePaint as published")] = False,
    restyle: Annotated[bool, typer.Option("--restyle", help="kept against reached")] = False,
    speed: Annotated[bool, typer.Option("--speed", help="time of a fill")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
) -> None:
    """Prints what editing reaches, beside published methods."""
    torch.set_num_threads(threads)
    if lesson:
        print_lesson(pictures)
    if published:
        print_published()
    if restyle:
        print_restyle(pictures)
    if speed:
        print_speed()
    if not (lesson or published or restyle or speed):
        print_methods(pictures)
    where = devices.describe_device(torch.device("cpu"))
    print(f"\nMeasured on {where}, PyTorch {torch.__version__}.")


if __name__ == "__main__":
    typer.run(main)
