"""The command that trains the small CLIP: it resumes, refuses, and leaves an open_clip folder."""

from __future__ import annotations

import json
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.core import images
from pipelines.models import own_clips
from pipelines.models.own_clips import MERGES_FILE, WORDS_FILE
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pairs import TRAINED_ON, small
from tests.fakes.tiny_pictures import invoke
from training import train_clip
from training.cards import model_card
from training.clip import exporting, half_formed, judging, towers
from training.clip import runs as clip_runs
from training.clip import trainer as clip_trainer
from training.clip.pairs import RECOLORED, SOURCES, Pairs
from training.clip.recipe import Recipe
from training.clip.trainer import Trainer
from training.core.state import STATE_FILE, load_state, save_state

STEPS = 6
RECIPE = Recipe(
    architecture="resnet",
    datasets=tuple(SOURCES),
    half_formed="",
    max_steps=STEPS,
    batch_size=8,
    lr=2e-3,
    warmup_steps=2,
    ema_decay=0.9,
    mixed_precision="no",
    seed=3,
    same_source_share=0.0,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data sets."""
    folder = tmp_path_factory.mktemp("place")
    tiny_pairs.write_all(folder / "data")
    return folder


@pytest.fixture(autouse=True)
def quick(place: Path) -> Iterator[None]:
    with small(place / "cache"):
        yield


def options(place: Path, run: Path, **changes: Any) -> list[str]:
    """A short run."""
    values = {
        "data_folder": place / "data",
        "model_save_name": run,
        "max_steps": STEPS,
        "batch_size": RECIPE.batch_size,
        "lr": RECIPE.lr,
        "warmup_steps": RECIPE.warmup_steps,
        "ema_decay": RECIPE.ema_decay,
        "half_formed_by": RECIPE.half_formed,
        "seed": RECIPE.seed,
        "same_source_share": RECIPE.same_source_share,
        "save_every": 2,
        "judge_every": 3,
        "report_to": "none",
        "threads": 1,
    }
    return [f"--{name.replace('_', '-')}={value}" for name, value in (values | changes).items()]


def train(*arguments: str):
    return invoke(train_clip.main, *arguments)


@dataclass(frozen=True)
class Run:
    """A run that stopped once, after step 5, and was started again.

    Attributes:
        folder: of the run.
        told: what the command said when it stopped.
        options: that it was started with, both times.
    """

    folder: Path
    told: str
    options: list[str]

    @property
    def checkpoint(self) -> Path:
        return self.folder / exporting.CHECKPOINT


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    step = Trainer.train_step

    def full(trainer: Trainer) -> float:
        if trainer.step == 5:
            raise OSError(28, "No space left on device")
        return step(trainer)

    folder = place / "run"
    chosen = options(place, folder, report_to="tensorboard")
    with small(place / "cache"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "train_step", full)
            stopped = train(*chosen)
        assert stopped.exit_code == 1, stopped.output
        assert not (folder / exporting.CHECKPOINT).exists()
        went_on = train(*chosen)
    assert went_on.exit_code == 0, went_on.output
    assert went_on.stdout.splitlines()[-1] == str(folder / exporting.CHECKPOINT)
    return Run(folder, stopped.stderr, chosen)


def restored(folder: Path, place: Path) -> tuple[Trainer, dict[str, Pairs]]:
    state = load_state(folder)
    assert state is not None
    return clip_runs.prepare(Recipe(**state["recipe"]), folder, place / "data")


@pytest.mark.thorough
def test_a_run_that_stopped_says_so_in_one_sentence_and_keeps_its_state(run: Run):
    assert run.told.splitlines()[-1] == (
        "Training stopped: [Errno 28] No space left on device; "
        "the state that was saved last is kept."
    )


def test_a_run_that_went_on_ends_with_the_weights_of_an_uninterrupted_one(
    run: Run, place: Path, tmp_path: Path
):
    result = train(*options(place, tmp_path))
    assert result.exit_code == 0, result.output
    found, expected = load_state(run.folder), load_state(tmp_path)
    assert found is not None
    assert expected is not None
    assert found["step"] == expected["step"] == STEPS
    for key in ("model", "ema", "optimizer"):
        torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-5)


def test_loss_and_judgements_are_logged_once_a_step(run: Run):
    log = EventAccumulator(str(run.folder / "logs")).Reload()
    assert [event.step for event in log.Scalars("loss")] == list(range(1, STEPS + 1))
    assert [event.step for event in log.Scalars("scenes/accuracy")] == [3, 6]
    assert [event.step for event in log.Scalars("flickr8k/picture of a sentence, R@1")] == [3, 6]


def test_a_finished_run_started_again_only_writes_its_checkpoint_anew(run: Run):
    state = (run.folder / STATE_FILE).read_bytes()
    before = {path.name: path.read_bytes() for path in run.checkpoint.iterdir()}
    (run.checkpoint / model_card.CARD_FILE).unlink()
    (run.checkpoint / own_clips.WEIGHTS_FILE).unlink()
    result = train(*run.options)
    assert result.exit_code == 0, result.output
    assert (run.folder / STATE_FILE).read_bytes() == state
    assert {path.name: path.read_bytes() for path in run.checkpoint.iterdir()} == before


def test_a_run_on_fewer_data_sets_goes_on_with_the_same_ones(place: Path, tmp_path: Path):
    older = ",".join(name for name in SOURCES if name != "emoji-more")
    assert train(*options(place, tmp_path, max_steps=2, datasets=older)).exit_code == 0
    assert train(*options(place, tmp_path, max_steps=2, datasets=older)).exit_code == 0
    refused = train(*options(place, tmp_path, max_steps=2))
    assert refused.exit_code != 0
    assert "datasets" in refused.output
    card = (tmp_path / exporting.CHECKPOINT / model_card.CARD_FILE).read_text()
    assert f"--datasets {older}" in card
    assert "Twemoji" not in card


def test_unknown_data_sets_are_refused(place: Path, tmp_path: Path):
    refused = train(*options(place, tmp_path, datasets="scenes,bedrooms"))
    assert refused.exit_code != 0
    assert "datasets must be one of" in refused.output.replace("\n", " ")


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.thorough
def test_half_formed_pictures_of_the_bundled_model_are_learned_from(place: Path, tmp_path: Path):
    result = train(*options(place, tmp_path, half_formed_by="paintings", max_steps=2))
    assert result.exit_code == 0, result.output
    assert (tmp_path / f"paintings-{RECIPE.seed}-{half_formed.FILE}").is_file()
    card = (tmp_path / exporting.CHECKPOINT / model_card.CARD_FILE).read_text()
    assert "30% of the pictures" in card.replace("\n", " ")
    assert "(`paintings`)" in card


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.thorough
def test_a_data_set_is_half_formed_by_the_checkpoint_of_its_name(place: Path, tmp_path: Path):
    focus = "emoji,emoji-more"
    chosen = {"half_formed_by": "paintings,emoji", "focus": focus, "same_source_share": 1.0}
    result = train(*options(place, tmp_path, max_steps=1, **chosen))
    assert result.exit_code == 0, result.output
    made = {
        model: load_file(tmp_path / f"{model}-{RECIPE.seed}-{half_formed.FILE}")["pixels"]
        for model in ("paintings", "emoji")
    }
    emoji = (1 + RECOLORED) * tiny_pairs.NUM_STICKERS
    assert {model: len(pixels) for model, pixels in made.items()} == {
        "paintings": TRAINED_ON - emoji,
        "emoji": emoji,
    }
    trainer, _ = restored(tmp_path, place)
    assert trainer.half_formed is not None
    of_emoji = torch.tensor([origin.startswith("emoji") for origin in trainer.data.origins])
    assert torch.equal(trainer.half_formed[of_emoji], made["emoji"])
    assert torch.equal(trainer.half_formed[~of_emoji], made["paintings"])
    card = (tmp_path / exporting.CHECKPOINT / model_card.CARD_FILE).read_text()
    assert "(`paintings`, `emoji`)" in card.replace("\n", " ")
    assert "of one data set in 100% of the steps, 60% of them of `emoji` and `emoji-more`" in card
    assert "--focus emoji,emoji-more" in card
    assert "Twemoji under CC BY 4.0" in card.replace("\n", " ")


def test_misread_pictures_are_told_in_the_card_and_part_of_the_recipe(place: Path, tmp_path: Path):
    chosen = options(place, tmp_path, max_steps=1, half_formed_by="", adversarial_radius=1.5)
    assert train(*chosen).exit_code == 0
    card = (tmp_path / exporting.CHECKPOINT / model_card.CARD_FILE).read_text()
    assert "read worst, by at most 0 to 1.5 (Euclidean" in card
    assert "--adversarial-radius 1.5" in card
    result = train(*options(place, tmp_path, max_steps=1, half_formed_by=""))
    assert result.exit_code == 2
    assert "adversarial_radius" in result.output


def test_a_data_folder_that_is_not_there_is_refused_in_one_sentence(place: Path, tmp_path: Path):
    result = train(*options(place, tmp_path / "run", data_folder=tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert str(tmp_path / "nowhere" / "flickr8k") in result.output
    assert "Traceback" not in result.output


def test_more_pairs_a_step_than_there_are_is_refused_in_one_sentence(place: Path, tmp_path: Path):
    result = train(*options(place, tmp_path / "run", batch_size=TRAINED_ON + 1))
    assert result.exit_code == 2
    assert f"batch_size must be at most the number of pictures, {TRAINED_ON}" in result.output
    assert (
        train(*options(place, tmp_path / "run", batch_size=TRAINED_ON, max_steps=1)).exit_code == 0
    )


def test_a_half_former_that_is_not_there_is_refused_in_one_sentence(place: Path, tmp_path: Path):
    result = train(*options(place, tmp_path / "run", half_formed_by="nobody"))
    assert result.exit_code == 2
    assert "'nobody'" in result.output


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--architecture=mlp", "'mlp' is not one of"),
        ("--mixed-precision=fp8", "'fp8' is not one of"),
        ("--max-steps=0", "max_steps must be a whole number from 1 to"),
        ("--batch-size=1", "batch_size must be a whole number from 2 to"),
        ("--lr=nan", "lr must be a number from 1e-08 to 1, got nan"),
        ("--seed=-1", "seed must be a whole number from 0 to"),
        ("--save-every=0", "greater than or equal to 1"),
        ("--judge-every=0", "greater than or equal to 1"),
        ("--threads=-1", "greater than or equal to 0"),
    ],
)
def test_a_bad_option_is_refused_before_any_data_is_read(
    option: str, sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(train_clip, "prepare", lambda *_: pytest.fail("data was read"))
    result = train(option)
    assert result.exit_code == 2
    assert sentence in result.output


def test_a_run_of_another_recipe_is_refused_and_kept(run: Run, place: Path):
    state = (run.folder / STATE_FILE).read_bytes()
    result = train(*options(place, run.folder, lr=1e-3, seed=4))
    assert result.exit_code == 2
    assert "of a run of the same recipe, got one with another lr, seed" in result.output
    assert (run.folder / STATE_FILE).read_bytes() == state


def test_a_damaged_state_is_refused_in_one_sentence(place: Path, tmp_path: Path):
    (tmp_path / STATE_FILE).write_bytes(b"half a state")
    result = train(*options(place, tmp_path))
    assert result.exit_code == 2
    assert "must be a training state, got a damaged file" in result.output


def test_a_loss_that_is_not_finite_stops_the_run_in_one_sentence(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def nan(*_: object) -> torch.Tensor:
        return torch.tensor(torch.nan, requires_grad=True)

    with monkeypatch.context() as patch:
        patch.setattr(clip_trainer, "contrastive_loss", nan)
        result = train(*options(place, tmp_path))
    assert result.exit_code == 1
    last = result.output.splitlines()[-1]
    assert last.startswith("Training stopped: loss must stay finite, got nan")
    assert last.endswith("the state that was saved last is kept.")
    monkeypatch.undo()
    assert train(*options(place, tmp_path, lr=1e-3)).exit_code == 0


@pytest.mark.parametrize(("name", "folder"), [("rose", "runs/rose"), ("kept/rose", "kept/rose")])
def test_a_name_lies_among_the_runs_and_a_path_where_it_says(
    name: str, folder: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepared: list[Path] = []

    def noted(_: Recipe, folder: Path, __: Path) -> None:
        prepared.append(folder)
        raise typer.Exit

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_clip, "prepare", noted)
    assert train(f"--model-save-name={name}").exit_code == 0
    assert prepared == [Path(folder)]


@pytest.fixture
def exported(run: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's checkpoint where the card says, seen from the project's folder."""
    folder = tmp_path / "assets" / "checkpoints" / "clip-small"
    trainer, held_out = restored(run.folder, place)
    exporting.export(trainer, folder, folder.name, judging.judge_trainer(trainer, held_out))
    monkeypatch.chdir(tmp_path)
    return folder


def test_stock_open_clip_loads_the_folder_and_embeds_as_the_averaged_model(
    run: Run, place: Path, exported: Path
):
    trainer, held_out = restored(run.folder, place)
    name = f"local-dir:{exported}"
    loaded: Any = open_clip.create_model_from_pretrained(name)
    model, preprocess = loaded
    model.eval()
    tokenizer: Any = open_clip.get_tokenizer(name, bpe_path=str(exported / MERGES_FILE))
    said = ["a red dog", "a painting of a face", "something never seen"]
    tokens = tokenizer(said)
    assert torch.equal(tokens, trainer.tokenizer(said, towers.CONTEXT_LENGTH))
    picture = images.from_uint8(held_out["scenes"].pixels[:, :, :64, :64])
    with torch.no_grad():
        for found, expected in (
            (model.encode_text(tokens), trainer.averaged().encode_text(tokens)),
            (model.encode_image(picture), trainer.averaged().encode_image(picture)),
        ):
            similar = torch.nn.functional.cosine_similarity(found, expected)
            assert (similar > 1 - 1e-4).all()
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(
            model.logit_scale, trainer.averaged().logit_scale, rtol=0, atol=1e-6
        )
    shown = Image.fromarray(held_out["scenes"].pixels[0, :, :64, :64].permute(1, 2, 0).numpy())
    seen = preprocess(shown)
    torch.testing.assert_close(seen, towers.to_input(picture)[0], rtol=0, atol=1e-5)


def test_a_checkpoint_is_a_handful_of_files_that_everybody_may_read(run: Run):
    files = {path.name: path for path in run.checkpoint.iterdir()}
    weights, settings = own_clips.WEIGHTS_FILE, own_clips.CONFIG_FILE
    assert set(files) == {
        weights,
        settings,
        MERGES_FILE,
        WORDS_FILE,
        model_card.FACTS_FILE,
        model_card.CARD_FILE,
    }
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o444 for path in files.values()}
    assert modes == {0o444}
    assert stat.S_IMODE(files[weights].stat().st_mode) == 0o644


