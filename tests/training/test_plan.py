"""Own pictures in one command: what is chosen, what goes on, and how it is told."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets.config
import pytest
import torch

from pipelines.models.names import own_checkpoints
from tests.fakes.tiny_pictures import encoded, invoke, landscape, one_thread, pictures, save_stock
from tests.training.test_picture_trainer import RECIPE, trainer, weights
from training import finetune_model
from training.core.data import hold_out
from training.core.fingerprint import is_fingerprint
from training.core.state import load_state, save_state
from training.pictures import exporting, naming
from training.pictures import plan as planning
from training.pictures.measuring import Speed, measure
from training.pictures.naming import name_of_data, open_command, safe_name
from training.pictures.plan import Plan, Wish, plan
from training.pictures.trainer import Trainer

PER_PICTURE = 0.05


@pytest.fixture(autouse=True)
def same_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".cache")
    monkeypatch.setattr(exporting, "NUM_SAMPLES", 8)
    monkeypatch.setattr(finetune_model, "_process_began", time.monotonic)
    with one_thread():
        yield


def planned(
    monkeypatch: pytest.MonkeyPatch, run: Trainer | None = None, minutes: float = 10, **wish: Any
) -> tuple[Trainer, Plan]:
    """A run on a device of which every picture of a step takes `PER_PICTURE` seconds."""
    monkeypatch.setattr(
        planning, "measure", lambda _, size: Speed(size * PER_PICTURE, PER_PICTURE / 3)
    )
    run = run or trainer()
    ends = time.monotonic() + minutes * 60 if minutes else 0
    values = {"max_steps": 0, "num_epochs": 0, "judge_every": 500, "ends": ends} | wish
    return run, plan(run, Wish(**values))


@pytest.mark.parametrize(
    ("minutes", "batch_size", "steps"),
    [(2, 8, (200, 300)), (10, 16, (600, 720)), (30, 32, (1000, 1100))],
)
def test_minutes_decide_steps_and_batches(
    minutes: float, batch_size: int, steps: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    run, chosen = planned(monkeypatch, minutes=minutes)
    recipe = run.recipe
    assert recipe.batch_size == batch_size
    assert steps[0] < recipe.max_steps < steps[1]
    assert recipe.warmup_steps == min(100, recipe.max_steps // 10)
    assert (
        recipe.ema_decay
        == run.ema.decay
        == pytest.approx(1 - 10 / (recipe.max_steps + 10), abs=1e-4)
    )
    spent = recipe.max_steps * batch_size * PER_PICTURE
    assert 0.7 * minutes * 60 < spent < chosen.training_minutes * 60 < minutes * 60
    assert any(
        f"{recipe.max_steps:,} steps of {batch_size} pictures" in line for line in chosen.lines
    )


def test_what_is_written_on_the_command_line_wins(monkeypatch: pytest.MonkeyPatch):
    written = ("batch_size", "warmup_steps", "ema_decay", "lr")
    run, _ = planned(monkeypatch, minutes=30, written=written)
    values = (run.recipe.batch_size, run.recipe.warmup_steps, run.recipe.ema_decay, run.recipe.lr)
    assert values == (RECIPE.batch_size, RECIPE.warmup_steps, RECIPE.ema_decay, RECIPE.lr)
    assert run.recipe.max_steps > 100
    run, chosen = planned(monkeypatch, max_steps=300)
    assert (run.recipe.max_steps, run.recipe.batch_size) == (300, RECIPE.batch_size)
    assert chosen.training_minutes == 0


def test_without_minutes_the_pictures_decide(monkeypatch: pytest.MonkeyPatch):
    run, chosen = planned(monkeypatch, minutes=0)
    assert run.recipe.max_steps * run.recipe.pictures_per_step == planning.PICTURES_WITHOUT_LIMIT
    assert chosen.training_minutes == 0
    assert any("13 minutes of training" in line for line in chosen.lines)


def test_the_averaged_weights_keep_nothing_of_the_start(monkeypatch: pytest.MonkeyPatch):
    run, _ = planned(monkeypatch, minutes=2)
    share = 1.0
    for step in range(1, run.recipe.max_steps + 1):
        share *= run.ema.get_decay(step)
    assert share < 1e-6


@pytest.mark.parametrize(
    ("count", "minutes", "warning"),
    [
        (60, 0.2, "the model will hardly change in"),
        (12, 10, "of 12 pictures the model can only make repetitions"),
        (60, 0, None),
    ],
)
def test_what_cannot_be_enough_is_warned_of(
    count: int, minutes: float, warning: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tests.training.test_picture_trainer.pictures", lambda: pictures(count))
    _, chosen = planned(monkeypatch, trainer(replace(RECIPE, batch_size=1)), minutes)
    warnings = [line for line in chosen.lines if line.startswith("Warning: ")]
    assert (warning in " ".join(warnings)) if warning else warnings == []


def test_measuring_leaves_weights_and_randomness_as_they_were():
    plain, measured = trainer(), trainer()
    state = torch.get_rng_state()
    speed = measure(measured, 4)
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
    assert speed.step > 0 < speed.forward
    assert (measured.step, measured.seconds, measured.recipe) == (0, 0.0, RECIPE)
    for _ in range(2):
        plain.train_step()
        measured.train_step()
    torch.testing.assert_close(weights(measured), weights(plain), rtol=0, atol=0)


def test_a_finished_run_goes_on_with_a_new_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = trainer(replace(RECIPE, max_steps=3))
    for _ in range(3):
        run.train_step()
    planned(monkeypatch, run, max_steps=9)
    assert (run.recipe.max_steps, run.extended_at) == (9, [3])
    run.train_step()
    assert run.optimizer.param_groups[0]["lr"] == RECIPE.lr / RECIPE.warmup_steps > 0
    save_state(tmp_path, run.state())
    state = load_state(tmp_path)
    assert state is not None
    resumed = trainer(run.recipe)
    resumed.restore(state)
    for each in (run, resumed):
        each.train_step()
    torch.testing.assert_close(weights(resumed), weights(run), rtol=0, atol=0)
    _, nothing = planned(monkeypatch, resumed, minutes=5)
    assert (nothing, resumed.recipe.max_steps) == (Plan(), 9)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("my photos", "my-photos"),
        ("set [v1]", "set-v1"),
        ("Été à Paris!", "Ete-a-Paris"),
        ("花", "pictures"),
        ("..", "pictures"),
        ("a,b=c", "a-b-c"),
        ("x" * 99, "x" * 40),
    ],
)
def test_a_run_is_named_after_its_folder_in_a_form_that_the_app_takes(
    text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert safe_name(text) == name
    monkeypatch.setenv("STUDIO_CHECKPOINTS", f"{name}=runs/{name}/checkpoint")
    assert own_checkpoints() == {name: f"runs/{name}/checkpoint"}
    assert name_of_data("huggan/wikiart", "paintings") == "paintings"


def test_the_model_gets_no_name_of_a_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    command = open_command(Path("runs/emoji/checkpoint"))
    assert command.startswith("STUDIO_CHECKPOINTS=my-emoji=runs/emoji/checkpoint ")
    assert command.endswith(f" {naming.ROOT / 'app.py'}")


def write_folder(folder: Path, count: int = 24, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (folder / f"IMG_{number:03d}.jpg").write_bytes(encoded(landscape(number), "JPEG"))
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a start model and a folder of pictures."""
    monkeypatch.chdir(tmp_path)
    save_stock(tmp_path / "stock")
    write_folder(tmp_path / "my tulips")
    return tmp_path


