"""The benchmark of words: the same seeds everywhere, what pictures cost, and what is a copy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks import words, words_copies, words_parts
from benchmarks.judges import emoji_judge, things_judge
from benchmarks.text import PRESETS, Lab
from benchmarks.words_copies import Real, Trained, ground_of, nearness
from benchmarks.words_drawing import (
    Conditioned,
    Cost,
    Guided,
    Studio,
    Unguided,
    counted,
    load_model,
    load_run,
)
from benchmarks.words_parts import Bench
from pipelines.diffusion.solvers import make_schedule
from pipelines.products.settings import TextSettings
from tests.conftest import tiny_painter
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pictures import invoke, one_thread
from training.core import held_out
from training.core.held_out import HeldOut
from training.core.state import save_state
from training.pictures import start_models
from training.pictures.recipe import Recipe
from training.words.runs import take_clip

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_checkpoints")]

RECIPE = Recipe(max_steps=10, num_processes=1, batch_size=4, condition="words,picture")
FEW = TextSettings(num_inference_steps=2)


@pytest.fixture(autouse=True)
def same_sums() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder of a training run after three steps, whose averaged weights are its own."""
    folder = tmp_path / "tiny-run"
    clip = take_clip(folder, "clip-small")
    torch.manual_seed(0)
    unet = start_models.with_words(tiny_painter(), clip, 0)
    for weights in unet.new_parameters():
        nn.init.normal_(weights, std=0.2)
    averaged = EMAModel(unet.parameters())
    raw = {name: torch.zeros_like(value) for name, value in unet.state_dict().items()}
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    state = {"recipe": asdict(RECIPE), "step": 3, "unet": raw, "ema": averaged.state_dict()}
    save_state(folder, state | start_models.configs(unet, scheduler))
    return folder


@pytest.fixture
def studio(run: Path) -> Studio:
    return Studio(load_run(run), Lab("emoji", "clip-small", seed=5, num_images=2), seed=5)


def test_a_run_is_drawn_with_its_averaged_weights(run: Path):
    told = load_run(run)
    assert told.name == "tiny-run"
    assert told.about == "averaged weights after 12 pictures"
    assert any(weights.any() for weights in told.unet.parameters())
    assert not any(weights.requires_grad for weights in told.unet.parameters())


def test_a_folder_without_a_run_and_a_model_without_words_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="run must be the folder of a run that is told words"):
        load_run(tmp_path)
    with pytest.raises(ValueError, match="model must be a checkpoint that is told words"):
        load_model("emoji")


def test_texts_of_any_length_have_a_null_of_the_same_shape(studio: Studio):
    condition = studio.model.reader.condition(["a landscape with trees", "ships"])
    for name, value in condition.inputs.items():
        assert condition.null[name].shape == value.shape
    assert not condition.null["class_labels"].any()


def test_a_picture_depends_on_its_words_and_seed_and_not_on_its_batch(studio: Studio):
    way = Conditioned(3.0, num_inference_steps=2)
    one, two = studio.draw(way, "ships", 1), studio.draw(way, "ships", 2)
    assert_close(one[0], two[0], atol=1e-4, rtol=1e-4)
    assert not torch.equal(two[0], two[1])
    assert not torch.allclose(studio.draw(way, "trees", 1), one, atol=1e-3)


def test_without_words_guidance_changes_nothing(studio: Studio):
    plain = studio.draw(Conditioned(1.0, num_inference_steps=2), "", 1)
    assert_close(studio.draw(Conditioned(6.0, num_inference_steps=2), "", 1), plain)