def test_the_code_of_the_card_runs(exported: Path):
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (exported / model_card.CARD_FILE).read_text(), re.S)
    assert len(blocks) == 1
    exec(blocks[0], names)
    assert not names["model"].training
    similar = names["model"](
        names["preprocess"](Image.new("RGB", (90, 70), "red"))[None],
        names["tokenizer"](["a red dog"]),
    )
    assert all(value.isfinite().all() for value in similar[:2])


def test_the_card_tells_the_figures_the_data_and_the_recipe(run: Run):
    card = (run.checkpoint / model_card.CARD_FILE).read_text()
    facts = json.loads((run.checkpoint / model_card.FACTS_FILE).read_text())
    scenes, told = facts["figures"]["scenes"], facts["figures"]["flickr8k"]
    recall = told["picture of a sentence, R@1"]
    for line in (
        "license: other",
        "library_name: open_clip",
        f"| zero-shot label, 3 of `scenes` | {scenes['accuracy']:.1%} "
        f"(chance {scenes['chance']:.1%}) |",
        f"| `flickr8k`, picture of a sentence, R@1 | {recall:.1%} (chance 25.0%) |",
        "| steps | 6 of 8 pairs (48 pairs) |",
        "| averaged weights | decay 0.9 |",
        "| seed | 3 |",
    ):
        assert line in card.splitlines(), line
    pairs = {name: tiny_pairs.COUNTS[name] - tiny_pairs.HELD_OUT[name] for name in SOURCES}
    stickers = {name: pairs[name] * (1 + RECOLORED) for name in ("emoji", "emoji-more")}
    assert facts["pairs"] == pairs | stickers
    assert "diffusion model (" not in card  # it learned from no half-formed pictures