def finetuned(*arguments: str, start: bool = True) -> Any:
    small = ["--start-model=stock", "--image-size=16"] if start else []
    return invoke(finetune_model.main, *small, "--report-to=none", *arguments)


def test_one_command_makes_a_model_that_can_be_opened_and_extended(project: Path):
    data = "--dataset-name=my tulips"
    result = finetuned(data, "--max-minutes=0.1")
    assert result.exit_code == 0, result.output
    folder = project / "runs" / "my-tulips"
    state = load_state(folder)
    assert state is not None
    recipe, steps = state["recipe"], state["step"]
    assert 0 < steps <= recipe["max_steps"]
    assert recipe["dataset_name"] == "my tulips"
    assert recipe["batch_size"] == 8
    assert is_fingerprint(state["data"])
    assert "my tulips: 24 files, 24 pictures to use" in result.output
    assert result.stdout.splitlines()[-1] == open_command(Path("runs/my-tulips/checkpoint"))
    assert "Warning: the model will hardly change" in result.output or steps >= 100

    again = finetuned(data, "--max-minutes=0.1")
    assert again.exit_code == 2
    told = " ".join(re.sub("[│╭╮╰╯─]", " ", again.output).split())
    assert "add --resume to go on with it, or give the new run another name with --model" in told

    finished = finetuned("--resume", data, start=False)
    assert finished.exit_code == 0, finished.output
    more = finetuned("--resume", "--model-save-name=my-tulips", "--max-minutes=0.1", start=False)
    assert more.exit_code == 0, more.output
    after = load_state(folder)
    assert after is not None
    assert after["extended_at"] == [recipe["max_steps"]]
    card = (folder / "checkpoint" / "README.md").read_text()
    assert "--dataset-name 'data/my tulips'" in card
    assert f"| went on after steps | {recipe['max_steps']:,}, each time with" in card
    end = after["recipe"]["max_steps"]
    assert f"--resume --model-save-name my-tulips --max-steps {end}" in card


