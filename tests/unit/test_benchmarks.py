"""The benchmarks: known answers for the statistics, an ideal network for the rest."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from diffusers import DDPMScheduler
from diffusers.models.unets.unet_2d import UNet2DOutput
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close
from typer.testing import CliRunner

from benchmarks import course, digits, figures, finetuning, frechet, scoring, timing
from benchmarks.judges import judge
from benchmarks.timing import Timing
from pipelines.core.images import from_uint8
from pipelines.models import checkpoints, judges
from pipelines.models.table import TABLE
from pipelines.products.settings import DigitsSettings
from tests.conftest import tiny_painter
from tests.fakes.tiny_pictures import invoke, write_landscapes
from training import finetune_model
from training.cards import model_card
from training.digits.data import Digits, default_mnist, load_digits

pytestmark = pytest.mark.slow

needs_mnist = pytest.mark.skipif(
    not Path(default_mnist()).is_dir(), reason="MNIST is not on this machine"
)


@pytest.fixture(scope="module")
def trained() -> judges.DigitJudge:
    return judges.load_judge()


@pytest.fixture(scope="module")
def mnist_test() -> Digits:
    return load_digits(default_mnist(), "test")


class PerfectNetwork(nn.Module):
    """Knows one picture per class and answers with it, whatever the noise; counts its calls."""

    def __init__(self, pictures: Tensor):
        super().__init__()
        blank = torch.full_like(pictures[:1], -1.0)
        self.known = nn.Parameter(torch.cat([pictures, blank]), requires_grad=False)
        self.calls = 0

    def forward(self, x_t: Tensor, t: Tensor, class_labels: Tensor) -> UNet2DOutput:
        self.calls += 1
        if not class_labels.is_floating_point():
            class_labels = F.one_hot(class_labels, 11).float()
        return UNet2DOutput(sample=torch.einsum("bk,kchw->bchw", class_labels, self.known))


def loaded_from(network: nn.Module, num_train_timesteps: int = 1000) -> checkpoints.Loaded:
    scheduler = DDPMScheduler(
        num_train_timesteps=num_train_timesteps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
    )
    row = TABLE["digits-embedding"]
    return checkpoints.Loaded(row, network, dict(scheduler.config), "0123456789ab")


# Fréchet distance and intervals


def test_the_distance_of_two_gaussians_is_the_closed_form() -> None:
    first = frechet.Gaussian(np.array([0.0, 1.0]), np.diag([4.0, 1.0]))
    second = frechet.Gaussian(np.array([3.0, 1.0]), np.diag([9.0, 16.0]))
    # Diagonal covariances commute: the sum of (difference of deviations) squared.
    assert frechet.between(first, second) == pytest.approx(3**2 + (2 - 3) ** 2 + (1 - 4) ** 2)


def test_the_distance_is_right_for_covariances_that_do_not_commute() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 5))
    first, second = frechet.Gaussian(np.zeros(5), a @ a.T), frechet.Gaussian(np.zeros(5), b @ b.T)
    # tr((C1 C2)^1/2) is the nuclear norm of A^T B.
    cross = np.linalg.norm(a.T @ b, ord="nuc")
    expected = np.trace(a @ a.T) + np.trace(b @ b.T) - 2 * cross
    assert frechet.between(first, second) == pytest.approx(expected)
    assert frechet.between(second, first) == pytest.approx(expected)


def test_identical_sets_are_at_distance_zero_even_if_some_features_never_vary() -> None:
    features = np.random.default_rng(0).normal(size=(300, 6))
    features[:, 2:4] = 0.0
    assert frechet.frechet_distance(features, features) == pytest.approx(0.0, abs=1e-6)


def test_many_samples_of_two_gaussians_come_near_their_distance() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, (40_000, 3)), rng.normal(1, 2, (40_000, 3))
    assert frechet.frechet_distance(first, second) == pytest.approx(6.0, rel=0.03)


@pytest.mark.parametrize("wrong", [np.zeros((1, 3)), np.zeros(3), np.array([[0.0], [np.nan]])])
def test_features_that_have_no_covariance_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="features must be"):
        frechet.fit(wrong)


def test_the_bootstrap_interval_is_as_wide_as_repeating_the_measurement() -> None:
    rng = np.random.default_rng(0)
    reference = frechet.Gaussian(np.zeros(4), np.eye(4))
    repeated = [
        frechet.between(frechet.fit(x), reference) for x in rng.normal(0.3, 1, (300, 200, 4))
    ]
    low, high = np.percentile(repeated, [2.5, 97.5])
    found = frechet.bootstrap_distance(rng.normal(0.3, 1, (200, 4)), reference)
    assert found.low <= found.value <= found.high
    assert found.high - found.low == pytest.approx(high - low, rel=0.35)


def test_wilson_intervals_are_those_of_the_textbook() -> None:
    half = frechet.wilson(5, 10)
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.2366, 0.7634), abs=1e-4)
    perfect = frechet.wilson(10, 10)
    assert (perfect.value, perfect.low, perfect.high) == pytest.approx((1, 0.7225, 1), abs=1e-4)
    assert frechet.wilson(0, 10).low == 0.0


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_counts_that_cannot_be(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes must be"):
        frechet.wilson(successes, trials)


# The judge


def test_the_judge_is_small_and_was_right_on_more_than_99_3_percent() -> None:
    assert judges.WEIGHTS.stat().st_size < 1_000_000
    assert judges.stored_accuracy() > 0.993


@needs_mnist
@pytest.mark.thorough
def test_the_judge_is_as_good_as_its_file_says(
    trained: judges.DigitJudge, mnist_test: Digits
) -> None:
    assert judge.accuracy(trained, mnist_test) == pytest.approx(judges.stored_accuracy(), abs=2e-4)


def test_features_and_logits_of_the_judge_belong_together(trained: judges.DigitJudge) -> None:
    pixels = torch.rand(3, 1, 28, 28) * 2 - 1
    found = judge.features(trained, pixels)
    assert found.shape == (3, judges.NUM_FEATURES)
    assert_close(trained.head(found).argmax(1), judge.classify(trained, pixels))


def test_a_missing_judge_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.judge"):
        judges.load_judge(tmp_path / "none.safetensors")


def test_augmented_pictures_keep_range_background_and_seed() -> None:
    pixels = torch.full((16, 1, 28, 28), -1.0)
    pixels[:, :, 9:19, 9:19] = 1.0
    once = judge.augment(pixels, torch.Generator().manual_seed(1))
    again = judge.augment(pixels, torch.Generator().manual_seed(1))
    assert_close(once, again, rtol=0, atol=0)
    assert once.min() == -1
    assert once.max() <= 1
    assert (once[:, :, 0] == -1).all()
    assert not torch.equal(once[0], once[1])


def test_training_the_judge_stores_accuracy_with_weights_that_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 1, 28, 28), generator=generator, dtype=torch.uint8)
    data = Digits(pixels, scoring.cycled_labels(40))
    monkeypatch.setattr(judge, "load_digits", lambda name, split: data)
    path = tmp_path / "new" / "judge.safetensors"
    judge.main(dataset_name="any", epochs=1, batch_size=20, lr=1e-3, output=path)
    assert judge.accuracy(judges.load_judge(path), data) == pytest.approx(
        judges.stored_accuracy(path), abs=1e-4
    )
    assert [file.name for file in path.parent.iterdir()] == ["judge.safetensors"]


# Scores


@needs_mnist
@pytest.mark.thorough
def test_real_digits_score_as_real_and_swapped_labels_as_wrong(
    trained: judges.DigitJudge, mnist_test: Digits
) -> None:
    scorer = scoring.Scorer(trained, mnist_test)
    real = scoring.balanced_sample(mnist_test, 300)
    right = scorer.score("real", real)
    swapped = Digits(real.pixels, torch.where(real.labels == 3, 8, real.labels))
    swapped.labels[:2] = 3  # class 3 must occur
    assert right.accuracy.value > 0.98
    assert (right.num_digits, right.name) == (300, "real")
    assert scorer.score("swapped", swapped).worst_digit == 3
    noise = Digits(torch.randint(0, 256, real.pixels.shape, dtype=torch.uint8), real.labels)
    assert scorer.score("noise", noise).distance.low > 5 * right.distance.high


def test_a_balanced_sample_has_as_many_of_each_class_and_is_repeatable() -> None:
    data = Digits(torch.arange(200).view(200, 1, 1, 1), scoring.cycled_labels(200))
    chosen = scoring.balanced_sample(data, 50)
    assert chosen.labels.bincount().tolist() == [5] * 10
    assert_close(chosen.pixels, scoring.balanced_sample(data, 50).pixels)
    with pytest.raises(ValueError, match="30 pictures of each class"):
        scoring.balanced_sample(data, 300)


def test_a_table_is_markdown() -> None:
    text = scoring.markdown(("a", "b"), [("1", "2")])
    assert text == "| a | b |\n| --- | --- |\n| 1 | 2 |"


# The course's recipe


def test_the_courses_loop_finds_the_picture_of_an_ideal_network() -> None:
    pictures = torch.rand(10, 1, 28, 28) * 2 - 1
    loaded = loaded_from(PerfectNetwork(pictures), num_train_timesteps=50)
    scheduler = course.scheduler_of(loaded)
    assert scheduler.timesteps.tolist() == list(range(49, -1, -1))
    noise = torch.randn(10, 1, 28, 28)
    found = course.denoise(
        loaded, noise, torch.arange(10), scheduler.timesteps, scheduler=scheduler
    )
    assert_close(found, pictures, rtol=0, atol=1e-4)


def test_the_courses_digits_resume_from_what_is_stored(tmp_path: Path) -> None:
    network = PerfectNetwork(torch.rand(10, 1, 28, 28) * 2 - 1)
    loaded = loaded_from(network, num_train_timesteps=3)
    whole = course.pictures(loaded, count=120, seed=7, cache=tmp_path)
    assert whole.shape == (120, 1, 28, 28)
    assert whole.dtype == torch.uint8
    assert network.calls == 3 * 3
    first, *_ = sorted(tmp_path.rglob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:100])  # as after a full disk
    again = course.pictures(loaded, count=120, seed=7, cache=tmp_path)
    assert_close(again, whole, rtol=0, atol=0)
    assert network.calls == 3 * 4
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_courses_digits_do_not_depend_on_how_many_are_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    loaded = loaded_from(NoisyNetwork(), num_train_timesteps=4)
    many = course.pictures(loaded, count=70, seed=7, cache=tmp_path / "many")
    few = course.pictures(loaded, count=20, seed=7, cache=tmp_path / "few")
    assert_close(many[:20], few, rtol=0, atol=0)
    assert not torch.equal(many[0], many[10])


class NoisyNetwork(nn.Module):
    """Answers with half of what it is given, so that the noise stays visible."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5), requires_grad=False)

    def forward(self, x_t: Tensor, t: Tensor, class_labels: Tensor) -> UNet2DOutput:
        return UNet2DOutput(sample=self.share * x_t)