def test_the_card_counts_the_parameters_of_either_tower(run: Run):
    facts = json.loads((run.checkpoint / model_card.FACTS_FILE).read_text())
    model: Any = open_clip.create_model(f"local-dir:{run.checkpoint}")
    image = sum(p.numel() for p in model.visual.parameters())
    assert facts["image_parameters"] == image
    assert facts["text_parameters"] == sum(p.numel() for p in model.parameters()) - image
    assert facts["vocabulary"] == model.token_embedding.num_embeddings


def test_the_command_in_the_card_repeats_the_recipe(run: Run, monkeypatch: pytest.MonkeyPatch):
    card = (run.checkpoint / model_card.CARD_FILE).read_text()
    found = re.search(r"```sh\npython -m training.train_clip(.*?)```", card, re.S)
    assert found
    prepared: list[Recipe] = []

    def noted(recipe: Recipe, *_: Path) -> None:
        prepared.append(recipe)
        raise typer.Exit

    monkeypatch.setattr(train_clip, "prepare", noted)
    result = train(*shlex.split(found[1].replace("\\\n", " ")))
    assert result.exit_code == 0, result.output
    assert prepared == [RECIPE]


@pytest.mark.thorough
def test_a_run_goes_on_from_the_weights_and_the_words_of_another(
    run: Run, place: Path, tmp_path: Path
):
    result = train(*options(place, tmp_path, start_model=run.checkpoint, lr=1e-8, seed=4))
    assert result.exit_code == 0, result.output
    made = tmp_path / exporting.CHECKPOINT
    for name in (MERGES_FILE, WORDS_FILE):
        assert (made / name).read_bytes() == (run.checkpoint / name).read_bytes()
    before, after = (
        load_file(folder / own_clips.WEIGHTS_FILE)["token_embedding.weight"]
        for folder in (run.checkpoint, made)
    )
    torch.testing.assert_close(after, before, rtol=0, atol=1e-3)
    (earlier,) = json.loads((made / model_card.FACTS_FILE).read_text())["earlier"]
    assert earlier["recipe"]["seed"] == RECIPE.seed
    card = (made / model_card.CARD_FILE).read_text()
    assert "| went on from | 6 steps, 48 pairs, " in card
    first, second = re.findall(r"python -m training.train_clip(.*?)(?=python|```)", card, re.S)
    assert "--model-save-name part-1" in first
    assert "--start-model runs/part-1/checkpoint" in second
    again = train(*options(place, tmp_path, start_model=run.checkpoint, lr=1e-8, seed=4))
    assert again.exit_code == 0, again.output
    assert json.loads((made / model_card.FACTS_FILE).read_text())["earlier"] == [earlier]


