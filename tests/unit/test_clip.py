"""CLIP: loaded once and never untrained, true to open_clip, and looked at through random crops."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import itertools
import json
import shutil
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from pipelines.core import images
from pipelines.core.cache import Cache
from pipelines.core.errors import CheckpointError
from pipelines.core.rules import SettingsError
from pipelines.diffusion.noise import image_generators
from pipelines.diffusion.views import Views, random_views
from pipelines.models import checkpoints, clip
from pipelines.models.clip import Clip
from pipelines.models.table import CLIPS, Checkpoint
from tests.fakes import tiny_clip
from tests.fakes.hub_server import Hub, serve_hub
from training.clip.exporting import save_weights

pytestmark = pytest.mark.slow

KEY = "clip-small"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
MERGES, WORDS = "bpe_simple_vocab.txt.gz", "words.txt"
REPOSITORY = "someone/clip"
TOLERANCE = 1e-6
STILL = Views(count=3, least_side=1.0, max_angle=0.0, mirrored=False, noise=0.0)
MOVING = Views(count=5, least_side=0.5, max_angle=0.2, mirrored=True, noise=0.1)


@pytest.fixture
def model(tiny_checkpoints: Path) -> Clip:
    return clip.load(KEY)


@pytest.fixture
def own_copy(tiny_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny CLIP that a test may damage."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(tiny_checkpoints / KEY, folder / KEY)
    monkeypatch.setattr("pipelines.models.table.BUNDLED", folder)
    return folder / KEY


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Hub cache without anything in it, and a shelf without any CLIP."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    clip.unload_all()
    yield tmp_path / "hub"
    clip.unload_all()


def pictures(count: int = 3, size: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1


def smooth(count: int = 3, size: int = 64, seed: int = 0) -> Tensor:
    """Pictures of large spots, in which a network without training sees more than in noise."""
    spots = pictures(count, 4, seed)
    return F.interpolate(spots, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return image_generators(seed, count)


def hub_row() -> Checkpoint:
    """The row of a CLIP of the Hub, but of a tiny one."""
    return dataclasses.replace(CLIPS["ViT-B-32"], repo_id=REPOSITORY, size_px=32)


def configured(model: Clip | None = None) -> dict[str, Any]:
    """What open_clip makes a tiny CLIP from, of CLIP's whole vocabulary or that of a model."""
    vocabulary = 49408 if model is None else model.tokenizer.vocab_size
    text = tiny_clip.TEXT | {"vocab_size": vocabulary}
    return {"embed_dim": 16, "vision_cfg": tiny_clip.VISION, "text_cfg": text}


def save_as_on_the_hub(folder: Path) -> Path:
    """A tiny CLIP with the files that one of the Hub has, and CLIP's whole vocabulary."""
    tiny_clip.save(folder)
    for name in (MERGES, WORDS):
        (folder / name).unlink()
    torch.manual_seed(0)
    save_weights(open_clip.CLIP(**configured()), folder)
    config = json.loads((folder / CONFIG).read_text()) | {"model_cfg": configured()}
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


