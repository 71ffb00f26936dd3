"""The Dockerfile: what it says, that the image lacks nothing, that its health check works.

`python -m benchmarks.docker_proof` carries it out, which takes root and gigabytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks import docker_proof
from benchmarks.docker_proof import Stage, Step

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return docker_proof.parse(DOCKERFILE)


@pytest.fixture(scope="module")
def image(stages: list[Stage]) -> Stage:
    return stages[-1]


@pytest.fixture(scope="module")
def context() -> list[Path]:
    return docker_proof.context(ROOT)


def from_context(stages: list[Stage]) -> list[Step]:
    return [
        step
        for stage in stages
        for step in stage.steps
        if step.name == "COPY" and not step.flag("from")
    ]


def test_a_linter_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert hadolint, "install requirements-dev.txt"
    done = subprocess.run([hadolint, "--no-color", str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_builder_and_image_have_the_same_slim_python(stages: list[Stage]):
    assert [stage.base for stage in stages] == ["python:3.12-slim"] * 2


def test_the_image_runs_as_user_1000_on_port_7860(image: Stage):
    assert any("useradd -m -u 1000 user" in step.value for step in image.steps)
    assert image.last("USER").value == "1000"
    assert image.last("EXPOSE").value == "7860"
    assert image.last("WORKDIR").value == "/home/user/app"
    assert image.last("CMD").value == '["python", "app.py"]'


def test_the_image_listens_to_all_and_keeps_its_caches_where_it_may_write(image: Stage):
    environment = image.environment()
    assert environment["GRADIO_SERVER_NAME"] == "0.0.0.0"
    assert environment["GRADIO_SERVER_PORT"] == image.last("EXPOSE").value
    assert environment["PATH"].startswith("/opt/venv/bin:/usr/local/bin:")
    made = " ".join(step.value for step in image.steps if step.name == "RUN")
    for name in ("HF_HOME", "GRADIO_TEMP_DIR"):
        assert f" {environment[name]}" in made
    assert "HF_HUB_OFFLINE" not in environment


def test_the_image_holds_what_the_app_needs_and_no_more(image: Stage, context: list[Path]):
    sources = {word for step in from_context([image]) for word in step.words()[:-1]}
    assert sources == {"app.py", "tabs", "pipelines", "assets", "requirements.txt", "README.md"}
    assert {path.parts[0] for path in context} == sources
    assert not [path for path in context if path.suffix == ".pyc" or "screenshots" in path.parts]
    assert [path for path in context if path.suffix == ".safetensors"]


def test_every_source_of_a_copy_is_there(stages: list[Stage], context: list[Path]):
    for step in from_context(stages):
        assert docker_proof.copied(step, context, "/app")
    for stage in stages:
        for step in stage.steps:
            assert step.flag("from") in {None, *(other.name for other in stages)}


@pytest.mark.thorough
def test_the_app_needs_nothing_that_is_not_copied(
    image: Stage, context: list[Path], tmp_path: Path
):
    for step in from_context([image]):
        for source, target in docker_proof.copied(step, context, str(tmp_path)).items():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(target).symlink_to(ROOT / source)
    # Links lead code that asks for its own place back to the repository, so code is copied.
    for link in [path for path in tmp_path.rglob("*.py") if path.is_symlink()]:
        source = link.resolve()
        link.unlink()
        shutil.copyfile(source, link)
    code = (
        "import app; app.build_demo(); app.launch_options(); "
        "from pipelines import checkpoints, clip, digit_judge; "
        "[checkpoints.load(name) for name in ('paintings', 'scenes', 'digits-embedding')]; "
        "digit_judge.load_judge(); print(app.__file__, checkpoints.__file__)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(ROOT / "app.py") not in done.stdout


@pytest.mark.parametrize(
    ("torch", "options"),
    [("cpu", "--index-url https://download.pytorch.org/whl/cpu "), ("cuda", "")],
)
def test_torch_and_torchvision_come_together_from_the_index_of_the_build(
    stages: list[Stage], tmp_path: Path, torch: str, options: str
):
    done = install_torch(stages[0], tmp_path, torch)
    assert done.returncode == 0, done.stderr
    (call,) = [line for line in done.stdout.splitlines() if line.startswith("pip ")]
    assert call.endswith(f" install --no-compile {options}-r torch.txt")
    asked = (tmp_path / "torch.txt").read_text().split()
    assert [name.partition(">")[0] for name in asked] == ["torch", "torchvision"]


def test_another_build_of_torch_is_refused(stages: list[Stage], tmp_path: Path):
    done = install_torch(stages[0], tmp_path, "rocm")
    assert done.returncode == 2
    assert done.stderr == "TORCH is cpu or cuda, not 'rocm'\n"


def install_torch(builder: Stage, folder: Path, torch: str) -> subprocess.CompletedProcess[str]:
    """Runs the step that installs torch; pip and python only say what they are told."""
    (script,) = [
        step.value for step in builder.steps if step.name == "RUN" and "torch.txt" in step.value
    ]
    for name in ("pip", "python"):
        tool = folder / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        tool.chmod(0o755)
    shutil.copy(ROOT / "requirements.txt", folder)
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TORCH": torch}
    return subprocess.run(
        ["/bin/sh", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )


def health(image: Stage, port: int, **environment: str) -> int:
    command = [sys.executable, *image.healthcheck()[1:]]
    variables = os.environ | environment | {"GRADIO_SERVER_PORT": str(port)}
    return subprocess.run(command, env=variables, stderr=subprocess.DEVNULL).returncode


def test_the_health_check_knows_a_served_app(image: Stage, served: str):
    port = urlsplit(served).port
    assert port
    assert health(image, port) == 0
    assert health(image, port, http_proxy="http://127.0.0.1:9") == 0, "it asks a proxy"


def test_the_health_check_knows_a_dead_port(image: Stage):
    assert health(image, 9) != 0


def test_rules_of_what_docker_is_sent(tmp_path: Path):
    (tmp_path / ".dockerignore").write_text(
        "# all\n*\n!kept\n!one.py\nkept/not\n**/__pycache__\n**/*.pyc\n"
    )
    for name in (
        *("one.py", "two.py", "kept/a.txt", "kept/b.pyc", "kept/not/c.txt", "kept/notes/d.txt"),
        *("kept/__pycache__/e.txt", "kept/deep/__pycache__/f.txt", "other/kept/g.txt"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(map(str, docker_proof.context(tmp_path))) == [
        *("kept/a.txt", "kept/notes/d.txt", "one.py")
    ]
