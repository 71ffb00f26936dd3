"""The Space: its README says what is so, and what is uploaded is all that the app needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image
from typer.testing import CliRunner

from pipelines.models.table import CLIPS, HUB, TABLE
from tests.fakes.hub_server import Hub, serve_hub
from training.publish import commands, spaces
from training.publish.models import find_folder
from training.publish.uploads import LARGEST_REGULAR_FILE, File

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
ID = "someone/studio"
NEWEST_TORCH_OF_ZEROGPU = Version("2.11.0")
OLDEST_TORCH_OF_ZEROGPU = Version("2.8.0")

# From the Hub's documentation of the settings of a Space.
SETTINGS = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file"),
    *("short_description", "thumbnail", "license", "license_name", "models", "datasets", "tags"),
    *("preload_from_hub", "suggested_hardware", "pinned"),
}


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """The front matter."""
    return SpaceCard(README).data.to_dict()


@pytest.fixture(scope="module")
def files() -> dict[str, File]:
    """What the Space is made of."""
    return {file.path: file for file in spaces.files_of(ROOT, ID)}


@pytest.fixture(scope="module")
def requirements() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: requirement for requirement in found}


# --- front matter --------------------------------------------------------------------------------


def test_the_readme_has_the_settings_of_a_space_and_no_others(data: dict[str, Any]):
    assert set(data) == SETTINGS
    assert data["sdk"] == "gradio"
    assert data["title"] == "Guided Diffusion Studio"
    assert re.search(f"^# {data['title']}$", README, re.M)
    assert data["pinned"] is False
    assert not data["emoji"].isascii()
    assert {data["colorFrom"], data["colorTo"]} <= spaces.COLORS
    assert 0 < len(data["short_description"]) <= 60


def test_gradio_is_the_one_that_was_tested_and_that_the_requirements_allow(
    data: dict[str, Any], requirements: dict[str, Requirement]
):
    assert data["sdk_version"] == version("gradio")
    assert data["sdk_version"] in requirements["gradio"].specifier


def test_python_is_one_that_zerogpu_and_the_project_know(data: dict[str, Any]):
    assert data["python_version"] == "3.12"
    assert re.search(r'requires-python = ">=3\.11"', (ROOT / "pyproject.toml").read_text())


def test_torch_may_be_any_of_those_on_zerogpu(requirements: dict[str, Requirement]):
    assert OLDEST_TORCH_OF_ZEROGPU in requirements["torch"].specifier
    assert NEWEST_TORCH_OF_ZEROGPU in requirements["torch"].specifier


def test_nothing_newer_is_asked_for_than_what_was_tested(requirements: dict[str, Requirement]):
    for name, requirement in requirements.items():
        installed = Version(version(name))
        assert requirement.specifier.contains(installed, prereleases=True), name
        for specifier in requirement.specifier:
            assert specifier.operator in (">=", "<"), name  # pins nothing


def test_the_app_file_and_the_thumbnail_are_there(data: dict[str, Any], files: dict[str, File]):
    assert data["app_file"] in files
    assert "build_demo" in files[data["app_file"]].read().decode()
    Image.open(ROOT / data["thumbnail"]).verify()
    assert data["thumbnail"] in files


def test_models_are_those_of_the_tables_that_come_from_the_hub(data: dict[str, Any]):
    rows = (*CLIPS.values(), *HUB.values())
    assert sorted(data["models"]) == sorted(row.repo_id for row in rows if row.repo_id)


def test_data_sets_are_those_of_the_bundled_models_cards(data: dict[str, Any]):
    cards = [SpaceCard.load(find_folder(key) / "README.md") for key in TABLE]
    named = {name for card in cards for name in card.data.to_dict().get("datasets", [])}
    assert set(data["datasets"]) == named


def test_the_clips_of_the_hub_are_fetched_when_the_space_is_built(data: dict[str, Any]):
    rows = [row for row in CLIPS.values() if row.repo_id]
    wanted = {row.repo_id: set(row.needed) for row in rows}
    lines = [line.split(" ") for line in data["preload_from_hub"]]
    assert {name: set(paths.split(",")) for name, paths in lines} == wanted


def test_the_hardware_has_a_name_that_the_hub_knows(data: dict[str, Any]):
    assert data["suggested_hardware"] in spaces.HARDWARE
    assert {"cpu-basic", "zero-a10g"} <= spaces.HARDWARE


def test_the_terms_are_those_of_the_strictest_bundled_weights(data: dict[str, Any]):
    assert (data["license"], data["license_name"]) == ("other", "non-commercial-research")
    assert "non-commercial research" in README.partition("## Terms")[2].replace("\n", " ")


def test_the_readme_passes_its_own_check(files: dict[str, File]):
    assert list(spaces.problems_of(README, set(files))) == []


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("title: .*", "title:", "title must not be empty"),
        ("emoji: .*\n", "", "emoji must not be empty"),
        ("license: .*\n", "", "license must not be empty"),
        ("sdk: gradio", "sdk: docker", "sdk must be gradio, got 'docker'"),
        ("sdk_version: .*", "sdk_version: 5.0.0", "sdk_version must be 6"),
        ("colorTo: .*", "colorTo: olive", "colorTo must be one of blue, gray,"),
        ('python_version: "3.12"', "python_version: [3]", "python_version must be in quotes"),
        ("app_file: .*", "app_file: main.py", "app_file must be one of the Space's files"),
        ("short_description: .*", f"short_description: {'a' * 61}", "1 to 60 characters, got 61"),
        ("thumbnail: .*", "thumbnail: no.png", "thumbnail must be one of the Space's files"),
        ("suggested_hardware: .*", "suggested_hardware: abacus", "suggested_hardware must be"),
        ("pinned: false", "pinned: perhaps", "pinned must be true or false, got 'perhaps'"),
        ("- google/ddpm-cat-256", "- google/ddpm/cat", "models must be ids of the Hub, got 'goo"),
        (
            "\n# Guided",
            "\n![](assets/no.png)\n# Guided",
            "that it shows must be there, got assets/no",
        ),
    ],
)
def test_what_is_wrong_with_a_readme_is_told(
    before: str, after: str, sentence: str, files: dict[str, File]
):
    changed, count = re.subn(before, after, README, count=1)
    assert count == 1
    (problem,) = spaces.problems_of(changed, set(files))
    assert sentence in problem
    with pytest.raises(ValueError, match=re.escape(problem)):
        spaces.check(changed, files.values())


def test_a_readme_without_settings_is_refused():
    with pytest.raises(ValueError, match="must begin with the settings"):
        list(spaces.problems_of("---\na: [\n---\n# Title", set()))


# --- files ---------------------------------------------------------------------------------------


def test_nothing_goes_along_but_the_app(files: dict[str, File]):
    roots = {path.partition("/")[0] for path in files}
    assert roots == {
        *("app.py", "tabs", "pipelines", "assets", "docs", "requirements.txt"),
        *("README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md"),
        *("LICENSE", "LICENSE-WEIGHTS.md"),
    }
    for path in files:
        assert "__pycache__" not in path
        assert not any(part.startswith(".") for part in path.split("/"))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    wanted = {path for path in tracked.stdout.split("\n") if path and (ROOT / path).is_file()}
    for path in wanted & {p for p in wanted if p.startswith(("tabs/", "pipelines/"))}:
        assert path in files


def test_every_bundled_checkpoint_goes_along(files: dict[str, File]):
    for row in (*TABLE.values(), CLIPS["clip-small"]):
        for path in (
            *row.needed,
            *(p.relative_to(row.folder) for p in row.folder.glob(row.weights)),
        ):
            assert (row.folder / path).relative_to(ROOT).as_posix() in files


def test_nothing_over_10_mb_lies_outside_lfs(files: dict[str, File]):
    large = {path for path, file in files.items() if file.size > LARGEST_REGULAR_FILE}
    assert large == {"assets/checkpoints/clip-small/open_clip_model.safetensors"}
    assert all(files[path].lfs for path in large)


def test_pictures_go_along_that_documents_show_and_no_others(tmp_path: Path):
    root = project(tmp_path)
    kept = {file.path for file in spaces.files_of(root, ID)}
    assert {path for path in kept if path.endswith(".png")} == {
        "assets/screenshots/in-docs.png",
        "assets/screenshots/shown.png",
        "assets/screenshots/small.png",
        "assets/icon.png",
        "assets/examples/one.png",
    }


def project(root: Path) -> Path:
    """A project in small, with things that should stay at home."""
    readme = "---\nsdk: gradio\nthumbnail: assets/screenshots/small.png\n---\n"
    texts = {
        "README.md": f"{readme}![one](assets/screenshots/shown.png)\n",
        "app.py": 'ICON = "icon.png"\n',
        "requirements.txt": "gradio\n",
        ".gitignore": "runs/\n*.log\n/data/\n__pycache__/\n",
        "tabs/a.py": "",
        "tabs/a.log": "",
        "tabs/__pycache__/a.pyc": "",
        "tabs/.DS_Store": "",
        "pipelines/runs/x.py": "",
        "tests/test_a.py": "",
        "docs/page.md": "![two](../assets/screenshots/in-docs.png)",
        "runs/kites/state.pt": "",
        ".ci/run": "",
    }
    for name in (
        "screenshots/shown",
        "screenshots/in-docs",
        "screenshots/small",
        "screenshots/idle",
        "idle",
        "icon",
    ):
        texts[f"assets/{name}.png"] = ""
    for path, text in (texts | {"assets/examples/one.png": ""}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


EXPECTED = [
    "README.md",
    "app.py",
    "assets/examples/one.png",
    "assets/icon.png",
    "assets/screenshots/in-docs.png",
    "assets/screenshots/shown.png",
    "assets/screenshots/small.png",
    "docs/page.md",
    "requirements.txt",
    "tabs/a.py",
]


def test_without_git_the_same_rules_hold(tmp_path: Path):
    assert [file.path for file in spaces.files_of(project(tmp_path), ID)] == EXPECTED


@pytest.mark.parametrize("added", [True, False])
def test_git_says_what_is_ignored_also_of_what_is_new(tmp_path: Path, added: bool):
    root = project(tmp_path)
    (root / "tabs" / "gone.py").write_text("")
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
    if added:
        subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    (root / "tabs" / "gone.py").unlink()
    assert [file.path for file in spaces.files_of(root, ID)] == EXPECTED


def test_the_thumbnail_has_its_full_address_in_the_space():
    before = (ROOT / "README.md").read_text()
    (sent,) = (
        file.read().decode() for file in spaces.files_of(ROOT, ID) if file.path == "README.md"
    )
    address = f"https://huggingface.co/spaces/{ID}/resolve/main/assets/screenshots/color.png"
    assert spaces.metadata_of(sent)["thumbnail"] == address
    lines = zip(sent.split("\n"), before.split("\n"), strict=True)
    assert sum(one != other for one, other in lines) == 1


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, files: dict[str, File]) -> Path:
    """The Space's files by themselves."""
    folder = tmp_path_factory.mktemp("space")
    for path, file in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(file.read())
    return folder