@pytest.fixture
def seen(model: Clip, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the network of the tiny CLIP is given to see, in [-1, 1] again."""
    seen: list[Tensor] = []
    really = model.model.encode_image

    def watch(x: Tensor) -> Tensor:
        seen.append(2 * (x * model.std + model.mean) - 1)
        return really(x)

    monkeypatch.setattr(model.model, "encode_image", watch)
    return seen


# --- loading -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_clip_is_loaded_once_however_many_ask_at_the_same_time(monkeypatch: pytest.MonkeyPatch):
    loads: list[str] = []
    really_load = clip._load

    def slow_load(row: Checkpoint) -> Clip:
        loads.append(threading.current_thread().name)
        time.sleep(0.2)
        return really_load(row)

    monkeypatch.setattr(clip, "_load", slow_load)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(clip.load, [KEY] * 8))
    assert len(loads) == 1
    assert all(loaded is found[0] for loaded in found)
    clip.unload_all()
    assert clip.load(KEY) is not found[0]


def test_a_loaded_clip_is_frozen_and_in_evaluation_mode_and_knows_itself(model: Clip):
    assert not model.model.training
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert model.checkpoint is CLIPS[KEY]
    assert (model.size_px, model.context_length) == (32, 16)
    assert model.mean.flatten().tolist() == pytest.approx(tiny_clip.MEAN)
    assert model.std.flatten().tolist() == pytest.approx(tiny_clip.STD)
    assert model.words is not None
    assert {"trees", "portrait", "snow"} <= model.words
    assert len(model.revision) == 12


@pytest.mark.parametrize("key", ["ViT-L-14", "paintings", "", "../clip-small"])
def test_an_unknown_key_is_refused_naming_the_known_ones(key: str):
    with pytest.raises(ValueError, match=rf"clip_model must be one of clip-small, .*'{key}'"):
        clip.load(key)


def test_the_bundled_clip_loads_and_is_what_its_row_of_the_table_says():
    clip.unload_all()
    model = clip.load(KEY)
    assert model.size_px == model.checkpoint.size_px
    assert model.words is not None
    assert {"a", "landscape", "trees"} <= model.words
    assert sum(parameter.numel() for parameter in model.model.parameters()) > 1_000_000
    clip.unload_all()


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MERGES, WORDS])
def test_a_missing_file_is_named_in_one_sentence_and_works_again_once_restored(
    own_copy: Path, name: str
):
    kept = (own_copy / name).read_bytes()
    (own_copy / name).unlink()
    with pytest.raises(CheckpointError, match=r"^Checkpoint clip-small cannot be loaded") as told:
        clip.load(KEY)
    assert name in str(told.value)
    assert "\n" not in str(told.value)
    assert str(own_copy) not in str(told.value)
    (own_copy / name).write_bytes(kept)
    assert clip.load(KEY).size_px == 32


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MERGES])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_gives_one_sentence_and_works_again_once_restored(
    own_copy: Path, name: str, share: float
):
    kept = (own_copy / name).read_bytes()
    (own_copy / name).write_bytes(kept[: int(len(kept) * share)])
    with pytest.raises(CheckpointError, match="files are damaged; restore them") as told:
        clip.load(KEY)
    assert "\n" not in str(told.value)
    assert str(own_copy) not in str(told.value)
    (own_copy / name).write_bytes(kept)
    assert clip.load(KEY).size_px == 32


def test_a_vocabulary_that_is_not_the_one_of_the_weights_is_refused(own_copy: Path):
    lines = gzip.decompress((own_copy / MERGES).read_bytes()).splitlines()
    (own_copy / MERGES).write_bytes(gzip.compress(b"\n".join(lines[:-3])))
    with pytest.raises(CheckpointError, match="files are damaged"):
        clip.load(KEY)


def test_weights_of_another_architecture_are_refused(own_copy: Path):
    path = own_copy / CONFIG
    path.write_text(path.read_text().replace('"width": 8', '"width": 16'))
    with pytest.raises(CheckpointError, match="files are damaged"):
        clip.load(KEY)


def test_a_folder_without_weights_is_never_an_untrained_model(own_copy: Path):
    (own_copy / WEIGHTS).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match="files are missing"):
            clip.load(KEY)
    with pytest.raises(Exception, match="weights"):  # even past the check of the files
        clip.open_folder(CLIPS[KEY], own_copy)


def test_the_weights_in_memory_are_those_of_the_file(model: Clip, tiny_checkpoints: Path):
    stored = load_file(tiny_checkpoints / KEY / WEIGHTS)
    found = model.model.state_dict()
    assert set(stored) == set(found)
    for name, values in stored.items():
        assert torch.equal(found[name], values.to(found[name])), name


# --- the Hub -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ViT-B-32", "ViT-B-32-laion"])
@pytest.mark.usefixtures("empty_cache")
def test_without_a_network_a_clip_of_the_hub_is_refused_naming_the_one_that_needs_none(
    key: str, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: Any) -> None:
        pytest.fail("asked the network")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(CheckpointError) as told:
        clip.load(key)
    sentence = str(told.value)
    assert sentence.startswith(f"Checkpoint {key} cannot be fetched from the Hub (")
    assert sentence.endswith("clip-small needs no network.")
    assert "\n" not in sentence
    assert len(sentence) < 150


@pytest.fixture
def hub(empty_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub that has a tiny CLIP, which the table calls ViT-B-32."""
    monkeypatch.setitem(CLIPS, "ViT-B-32", hub_row())
    with serve_hub(empty_cache) as hub:
        hub.repositories[f"models/{REPOSITORY}"] = save_as_on_the_hub(tmp_path / "repository")
        yield hub


def test_a_clip_of_the_hub_is_fetched_once_and_then_needs_no_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    assert checkpoints.missing_files(hub_row())
    fetched = clip.load("ViT-B-32")
    assert checkpoints.missing_files(hub_row()) == ""
    assert fetched.checkpoint.key == "ViT-B-32"
    assert (fetched.size_px, fetched.context_length, fetched.words) == (32, 16, None)
    assert clip.encode_text(fetched, "a zebra in Zanzibar").norm().item() == pytest.approx(1)
    hub.repositories.clear()
    clip.unload_all()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = clip.load("ViT-B-32")
    assert again is not fetched
    assert again.revision == fetched.revision
    torch.testing.assert_close(again.model.state_dict(), fetched.model.state_dict())


def test_a_repository_that_is_not_there_or_not_whole_is_refused_and_works_once_it_is(hub: Hub):
    folder = hub.repositories.pop(f"models/{REPOSITORY}")
    with pytest.raises(CheckpointError, match=r"^Checkpoint ViT-B-32 cannot be fetched"):
        clip.load("ViT-B-32")
    hub.repositories[f"models/{REPOSITORY}"] = folder
    kept = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"^Checkpoint ViT-B-32 cannot be fetched"):
        clip.load("ViT-B-32")
    (folder / WEIGHTS).write_bytes(kept)
    assert clip.load("ViT-B-32").size_px == 32


