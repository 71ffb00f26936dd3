"""Training the small CLIP: its loss, what a step learns from, what is resumed and refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from tests.fakes import tiny_pairs
from tests.fakes.tiny_pairs import PAINTS, colored_pairs
from training.clip import towers, vocabulary
from training.clip import trainer as clip_trainer
from training.clip.pairs import Pairs
from training.clip.recipe import Architecture, Recipe
from training.clip.runs import prepare
from training.clip.towers import CONTEXT_LENGTH, contrastive_loss, tokenized
from training.clip.trainer import Trainer
from training.core.batches import step_generator
from training.core.fingerprint import OtherDataError
from training.core.state import STATE_FILE, load_state, save_state

RECIPE = Recipe(
    architecture="resnet",
    datasets=("colors",),
    half_formed="",
    max_steps=6,
    batch_size=8,
    lr=1e-3,
    warmup_steps=2,
    ema_decay=0.9,
    mixed_precision="no",
    seed=3,
    same_source_share=0.0,
)


@pytest.fixture(autouse=True)
def quick(tmp_path: Path) -> Iterator[None]:
    with tiny_pairs.small(tmp_path / "cache"):
        yield


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vocabulary")


def trainer(
    words: Path,
    recipe: Recipe = RECIPE,
    data: Pairs | None = None,
    half_formed: Tensor | None = None,
) -> Trainer:
    data = data or colored_pairs()
    tokenizer = vocabulary.make_tokenizer((text for of in data.sentences for text in of), words)
    return Trainer(recipe, data, half_formed, tokenizer, words, Accelerator())


def everything(run: Trainer) -> dict[str, Any]:
    """Weights, statistics, averaged weights and the optimizer's memory."""
    state = run.state()
    found = {
        "model": state["model"],
        "ema": state["ema"]["shadow_params"],
        "optimizer": state["optimizer"]["state"],
        "averaged": dict(run.averaged().state_dict()),
    }
    return deepcopy(found)