def test_the_sibling_is_the_null_where_it_should_be(studio: Studio):
    zero = studio.draw(Conditioned(0.0, True, num_inference_steps=2), "ships", 1)
    own = studio.draw(Conditioned(0.0, num_inference_steps=2), "ships", 1)
    studio.model.unet.load_state_dict(
        studio.lab.loaded.unet.state_dict() | _without_words(studio.model.unet), strict=True
    )
    begun = Studio(studio.model, studio.lab, seed=5)
    as_sibling = begun.draw(Conditioned(1.0, num_inference_steps=2), "ships", 1)
    assert_close(zero, as_sibling, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(own, zero, atol=1e-3)


def _without_words(unet: nn.Module) -> dict[str, Tensor]:
    """The new weights of a network as they begin: nothing of the words gets through."""
    known = {name for name, _ in tiny_painter().named_parameters()}
    return {n: torch.zeros_like(v) for n, v in unet.state_dict().items() if n not in known}


def test_all_ways_but_the_guided_begin_with_the_noise_of_the_same_seeds(studio: Studio):
    off = TextSettings(num_inference_steps=2, guidance_scale=0.0)
    plain = studio.draw(Unguided(FEW), "", 2)
    assert torch.equal(studio.draw(Guided(off), "ships", 2), plain)


def test_the_interval_is_of_the_steps(studio: Studio):
    schedule = make_schedule(
        studio.model.scheduler_config, solver="dpm++", num_inference_steps=10, device="cpu"
    )
    cfg = Conditioned(3.0, start=0.2, stop=0.5).cfg(schedule)
    active = [cfg.is_active(t) for t in schedule.timesteps.tolist()]
    assert active == [False] * 2 + [True] * 3 + [False] * 5
    assert not Conditioned(3.0, start=0.5, stop=0.5).cfg(schedule).is_active(500)


@pytest.mark.parametrize(
    ("way", "evaluations"),
    [
        (Conditioned(1.0, num_inference_steps=4), "4"),
        (Conditioned(3.0, num_inference_steps=4), "8"),
        (Conditioned(3.0, True, num_inference_steps=4), "8"),
        (Conditioned(3.0, start=0.25, stop=0.75, num_inference_steps=4), "6"),
        (Unguided(FEW), "2"),
    ],
    ids=lambda value: value.name if not isinstance(value, str) else "",
)
def test_evaluations_of_the_networks_are_counted(studio: Studio, way: Any, evaluations: str):
    studio.draw(way, "ships", 2)
    assert studio.costs[way.name].describe() == evaluations
    studio.draw(way, "ships", 2)  # it is kept
    assert studio.costs[way.name].pictures == 2


def test_evaluations_with_a_gradient_stand_apart():
    network, cost = tiny_painter(), Cost(pictures=2)
    t = torch.tensor(5)
    with counted([network], cost):
        network(torch.zeros(2, 3, 64, 64), t)
        with torch.no_grad():
            network(torch.zeros(2, 3, 64, 64), t)
    assert cost.describe() == "2 + 1 back"
    network(torch.zeros(2, 3, 64, 64), t)
    assert cost.evaluations == 4


def square(color: tuple[int, int, int], side: int = 32) -> Tensor:
    """A square in the middle of a transparent picture, `(4, 64, 64)` uint8."""
    picture = torch.zeros(4, 64, 64, dtype=torch.uint8)
    edge = (64 - side) // 2
    picture[:, edge : edge + side, edge : edge + side] = torch.tensor([*color, 255]).view(4, 1, 1)
    return picture


def on(ground: float, picture: Tensor) -> Tensor:
    """A picture on grey, `(3, 64, 64)` in [-1, 1]."""
    return words_copies.composited(picture[None], torch.full((1, 3, 1, 1), ground))[0]


REAL = Real(
    torch.stack([square((255, 0, 0)), square((255, 0, 0), 20)]),
    ["pizza", "pizza"],
    torch.tensor([False, True]),
)


def test_a_copy_is_found_on_any_ground_and_mirrored():
    left = square((0, 0, 255))
    left[3, :, 32:] = 0
    trained = Trained(Real(left[None], ["pizza"], torch.tensor([False])))
    for ground in (-0.5, 0.3):
        for copy in (left, left.flip(-1)):
            shown = on(ground, copy)
            assert trained.nearest(shown, ground_of(shown)) < 0.02
        other = on(ground, square((0, 255, 0)))
        assert trained.nearest(other, ground_of(other)) > 0.1


def test_the_ground_is_what_most_of_the_edge_shows():
    assert_close(ground_of(on(0.3, square((255, 0, 0)))), torch.full((3, 1, 1), 0.3))


def test_drawn_pictures_are_compared_with_the_held_out_designers_drawing():
    copy, other = on(0.2, square((255, 0, 0))), on(0.2, square((0, 255, 255), 50))
    found = nearness(Trained(REAL), REAL, "pizza", torch.stack([copy, other]))
    assert found is not None
    assert found.drawn[0] < found.real[0] < found.drawn[1]
    row = words_copies.nearness_row("pizza", [found])
    assert row[1] == "2"
    assert row[-2:] == ["50%", "50%"]
    assert nearness(Trained(REAL), REAL, "goat", copy[None]) is None


def test_real_emoji_are_judged_where_a_prompt_asks_for_their_thing_and_color(
    monkeypatch: pytest.MonkeyPatch,
):
    red, blue = square((230, 40, 50)), square((40, 100, 235))
    real = Real(
        torch.stack([red, blue, red]),
        ["red heart", "blue heart", "pizza"],
        torch.tensor([True, True, True]),
    )
    monkeypatch.setattr(emoji_judge, "classify", lambda *_: (["heart"] * 2, ["red"] * 2))
    things, colors = words_copies.judged_real(emoji_judge.EmojiJudge(), real)
    assert (things, colors) == ([True, True], [True, False])


def test_unknown_parts_and_scales_that_are_no_numbers_are_refused():
    assert words.chosen_parts("") == list(words_parts.PARTS)
    assert words.chosen_parts("names, things") == ["things", "names"]
    with pytest.raises(ValueError, match=r"only must be some of prompts, .* got 'colours'"):
        words.chosen_parts("colours")
    assert words.parsed_scales("1,2.5") == [1.0, 2.5]
    for bad in ("", "1,x", "nan", "-1", "1000"):
        with pytest.raises(ValueError, match="scales must be numbers"):
            words.parsed_scales(bad)


def test_every_held_out_pair_and_name_is_asked_for_in_plain_words(studio: Studio, tmp_path: Path):
    bench = Bench(studio, 2, [1.0], 4.0, quick=True, data_folder=tmp_path)
    held = held_out.load()
    assert 0 < len(bench.some(held.names)) < len(held.names)
    assert bench.conditioned.num_inference_steps == words_parts.QUICK_STEPS
    full = Bench(studio, 8, [1.0], 4.0, quick=False, data_folder=tmp_path)
    assert full.some(held.names) == list(held.names)
    assert [type(way) for way in full.ways] == [Unguided, Guided, Conditioned]
    assert full.ways[1:2] == [Guided(PRESETS[0])]
    names = [way.name for way in words_parts.prompt_ways(full)]
    assert len(set(names)) == len(names)
    assert "conditioned, CFG 4" in names


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """One prompt, two things, one pair and one name; judges that were not trained."""
    held = HeldOut(
        names=frozenset({"penguin", "ghost"}),
        sets=frozenset({"designer"}),
        pairs=frozenset({("heart", "orange"), ("hat", "green")}),
    )
    things = {thing: things_judge.THINGS[thing] for thing in ("pizza", "goat")}
    monkeypatch.setattr(held_out, "load", lambda: held)
    monkeypatch.setattr(words_parts, "PROMPTS", {"a red heart": ("heart", "red")})
    monkeypatch.setattr(words_parts, "SETTINGS", [FEW])
    monkeypatch.setattr(words_parts, "PRESETS", [FEW])
    monkeypatch.setattr(words_parts, "FLAT", ("heart",))
    monkeypatch.setattr(words_parts, "COPIED", things)
    monkeypatch.setattr(things_judge, "THINGS", things)
    monkeypatch.setattr(things_judge, "load", lambda: things_judge.ThingsJudge().eval())
    monkeypatch.setattr(things_judge, "stored_accuracies", lambda: {"all things": 0.8})
    monkeypatch.setattr(Conditioned.__init__, "__defaults__", (False, 0.0, 1.0, 2))


def written(folder: Path) -> Path:
    """Emoji of each data set, half by the held-out designer."""
    for name in emoji_judge.SOURCES:
        rows = [tiny_pairs.row_of(name, i) for i in range(4)]
        for i, row in enumerate(rows):
            row |= {"name": ("pizza", "red heart")[i // 2], "set": ("noto", "designer")[i % 2]}
        tiny_pairs.write_rows(folder, name, rows)
    return folder


def test_the_command_prints_every_part_and_writes_the_numbers(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    numbers, data = tmp_path / "numbers.json", written(tmp_path / "data")
    with tiny_pairs.small(tmp_path / "cache"), monkeypatch.context() as patch:
        shorten(patch)
        result = invoke(
            words.main,
            f"--run={run}",
            "--num-images=2",
            "--scales=1,3",
            f"--data-folder={data}",
            f"--json={numbers}",
            f"--grid={tmp_path / 'sheet.png'}",
        )
    assert result.exit_code == 0, result.output
    found = json.loads(numbers.read_text())
    assert list(found["parts"]) == list(words_parts.PARTS)
    shown = {"unguided", "guided by CLIP, balanced", "conditioned, CFG 4"}
    for part in ("things", "pairs", "names"):
        assert set(found["parts"][part]) == shown
    assert shown | {"conditioned, CFG 3", "real"} <= set(found["parts"]["prompts"])
    for name in found["costs"]:
        assert f"| {name} | " in result.output
    assert found["costs"]["guided by CLIP, balanced"]["evaluations"] > 0
    assert "1 held-out pairs of thing and colour, seeds of each: 1" in result.output
    assert "| flat shapes | 1 |" in result.output
    with Image.open(tmp_path / "sheet-things.png") as sheet:
        assert sheet.size == (2 * 66 - 2, 64)


def test_without_data_sets_copies_are_left_out_with_a_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shorten(monkeypatch)
    result = invoke(
        words.main, f"--run={run}", "--quick", "--only=copies", f"--data-folder={tmp_path}"
    )
    assert result.exit_code == 0, result.output
    assert f"The data sets are not in {tmp_path}, so the search for copies" in result.output


def test_without_a_judge_of_things_they_are_left_out_with_a_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    load = things_judge.load
    monkeypatch.setattr(things_judge, "load", lambda: load(tmp_path / "none.safetensors"))
    result = invoke(words.main, f"--run={run}", "--quick", "--only=things")
    assert result.exit_code == 0, result.output
    assert "Everyday things are left out: " in result.output
    assert "python -m benchmarks.judges.things_judge" in " ".join(result.output.split())


def test_a_model_or_a_run_must_be_named(run: Path):
    for options in ((), ("--model=emoji", f"--run={run}")):
        result = invoke(words.main, *options)
        assert result.exit_code == 2
        assert "one of model and run must be given" in " ".join(result.output.split())