def test_damaged_files_of_the_hub_are_refused_in_one_sentence(hub: Hub):
    folder = hub.repositories[f"models/{REPOSITORY}"]
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"files are damaged; restore them from the Hub\.$"):
        clip.load("ViT-B-32")


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 20, 90])
def test_embeddings_of_pictures_are_those_of_open_clips_own_preprocessing(
    model: Clip, tiny_checkpoints: Path, size: int
):
    name = f"local-dir:{tiny_checkpoints / KEY}"
    made: Any = open_clip.create_model_from_pretrained(name)
    theirs, prepare = made
    rounding = TOLERANCE if size == 32 else 20 * TOLERANCE
    for picture in images.to_pil(smooth(3, size)):
        with torch.no_grad():
            expected = F.normalize(theirs.eval().encode_image(prepare(picture)[None]), dim=-1)
            found = clip.encode_images(model, images.to_tensor(picture))
        torch.testing.assert_close(found, expected, atol=rounding, rtol=0)
        torch.testing.assert_close(found.norm(dim=-1), torch.ones(1))


def test_many_pictures_in_parts_have_the_embeddings_and_gradients_that_they_have_together(
    model: Clip, monkeypatch: pytest.MonkeyPatch
):
    weights = torch.randn(7, 1, generator=torch.Generator().manual_seed(0))

    def both() -> list[Tensor]:
        x0 = smooth(7, 32).requires_grad_()
        embeddings = clip.encode_images(model, x0)
        (gradient,) = torch.autograd.grad((weights * embeddings).square().sum(dim=1).sum(), x0)
        return [embeddings.detach(), gradient]

    together = both()
    monkeypatch.setattr(clip, "_PIXELS_AT_ONCE", 2 * model.size_px**2)
    monkeypatch.setattr(clip, "_LEAST_AT_ONCE", 1)
    calls: list[int] = []
    encode = model.model.encode_image
    monkeypatch.setattr(model.model, "encode_image", lambda x0: calls.append(len(x0)) or encode(x0))
    in_parts = both()
    assert calls[:4] == [2, 2, 2, 1]
    assert len(calls) == 8  # each part once more for its gradient
    for one, other in zip(together, in_parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_pictures_have_different_embeddings(model: Clip):
    found = clip.encode_images(model, smooth(3, 32))
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().max() > 100 * TOLERANCE  # or other tests could not fail


def test_what_a_clip_sees_is_normalised_from_minus_1_and_1_not_from_0_and_1(
    model: Clip, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Tensor] = []
    monkeypatch.setattr(model.model, "encode_image", lambda x: seen.append(x) or x.mean((2, 3)))
    for value in (-1.0, 1.0):
        clip.encode_images(model, torch.full((1, 3, 32, 32), value))
    black, white = (x.mean(dim=(0, 2, 3)) for x in seen)
    mean, std = torch.tensor(tiny_clip.MEAN), torch.tensor(tiny_clip.STD)
    torch.testing.assert_close(black, -mean / std)
    torch.testing.assert_close(white, (1 - mean) / std)


def test_pictures_of_the_size_of_the_clip_are_seen_as_they_are(model: Clip, seen: list[Tensor]):
    x0 = pictures(2)
    clip.encode_images(model, x0)
    torch.testing.assert_close(seen[0], x0, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (20, 20), (224, 224)], ids=str)