# The command


@pytest.fixture
def ideal(
    monkeypatch: pytest.MonkeyPatch, mnist_test: Digits, trained: judges.DigitJudge
) -> Digits:
    """Every checkpoint is a network that knows one test picture per class; returns the data."""
    some = scoring.balanced_sample(mnist_test, 100)
    seen = judge.classify(trained, from_uint8(some.pixels))
    right = torch.where(seen == some.labels, seen, -1)
    known = some.pixels[[right.tolist().index(digit) for digit in range(10)]]
    loaded = loaded_from(PerfectNetwork(from_uint8(known)))
    monkeypatch.setattr(checkpoints, "load", lambda key: loaded)
    monkeypatch.setattr(digits, "load_digits", lambda name, split: mnist_test)
    return mnist_test


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(digits.main)
    return app


@needs_mnist
@pytest.mark.usefixtures("ideal")
@pytest.mark.thorough
def test_the_command_prints_both_tables_and_writes_the_numbers(tmp_path: Path) -> None:
    asked = "--conditioning embedding --num-digits 40 --course-digits 20 --repeats 2"
    where = ["--cache-dir", str(tmp_path / "cache"), "--json", str(tmp_path / "numbers.json")]
    done = CliRunner().invoke(command(), [*asked.split(), "--course-steps-timed", "20", *where])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line]
    assert sum("real training digits" in line for line in lines) == 2
    assert sum(line.startswith("| embedding: ") for line in lines) == 3
    assert "scaled up from 20 steps" in lines[-2]
    assert lines[-1].startswith("Measured on ")
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    ours, fewer, theirs = numbers["scores"]["embedding"]
    assert [ours["num_digits"], fewer["num_digits"], theirs["num_digits"]] == [40, 20, 20]
    assert theirs["accuracy"]["value"] == 1.0
    assert ours["accuracy"]["value"] >= 0.9
    assert numbers["timings"][0]["ratio"] > 0


