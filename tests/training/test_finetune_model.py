"""The fine-tuning command: it resumes, it divides its work, it refuses, it leaves a pipeline."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets.config
import huggingface_hub
import pytest
import torch
from diffusers import DDPMPipeline, UNet2DModel
from huggingface_hub import ModelCard
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.diffusion.unets import SpaceToDepthUNet2DModel, WordsUNet2DModel
from pipelines.models import checkpoints
from pipelines.models.table import TABLE
from tests.fakes import tiny_clip
from tests.fakes.hub_server import Hub, serve_hub
from tests.fakes.tiny_pictures import (
    HELD_OUT,
    NUM_PICTURES,
    SIZE,
    encoded,
    folded_unet,
    invoke,
    landscape,
    little_room,
    one_thread,
    save_flat,
    save_folded,
    save_stock,
    write_captioned,
    write_kinds,
    write_landscapes,
    write_rows,
)
from training import finetune_model
from training.cards import model_card
from training.core import loop
from training.core.state import STATE_FILE, load_state, save_state
from training.finetune_model import CHECKPOINT
from training.pictures import exporting
from training.pictures.exporting import NUM_SAMPLES
from training.pictures.recipe import Recipe
from training.pictures.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
STEPS = 8  # six are an epoch
SAMPLES = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and start models."""
    folder = tmp_path_factory.mktemp("place")
    write_landscapes(folder / "data" / "wikiart")
    save_stock(folder / "stock", prediction_type="epsilon", beta_end=0.015)
    save_folded(folder / "folded")
    return folder


@pytest.fixture(autouse=True)
def all_quick(place: Path) -> Iterator[None]:
    with quick(place):
        yield


@contextmanager
def quick(place: Path) -> Iterator[None]:
    """Few samples, one thread, and one place for all prepared data."""
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
        patch.setattr(exporting, "NUM_SAMPLES", SAMPLES)
        yield


def options(place: Path, run: Path, **changes: Any) -> list[str]:
    """A short run from the stock start model, 8 pictures a step."""
    values = {
        "start_model": place / "stock",
        "dataset_name": place / "data" / "wikiart",
        "model_save_name": run,
        "image_size": SIZE,
        "max_steps": STEPS,
        "batch_size": 8,
        "lr": 1e-3,
        "warmup_steps": 2,
        "ema_decay": 0.9,
        "seed": 3,
        "save_model_every": 2,
        "log_samples_every": 100,
        "report_to": "none",
    }
    return [f"--{name.replace('_', '-')}={value}" for name, value in (values | changes).items()]


def finetune(*arguments: str):
    return invoke(finetune_model.main, *arguments)


def finished(*arguments: str) -> str:
    """The output of a run that must succeed."""
    result = finetune(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    """The output of a command line that must be refused as such."""
    result = finetune(*arguments)
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def state_of(run: Path) -> dict[str, Any]:
    state = load_state(run)
    assert state is not None
    return state


def assert_same_weights(run: Path, other: Path) -> None:
    """Of the network, of its average, and in the optimizer's memory."""
    one, two = state_of(run), state_of(other)
    assert one["step"] == two["step"] == STEPS
    for state in (one, two):
        state["shadow"] = state["ema"]["shadow_params"]
        state["memory"] = state["optimizer"]["state"]
    for name in ("unet", "shadow", "memory"):
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """A run that nothing interrupted, from the stock start model."""
    with quick(place):
        log = {"report_to": "tensorboard", "log_samples_every": 5}
        finished(*options(place, place / "runs" / "whole", **log))
    return place / "runs" / "whole"


@pytest.fixture(scope="module")
def environment(place: Path) -> dict[str, str]:
    """Of other processes: one thread each, and the same cache."""
    return os.environ | {
        "HF_DATASETS_CACHE": str(place / "cache"),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }


@pytest.mark.thorough
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    place: Path, whole: Path, environment: dict[str, str], tmp_path: Path
):
    run = options(place, tmp_path / "run", save_model_every=1)
    command = [sys.executable, "-m", "training.finetune_model", *run]
    ends = time.monotonic() + 240
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        while not (load_state(tmp_path / "run") or {"step": 0})["step"]:
            assert process.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 0 < state_of(tmp_path / "run")["step"] < STEPS
    finished(*run, "--resume")
    assert_same_weights(tmp_path / "run", whole)