def units(count: int, width: int = 8, seed: int = 0) -> Tensor:
    """Random directions, `(count, width)`."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator), dim=1)


def test_the_loss_of_different_sentences_is_the_mean_over_both_ways_to_choose():
    image, text, scale = units(5, seed=1), units(5, seed=2), 3.0
    terms = []
    for i in range(5):
        to_texts = [math.exp(scale * float(image[i] @ text[j])) for j in range(5)]
        to_images = [math.exp(scale * float(image[j] @ text[i])) for j in range(5)]
        terms += [-math.log(to_texts[i] / sum(to_texts)), -math.log(to_images[i] / sum(to_images))]
    loss = contrastive_loss(image, text, torch.tensor(scale), torch.arange(5))
    assert loss.item() == pytest.approx(sum(terms) / 10, rel=1e-5)


def test_it_does_not_matter_which_of_two_identical_sentences_belongs_to_a_picture():
    image, text, scale = units(4, seed=1), units(4, seed=2), torch.tensor(5.0)
    swapped = image[[1, 0, 2, 3]]
    same, distinct = torch.tensor([7, 7, 2, 3]), torch.arange(4)
    first = contrastive_loss(image, text, scale, same)
    torch.testing.assert_close(first, contrastive_loss(swapped, text, scale, same))
    apart = contrastive_loss(image, text, scale, distinct)
    assert abs(apart - contrastive_loss(swapped, text, scale, distinct)) > 0.1


def test_a_picture_is_drawn_to_a_sentence_that_is_also_its_own():
    def gradient(names: list[int]) -> float:
        image = torch.eye(3).requires_grad_()
        text = torch.eye(3)
        contrastive_loss(image, text, torch.tensor(1.0), torch.tensor(names)).backward()
        assert image.grad is not None
        return float(image.grad[0] @ text[1])  # of picture 0 towards sentence 1

    assert gradient([5, 5, 6]) < 0 < gradient([4, 5, 6])


def test_the_loss_and_its_gradient_are_finite_at_the_largest_scale():
    image = torch.cat([units(2), -units(2)]).requires_grad_()
    scale = torch.tensor(towers.MAX_LOGIT_SCALE, requires_grad=True)
    loss = contrastive_loss(image, -image.detach(), scale, torch.tensor([0, 0, 1, 2]))
    loss.backward()
    assert loss.isfinite()
    for value in (image.grad, scale.grad):
        assert value is not None
        assert value.isfinite().all()


def test_sentences_are_numbered_by_what_they_say_and_found_by_their_picture(words: Path):
    tokenizer = trainer(words).tokenizer
    tokens, first, names = tokenized([["red", "blue"], ["red"], ["white", "red"]], tokenizer)
    assert tokens.shape == (5, CONTEXT_LENGTH)
    assert first.tolist() == [0, 2, 3, 5]
    assert names[0] == names[2] == names[4]
    assert len({int(names[0]), int(names[1]), int(names[3])}) == 3
    said = [tokenizer.decode([int(t) for t in row[1:] if t][:-1]).strip() for row in tokens]
    assert said == ["red", "blue", "red", "white", "red"]


def test_a_sentence_that_is_too_long_ends_where_there_is_no_more_room(words: Path):
    tokenizer = trainer(words).tokenizer
    tokens, _, _ = tokenized([["red " * 100]], tokenizer)
    assert tokens.shape == (1, CONTEXT_LENGTH)
    assert tokens[0, -1] == tokenizer.eot_token_id


def grey_pairs(count: int = 24) -> Pairs:
    """Pictures of one grey each, called by the number of their grey."""
    pixels = torch.arange(count, dtype=torch.uint8).mul(8).view(-1, 1, 1, 1)
    sentences = [[f"{i}", f"grey {i}", f"a grey {i} picture"] for i in range(count)]
    pixels = pixels.expand(-1, 3, 72, 72).contiguous()
    return Pairs(pixels, sentences, [""] * count, ["greys"] * count)


def shown(run: Trainer, steps: int) -> tuple[Tensor, list[str], Tensor]:
    """The mean of each picture, 0 to 255, its sentence, and its sentence's name."""
    means, said, names = [], [], []
    for run.step in range(steps):
        x0, tokens, numbers, _ = run._batch()
        means.append((x0.mean(dim=(1, 2, 3)) + 1) * 127.5)
        names.append(numbers)
        for row in tokens.tolist():
            said.append(run.tokenizer.decode(row[1 : row.index(run.tokenizer.eot_token_id)]))
    return torch.cat(means), [text.strip() for text in said], torch.cat(names)


def number_in(text: str) -> int:
    return int("".join(character for character in text if character.isdigit()))


def test_each_picture_comes_with_one_of_its_own_sentences_and_all_have_their_turn(words: Path):
    data = grey_pairs()
    half_formed = data.pixels + 3  # nearer to its own grey than to another
    means, said, names = shown(trainer(words, data=data, half_formed=half_formed), steps=60)
    numbers = torch.tensor([number_in(text) for text in said])
    errors = means - 8 * numbers
    assert ((errors > -3) & (errors < 6)).all()
    swapped = (errors > 1.5).float().mean()  # noise moves a mean by less
    assert abs(swapped - clip_trainer.HALF_FORMED_SHARE) < 0.06
    assert numbers.bincount(minlength=24).tolist() == [20] * 24  # three steps are an epoch
    assert len(set(said)) == len(set(names.tolist())) == 24 * 3


def test_some_steps_have_the_pairs_of_one_data_set_only(words: Path):
    data = replace(grey_pairs(), origins=["greys"] * 12 + ["others"] * 12)
    run = trainer(words, replace(RECIPE, same_source_share=0.5), data=data)
    alone = {"greys": 0, "others": 0, "both": 0}
    for run.step in range(100):
        chosen = run._chosen(step_generator(RECIPE.seed, run.step))
        assert len(set(chosen.tolist())) == RECIPE.batch_size
        found = {data.origins[i] for i in chosen.tolist()}
        alone["both" if len(found) == 2 else found.pop()] += 1
    assert 30 < alone["both"] < 70
    assert min(alone.values()) > 10