@needs_mnist
@pytest.mark.usefixtures("ideal")
def test_the_sweep_scores_every_combination() -> None:
    grid = "--cfg-scale 1 --cfg-scale 2 --steps 3 --solver ddim --solver dpm++"
    done = CliRunner().invoke(command(), ["--sweep", "--num-digits", "20", *grid.split()])
    assert done.exit_code == 0, done.output
    rows = [line for line in done.stdout.splitlines() if line.startswith("| embedding: 3 steps")]
    assert len(rows) == 4
    assert sum("100.0 %" in row for row in rows) >= 2


@pytest.mark.parametrize(
    "wrong",
    ["--num-digits 15", "--num-digits 20 --course-digits 40", "--conditioning smell"],
)
def test_the_command_refuses_what_it_cannot_compare(wrong: str) -> None:
    done = CliRunner().invoke(command(), wrong.split())
    assert done.exit_code == 2
    assert "must be" in done.output


@needs_mnist
@pytest.mark.usefixtures("ideal")
def test_our_digits_never_share_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[DigitsSettings] = []
    generate = digits.generate
    monkeypatch.setattr(digits, "generate", lambda s, **how: asked.append(s) or generate(s, **how))
    drawn = digits.draw(DigitsSettings(num_inference_steps=1), 150, seed=1000)
    seeds = [s.seed + i for s in asked for i in range(len(s.digits))]
    assert seeds == list(range(1000, 1150))
    assert max(len(s.digits) for s in asked) <= 64
    assert drawn.labels.bincount().tolist() == [15] * 10