@pytest.mark.parametrize("start", ["nobody", "tests"])
def test_a_start_model_that_is_none_is_refused_in_one_sentence(
    start: str, place: Path, tmp_path: Path
):
    result = train(*options(place, tmp_path / "run", start_model=start))
    assert result.exit_code == 2
    assert "start_model must be a bundled CLIP or a folder that train_clip wrote" in result.output


def test_a_start_model_of_other_towers_is_refused(run: Run, place: Path, tmp_path: Path):
    chosen = options(place, tmp_path / "run", start_model=run.checkpoint, architecture="regnet")
    result = train(*chosen)
    assert result.exit_code == 2
    assert "start_model must have towers of the architecture 'regnet'" in result.output


def test_figures_are_kept_for_the_same_weights_and_dropped_for_others(
    run: Run, place: Path, exported: Path
):
    trainer, _ = restored(run.folder, place)
    figures = exported / model_card.FIGURES_FILE
    figures.write_text('{"share": {"label": "Judged as asked for", "value": "10 %"}}')
    exporting.export(trainer, exported, exported.name, {})
    assert "| Judged as asked for | 10 % |" in (exported / model_card.CARD_FILE).read_text()
    trainer.train_step()
    exporting.export(trainer, exported, exported.name, {})
    assert not figures.exists()
    assert "10 %" not in (exported / model_card.CARD_FILE).read_text()