def test_pictures_of_another_size_are_seen_whole_at_the_size_of_the_clip(
    model: Clip, seen: list[Tensor], shape: tuple[int, int]
):
    rows, columns = (torch.linspace(-0.9, 0.9, count) for count in shape)
    slope = (rows[:, None] + columns) / 2
    assert clip.encode_images(model, slope.expand(2, 3, *shape)).shape == (2, 16)
    along = torch.linspace(-0.9, 0.9, 32)
    expected = ((along[:, None] + along) / 2).expand(2, 3, 32, 32)
    torch.testing.assert_close(seen[0], expected, atol=0.04, rtol=0)


def test_a_pattern_too_fine_for_the_clip_is_averaged_and_not_skipped(
    model: Clip, seen: list[Tensor]
):
    checks = torch.ones(1, 3, 128, 128)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = -1
    clip.encode_images(model, checks)
    assert seen[0].abs().max() < 0.1


@pytest.mark.parametrize("size", [32, 64])
def test_embeddings_of_pictures_are_differentiable_and_know_no_batch(model: Clip, size: int):
    x0 = smooth(3, size).requires_grad_()
    together = clip.encode_images(model, x0)
    gradient = torch.autograd.grad(together[:, 0].sum(), x0)[0]
    assert gradient.isfinite().all()
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()
    for i in range(3):
        alone = clip.encode_images(model, x0[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=TOLERANCE, rtol=0)
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_a_gradient_of_a_picture_is_that_of_finite_differences(model: Clip):
    whole = copy.deepcopy(model.model).double()
    precise = dataclasses.replace(model, model=whole, mean=model.mean.double())
    target = torch.linspace(-1, 1, 16, dtype=torch.float64)
    x0 = smooth(1).double().requires_grad_()

    def toward(x0: Tensor) -> Tensor:
        return clip.encode_images(precise, x0) @ target

    assert torch.autograd.gradcheck(toward, (x0,), fast_mode=True, eps=1e-7, atol=1e-6)


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a landscape with trees", "A Red  ROSE", "zebra crossing", "雪"])
def test_embeddings_of_text_are_those_of_open_clip(model: Clip, text: str):
    found = clip.encode_text(model, text)
    with torch.no_grad():
        expected = F.normalize(model.model.encode_text(model.tokenizer([text])), dim=-1)[0]
    torch.testing.assert_close(found, expected)
    assert found.shape == (16,)
    assert found.norm().item() == pytest.approx(1)
    assert not found.requires_grad


def test_different_sentences_have_different_embeddings_and_case_does_not_matter(model: Clip):
    trees, sea = (clip.encode_text(model, text) for text in ("trees", "ships on the sea"))
    assert not torch.allclose(trees, sea, atol=1e-2)
    torch.testing.assert_close(clip.encode_text(model, "TREES"), trees)


def count_texts(model: Clip, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is appended to once per sentence that the network reads."""
    calls: list[int] = []
    really = model.model.encode_text

    def counted(tokens: Tensor, *rest: Any, **options: Any) -> Tensor:
        calls.append(len(tokens))
        return really(tokens, *rest, **options)

    monkeypatch.setattr(model.model, "encode_text", counted)
    return calls


def test_a_sentence_is_read_once(model: Clip, monkeypatch: pytest.MonkeyPatch):
    calls = count_texts(model, monkeypatch)
    first = clip.encode_text(model, "a red rose")
    assert len(calls) == 1
    assert torch.equal(clip.encode_text(model, "a red rose"), first)
    assert len(calls) == 1
    clip.encode_text(model, "a red rose, people")
    assert len(calls) == 2


def test_only_the_sentences_asked_for_last_are_kept(model: Clip, monkeypatch: pytest.MonkeyPatch):
    model = dataclasses.replace(model, _texts=Cache(2))
    calls = count_texts(model, monkeypatch)
    for text in ("trees", "sea", "trees", "rose"):  # the sea is the one that was not asked again
        clip.encode_text(model, text)
    assert len(calls) == 3
    clip.encode_text(model, "trees")
    assert len(calls) == 3
    clip.encode_text(model, "sea")
    assert len(calls) == 4


def test_a_clip_that_is_loaded_anew_knows_nothing_of_the_texts_of_another(
    model: Clip, own_copy: Path
):
    before = clip.encode_text(model, "trees")
    torch.manual_seed(1)
    save_weights(open_clip.CLIP(**configured(model)), own_copy)
    clip.unload_all()
    assert not torch.allclose(clip.encode_text(clip.load(KEY), "trees"), before, atol=1e-3)


def test_a_sentence_that_fills_the_context_is_read_and_one_token_more_is_refused(model: Clip):
    longest = " ".join(["trees"] * 14)  # and two tokens that mark its ends
    assert clip.encode_text(model, longest).isfinite().all()
    sentence = "prompt must be at most 14 tokens for clip-small, about as many words, got 15"
    for _ in range(2):
        with pytest.raises(SettingsError, match=rf"^{sentence}$"):
            clip.encode_text(model, longest + " trees")
    with pytest.raises(SettingsError, match=r"at most 14 tokens .+, got \d+$"):
        clip.encode_text(model, "zyzzyva" * 40)


@pytest.mark.parametrize(
    ("text", "unseen"),
    [
        ("a landscape with trees", []),
        ("Trees, PORTRAIT; ships!", []),
        ("zebra trees Apple zebra ZEBRA apple", ["zebra", "apple"]),
        ("", []),
        ("trees2 7 x-ray", ["x", "ray"]),
        ("снег и trees", ["снег", "и"]),
    ],
)
def test_unseen_words_are_told_in_order_and_each_once(model: Clip, text: str, unseen: list[str]):
    assert clip.unseen_words(model, text) == unseen


def test_a_clip_that_saw_nearly_every_word_has_no_unseen_ones(model: Clip):
    assert clip.unseen_words(dataclasses.replace(model, words=None), "zyzzyva") == []


@pytest.mark.parametrize("key", CLIPS)
def test_a_clip_that_learned_english_cannot_read_other_scripts(key: str):
    text = "a café, Straße and ﬁeld; 雪景 снег ثلج 눈 χιόνι 🏔 123"
    words = clip.words_of(text)
    unreadable = ["雪景", "снег", "ثلج", "눈", "χιόνι"]
    assert clip.unreadable_words(CLIPS[key], words) == unreadable
    everywhere = dataclasses.replace(CLIPS[key], english_only=False)
    assert clip.unreadable_words(everywhere, words) == []


def test_what_a_clip_cannot_read_is_unseen_however_many_words_it_saw(model: Clip):
    learned = dataclasses.replace(model, words=None)
    assert clip.unseen_words(learned, "zyzzyva 雪景 trees") == ["雪景"]
    assert clip.unseen_words(model, "zyzzyva 雪景 trees") == ["zyzzyva", "雪景"]


# --- views ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_px", [16, 32, 100])
def test_there_are_so_many_square_views_of_each_picture(size_px: int):
    views = random_views(pictures(2, 64), MOVING, size_px, generators(2))
    assert views.shape == (5, 2, 3, size_px, size_px)
    assert views.isfinite().all()
    oblong = F.interpolate(pictures(2, 8), (48, 64))
    assert random_views(oblong, MOVING, size_px, generators(2)).shape == views.shape


@pytest.mark.parametrize("size_px", [32, 64, 128])
def test_a_view_that_does_not_move_is_the_picture_itself(size_px: int):
    x0 = smooth()
    views = random_views(x0, STILL, size_px, generators(3))
    expected = F.interpolate(x0, (size_px, size_px), mode="bilinear", align_corners=False)
    for view in views:
        torch.testing.assert_close(view, expected, atol=0.02, rtol=0)
    if size_px == 64:
        torch.testing.assert_close(views[0], x0, atol=1e-5, rtol=0)


def test_the_views_of_a_picture_depend_on_its_generator_and_not_on_the_batch():
    x0 = pictures(3, 64)
    together = random_views(x0, MOVING, 32, generators(3, seed=7))
    for i in range(3):
        alone = random_views(x0[i : i + 1], MOVING, 32, generators(1, seed=7 + i))
        torch.testing.assert_close(alone[:, 0], together[:, i])
    again = random_views(x0, MOVING, 32, generators(3, seed=7))
    assert torch.equal(again, together)
    other = random_views(x0, MOVING, 32, generators(3, seed=8))
    assert not torch.allclose(other, together, atol=0.1)


def test_the_views_of_a_picture_differ_from_each_other_and_from_those_of_the_next_step():
    x0, drawn = smooth(1), generators(1)
    still = dataclasses.replace(MOVING, noise=0.0)
    one, other = (random_views(x0, still, 32, drawn) for _ in range(2))
    for i in range(4):
        assert (one[i] - one[i + 1]).abs().mean() > 0.01
    assert (one - other).abs().mean() > 0.01


def corners() -> Tensor:
    """A picture whose red is how far right each pixel is, and whose green is how far down."""
    along = (torch.arange(64) + 0.5) / 32 - 1
    down, right = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([right, down, right * 0])[None]


def test_crops_are_squares_inside_the_picture_of_the_least_side_and_more():
    views = Views(count=200, least_side=0.5, max_angle=0.0, mirrored=False, noise=0.0)
    crops = random_views(corners(), views, 32, generators(1))[:, 0]  # (200, 3, 32, 32)
    for channel in (0, 1):
        spans = crops[:, channel].amax(dim=(1, 2)) - crops[:, channel].amin(dim=(1, 2))
        sides = spans / (2 * 31 / 32)  # from the middle of the first pixel to that of the last
        assert 0.49 <= sides.min() < 0.56
        assert 0.94 < sides.max() <= 1.01
        middles = crops[:, channel].mean(dim=(1, 2))
        assert (middles.abs() + sides <= 1.02).all()
        assert middles.min() < -0.1 < 0.1 < middles.max()
    widths, heights = (crops[:, c].amax((1, 2)) - crops[:, c].amin((1, 2)) for c in (0, 1))
    torch.testing.assert_close(widths, heights, atol=0.02, rtol=0)


def test_half_of_the_views_are_mirrored_left_to_right_and_none_upside_down():
    views = Views(count=400, least_side=0.9, max_angle=0.0, mirrored=True, noise=0.0)
    crops = random_views(corners(), views, 16, generators(1))[:, 0]
    mirrored = crops[:, 0, 8, 0] > crops[:, 0, 8, -1]
    assert 150 < int(mirrored.sum()) < 250
    assert (crops[:, 1, 0, 8] < crops[:, 1, -1, 8]).all()


@pytest.mark.parametrize("mirrored", [True, False])
def test_views_are_turned_by_the_angle_at_most_either_way_and_keep_their_shape(mirrored: bool):
    views = Views(count=300, least_side=1.0, max_angle=0.3, mirrored=mirrored, noise=0.0)
    crops = random_views(corners(), views, 64, generators(1))[:, 0]
    right = crops[:, :2, 32, 36] - crops[:, :2, 32, 28]
    down = crops[:, :2, 36, 32] - crops[:, :2, 28, 32]
    angles = torch.atan2(right[:, 1], right[:, 0].abs())
    assert 0.28 < angles.max() < 0.31
    assert -0.31 < angles.min() < -0.28
    torch.testing.assert_close((right * down).sum(dim=1), torch.zeros(300), atol=1e-3, rtol=0)
    torch.testing.assert_close(right.norm(dim=1), down.norm(dim=1), atol=1e-3, rtol=0)


def test_the_noise_of_views_is_as_strong_as_told():
    views = dataclasses.replace(STILL, noise=0.3)
    noise = random_views(smooth(2), views, 64, generators(2)) - smooth(2)
    assert noise.std().item() == pytest.approx(0.3, rel=0.03)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert not torch.allclose(noise[0], noise[1])
    assert not torch.allclose(noise[:, 0], noise[:, 1])


def test_views_are_differentiable_and_each_looks_at_its_own_picture_alone():
    x0 = pictures(2, 64).requires_grad_()
    views = random_views(x0, MOVING, 32, generators(2))
    gradient = torch.autograd.grad(views[:, 0].sum(), x0)[0]
    assert gradient.isfinite().all()
    assert (gradient[0] != 0).any()
    assert (gradient[1] == 0).all()


def test_an_image_of_any_mode_can_be_looked_at(model: Clip):
    for mode in ("L", "RGB", "RGBA", "P", "1"):
        picture = Image.new(mode, (40, 30), color=0 if mode == "RGBA" else 1)
        assert clip.encode_images(model, images.to_tensor(picture)).isfinite().all()