@needs_mnist
@pytest.mark.usefixtures("ideal")
def test_the_courses_time_is_measured_in_full_when_asked() -> None:
    found = timing.time_row("embedding", repeats=2, course_steps_timed=1000)
    assert found.method == "all 1000 steps timed"
    assert found.ratio == pytest.approx(found.course_seconds / found.seconds)


def test_measured_figures_reach_the_card_beside_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = TABLE["digits-embedding"].folder / model_card.FACTS_FILE
    folder = tmp_path / "digits-embedding"
    folder.mkdir()
    (folder / model_card.FACTS_FILE).write_text(bundled.read_text())
    monkeypatch.setattr("pipelines.models.table.BUNDLED", tmp_path)
    interval = frechet.Interval(0.995, 0.99, 0.999)
    score = scoring.Score("ours", 1000, interval, 8, interval, frechet.Interval(1.5, 1.2, 1.9))
    timing = Timing("embedding", 0.5, 30.0, 1000, 1000)
    figures.write_cards({"embedding": [score]}, [timing])
    card = (folder / model_card.CARD_FILE).read_text()
    assert "| ours, 1,000 digits: judged as asked | 99.5 % (99.0-99.9) |" in card
    assert "| ours, 1,000 digits: Fréchet distance | 1.50 (1.20-1.90) |" in card
    assert "| row 0-9: times less than 1,000 steps of DDPM | 60 |" in card


# Fine-tuning against training from scratch


def curve(name: str, errors: dict[int, float]) -> finetuning.Curve:
    """An arm whose error is the same at two timesteps."""
    found = {step: {100: error, 900: error} for step, error in errors.items()}
    return finetuning.Curve(name, found, Image.new("RGB", (8 * 18 - 2, 8 * 18 - 2), "red"))