def test_most_steps_of_one_data_set_are_of_the_one_in_focus(words: Path):
    data = replace(grey_pairs(), origins=["small"] * 8 + ["large"] * 16)
    recipe = replace(RECIPE, datasets=("small", "large"), same_source_share=1.0)
    found = {}
    for focus in ("", "small"):
        run = trainer(words, replace(recipe, focus=focus), data=data)
        steps = (step_generator(RECIPE.seed, run.step) for run.step in range(200))
        found[focus] = sum(data.origins[int(run._chosen(step)[0])] == "small" for step in steps)
    assert found[""] / 200 == pytest.approx(1 / 3, abs=0.1)
    assert found["small"] / 200 == pytest.approx(clip_trainer.FOCUS_SHARE, abs=0.1)


def test_a_focus_that_is_no_data_set_is_refused():
    with pytest.raises(ValueError, match="focus must be one of colors, got 'sounds'"):
        replace(RECIPE, focus="sounds")


def test_formers_are_named_by_commas_and_all_but_the_first_are_of_a_data_set():
    assert replace(RECIPE, half_formed=" paintings , colors").formers == ("paintings", "colors")
    assert RECIPE.formers == ()
    with pytest.raises(ValueError, match="half_formed_by must be one of colors, got 'sounds'"):
        replace(RECIPE, half_formed="paintings,sounds")


def test_a_run_from_before_there_was_a_focus_may_be_resumed():
    saved = {name: value for name, value in vars(RECIPE).items() if name != "focus"}
    RECIPE.check_same(saved)
    with pytest.raises(ValueError, match="focus"):
        replace(RECIPE, focus="colors").check_same(saved)


def test_sentences_without_what_follows_their_end_are_read_as_by_the_model_itself(words: Path):
    run = trainer(words)
    tokens = run._tokens[:12].long()
    with torch.no_grad():
        found = towers.encode_text(run.model, tokens)
        expected = run.model.encode_text(tokens, normalize=True)
    assert len(set(tokens.argmax(dim=-1).tolist())) > 1  # of several lengths
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_data_set_of_fewer_pairs_than_a_step_has_is_never_alone(words: Path):
    data = replace(grey_pairs(), origins=["few"] * 5 + ["many"] * 19)
    run = trainer(words, replace(RECIPE, same_source_share=1.0), data=data)
    for run.step in range(20):
        chosen = run._chosen(step_generator(RECIPE.seed, run.step))
        assert {data.origins[i] for i in chosen.tolist()} == {"many"}


def test_without_half_formed_pictures_only_the_pictures_are_shown(words: Path):
    means, said, _ = shown(trainer(words, data=grey_pairs()), steps=12)
    numbers = torch.tensor([number_in(text) for text in said])
    assert (means - 8 * numbers).abs().max() < 2


def test_a_killed_run_ends_with_the_same_weights(words: Path, tmp_path: Path):
    half_formed = 255 - colored_pairs().pixels
    whole = trainer(words, half_formed=half_formed)
    losses = [whole.train_step() for _ in range(6)]
    killed = trainer(words, half_formed=half_formed)
    for _ in range(3):
        killed.train_step()
    save_state(tmp_path, killed.state())
    killed.train_step()  # lost
    torch.manual_seed(123)
    resumed = trainer(words, half_formed=half_formed)
    state = load_state(tmp_path)
    assert state is not None
    resumed.restore(state)
    assert resumed.step == 3
    assert [resumed.train_step() for _ in range(3)] == pytest.approx(losses[3:], rel=1e-3)
    torch.testing.assert_close(everything(resumed), everything(whole), rtol=1e-3, atol=1e-5)


def test_a_resumed_run_counts_its_time_on_and_keeps_where_it_began(words: Path):
    before = trainer(words)
    before.train_step()
    before.seconds, before.trained_on = 1000.0, "an abacus"
    after = trainer(words)
    after.restore(before.state())
    after.train_step()
    assert after.seconds > 1000
    assert after.trained_on == "an abacus"