def two_processes(environment: dict[str, str], *arguments: str) -> str:
    launch = "accelerate launch --multi_gpu --num_processes=2 --num_machines=1 --dynamo_backend=no"
    script = "from accelerate.commands.accelerate_cli import main; main()"
    command = [sys.executable, "-c", script, *launch.split()[1:], "-m", "training.finetune_model"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env=environment,
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_two_processes_go_on_with_the_work_of_one_and_end_with_its_weights(
    place: Path, whole: Path, environment: dict[str, str], tmp_path: Path
):
    run = tmp_path / "run"
    finished(*options(place, run), "--max-minutes=1e-9")
    assert state_of(run)["step"] == 1
    more = ("--max-minutes=60", "--resume")
    output = two_processes(environment, *options(place, run, batch_size=4), *more)
    assert output.count(str(run / CHECKPOINT)) == output.count("held out") == 1
    assert_same_weights(run, whole)
    card = (run / CHECKPOINT / model_card.CARD_FILE).read_text()
    assert "4 × 1 × 2" in card
    assert "torchrun --nproc_per_node 2" in card


@pytest.mark.parametrize("main_says", [True, False])
def test_all_processes_stop_when_the_time_of_the_main_one_is_up(
    main_says: bool, monkeypatch: pytest.MonkeyPatch
):
    def hear(decision: list[bool]) -> None:
        decision[0] = main_says

    monkeypatch.setattr(loop, "broadcast_object_list", hear)
    worker: Any = SimpleNamespace(accelerator=SimpleNamespace(num_processes=2))
    for own_clock in (-100.0, 100.0):
        ends = time.monotonic() + own_clock
        assert loop._time_is_up(worker, ends) is main_says


@pytest.mark.thorough
def test_accumulated_passes_do_the_work_of_one(place: Path, whole: Path, tmp_path: Path):
    changes = {"batch_size": 4, "grad_accumulation_steps": 2}
    finished(*options(place, tmp_path / "run", **changes))
    assert_same_weights(tmp_path / "run", whole)


@pytest.mark.thorough
def test_a_stopped_run_is_exported_and_goes_on_without_its_start_model(
    place: Path, whole: Path, tmp_path: Path
):
    start = save_stock(tmp_path / "start", prediction_type="epsilon", beta_end=0.015)
    run = options(place, tmp_path / "run", start_model=start)
    finished(*run, "--max-minutes=1e-9")
    assert (
        f"| steps | 1 of {STEPS} |"
        in (tmp_path / "run" / CHECKPOINT / model_card.CARD_FILE).read_text()
    )
    (tmp_path / "start").rename(tmp_path / "gone")
    finished(*run, "--resume")
    assert_same_weights(tmp_path / "run", whole)
    assert state_of(tmp_path / "run")["started_from"] == {"name": "start"}


@pytest.mark.thorough
def test_a_run_killed_before_it_saved_anything_begins_again(
    place: Path, whole: Path, tmp_path: Path
):
    output = finished(*options(place, tmp_path / "run"), "--resume")
    assert "holds no saved state to resume: the run begins at its first step" in output
    assert_same_weights(tmp_path / "run", whole)


def test_a_run_killed_before_its_first_step_may_begin_again_without_resume(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def dies(_: Trainer) -> float:
        raise OSError(28, "No space left on device")

    run = options(place, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", dies)
        assert finetune(*run).exit_code == 1
    assert state_of(tmp_path / "run")["step"] == 0
    finished(*run)
    assert_same_weights(tmp_path / "run", whole)


def test_a_finished_run_resumed_only_writes_its_checkpoint_anew(place: Path, whole: Path):
    before = (whole / STATE_FILE).read_bytes(), sorted((whole / "logs").iterdir())
    card = (whole / CHECKPOINT / model_card.CARD_FILE).read_text()
    (whole / CHECKPOINT / model_card.CARD_FILE).unlink()
    finished(*options(place, whole, report_to="tensorboard"), "--resume")
    after = (whole / STATE_FILE).read_bytes(), sorted((whole / "logs").iterdir())
    assert after == before
    assert (whole / CHECKPOINT / model_card.CARD_FILE).read_text() == card


def test_loss_errors_and_samples_are_logged(whole: Path):
    log = EventAccumulator(str(whole / "logs")).Reload()
    assert [event.step for event in log.Scalars("loss")] == list(range(1, STEPS + 1))
    assert [event.step for event in log.Scalars("validation/x0_error_t500")] == [5, STEPS]
    assert [event.step for event in log.Images("samples")] == [5, STEPS]


def test_a_stock_model_gives_a_pipeline_that_diffusers_draws_with(whole: Path):
    pipeline = DDPMPipeline.from_pretrained(whole / CHECKPOINT)
    assert type(pipeline.unet) is UNet2DModel
    assert pipeline.scheduler.config["prediction_type"] == "epsilon"
    assert pipeline.scheduler.config["beta_end"] == 0.015
    averaged = state_of(whole)["ema"]["shadow_params"]
    torch.testing.assert_close([p.data for p in pipeline.unet.parameters()], averaged)
    (drawn,) = pipeline(num_inference_steps=2, return_dict=False)
    assert drawn[0].size == (SIZE, SIZE)


def test_a_model_in_the_older_layout_gives_a_pipeline_that_diffusers_draws_with(
    place: Path, tmp_path: Path
):
    start = save_flat(tmp_path / "cats")
    finished(*options(place, tmp_path / "run", start_model=start, max_steps=2))
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "run" / CHECKPOINT)
    averaged = state_of(tmp_path / "run")["ema"]["shadow_params"]
    torch.testing.assert_close([p.data for p in pipeline.unet.parameters()], averaged)
    (drawn,) = pipeline(num_inference_steps=2, return_dict=False)
    assert drawn[0].size == (SIZE, SIZE)


def test_rows_that_are_left_out_are_told_in_the_card(place: Path, tmp_path: Path):
    name = write_kinds(tmp_path / "data", ["tree"] * 24 + ["People & Body"] * 24)
    chosen = {"dataset_name": name, "exclude": "kind=People & Body", "max_steps": 1}
    finished(*options(place, tmp_path / "run", **chosen))
    facts = json.loads((tmp_path / "run" / CHECKPOINT / model_card.FACTS_FILE).read_text())
    assert facts["num_pictures"] + facts["held_out"] == 24
    card = (tmp_path / "run" / CHECKPOINT / model_card.CARD_FILE).read_text()
    assert "| left out of the data | `kind=People & Body` |" in card
    assert "--exclude 'kind=People & Body'" in card
    other = options(place, tmp_path / "run", **chosen | {"exclude": ""})
    assert "exclude" in refused(*other, "--resume")


def test_rows_in_focus_are_told_in_the_card(place: Path, tmp_path: Path):
    name = write_kinds(tmp_path / "data", ["tree", "it's a leaf"] * 24)
    focus = "kind=.*leaf|flower"
    finished(*options(place, tmp_path / "run", dataset_name=name, focus=focus, max_steps=1))
    card = (tmp_path / "run" / CHECKPOINT / model_card.CARD_FILE).read_text()
    assert r"| about half of the pictures are of | `kind=.*leaf\|flower` |" in card
    assert "--focus 'kind=.*leaf|flower'" in card
    other = options(place, tmp_path / "run", dataset_name=name, focus="kind=tree", max_steps=1)
    assert "focus" in refused(*other, "--resume")


def test_hues_that_are_turned_are_told_in_the_card(place: Path, tmp_path: Path):
    name = write_kinds(tmp_path / "data", ["tree"] * 24)
    chosen = {"dataset_name": name, "grounds": "colors", "max_steps": 1}
    finished(*options(place, tmp_path / "run", recolor=0.5, **chosen))
    card = (tmp_path / "run" / CHECKPOINT / model_card.CARD_FILE).read_text()
    assert "| hues | turned on their circle in 50% of the pictures |" in card
    assert "--recolor 0.5" in card
    other = options(place, tmp_path / "run", recolor=0.25, **chosen)
    assert "recolor" in refused(*other, "--resume")
    white = options(place, tmp_path / "white", recolor=0.5, max_steps=1)
    assert "recolor must be 0 where grounds are white, got 0.5" in refused(*white)


def test_a_checkpoint_is_complete_and_everyone_may_read_it(whole: Path):
    folder = whole / CHECKPOINT
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 9_000_000 for path in files)
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)
    names = {str(path.relative_to(folder)) for path in files}
    assert {"README.md", "recipe.json", "samples.png", "model_index.json"} <= names
    assert Image.open(folder / model_card.SAMPLES_FILE).size == (8 * (SIZE + 2) - 2, SIZE)
    assert NUM_SAMPLES == 64


