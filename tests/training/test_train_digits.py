"""The training command: it resumes, it logs, it refuses, and it leaves a complete checkpoint."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets.config
import numpy as np
import pytest
import torch
import typer
from accelerate import Accelerator
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from datasets import Image as ImageFeature
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from typer.testing import CliRunner

from pipelines.models import checkpoints
from training import train_digits
from training.cards import model_card
from training.core.loop import Timing, train
from training.core.reporting import Reporter
from training.core.state import STATE_FILE, load_state, save_state
from training.digits import exporting
from training.digits import trainer as digit_trainer
from training.digits.data import Digits, default_mnist, load_digits
from training.digits.recipe import Recipe
from training.digits.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
NUM_PICTURES = 60
HELD_OUT = 20
STEPS = 12

# The training command with a network small enough for a test; all else is as it is.
TINY_NETWORK = {
    "block_out_channels": (32, 32, 32),
    "layers_per_block": 1,
    "attention_head_dim": 32,
}
COMMAND = f"""
import runpy
from training.digits import trainer as digit_trainer
digit_trainer.NETWORKS["channels"] = {TINY_NETWORK}
digit_trainer.VALIDATION_PICTURES = {HELD_OUT}
runpy.run_module("training.train_digits", run_name="__main__", alter_sys=True)
"""

RECIPE = Recipe(
    conditioning="channels",
    dataset_name="ylecun/mnist",
    max_steps=STEPS,
    batch_size=8,
    lr=1e-3,
    warmup_steps=4,
    ema_decay=0.9,
    label_dropout=0.2,
    prediction="v_prediction",
    snr_gamma=5.0,
    seed=3,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(digit_trainer.NETWORKS, "channels", TINY_NETWORK)
    monkeypatch.setattr(digit_trainer, "VALIDATION_PICTURES", HELD_OUT)
    monkeypatch.setattr(digit_trainer, "SAMPLE_ROWS", 1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in MNIST's columns: a bright bar whose place is its label, and noise."""
    folder = tmp_path_factory.mktemp("data") / "own-digits"
    folder.mkdir()
    labels = [i % 10 for i in range(NUM_PICTURES)]
    features = Features({"image": ImageFeature(), "label": ClassLabel(num_classes=10)})
    rows = {"image": [{"bytes": bar(label), "path": None} for label in labels], "label": labels}
    Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    return folder


def bar(label: int) -> bytes:
    pixels = np.random.default_rng(label).integers(0, 60, (28, 28), dtype=np.uint8)
    pixels[:, 2 * label + 4 : 2 * label + 7] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Run:
    """A run that was killed once and then finished.

    Attributes:
        folder: of the run.
        killed_at: the step it resumed from.
        options: that it was started with, both times.
    """

    folder: Path
    killed_at: int
    options: list[str]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    values = asdict(RECIPE) | {
        "dataset_name": data_folder,
        "output": folder,
        "save_every": 2,
        "log_samples_every": 4,
        "threads": 1,
    }
    options = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    command = [sys.executable, "-c", COMMAND, *options]
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder.parent / "cache")}
    killed_at = kill_after_first_save(command, environment, folder)
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=240)
    return Run(folder, killed_at, options)


def kill_after_first_save(command: list[str], environment: dict[str, str], folder: Path) -> int:
    """Kills the command once it has saved a step; returns the step of the saved state."""
    ends = time.monotonic() + 240
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        while not (load_state(folder) or {"step": 0})["step"]:
            assert process.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    state = load_state(folder)
    assert state is not None
    return state["step"]


def saved(folder: Path) -> dict[str, Tensor]:
    """All tensors of a run's averaged and current weights, by name."""
    state = load_state(folder)
    assert state is not None
    averaged = {f"ema.{i}": tensor for i, tensor in enumerate(state["ema"]["shadow_params"])}
    return state["unet"] | averaged


def random_digits(count: int = NUM_PICTURES) -> Digits:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return Digits(pixels, torch.arange(count) % 10)


