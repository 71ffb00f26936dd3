"""Training on words and pictures: what a step is told, what is resumed, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from pipelines.diffusion.unets import WordsUNet2DModel
from pipelines.models.clip_folder import Clip, open_folder
from pipelines.models.table import Checkpoint
from pipelines.models.word_features import Reader
from tests.fakes import tiny_clip
from tests.fakes.tiny_pictures import folded_unet, one_thread, pictures, stock_unet
from tests.fakes.tiny_told import save_told
from tests.training.test_picture_trainer import RECIPE, cosine
from training.core.state import load_state, save_state
from training.pictures import start_models
from training.pictures.data import Pictures
from training.pictures.recipe import Recipe
from training.words import conditions
from training.words.runs import FILES, origin_of, save_clip, take_clip
from training.words.trainer import WordsTrainer

TOLD = replace(RECIPE, condition="words,picture", flip=False)
SIZE = 16


@pytest.fixture(autouse=True)
def same_sums() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return take_clip(tmp_path_factory.mktemp("run"), "clip-small")


def captioned(count: int = 60) -> Pictures:
    """Pictures of which each tells its number."""
    data = pictures()
    facts = [json.dumps({"kind": "text", "texts": [f"picture {n}"]}) for n in range(count)]
    return replace(data, rows=data.rows.remove_columns("told").add_column("told", facts))


def emoji(names: list[str]) -> Pictures:
    """Transparent pictures of so many emoji: a square of its own grey in the middle of each."""
    data = captioned(60)
    facts = [
        json.dumps(
            {"kind": "emoji", "name": name, "keywords": [], "category": "Objects", "set": ""}
        )
        for name in names
    ]
    pixels = torch.zeros(len(names), SIZE, SIZE, 4, dtype=torch.uint8)
    for number, picture in enumerate(pixels):
        picture[4:12, 4:12] = torch.tensor([200, number, 0, 255], dtype=torch.uint8)
    rows = data.rows.select(range(len(names))).remove_columns(["told", "pixels", "turns"])
    rows = rows.add_column("told", facts).add_column("turns", [-1] * len(names))
    rows = rows.add_column("pixels", [picture.numpy().tobytes() for picture in pixels])
    return replace(data, rows=rows, channels=4)


def trainer(clip: Clip, recipe: Recipe = TOLD, data: Pictures | None = None) -> WordsTrainer:
    unet = start_models.with_words(folded_unet(), clip, recipe.seed)
    return WordsTrainer(recipe, unet, cosine(), data or captioned(), Accelerator(), clip, Path())


def noted(run: WordsTrainer) -> list[dict[str, Tensor]]:
    """What the network is given from now on, step by step."""
    seen: list[dict[str, Tensor]] = []
    run.unet.register_forward_pre_hook(
        lambda unet, args, inputs: seen.append({**inputs}), with_kwargs=True
    )
    return seen


def test_a_network_with_words_begins_as_its_start_model(clip: Clip):
    run = trainer(clip)
    assert isinstance(run.unet, WordsUNet2DModel)
    begun = run.draw_samples(4).tobytes()
    plain = folded_unet()
    run.predictor = lambda unet, numbers: lambda x_t, t: plain(x_t, t).sample  # pyright: ignore
    with torch.no_grad():
        assert run.draw_samples(4).tobytes() == begun


def test_conditions_are_dropped_in_their_shares():
    lots = torch.arange(1000) / 1000
    known = torch.ones(1000, dtype=torch.bool)
    both = ("words", "picture")
    words = conditions.told_words(lots, both, known=known)
    picture = conditions.told_picture(lots, both)
    shares = {
        "words": (words & ~picture).sum(),
        "picture": (picture & ~words).sum(),
        "both": (words & picture).sum(),
        "nothing": (~words & ~picture).sum(),
    }
    assert {k: round(int(v) / 1000, 2) for k, v in shares.items()} == conditions.SHARES
    assert not conditions.told_words(lots, both, known=~known).any()


@pytest.mark.parametrize("kind", ["words", "picture"])
def test_one_condition_alone_is_dropped_in_a_tenth_of_the_examples(kind: str):
    lots, known = torch.arange(100) / 100, torch.ones(100, dtype=torch.bool)
    words = conditions.told_words(lots, (kind,), known=known)
    picture = conditions.told_picture(lots, (kind,))
    told, untold = (words, picture) if kind == "words" else (picture, words)
    assert told.sum() == 90
    assert not untold.any()


def test_a_step_is_told_the_sentences_of_its_own_pictures(clip: Clip):
    data = captioned()
    run = trainer(clip, replace(TOLD, condition="words"), data)
    reader, seen = run.reader, noted(run)
    texts: list[list[str]] = []
    words = reader.words

    def note(given: Any) -> Any:
        texts.append(list(given))
        return words(given)

    reader.words = note  # pyright: ignore[reportAttributeAccessIssue]
    generator = torch.Generator().manual_seed(0)
    indices = run._chosen(generator)[:4]
    run.step = 0
    x0, _ = run._shown(torch.arange(4), indices, torch.zeros(4, 3, 1, 1), torch.zeros(4))
    expected = [f"picture {n}" for n in _numbers(run, indices)]
    assert all(text in ("", name) for text, name in zip(texts[0], expected, strict=True))
    assert any(texts[0])
    assert torch.equal(
        x0, run._x0(run.train.take(indices), torch.zeros(4, 3, 1, 1), torch.zeros(4))
    )
    assert not seen


def _numbers(run: WordsTrainer, indices: Tensor) -> list[int]:
    return [json.loads(told)["texts"][0].split()[-1] for told in run.train.told(indices)]


def test_what_is_dropped_is_all_zero_or_the_empty_text(clip: Clip):
    run = trainer(clip, replace(TOLD, batch_size=54))
    seen = noted(run)
    run.train_step()
    (inputs,) = seen
    text, picture, distrust = inputs["class_labels"].split([256, 256, 1], dim=1)
    has_text, has_picture = (text != 0).any(dim=1), (picture != 0).any(dim=1)
    lengths = inputs["encoder_attention_mask"].sum(dim=1)
    assert torch.equal(lengths > 2, has_text)  # the empty text has a start and an end
    assert 0 < has_text.sum() < 54
    assert 0 < has_picture.sum() < 54
    assert (distrust[~has_picture] == 0).all()
    assert torch.allclose(text[has_text].norm(dim=1), torch.tensor(16.0), atol=1e-4)


def test_a_killed_run_goes_on_with_the_same_weights(clip: Clip, tmp_path: Path):
    whole = trainer(clip)
    for _ in range(4):
        whole.train_step()
    first = trainer(clip)
    for _ in range(2):
        first.train_step()
    save_state(tmp_path, first.state())
    state = load_state(tmp_path)
    assert state is not None
    unet, scheduler = start_models.rebuilt(state)
    assert isinstance(unet, WordsUNet2DModel)
    second = WordsTrainer(TOLD, unet, scheduler, captioned(), Accelerator(), clip, Path())
    second.restore(state)
    for _ in range(2):
        second.train_step()
    for one, other in zip(whole.unet.parameters(), second.unet.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_learns_to_tell_words_apart(clip: Clip):
    """Red and blue pictures in equal numbers: after some steps the word decides the colour."""
    colors = {"red": (255, 0, 0), "blue": (0, 0, 255)}
    data, names = captioned(), [*colors] * 30
    facts = [json.dumps({"kind": "text", "texts": [name]}) for name in names]
    pixels = [bytes(colors[name]) * SIZE * SIZE for name in names]
    rows = data.rows.remove_columns(["told", "pixels"])
    rows = rows.add_column("told", facts).add_column("pixels", pixels)
    recipe = replace(TOLD, max_steps=120, lr=3e-3, batch_size=16)
    run = trainer(clip, recipe, replace(data, rows=rows))
    for _ in range(120):
        run.train_step()
    unet = run.averaged()
    x_t, t = torch.zeros(2, 3, SIZE, SIZE), torch.full((2,), 950)
    with torch.no_grad():
        v = unet(x_t, t, **run.reader.inputs(["red", "blue"])).sample
    red, blue = -v[:, 0].mean(dim=(1, 2)), -v[:, 2].mean(dim=(1, 2))
    assert red[0] > blue[0] + 0.1
    assert blue[1] > red[1] + 0.1


def test_frozen_weights_stay_those_of_the_start_model(clip: Clip):
    run = trainer(clip, replace(TOLD, frozen=True))
    for _ in range(3):
        run.train_step()
    before, now = folded_unet().state_dict(), run.unet.state_dict()
    assert all(torch.equal(before[name], now[name]) for name in before)
    begun = start_models.with_words(folded_unet(), clip, TOLD.seed).state_dict()
    changed = [
        name for name in now if name not in before and not torch.equal(begun[name], now[name])
    ]
    assert any("word_attentions" in name for name in changed)


def test_new_weights_learn_faster(clip: Clip):
    run = trainer(clip, replace(TOLD, new_lr_factor=3.0, warmup_steps=0))
    run.train_step()
    begun, new = (group["lr"] for group in run.optimizer.param_groups)
    assert new == pytest.approx(3 * begun)
    assert begun == pytest.approx(TOLD.lr, rel=0.05)


def test_each_name_is_drawn_equally_often(clip: Clip):
    names = ["cat"] * 40 + ["dog"] * 10 + ["hat"] * 10
    recipe = replace(TOLD, grounds="colors", balanced=True, batch_size=32)
    run = trainer(clip, recipe, emoji(names))
    drawn = torch.cat([run._chosen(torch.Generator().manual_seed(s)) for s in range(40)])
    told = [json.loads(fact)["name"] for fact in run.train.told(drawn)]
    for name in ("cat", "dog", "hat"):
        assert 0.28 < told.count(name) / len(told) < 0.39


def test_collages_show_and_tell_several(clip: Clip):
    recipe = replace(TOLD, grounds="colors", collages=1.0, condition="words")
    run = trainer(clip, recipe, emoji(["cat"] * 60))
    texts: list[str] = []
    words = run.reader.words
    run.reader.words = lambda given: texts.extend(given) or words(given)  # pyright: ignore
    run._shown(torch.arange(8), torch.arange(8), torch.ones(8, 3, 1, 1), torch.zeros(8))
    told = [text for text in texts if text]
    assert told
    assert all("cats" in text or text.count("cat") > 1 for text in told)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_crop_shows_most_of_the_picture(seed: int):
    generator = torch.Generator().manual_seed(seed)
    chance = conditions.draw_chance(64, 4, generator)
    ramp = torch.linspace(-1, 1, 32).expand(64, 3, 32, 32)
    crops = conditions.cropped(ramp, chance.crops, chance.mirrored)
    left, right = crops[..., 0].mean(dim=(1, 2)), crops[..., -1].mean(dim=(1, 2))
    spans = (right - left).abs()
    assert (spans > 2 * 0.77 - 0.1).all()
    assert (spans <= 2.01).all()
    assert torch.equal(left > right, chance.mirrored)


def test_a_whole_crop_is_the_picture():
    x0 = torch.randn(2, 3, 16, 16)
    crops = torch.tensor([[1.0, 0.3, 0.8]] * 2)
    same = conditions.cropped(x0, crops, torch.zeros(2, dtype=torch.bool))
    assert torch.allclose(same, x0, atol=1e-5)


def test_the_reader_pools_text_as_open_clip_does(clip: Clip):
    reader = Reader(clip, "embeddings")
    texts = ["a red heart", "a photograph of a very long street in winter", ""]
    expected = clip.model.encode_text(clip.tokenizer(texts, context_length=32), normalize=True)
    assert torch.allclose(reader.words(texts).pooled, expected, atol=1e-5)


@pytest.mark.parametrize("features", ["embeddings", "last"])
def test_word_embeddings_are_those_before_or_after_the_transformer(clip: Clip, features: Any):
    words = Reader(clip, features).words(["a red heart"]).words
    tokens = clip.tokenizer(["a red heart"], context_length=32)[:, : words.shape[1]]
    model: Any = clip.model
    before = model.token_embedding(tokens) + model.positional_embedding[: words.shape[1]]
    assert torch.allclose(words, before, atol=1e-6) == (features == "embeddings")


def test_a_stock_network_is_refused(clip: Clip):
    with pytest.raises(ValueError, match="start_model must be a SpaceToDepthUNet2DModel"):
        start_models.with_words(stock_unet(), clip, 0)


def test_a_run_keeps_its_own_copy_of_the_clip(tmp_path: Path):
    first = take_clip(tmp_path, "clip-small")
    copied = (*FILES, "open_clip_model.safetensors", "recipe.json")
    assert sorted(path.name for path in (tmp_path / "clip").iterdir()) == sorted(copied)
    again = take_clip(tmp_path, "no longer there")
    assert again.revision == first.revision
    tiny = tiny_clip.save(tmp_path / "tiny")
    assert take_clip(tmp_path, str(tiny), anew=True).words != first.words
    with pytest.raises(ValueError, match="clip_model must be a bundled CLIP, a folder"):
        take_clip(tmp_path / "other", "no longer there")
    assert not (tmp_path / "other" / "clip").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": "sound"}, "condition must be"),
        ({"condition": "", "balanced": True}, "condition must be set where balanced is"),
        ({"condition": "", "collages": 0.2}, "condition must be set where collages is"),
        ({"collages": 0.2}, "collages must be 0 where grounds are white"),
        ({"collages": 0.2, "grounds": "colors", "flip": True}, "collages must be 0 where flip is"),
        ({"features": "first"}, "features must be"),
        ({"new_lr_factor": 0.0}, "new_lr_factor must be"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replace(TOLD, **changes)


def test_a_checkpoint_carries_its_clip_in_small_files(clip: Clip, tmp_path: Path):
    run, checkpoint = tmp_path / "run", tmp_path / "checkpoint"
    taken = take_clip(run, "clip-small")
    save_clip(taken, run, checkpoint)
    shards = list((checkpoint / "clip").glob("*.safetensors"))
    assert len(shards) > 1
    assert max(path.stat().st_size for path in shards) < 9_000_000
    row = Checkpoint("clip", "", 64, "", "", weights="*.safetensors")
    loaded = open_folder(row, checkpoint / "clip")
    expected, own = taken.model.state_dict(), loaded.model.state_dict()
    assert set(expected) == set(own)
    assert all(torch.equal(expected[name], own[name]) for name in expected)
    assert loaded.words == taken.words


@pytest.mark.parametrize("in_parts", [True, False])
def test_the_clip_of_a_conditional_model_is_taken_as_it_lies(tmp_path: Path, in_parts: bool):
    model = save_told(tmp_path / "told", in_parts=in_parts)
    whole = take_clip(tmp_path / "run", str(model))
    again = take_clip(tmp_path / "other", str(model / "clip"))
    assert whole.revision == again.revision
    expected = open_folder(Checkpoint("clip", "", 64, "", ""), model / "clip")
    torch.testing.assert_close(whole.model.state_dict(), expected.model.state_dict())
    for path in (model / "clip").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match=r"clip_model must be .+ without \S+safetensors"):
        take_clip(tmp_path / "third", str(model))


def test_what_a_clip_learned_from_goes_with_it(tmp_path: Path):
    take_clip(tmp_path, "clip-small")
    known = {
        "name": "clip-small",
        "datasets": ["flickr8k", "wikiart", "scenes", "flowers", "emoji"],
    }
    assert origin_of(tmp_path, "no longer there") == known
    assert origin_of(tmp_path / "older", "clip-small") == known
    assert origin_of(tmp_path / "older", "./runs/mine/checkpoint") == {"name": "mine"}


def test_the_network_tells_what_it_reads_and_is_told(clip: Clip):
    run = trainer(clip, replace(TOLD, condition="picture", features="last"))
    unet, _ = start_models.rebuilt(start_models.configs(run.averaged(), run.scheduler))
    assert unet.config["features"] == "last"
    assert list(unet.config["conditions"]) == ["picture"]


def test_samples_of_a_model_that_is_told_pictures_are_told_no_words(clip: Clip):
    run = trainer(clip, replace(TOLD, condition="picture"))
    text, picture, _ = run.inputs_for(torch.arange(4))["class_labels"].split([256, 256, 1], dim=1)
    assert not text.any()
    torch.testing.assert_close(picture.norm(dim=1), torch.full((4,), 16.0))


def test_words_without_a_caption_are_refused(clip: Clip):
    with pytest.raises(ValueError, match="dataset_name must have captions, names, titles or"):
        trainer(clip, replace(TOLD, condition="words"), pictures())
    assert trainer(clip, TOLD, pictures()).num_told == 0


def test_a_condition_that_is_named_twice_is_one():
    assert replace(TOLD, condition="words, words").conditions == ("words",)


def test_a_model_that_is_told_words_alone_sees_no_other_crops(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
):
    run = trainer(clip, replace(TOLD, condition="words"))
    monkeypatch.delattr(run.reader.__class__, "embedded")
    run.train_step()