def test_the_steps_that_fine_tuning_saves_are_told() -> None:
    scratch = curve("from scratch", {10: 0.9, 20: 0.5, 40: 0.25})
    early = finetuning.in_words(curve("fine-tuned", {10: 0.3, 20: 0.25, 40: 0.2}), scratch)
    assert "has after 40 steps, 0.2500, by step 20." in early
    never = finetuning.in_words(curve("fine-tuned", {10: 0.4, 20: 0.3, 40: 0.3}), scratch)
    assert "does not reach" in never


def test_the_figure_is_opaque_and_white_and_shows_both_arms(tmp_path: Path) -> None:
    arms = [
        curve("tuned", {38: 0.3, 76: 0.2, 300: 0.1}),
        curve("scratch", {38: 1, 76: 0.5, 300: 0.3}),
    ]
    finetuning.draw(arms, tmp_path / "new" / "figure.png")
    picture = np.asarray(Image.open(tmp_path / "new" / "figure.png").convert("RGBA"))
    assert (picture[..., 3] == 255).all()
    assert (picture[0, :, :3] == 255).all()
    red = (picture[..., 0] > 200) & (picture[..., 1:3] < 60).all(axis=-1)
    tiles = np.diff(red[red.shape[0] // 2].astype(int)) == 1
    assert np.count_nonzero(tiles) == 2 * 5


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tiny_checkpoints: Path) -> None:
    """Training runs in this process, and tiny networks stand for those of the bundled kind."""

    def run(command: list[str], check: bool) -> None:
        done = invoke(finetune_model.main, *command[3:])
        if done.exit_code:
            raise subprocess.CalledProcessError(done.exit_code, command[2])

    def tiny(sample_size: int) -> nn.Module:
        unet = tiny_painter()
        unet.register_to_config(sample_size=sample_size)
        return unet

    monkeypatch.setattr(finetuning.subprocess, "run", run)
    monkeypatch.setattr("training.pictures.start_models.SpaceToDepthUNet2DModel", tiny)


@pytest.mark.usefixtures("here")
@pytest.mark.thorough
def test_both_arms_are_trained_and_compared_at_equal_steps(tmp_path: Path) -> None:
    asked = {
        "dataset-name": write_landscapes(tmp_path / "data", 12),
        "steps": 3,
        "image-size": 16,
        "batch-size": 2,
        "runs": tmp_path / "runs",
        "figure": tmp_path / "figure.png",
    }
    options = [f"--{name}={value}" for name, value in asked.items()]
    done = invoke(finetuning.main, *options)
    assert done.exit_code == 0, done.output
    rows = [line.split(" | ") for line in done.output.splitlines() if line.startswith("| f")]
    assert [row[0] for row in rows] == ["| fine-tuned from scenes"] * 3 + ["| from scratch"] * 3
    assert [row[1] for row in rows] == ["1", "2", "3"] * 2
    assert rows[0][2:] != rows[3][2:]
    assert Image.open(tmp_path / "figure.png").width > 1200
    assert invoke(finetuning.main, *options).output == done.output
    changed = invoke(finetuning.main, *options, "--lr=1e-4")
    assert changed.exit_code == 1
    assert "Nothing was compared" in changed.output


@pytest.mark.usefixtures("here")
@pytest.mark.thorough
def test_arms_of_different_networks_are_not_compared(tmp_path: Path) -> None:
    data = write_landscapes(tmp_path / "data", 12)
    shared = [f"--dataset-name={data}", "--max-steps=1", "--image-size=16", "--batch-size=2"]
    finetuning.train(tmp_path / "one", [*shared, "--from-scratch"])
    finetuning.train(tmp_path / "two", [*shared, "--from-scratch", "--prediction=sample"])
    finetuning.check_alike([tmp_path / "one", tmp_path / "one"])
    with pytest.raises(ValueError, match="got another prediction"):
        finetuning.check_alike([tmp_path / "one", tmp_path / "two"])