def test_an_unfinished_run_is_exported_as_far_as_it_came(place: Path, tmp_path: Path):
    trainer, _ = clip_runs.prepare(RECIPE, tmp_path / "run", place / "data")
    trainer.train_step()
    save_state(tmp_path / "run", trainer.state())
    result = invoke(
        exporting.main,
        str(tmp_path / "run"),
        str(tmp_path / "out"),
        f"--data-folder={place / 'data'}",
        "--threads=1",
    )
    assert result.exit_code == 0, result.output
    assert "step 1 of 6" in result.output
    assert "| steps | 1 of 6 of 8 pairs" in (tmp_path / "out" / model_card.CARD_FILE).read_text()
    assert (tmp_path / "out" / own_clips.WEIGHTS_FILE).is_file()


@pytest.mark.thorough
def test_a_share_of_the_weights_can_be_those_of_the_model_it_went_on_from(
    run: Run, place: Path, tmp_path: Path
):
    runs = tmp_path / "runs"
    went_on = train(*options(place, runs / "more", start_model=run.checkpoint, max_steps=2))
    assert went_on.exit_code == 0, went_on.output
    for share in (0.0, 0.25, 1.0):
        result = invoke(
            exporting.main,
            str(runs / "more"),
            str(tmp_path / f"{share}"),
            f"--data-folder={place / 'data'}",
            f"--blend-with={run.checkpoint}",
            f"--blend-share={share}",
            "--threads=1",
        )
        assert result.exit_code == 0, result.output
    first, last, mixed, other = (
        load_file(folder / own_clips.WEIGHTS_FILE)
        for folder in (
            run.checkpoint,
            runs / "more" / exporting.CHECKPOINT,
            tmp_path / "0.25",
            tmp_path / "1.0",
        )
    )
    unmixed = load_file(tmp_path / "0.0" / own_clips.WEIGHTS_FILE)
    assert any((first[name].float() - last[name].float()).abs().max() > 1e-3 for name in first)
    for name, value in mixed.items():
        torch.testing.assert_close(unmixed[name], last[name])
        if value.is_floating_point():
            expected = 0.25 * first[name].float() + 0.75 * last[name].float()
            torch.testing.assert_close(value.float(), expected, atol=2e-3, rtol=2e-3)
            torch.testing.assert_close(other[name], first[name], atol=2e-3, rtol=2e-3)
    card = (tmp_path / "0.25" / model_card.CARD_FILE).read_text()
    assert f"25% of the weights are those of `{run.folder.name}`" in card
    again = train(*options(place, runs / "again", start_model=tmp_path / "0.25", max_steps=1))
    assert again.exit_code == 0, again.output
    card = (runs / "again" / exporting.CHECKPOINT / model_card.CARD_FILE).read_text()
    assert "export_clip runs/part-2 runs/part-2/checkpoint --blend-with" in " ".join(
        card.replace("\\", " ").split()
    )


@pytest.mark.parametrize("state", [None, {"step": 1, "recipe": {"conditioning": "channels"}}])
def test_exporting_what_is_no_run_of_a_clip_is_refused(
    state: dict[str, Any] | None, tmp_path: Path
):
    if state:
        save_state(tmp_path, state)
    result = invoke(exporting.main, str(tmp_path), str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "run_folder must be a run of train_clip" in result.output
    assert not (tmp_path / "out").exists()