def test_the_seed_decides_the_weights(words: Path):
    first, again, other = (trainer(words, replace(RECIPE, seed=seed)) for seed in (3, 3, 4))
    losses = [run.train_step() for run in (first, again, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(everything(first), everything(again), rtol=1e-3, atol=1e-5)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_a_run_of_another_recipe_is_not_gone_on_with(words: Path):
    state = trainer(words).state()
    other = trainer(words, replace(RECIPE, lr=2e-3, seed=4))
    before = everything(other)
    with pytest.raises(ValueError, match=r"of the same recipe, got one with another lr, seed$"):
        other.restore(state)
    torch.testing.assert_close(everything(other), before, rtol=0, atol=0)


@pytest.mark.parametrize("changed", ["pixels", "sentences", "order", "number"])
def test_other_data_are_refused_and_change_nothing(changed: str, words: Path):
    state, data = trainer(words).state(), colored_pairs()
    other = {
        "pixels": replace(data, pixels=data.pixels.flip(-1) + 1),
        "sentences": replace(data, sentences=[["else"], *data.sentences[1:]]),
        "order": data.select(torch.arange(len(data)).flip(0)),
        "number": data.select(torch.arange(len(data) - 1)),
    }[changed]
    run = trainer(words, data=other)
    before = everything(run)
    with pytest.raises(OtherDataError, match="must be the data that the run began with"):
        run.restore(state)
    torch.testing.assert_close(everything(run), before, rtol=0, atol=0)


def test_another_recipe_is_refused_before_any_data_is_read(words: Path, tmp_path: Path):
    save_state(tmp_path, trainer(words).state() | {"step": 1})
    with pytest.raises(ValueError, match=r"got one with another batch_size$"):
        prepare(replace(RECIPE, batch_size=4), tmp_path, tmp_path / "nowhere")


def test_a_damaged_state_is_refused_in_one_sentence(words: Path, tmp_path: Path):
    save_state(tmp_path, trainer(words).state())
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"state\.pt must be a training state") as refusal:
        prepare(RECIPE, tmp_path, tmp_path / "nowhere")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"architecture": "mlp"}, "architecture must be one of"),
        ({"max_steps": 0}, "max_steps must be a whole number from 1"),
        ({"batch_size": 1}, "batch_size must be a whole number from 2"),
        ({"lr": math.nan}, "lr must be a number from 1e-08 to 1"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number from 0"),
        ({"ema_decay": 1.5}, "ema_decay must be a number from 0 to 1"),
        ({"mixed_precision": "fp8"}, "mixed_precision must be one of"),
        ({"seed": -1}, "seed must be a whole number from 0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(change: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        replace(RECIPE, **change)


def test_a_loss_that_is_not_finite_stops_the_run_and_changes_no_weight(words: Path):
    run = trainer(words)
    with torch.no_grad():
        run.model.logit_scale.fill_(torch.nan)
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    averaged = [value.clone() for value in run.ema.shadow_params]
    with pytest.raises(FloatingPointError, match=r"loss must stay finite, got nan .* at step 1;"):
        run.train_step()
    assert run.step == 0
    torch.testing.assert_close(
        dict(run.model.named_parameters()), before, rtol=0, atol=0, equal_nan=True
    )
    torch.testing.assert_close(run.ema.shadow_params, averaged, rtol=0, atol=0)


def test_averaged_weights_follow_the_decay_and_statistics_are_the_last_ones(words: Path):
    run = trainer(words, replace(RECIPE, ema_decay=0.05))
    run.train_step()  # after the first step the average is that step's weights
    before = [parameter.clone() for parameter in run.averaged().parameters()]
    run.train_step()
    found = run.averaged()
    for old, now, new in zip(before, found.parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(now, 0.05 * old + 0.95 * new.detach(), rtol=1e-4, atol=1e-6)
    for mine, live in zip(found.buffers(), run.model.buffers(), strict=True):
        assert torch.equal(mine, live)
    assert not found.training
    assert run.model.training


def test_looking_at_the_averaged_model_does_not_disturb_the_run(words: Path):
    looked, other = trainer(words), trainer(words)
    for _ in range(3):
        looked.train_step()
        other.train_step()
        pictures = torch.zeros(2, 3, 64, 64)
        looked.averaged().encode_image(pictures)
    torch.testing.assert_close(everything(looked), everything(other), rtol=1e-3, atol=1e-5)


def test_similarities_are_never_multiplied_by_more_than_a_hundred(words: Path):
    run = trainer(words)
    with torch.no_grad():
        run.model.logit_scale.fill_(math.log(1000))
    run.train_step()
    assert run.model.logit_scale.exp().item() == pytest.approx(100)


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_either_architecture_learns_from_pictures_of_the_same_size(
    architecture: Architecture, words: Path
):
    run = trainer(words, replace(RECIPE, architecture=architecture, warmup_steps=0))
    before = [parameter.clone() for parameter in run.model.parameters()]
    assert all(math.isfinite(run.train_step()) for _ in range(2))  # some gains begin at zero
    moved = [
        not torch.equal(old, new) for old, new in zip(before, run.model.parameters(), strict=True)
    ]
    assert sum(moved) > 0.9 * len(moved)


def test_the_colors_of_pictures_are_learned_in_a_few_dozen_steps(words: Path):
    recipe = replace(RECIPE, max_steps=40, batch_size=12, lr=3e-3, warmup_steps=5)
    data = colored_pairs()
    run = trainer(words, recipe, data)
    losses = [run.train_step() for _ in range(40)]
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:8])
    model = run.model.eval()
    tokens = run.tokenizer(list(PAINTS[:6]), CONTEXT_LENGTH)
    with torch.no_grad():
        pictures = towers.to_input(towers.centred(data.pixels))
        found = model.encode_image(pictures) @ model.encode_text(tokens, normalize=True).T
    right = (found.argmax(dim=1) == torch.arange(24) % 6).float().mean()
    assert right > 0.7


def test_the_model_takes_pictures_with_mean_and_deviation_of_about_a_half():
    black, white = torch.full((1, 3, 64, 64), -1.0), torch.ones(1, 3, 64, 64)
    assert towers.to_input(black).unique().tolist() == [-2.0]
    assert towers.to_input(white).unique().tolist() == [2.0]


def test_pictures_are_judged_whole():
    pixels = torch.zeros(1, 3, 72, 72, dtype=torch.uint8)
    pixels[:, 0, :, :9] = 255  # an eighth of the width
    found = towers.centred(pixels)
    assert found.shape == (1, 3, 64, 64)
    assert (found[0, 0] > 0).float().mean() == pytest.approx(1 / 8)
    assert found.abs().max() == 1


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Arithmetic is a matter of the whole process for accelerate."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerator")
def test_bf16_trains_and_saves_full_weights(words: Path):
    data = colored_pairs()
    tokenizer = vocabulary.make_tokenizer((text for of in data.sentences for text in of), words)
    recipe = replace(RECIPE, mixed_precision="bf16")
    accelerator = Accelerator(mixed_precision="bf16")
    run = Trainer(recipe, data, None, tokenizer, words, accelerator)
    assert math.isfinite(run.train_step())
    kinds = {value.dtype for value in run.state()["model"].values()}
    assert kinds == {torch.float32, torch.int64}  # batch normalisation counts its batches
    assert run.trained_on.endswith(", bf16")


def test_misread_pictures_are_near_their_own_and_harder_and_only_they_change(words: Path):
    run = trainer(words, replace(RECIPE, adversarial_radius=2.0))
    x0, tokens, names, radii = run._batch()
    assert (radii >= 0).all()
    assert (radii <= 2).all()
    assert radii.std() > 0.1
    assert torch.equal(x0, trainer(words)._batch()[0])
    before = everything(run)
    text = towers.encode_text(run.model, tokens).detach()
    moved = run._misread(x0, text, names, radii)
    assert ((moved - x0).flatten(1).norm(dim=1) <= radii + 1e-4).all()
    assert run.model.training
    assert run.model.visual.training
    torch.testing.assert_close(everything(run), before, atol=0, rtol=0)
    assert all(p.grad is None for p in run.model.parameters())
    run.model.visual.eval()
    assert run._loss(moved, text, names) > run._loss(x0, text, names)


def test_what_is_learned_depends_on_misread_pictures(words: Path):
    plain, moved = (
        trainer(words, replace(RECIPE, adversarial_radius=radius)) for radius in (0.0, 2.0)
    )
    assert moved.train_step() > plain.train_step()