def trainer(recipe: Recipe = RECIPE) -> Trainer:
    return Trainer(recipe, random_digits(), Accelerator())


@contextmanager
def one_thread() -> Iterator[None]:
    """As the run had: sums in another order differ, and Adam's first steps make that large."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.thorough
def test_a_state_is_saved_before_the_first_step_and_after_the_last_before_it_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    saved_at: list[int] = []

    def judge(_: Reporter) -> dict[str, float]:
        state = load_state(tmp_path)
        assert state is not None
        saved_at.append(state["step"])
        return {}

    run = trainer()
    step = Trainer.train_step

    def saved_before(run: Trainer) -> float:
        assert load_state(tmp_path) is not None
        return step(run)

    monkeypatch.setattr(Trainer, "train_step", saved_before)
    train(run, tmp_path, Reporter(), Timing(save_every=1000, judge_every=1000), judge)
    assert saved_at == [STEPS]


@pytest.mark.thorough
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    run: Run, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert 0 < run.killed_at < STEPS
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    whole = Trainer(RECIPE, load_digits(str(data_folder), "train"), Accelerator())
    with one_thread():
        train(whole, tmp_path, Reporter(), Timing(STEPS, STEPS), whole.judge)
    torch.testing.assert_close(saved(run.folder), saved(tmp_path), rtol=1e-3, atol=1e-5)


def test_loss_errors_and_samples_are_logged_once_a_step(run: Run):
    log = EventAccumulator(str(run.folder / "logs")).Reload()
    assert [event.step for event in log.Scalars("loss")] == list(range(1, STEPS + 1))
    assert [event.step for event in log.Scalars("validation/x0_error_t500")] == [4, 8, 12]
    images = log.Images("samples")
    assert [event.step for event in images] == [4, 8, 12]
    sheet = Image.open(io.BytesIO(images[-1].encoded_image_string))
    assert sheet.size == (10 * (3 * 28 + 2) - 2, 3 * (3 * 28 + 2) - 2)


@pytest.mark.thorough
def test_a_finished_run_started_again_only_writes_its_checkpoint_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    state = (run.folder / STATE_FILE).read_bytes()
    logs = sorted((run.folder / "logs").iterdir())
    before = {path.name: path.read_bytes() for path in run.checkpoint.glob("*/*")}
    card = (run.checkpoint / model_card.CARD_FILE).read_text()
    (run.checkpoint / model_card.CARD_FILE).unlink()
    result = invoke(*run.options)
    assert result.exit_code == 0, result.output
    assert (run.folder / STATE_FILE).read_bytes() == state
    assert sorted((run.folder / "logs").iterdir()) == logs
    assert {path.name: path.read_bytes() for path in run.checkpoint.glob("*/*")} == before
    assert (run.checkpoint / model_card.CARD_FILE).read_text() == card


@pytest.fixture
def bundled(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The run's checkpoint in the place of the bundled one, seen from the project's folder."""
    folder = tmp_path / "assets" / "checkpoints" / "digits-channels"
    exporting.export(exporting.load_run(run.folder), folder)
    monkeypatch.setattr("pipelines.models.table.BUNDLED", folder.parent)
    monkeypatch.chdir(tmp_path)
    checkpoints.unload_all()
    yield folder
    checkpoints.unload_all()


@pytest.mark.thorough
def test_an_exported_run_is_a_complete_checkpoint_with_the_averaged_weights(
    run: Run, bundled: Path
):
    loaded = checkpoints.load("digits-channels")
    state = load_state(run.folder)
    assert state is not None
    for found, expected in zip(
        loaded.unet.parameters(), state["ema"]["shadow_params"], strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert loaded.scheduler_config["prediction_type"] == "v_prediction"
    assert (bundled / model_card.SAMPLES_FILE).is_file()
    assert all(path.stat().st_size < 9_000_000 for path in bundled.rglob("*"))


@pytest.mark.thorough
def test_the_code_of_the_card_runs(bundled: Path):
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (bundled / model_card.CARD_FILE).read_text(), re.S)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert {"unet", "last"} <= names.keys()