@pytest.mark.thorough
def test_the_app_builds_from_the_files_of_the_space_alone(alone: Path):
    code = (
        "import app; app.build_demo()\n"
        "import sys; found = {n.partition('.')[0] for n in sys.modules}\n"
        "assert not found & {'training', 'tests', 'benchmarks'}\n"
        "import pipelines; assert pipelines.__path__[0].startswith(sys.argv[1])\n"
        "from pipelines import checkpoints\n"
        "for key in checkpoints.TABLE: assert not checkpoints.missing_files(checkpoints.TABLE[key])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(alone)], cwd=alone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# --- on the Hub ----------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    with serve_hub(tmp_path / "cache") as served:
        yield served


def run(*arguments: str):
    environment = {"COLUMNS": "400", "NO_COLOR": "1"}
    return CliRunner().invoke(commands.app, ["space", *arguments], env=environment)


@pytest.mark.thorough
def test_a_space_is_uploaded_whole_and_a_second_time_nothing(hub: Hub, files: dict[str, File]):
    result = run(f"--repo-id={ID}", "--dry-run")
    assert result.exit_code == 0, result.output
    assert hub.writes() == []
    assert re.search(
        r"upload +27,\d{3},\d{3} B  LFS  assets/checkpoints/clip-small/open", result.output
    )
    assert f"{len(files)} of {len(files)} files to upload" in result.output
    result = run(f"--repo-id={ID}")
    assert result.exit_code == 0, result.output
    assert f"uploaded: https://huggingface.co/spaces/{ID}/commit/1" in result.output
    folder = hub.repositories[f"spaces/{ID}"]
    for path, file in files.items():
        if path != "README.md":  # whose thumbnail is at the address of this Hub
            assert (folder / path).read_bytes() == file.read(), path
    assert hub.uploaded == set(files)
    hub.requests.clear()
    assert "nothing to upload" in run(f"--repo-id={ID}").output
    assert hub.writes() == []


def test_a_module_that_is_gone_goes_from_the_space_too(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = project(tmp_path / "project")
    shutil.copy(ROOT / "README.md", root)
    for path in spaces.pictures_shown(README):
        (root / path).touch()
    monkeypatch.setattr(spaces, "ROOT", root)
    (root / "tabs" / "b.py").write_text("x")
    assert run(f"--repo-id={ID}").exit_code == 0
    (root / "tabs" / "b.py").unlink()
    result = run(f"--repo-id={ID}")
    assert result.exit_code == 0, result.output
    assert hub.commits[-1].deleted == ("tabs/b.py",)


def test_a_readme_that_is_wrong_is_refused_before_anything_is_made(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spaces, "ROOT", project(tmp_path / "project"))
    result = run(f"--repo-id={ID}")
    assert result.exit_code == 2
    assert "README.md must say what a Space needs: title must not be empty; emoji" in result.output
    assert hub.writes() == []
    result = run(f"--repo-id={ID}", "--dry-run")
    assert result.exit_code == 2
    assert "tabs/a.py" in result.output
    assert "title must not be empty" in result.output