def test_fewer_pictures_than_a_batch_are_other_data_too(project: Path):
    data = "--dataset-name=my tulips"
    assert finetuned(data, "--max-steps=1").exit_code == 0  # all in one batch
    next((project / "my tulips").glob("*.jpg")).unlink()
    refused = finetuned("--resume", data, "--max-steps=3", start=False)
    assert refused.exit_code == 2
    assert "must be the data that the run began with, 24 examples, got 23 " in refused.output


def test_other_data_are_refused_with_the_command_for_a_new_run(project: Path):
    data = "--dataset-name=my tulips"
    assert finetuned(data, "--max-steps=3", "--batch-size=8").exit_code == 0
    before = (project / "runs" / "my-tulips" / "state.pt").read_bytes()
    write_folder(project / "my tulips", count=6, first=100)
    refused = finetuned("--resume", data, start=False)
    assert refused.exit_code == 2
    sentence, command = refused.output.rstrip().splitlines()[-2:]
    assert sentence == (
        "Error: dataset_name must be the data that the run began with, 24 examples, got 30 "
        "examples; give the old data back, or begin a new run:"
    )
    assert (project / "runs" / "my-tulips" / "state.pt").read_bytes() == before
    options = re.findall(r"--[\w-]+ (?:'[^']*'|\S+)", command)
    assert "--start-model runs/my-tulips/checkpoint" in options
    assert "--model-save-name my-tulips-2" in options
    words = [option.replace(" ", "=", 1).replace("'", "") for option in options]
    begun = finetuned(*words, "--max-steps=1", "--batch-size=8", start=False)
    assert begun.exit_code == 0, begun.output
    for file in sorted((project / "my tulips").glob("IMG_1*.jpg")):
        file.unlink()
    assert finetuned("--resume", data, "--max-steps=5", start=False).exit_code == 0


def test_the_same_pictures_may_lie_elsewhere(project: Path):
    assert finetuned("--dataset-name=my tulips", "--max-steps=2", "--batch-size=8").exit_code == 0
    (project / "my tulips").rename(project / "moved")
    more = ["--model-save-name=my-tulips", "--dataset-name=moved", "--max-steps=4"]
    result = finetuned("--resume", *more, start=False)
    assert result.exit_code == 0, result.output
    (project / "moved").rename(project / "my tulips")


def test_a_state_without_a_fingerprint_is_accepted_once_with_a_warning(project: Path):
    data = "--dataset-name=my tulips"
    assert finetuned(data, "--max-steps=2", "--batch-size=8").exit_code == 0
    folder = project / "runs" / "my-tulips"
    state = load_state(folder)
    assert state is not None
    save_state(folder, {key: value for key, value in state.items() if key != "data"})
    first = finetuned("--resume", data, "--max-steps=4", start=False)
    assert "Warning: the saved run does not tell its data" in first.output
    second = finetuned("--resume", data, "--max-steps=6", start=False)
    assert second.exit_code == 0
    assert "does not tell its data" not in second.output


def test_pictures_held_out_stay_held_out_when_a_run_goes_on():
    data = pictures(40)
    _, held = hold_out(data, 4)
    _, again = hold_out(pictures(40), 4)
    assert list(held.rows["digest"]) == list(again.rows["digest"])
    assert pictures(58).fingerprint() != data.fingerprint()