def test_the_card_names_data_terms_recipe_seed_and_errors(run: Run):
    card = (run.checkpoint / model_card.CARD_FILE).read_text()
    facts = json.loads((run.checkpoint / model_card.FACTS_FILE).read_text())
    for line in (
        "license: cc-by-sa-3.0",
        "library_name: diffusers",
        "- ylecun/mnist",
        "| data set | MNIST, `ylecun/mnist` |",
        "| steps | 12 |",
        "| seed | 3 |",
        "| labels dropped | 20 % |",
        "| device | CPU, 1 thread |",
        f"| parameters | {facts['parameters']:,} |",
        f"| 500 | {facts['validation_x0_error']['500']:.4f} |",
    ):
        assert line in card.splitlines(), line
    assert "own-digits" not in card + json.dumps(facts)


def test_the_command_in_the_card_repeats_the_recipe(run: Run, monkeypatch: pytest.MonkeyPatch):
    card = (run.checkpoint / model_card.CARD_FILE).read_text()
    found = re.search(r"```sh\npython -m training.train_digits(.*?)```", card, re.S)
    assert found
    prepared: list[Recipe] = []

    def note(recipe: Recipe, *_: object) -> SimpleNamespace:
        prepared.append(recipe)
        return SimpleNamespace(judge=None)

    monkeypatch.setattr(train_digits, "prepare", note)
    monkeypatch.setattr(train_digits, "reporter_for", lambda *_: Reporter())
    monkeypatch.setattr(train_digits, "train", lambda *_: None)
    monkeypatch.setattr(train_digits, "export", lambda *_: None)
    result = invoke(*found[1].replace("\\\n", " ").split())
    assert result.exit_code == 0, result.output
    assert [replace(r, dataset_name=RECIPE.dataset_name) for r in prepared] == [RECIPE]


def test_benchmark_figures_fill_the_card_when_it_is_written_anew(run: Run, tmp_path: Path):
    facts = (run.checkpoint / model_card.FACTS_FILE).read_text()
    (tmp_path / model_card.FACTS_FILE).write_text(facts)
    figures = {"accuracy": {"label": "Judged as asked for", "value": "99.5 %"}}
    (tmp_path / model_card.FIGURES_FILE).write_text(json.dumps(figures))
    assert app_of(model_card.main, str(tmp_path)).exit_code == 0
    assert "| Judged as asked for | 99.5 % |" in (tmp_path / model_card.CARD_FILE).read_text()


@pytest.mark.thorough
def test_figures_are_kept_for_the_same_weights_and_dropped_for_others(tmp_path: Path):
    run, figures = trainer(), tmp_path / model_card.FIGURES_FILE
    exporting.export(run, tmp_path)
    figures.write_text('{"accuracy": {"label": "Judged as asked for", "value": "10 %"}}')
    exporting.export(run, tmp_path)
    assert figures.exists()
    run.train_step()
    exporting.export(run, tmp_path)
    assert not figures.exists()
    assert "10 %" not in (tmp_path / model_card.CARD_FILE).read_text()


@pytest.mark.thorough
def test_an_unfinished_run_is_exported_as_far_as_it_came(tmp_path: Path):
    run = trainer()
    run.train_step()
    exporting.export(run, tmp_path)
    assert "| steps | 1 of 12 |" in (tmp_path / model_card.CARD_FILE).read_text()