@pytest.fixture(scope="module")
def folded(place: Path) -> Path:
    """A run of the project's own network, from one that started from another."""
    place = place.resolve()
    with quick(place), pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        short = {"max_steps": 1, "dataset_name": "data/wikiart"}
        finished(*options(place, Path("runs/scenes"), start_model="folded", **short))
        start = "runs/scenes/checkpoint"
        finished(*options(place, Path("runs/paintings"), start_model=start, **short))
    return place / "runs" / "paintings"


def code_of_card(run: Path) -> list[str]:
    """The two pieces of Python: one loads the model, one draws with it."""
    blocks = re.findall(
        r"```python\n(.*?)```", (run / CHECKPOINT / model_card.CARD_FILE).read_text(), re.S
    )
    assert len(blocks) == 2
    assert len(blocks[0].splitlines()) == 3
    return blocks


@pytest.mark.thorough
def test_the_code_of_the_card_runs_as_printed_in_the_projects_folder(
    place: Path, folded: Path, environment: dict[str, str]
):
    if not (place / "pipelines").exists():
        (place / "pipelines").symlink_to(ROOT / "pipelines")  # the project's folder in small
    code = "\n".join([*code_of_card(folded), f"assert unet.config['sample_size'] == {SIZE}"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_code_of_a_stock_models_card_needs_diffusers_alone(
    whole: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(whole)
    names: dict[str, Any] = {}
    for block in code_of_card(whole):
        exec(block, names)
        assert "pipelines" not in block
    assert names["pipeline"].unet.config["sample_size"] == SIZE


def test_the_card_says_where_the_weights_come_from(folded: Path):
    card = ModelCard.load(folded / CHECKPOINT / model_card.CARD_FILE)
    assert card.data.to_dict() == {
        "license": "other",
        "license_name": "non-commercial-research",
        "library_name": "diffusers",
        "tags": ["diffusion", "unconditional-image-generation", "pictures", "fine-tuned"],
        "datasets": ["huggan/wikiart"],
        "pipeline_tag": "unconditional-image-generation",
    }
    text = " ".join(card.text.split())
    for sentence in (
        "`paintings` was fine-tuned from `scenes`, which was itself trained on `wikiart` for 1 "
        "steps (8 pictures of 16 px).",
        "`scenes` was fine-tuned from `folded`, whose own training is not recorded here.",
        f"a subset of {NUM_PICTURES} pictures of [`huggan/wikiart`]",
        f"less {HELD_OUT} held out",
        "works dated or judged out of copyright in the US (made 1929 or before)",
        "| data set | `wikiart`, 54 pictures |",
        "| device | CPU, 1 thread |",
        "| seed | 3 |",
    ):
        assert sentence in text, sentence
    facts = json.loads((folded / CHECKPOINT / model_card.FACTS_FILE).read_text())
    assert facts["started_from"]["started_from"]["name"] == "folded"
    assert str(folded.parent.parent) not in text + json.dumps(facts)


def recipe_of_card(card: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe that the command in a card begins a run with."""
    found = re.search(r"```sh\npython -m training.finetune_model(.*?)```", card.read_text(), re.S)
    assert found
    prepared: list[Recipe] = []

    def note(recipe: Recipe, *_: Any, **__: Any) -> Trainer:
        prepared.append(recipe)
        raise OSError("far enough")

    monkeypatch.setattr(finetune_model, "prepare", note)
    assert "far enough" in finetune(*found[1].replace("\\\n", " ").split()).output
    (recipe,) = prepared
    return recipe


def test_the_command_in_the_card_repeats_the_recipe(folded: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folded.parent.parent.parent)
    prepared = recipe_of_card(folded / CHECKPOINT / model_card.CARD_FILE, monkeypatch)
    expected = Recipe(**state_of(folded)["recipe"])
    start = "scenes" if "scenes" in TABLE else "runs/scenes/checkpoint"
    assert prepared == replace(expected, start_model=start)


def test_a_card_of_other_data_says_whose_terms_hold(place: Path, tmp_path: Path):
    name = write_rows(tmp_path / "kites", [encoded(landscape(i)) for i in range(9)] + [b"x"])
    run = {"dataset_name": name, "batch_size": 4, "max_steps": 1}
    output = finished(*options(place, tmp_path / "run", **run))
    assert "9 pictures of 16 px to train on, 0 held out" in output
    assert "1 pictures cannot be read and are skipped" in output
    folder = tmp_path / "run" / CHECKPOINT
    text = (folder / model_card.CARD_FILE).read_text()
    assert "datasets" not in ModelCard(text).data.to_dict()
    text = " ".join(text.split())
    assert "the 9 pictures of a folder `kites`" in text
    assert "The terms are those of the data set." in text
    assert "1 more could not be read." in text
    assert "no errors were measured" in text
    facts = json.loads((folder / model_card.FACTS_FILE).read_text()) | {"remark": "A first try."}
    (folder / model_card.FACTS_FILE).write_text(json.dumps(facts))
    figures = {"fd": {"label": "Distance", "value": "12.3"}}
    (folder / model_card.FIGURES_FILE).write_text(json.dumps(figures))
    model_card.write_card(folder)
    text = (folder / model_card.CARD_FILE).read_text()
    assert "| remark | A first try. |" in text
    assert "| Distance | 12.3 |" in text


def test_a_saved_run_is_exported_by_a_command(place: Path, folded: Path, tmp_path: Path):
    target = tmp_path / "checkpoints" / "own"
    data = f"--dataset-name={place / 'data' / 'wikiart'}"
    result = invoke(exporting.main, str(folded), str(target), data)
    assert result.exit_code == 0, result.output
    assert "step 1 of 1" in result.output
    unet = SpaceToDepthUNet2DModel.from_pretrained(target / "unet", low_cpu_mem_usage=False)
    averaged = state_of(folded)["ema"]["shadow_params"]
    torch.testing.assert_close([p.data for p in unet.parameters()], averaged, rtol=0, atol=0)
    found, before = (
        json.loads((folder / model_card.FACTS_FILE).read_text())
        for folder in (target, folded / CHECKPOINT)
    )
    assert found["validation_x0_error"] == before["validation_x0_error"]
    assert found["name"] == "paintings"


def test_a_state_of_an_older_version_is_exported(place: Path, folded: Path, tmp_path: Path):
    state = state_of(folded)
    for name in ("started_from", "unet_config", "scheduler_config"):
        del state[name]
    del state["recipe"]["prediction"]
    state["recipe"]["start_model"] = str(place / "folded")
    save_state(tmp_path, state)
    data = f"--dataset-name={place / 'data' / 'wikiart'}"
    result = invoke(exporting.main, str(tmp_path), str(tmp_path / "out"), data)
    assert result.exit_code == 0, result.output
    assert "from `folded`" in " ".join(
        (tmp_path / "out" / model_card.CARD_FILE).read_text().split()
    )


def test_exporting_what_is_no_run_of_pictures_is_refused(tmp_path: Path):
    result = invoke(exporting.main, str(tmp_path), str(tmp_path / "out"))
    assert (result.exit_code, "state.pt" in result.output) == (2, True)
    save_state(tmp_path, {"recipe": {"conditioning": "channels"}})
    result = invoke(exporting.main, str(tmp_path), str(tmp_path / "out"))
    assert (result.exit_code, "must be a run of pictures" in result.output) == (2, True)


@pytest.mark.thorough
def test_figures_of_other_weights_are_dropped(place: Path, tmp_path: Path):
    run = options(place, tmp_path / "run", max_steps=2)
    finished(*run, "--max-minutes=1e-9")
    figures = tmp_path / "run" / CHECKPOINT / model_card.FIGURES_FILE
    figures.write_text("{}")
    finished(*run, "--resume")
    assert not figures.exists()


@pytest.mark.thorough
def test_a_run_from_scratch_needs_no_start_model(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[int] = []

    def tiny(sample_size: int) -> SpaceToDepthUNet2DModel:
        made.append(sample_size)
        return folded_unet()

    monkeypatch.setattr("training.pictures.start_models.SpaceToDepthUNet2DModel", tiny)
    changes = {"start_model": "nowhere", "num_epochs": 2, "max_steps": 0, "prediction": "sample"}
    output = finished(*options(place, tmp_path / "run", **changes), "--from-scratch")
    assert made == [SIZE]
    assert f"steps 0 to {2 * (54 // 8)}, 8 pictures each" in output
    card = (tmp_path / "run" / CHECKPOINT / model_card.CARD_FILE).read_text()
    assert "| start model | none |" in card
    assert "| what the network predicts | `sample` |" in card
    assert "--from-scratch" in card
    assert "base_model" not in card


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--image-size=4", "image_size must be a whole number from 8 to 1024, got 4"),
        ("--batch-size=0", "batch_size must be a whole number from 1 to"),
        ("--grad-accumulation-steps=-1", "grad_accumulation_steps must be a whole number from 1"),
        ("--num-epochs=0", "greater than or equal to 1"),
        ("--max-steps=-1", "greater than or equal to 0"),
        ("--max-minutes=-1", "greater than or equal to 0"),
        ("--lr=nan", "lr must be a number from 1e-08 to 1, got nan"),
        ("--warmup-steps=-1", "warmup_steps must be a whole number from 0"),
        ("--ema-decay=1.5", "ema_decay must be a number from 0 to 1, got 1.5"),
        ("--snr-gamma=-5", "snr_gamma must be a number from 0 to"),
        ("--seed=-1", "seed must be a whole number from 0 to"),
        ("--prediction=x", "'x' is not one of"),
        ("--mixed-precision=fp8", "'fp8' is not one of"),
        ("--report-to=paper", "'paper' is not one of"),
        ("--save-model-every=0", "greater than or equal to 1"),
        ("--log-samples-every=0", "greater than or equal to 1"),
        ("--threads=-1", "greater than or equal to 0"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_read(
    option: str, sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(finetune_model, "prepare", lambda *_, **__: pytest.fail("data was read"))
    assert sentence in refused(option)


def test_what_does_not_fit_together_is_refused_in_one_sentence(
    place: Path, whole: Path, tmp_path: Path
):
    def refusal(**changes: Any) -> str:
        return refused(*options(place, tmp_path / "run", **changes))

    assert "to go on with it" in refused(*options(place, whole))
    assert "another seed" in refused(*options(place, whole, seed=4), "--resume")
    assert "prediction must be that of the start model, epsilon" in refusal(prediction="sample")
    assert "image_size must be a multiple of 2" in refusal(image_size=17)
    assert "got 60 of which 6 are held out" in refusal(batch_size=64)
    assert "one of image, got 'title'" in refusal(image_column="title")
    assert "no such folder" in refusal(start_model=tmp_path / "nowhere")
    assert "dataset_name must be" in refusal(dataset_name=tmp_path / "nowhere")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / STATE_FILE).write_bytes(b"torn")
    assert "got a damaged file" in refusal()


def test_wandb_that_is_not_installed_is_refused_in_one_sentence(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)  # pyright: ignore[reportArgumentType]
    output = refused(*options(place, tmp_path / "run", report_to="wandb"))
    assert "report_to must be tensorboard or none unless wandb is installed" in output
    assert not (tmp_path / "run").exists()


def test_arithmetic_that_the_device_lacks_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def fail(*_: Any) -> None:
        raise ValueError("fp16 mixed precision requires a GPU (not 'cpu').")

    monkeypatch.setattr(finetune_model, "make_accelerator", fail)
    assert "requires a GPU" in refused("--mixed-precision=fp16", f"--model-save-name={tmp_path}")


def stopped(*arguments: str) -> str:
    result = finetune(*arguments)
    assert result.exit_code == 1, result.output
    return result.output


@pytest.mark.thorough
def test_a_full_disk_ends_a_run_in_one_sentence_and_keeps_what_was_saved(
    place: Path, whole: Path, tmp_path: Path
):
    run = options(place, tmp_path / "run")
    with little_room(1_000_000):  # the state needs more
        output = stopped(*run)
    assert output.splitlines()[-1].startswith("Training stopped: [Errno 27]")
    assert output.endswith("the state that was saved last is kept.\n")
    finished(*run, "--max-minutes=1e-9")
    with little_room(1_000_000):
        assert stopped(*run, "--resume").endswith("the state that was saved last is kept.\n")
    finished(*run, "--resume")
    assert_same_weights(tmp_path / "run", whole)


@pytest.mark.thorough
def test_a_full_disk_while_logging_ends_a_run_in_one_sentence_and_keeps_what_was_saved(
    place: Path, whole: Path, tmp_path: Path
):
    run = options(place, tmp_path / "run", log_samples_every=1)
    finished(*run, "--max-minutes=1e-9")
    before = (tmp_path / "run" / STATE_FILE).read_bytes()
    with little_room(500):
        output = stopped(*run, "--resume", "--report-to=tensorboard")
    (sentence,) = [line for line in output.splitlines() if "Training stopped" in line]
    assert "File too large" in sentence
    assert sentence.endswith("the state that was saved last is kept.")
    assert (tmp_path / "run" / STATE_FILE).read_bytes() == before
    finished(*run, "--resume", "--report-to=tensorboard")
    assert_same_weights(tmp_path / "run", whole)


@pytest.mark.thorough
def test_a_full_disk_while_the_checkpoint_is_written_is_told_in_one_sentence(
    place: Path, tmp_path: Path
):
    run = options(place, tmp_path / "run", max_steps=1)
    finished(*run)
    (tmp_path / "run" / CHECKPOINT).rename(tmp_path / "gone")
    with little_room(100_000):
        output = stopped(*run, "--resume")
    (sentence,) = [line for line in output.splitlines() if "Training stopped" in line]
    assert sentence.endswith("the state that was saved last is kept.")
    finished(*run, "--resume")


def test_a_full_disk_while_the_data_is_prepared_is_told_in_one_sentence(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with little_room(1000):
        result = finetune(*options(place, tmp_path / "run"))
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert "File too large" in result.output


def test_a_loss_that_runs_away_ends_a_run_in_one_sentence(place: Path, tmp_path: Path):
    with torch.no_grad():
        save_stock(tmp_path / "start")
        unet = UNet2DModel.from_pretrained(tmp_path / "start" / "unet", low_cpu_mem_usage=False)
        assert isinstance(unet, UNet2DModel)
        next(unet.parameters()).fill_(torch.nan)
        unet.save_pretrained(tmp_path / "start" / "unet")
    output = stopped(*options(place, tmp_path / "run", start_model=tmp_path / "start"))
    assert "loss must stay finite, got nan" in output
    assert output.endswith("start again with a lower lr; the state that was saved last is kept.\n")


@pytest.mark.thorough
def test_a_loss_that_runs_away_later_keeps_the_state_saved_last(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = options(place, tmp_path / "run")
    loss = Trainer._loss

    def diverging(trainer: Trainer, *pictures: Any) -> torch.Tensor:
        return loss(trainer, *pictures) * (torch.inf if trainer.step == 3 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_loss", diverging)
        output = stopped(*run)
    assert "loss must stay finite, got inf" in output
    assert output.endswith("start again with a lower lr; the state that was saved last is kept.\n")
    assert state_of(tmp_path / "run")["step"] == 2
    finished(*run, "--resume")
    assert_same_weights(tmp_path / "run", whole)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """The Hub for this test; notes what it was asked for."""
    with serve_hub(tmp_path / "hub") as served:
        yield served


@pytest.mark.thorough
def test_start_model_and_data_are_fetched_from_the_hub_by_their_ids(
    place: Path, tmp_path: Path, hub: Hub
):
    hub.repositories["models/someone/cats"] = place / "stock"
    hub.repositories["datasets/someone/kites"] = place / "data" / "wikiart"
    ids = {"start_model": "someone/cats", "dataset_name": "someone/kites"}
    finished(*options(place, tmp_path / "run", max_steps=1, **ids))
    card = ModelCard.load(tmp_path / "run" / CHECKPOINT / model_card.CARD_FILE)
    assert card.data.get("base_model") == "someone/cats"
    assert card.data.get("datasets") == ["someone/kites"]
    assert f"{NUM_PICTURES} pictures of [`someone/kites`]" in " ".join(card.text.split())
    local = {"start_model": place / "stock", "dataset_name": place / "data" / "wikiart"}
    finished(*options(place, tmp_path / "local", max_steps=1, **local))
    from_hub, from_disk = state_of(tmp_path / "run"), state_of(tmp_path / "local")
    torch.testing.assert_close(from_hub["unet"], from_disk["unet"], rtol=0, atol=0)


def test_ids_that_the_hub_does_not_know_are_refused_in_one_sentence(
    place: Path, tmp_path: Path, hub: Hub
):
    def refusal(**changes: Any) -> str:
        return refused(*options(place, tmp_path / "run", **changes))

    assert "got 'someone/none'" in refusal(start_model="someone/none")
    assert "got 'someone/none'" in refusal(dataset_name="someone/none")


def test_a_missing_or_wrong_token_is_refused_before_training(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(finetune_model, "prepare", lambda *_, **__: pytest.fail("data was read"))
    command = ["--push-to-hub=kites", f"--model-save-name={tmp_path / 'run'}"]
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    assert "push_to_hub must be the id of a model repository that your token" in refused(*command)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    assert "push_to_hub must be the id of a model repository that your token" in refused(*command)
    assert hub.created == []


def test_a_hub_out_of_reach_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    output = refused("--push-to-hub=kites", f"--model-save-name={tmp_path / 'run'}")
    assert "push_to_hub must be" in output


def test_the_result_is_uploaded_to_a_repository_made_before_training(
    place: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    output = finished(*options(place, tmp_path / "run", max_steps=1), "--push-to-hub=kites")
    assert hub.created == ["kites"]
    folder = tmp_path / "run" / CHECKPOINT
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert hub.uploaded == files
    assert "uploaded: https://huggingface.co/someone/kites/commit/1" in output
    card = (folder / model_card.CARD_FILE).read_text()
    assert 'DDPMPipeline.from_pretrained("someone/kites")' in card


def test_a_failed_upload_says_where_the_checkpoint_lies(
    place: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    hub.full = True
    output = stopped(*options(place, tmp_path / "run", max_steps=1), "--push-to-hub=kites")
    assert "Trained, but not uploaded: someone/kites could not be uploaded" in output
    assert str(tmp_path / "run" / CHECKPOINT) in output.splitlines()[-1]


@pytest.fixture(scope="module")
def told(place: Path) -> Path:
    """A run of a model that is told words and pictures."""
    place = place.resolve()
    write_captioned(place / "data" / "seas", ["ships on the sea", "a landscape with trees"] * 24)
    clip = tiny_clip.save(place / "clips" / "checkpoint")
    facts = {"name": "tiny", "pairs": {"flickr8k": 9, "emoji": 9}, "recipe": {}}
    (clip / model_card.FACTS_FILE).write_text(json.dumps(facts))
    with quick(place), pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run = {"start_model": "folded", "dataset_name": "data/seas", "max_steps": 2}
        more = {"condition": "words,picture", "clip_model": "clips/checkpoint"}
        output = finished(*options(place, Path("runs/told"), **run, **more))
    assert "48 pictures with a sentence to learn from" in output
    assert "STUDIO_CHECKPOINTS=told=" in output
    return place / "runs" / "told"


def test_a_model_that_is_told_words_is_loaded_by_the_command_at_the_end(
    told: Path, monkeypatch: pytest.MonkeyPatch
):
    for where in (told, told / CHECKPOINT):
        monkeypatch.setenv("STUDIO_CHECKPOINTS", f"told={where}")
        loaded = checkpoints.load("told")
        assert isinstance(loaded.unet, WordsUNet2DModel)
        assert loaded.reader is not None
        averaged = state_of(told)["ema"]["shadow_params"]
        torch.testing.assert_close([p.data for p in loaded.unet.parameters()], averaged)
        assert loaded.checkpoint.conditions == ("words", "picture")


@pytest.mark.parametrize("which", ["words,picture", "picture"])
def test_the_code_of_the_card_of_a_conditional_model_runs_as_printed(
    place: Path, told: Path, environment: dict[str, str], which: str
):
    if not (place / "pipelines").exists():
        (place / "pipelines").symlink_to(ROOT / "pipelines")
    if not (place / "assets").exists():
        (place / "assets").symlink_to(ROOT / "assets")
    facts = json.loads((told / CHECKPOINT / model_card.FACTS_FILE).read_text())
    facts["recipe"]["condition"] = which
    card = model_card.render(facts, {})
    blocks = re.findall(r"```python\n(.*?)```", card, re.S)
    assert len(blocks) == 2
    size = f"assert x0.shape == (1, 3, {SIZE}, {SIZE})" if "words" in which else ""
    code = "\n".join([*blocks, size])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_card_of_a_conditional_model_says_what_it_was_told(told: Path):
    card = ModelCard.load(told / CHECKPOINT / model_card.CARD_FILE)
    assert card.data.to_dict()["license_name"] == "non-commercial-research"
    assert card.data.to_dict()["pipeline_tag"] == "text-to-image"
    text = " ".join(card.text.split())
    for sentence in (
        "A conditional diffusion model of pictures of 16×16 px, that is told words or a picture,",
        "Drawn from sentences on pictures held out, at a CFG scale of 4, in 20 steps of dpm++",
        "Of 48 pictures something can be said",
        "those on other pictures are their captions, or the names of their classes.",
        "Its CLIP learned from `flickr8k`, `emoji`. Flickr8k is for non-commercial research.",
        "| told | words in 45%, a picture in 25%, both in 20%, nothing in 10% |",
        "| read by | `tiny`, embeddings |",
        "--condition words,picture",
        "`clip/words.txt` lists what its CLIP read",
    ):
        assert sentence in text, sentence
    assert "nothing was learned" not in text
    assert "nudity" not in text


def test_the_card_of_paintings_says_that_words_for_nudity_were_left_out(told: Path):
    facts = json.loads((told / CHECKPOINT / model_card.FACTS_FILE).read_text())
    facts |= {"datasets": ["wikiart"]}
    facts["recipe"] |= {"collages": 0.2, "balanced": True, "frozen": True, "focus": "genre=x"}
    text = " ".join(model_card.render(facts, {}).split())
    assert "Words for nudity were left out of the sentences" in text
    assert "some of them are nudes" in text
    assert "| several in one picture | in 20%, at places that are told |" in text
    assert "--balanced --frozen" in text.replace(" \\", "")


def test_the_command_in_the_card_of_a_conditional_model_repeats_its_recipe(
    told: Path, monkeypatch: pytest.MonkeyPatch
):
    prepared = recipe_of_card(told / CHECKPOINT / model_card.CARD_FILE, monkeypatch)
    expected = Recipe(**state_of(told)["recipe"])
    assert prepared == replace(expected, clip_model="runs/tiny/checkpoint")


def test_a_conditional_model_is_gone_on_with_and_keeps_its_clip(
    place: Path, told: Path, tmp_path: Path
):
    start = {"start_model": told / CHECKPOINT, "dataset_name": place / "data" / "seas"}
    run = options(place, tmp_path / "run", max_steps=1, condition="words", **start)
    finished(*run)
    kept = load_state(tmp_path / "run")
    assert kept is not None
    assert kept["recipe"]["clip_model"] == kept["recipe"]["start_model"]
    words = (tmp_path / "run" / CHECKPOINT / "clip" / "words.txt").read_text()
    assert words == (told / CHECKPOINT / "clip" / "words.txt").read_text()
    card = (tmp_path / "run" / CHECKPOINT / model_card.CARD_FILE).read_text()
    assert "--clip-model" not in card
    assert "Its CLIP learned from `flickr8k`, `emoji`." in " ".join(card.split())
    finished(*run, "--resume")

    def refusal(**changes: Any) -> str:
        return refused(*options(place, tmp_path / "other", max_steps=1, **start | changes))

    assert "condition must be set for a start_model that is told words" in refusal()
    last = refusal(condition="words", features="last")
    assert "features must be those of the start model, embeddings, got last" in last
    other = refusal(condition="words", clip_model="clip-small")
    assert "clip_model must give 16 numbers for a word and 33" in other
    none = refusal(condition="words", dataset_name=place / "data" / "wikiart")
    assert "dataset_name must have captions" in none, none


def test_the_clip_of_a_model_is_uploaded_with_it(
    place: Path, told: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.chdir(place)
    run = options(place, Path("runs/told"), dataset_name="data/seas")
    finished(*run[2:3], "--resume", "--push-to-hub=seas")
    clip = {f"clip/{path.name}" for path in (told / CHECKPOINT / "clip").iterdir()}
    assert clip <= hub.uploaded
    assert len(clip) > 4
    assert "unets.py" in hub.uploaded