def test_exporting_a_folder_without_a_run_is_refused(tmp_path: Path):
    result = app_of(exporting.main, str(tmp_path), str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "state.pt" in result.output


def app_of(main: object, *arguments: str):
    """What a command prints and answers, run in this process."""
    app = typer.Typer()
    app.command()(main)  # pyright: ignore[reportArgumentType]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "300", "NO_COLOR": "1"})


def invoke(*arguments: str):
    return app_of(train_digits.main, *arguments)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--conditioning=magic", "'magic' is not one of 'channels', 'embedding'"),
        ("--prediction=x", "'x' is not one of"),
        ("--mixed-precision=fp8", "'fp8' is not one of"),
        ("--max-steps=0", "max_steps must be a whole number from 1 to"),
        ("--batch-size=-1", "batch_size must be a whole number from 1 to"),
        ("--lr=nan", "lr must be a number from 1e-08 to 1, got nan"),
        ("--warmup-steps=-1", "warmup_steps must be a whole number from 0 to"),
        ("--ema-decay=1.5", "ema_decay must be a number from 0 to 1, got 1.5"),
        ("--label-dropout=inf", "label_dropout must be a number from 0 to 1, got inf"),
        ("--snr-gamma=-5", "snr_gamma must be a number from 0 to"),
        ("--seed=-1", "seed must be a whole number from 0 to"),
        ("--threads=-1", "greater than or equal to 0"),
        ("--save-every=0", "greater than or equal to 1"),
        ("--log-samples-every=0", "greater than or equal to 1"),
    ],
)
def test_a_bad_option_is_refused_before_any_data_is_read(
    option: str, sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(train_digits, "prepare", lambda *_: pytest.fail("data was read"))
    result = invoke("--conditioning=channels", option)
    assert result.exit_code == 2
    assert sentence in result.output


def test_a_data_set_that_is_not_there_is_refused(tmp_path: Path):
    missing, output = f"--dataset-name={tmp_path / 'nowhere'}", f"--output={tmp_path / 'run'}"
    result = invoke("--conditioning=channels", missing, output)
    assert result.exit_code == 2
    assert "dataset_name must be" in result.output


@pytest.mark.parametrize(
    ("labels", "kind", "got"),
    [
        ([1, None], "int64", "nothing"),
        ([1, -1], "int64", "-1"),
        ([1, 10], "int64", "10"),
        ([1.0, 3.5], "float64", "3.5"),
        ([1.0, float("nan")], "float64", "nan"),
        (["1", "seven"], "string", "'seven'"),
        (["1", ""], "string", "''"),
        ([True, False], "bool", "True"),
        ([[1], [2]], None, r"\[1\]"),
    ],
)
def test_labels_that_are_no_digits_are_refused_in_one_sentence(
    labels: list[Any], kind: str | None, got: str, tmp_path: Path
):
    told = Features({"image": ImageFeature(), "label": Value(kind) if kind else [Value("int64")]})
    rows = {"image": [{"bytes": bar(1), "path": None}] * 2, "label": labels}
    Dataset.from_dict(rows, features=told).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(
        ValueError, match=f"label is a digit 0 to 9, got .* with {got} in row [12]$"
    ):
        load_digits(str(tmp_path), "train")


@pytest.mark.parametrize("cells", [[1, 2], ["a", "b"], [b"torn", None], [[1.0], [2.0]]])
def test_a_column_that_holds_no_pictures_is_refused_in_one_sentence(
    cells: list[Any], tmp_path: Path
):
    Dataset.from_dict({"image": cells, "label": [1, 2]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"in its column image, got .* row 1 cannot be read"):
        load_digits(str(tmp_path), "train")


def test_other_data_are_refused_with_the_command_for_a_new_run(
    run: Run, data_folder: Path, tmp_path: Path
):
    rows = load_dataset(str(data_folder), split="train")
    other = tmp_path / "other"
    other.mkdir()
    rows.select(range(NUM_PICTURES - 1)).to_parquet(other / "train.parquet")
    before = (run.folder / STATE_FILE).read_bytes()
    kept = [option for option in run.options if not option.startswith("--dataset-name")]
    result = invoke(*kept, f"--dataset-name={other}")
    assert result.exit_code == 2, result.output
    sentence, command = result.output.rstrip().splitlines()[-2:]
    assert "that the run began with, 60 examples, got 59 examples; give the old data" in sentence
    assert command.endswith(f"--dataset-name {other} --output {run.folder}-2")
    assert (run.folder / STATE_FILE).read_bytes() == before


def test_pictures_of_another_size_or_label_are_refused():
    with pytest.raises(ValueError, match=r"28x28 px labelled 0 to 9, got 32x28 px"):
        digit_trainer.check_digits(Digits(torch.zeros(5, 1, 28, 32), torch.arange(5)))
    with pytest.raises(ValueError, match=r"labelled 0 to 9, got .* labelled 0 to 10"):
        digit_trainer.check_digits(Digits(torch.zeros(11, 1, 28, 28), torch.arange(11)))


def test_a_run_of_another_recipe_is_not_gone_on_with(run: Run):
    with pytest.raises(ValueError, match="same recipe, got a run with another seed"):
        train_digits.prepare(replace(RECIPE, seed=4), run.folder, Accelerator())


def test_a_state_saved_without_the_device_is_still_accepted():
    state = trainer().state()
    del state["trained_on"]
    resumed = trainer()
    resumed.restore(state)
    assert resumed.trained_on.startswith("C")


def test_a_loss_that_is_not_finite_stops_the_run_and_changes_no_weight():
    run = trainer()
    with torch.no_grad():
        next(iter(run.unet.parameters())).fill_(torch.nan)
    before = [parameter.clone() for parameter in run.ema.shadow_params]
    with pytest.raises(FloatingPointError, match=r"loss must stay finite, got nan .* at step 1;"):
        run.train_step()
    assert run.step == 0
    torch.testing.assert_close(run.ema.shadow_params, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FloatingPointError("loss must stay finite, got nan"), "loss must stay finite, got nan"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_what_stops_a_run_is_told_in_one_sentence(
    error: Exception, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise error

    save_state(tmp_path, {"step": 1})
    monkeypatch.setattr(train_digits, "prepare", lambda *_: SimpleNamespace(judge=None))
    monkeypatch.setattr(train_digits, "reporter_for", lambda *_: Reporter())
    monkeypatch.setattr(train_digits, "train", fail)
    result = invoke("--conditioning=channels", f"--output={tmp_path}")
    assert result.exit_code == 1
    assert result.output.startswith("Training stopped: ")
    assert sentence in result.output
    assert result.output.endswith("the state that was saved last is kept.\n")
    assert load_state(tmp_path) == {"step": 1}


@pytest.mark.thorough
def test_a_share_of_the_labels_is_dropped(monkeypatch: pytest.MonkeyPatch):
    seen: list[Tensor] = []
    run = trainer(replace(RECIPE, batch_size=40, label_dropout=0.25))
    forward = run.unet.forward

    def watched(x_t: Tensor, t: Tensor, labels: Tensor):
        seen.append(labels)
        return forward(x_t, t, labels)

    monkeypatch.setattr(run.unet, "forward", watched)
    for _ in range(5):
        run.train_step()
    dropped = (torch.cat(seen) == digit_trainer.NULL_CLASS).float().mean()
    assert 0.15 < dropped < 0.35


def test_averaged_weights_follow_the_decay():
    run = trainer(replace(RECIPE, ema_decay=0.05))
    run.train_step()  # after the first step the average is that step's weights
    before = [parameter.clone() for parameter in run.ema.shadow_params]
    run.train_step()
    for old, now, new in zip(before, run.ema.shadow_params, run.unet.parameters(), strict=True):
        torch.testing.assert_close(now, 0.05 * old + 0.95 * new.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not Path(default_mnist()).is_dir(), reason="needs MNIST in a local folder")
@pytest.mark.thorough
def test_the_loss_falls_on_real_digits_in_a_few_dozen_steps():
    data = load_digits(default_mnist(), "test")  # smaller to read; nothing is measured on it
    recipe = replace(RECIPE, max_steps=40, batch_size=16, lr=2e-3, warmup_steps=10)
    run = Trainer(recipe, data, Accelerator())
    before = run.validate()
    losses = [run.train_step() for _ in range(recipe.max_steps)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    after = run.validate()
    assert all(after[level] < before[level] for level in before)
