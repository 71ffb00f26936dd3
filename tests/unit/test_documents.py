"""The documents: short where they should be, links that lead somewhere, one text, two languages."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from huggingface_hub import SpaceCard

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
LARGEST_FILE = 9 * 2**20
WEIGHTS = "LICENSE-WEIGHTS.md"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def links(text: str) -> list[str]:
    """What a document links to inside the project, code left out."""
    prose = re.sub(r"(?sm)^```.*?^```", "", text)
    found = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [link for link in found if "://" not in link]


def anchors(text: str) -> set[str]:
    """The names by which headings are linked to."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def code(text: str) -> list[str]:
    return re.findall(r"(?sm)^```\w+\n.*?^```", text)


def test_the_documents_are_there():
    assert {"README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= set(NAMES)
    pages = ("api", "own-model", "training", "measured", "deploy", "design")
    assert {f"docs/{page}.md" for page in pages} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str):
    for link in links(read(name)):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_readme_is_a_door_of_at_most_150_lines():
    text = read("README.md").partition("\n---\n")[2]
    assert 50 < len(text.splitlines()) <= 150


def test_the_chinese_readme_says_the_same():
    english, chinese = read("README.md"), read("README.zh-CN.md")
    assert code(english) == code(chinese) != []
    ours = {link for link in links(english) if link != "README.zh-CN.md"}
    theirs = {link for link in links(chinese) if link != "README.md"}
    assert ours == theirs
    for pattern in (r"STUDIO_\w+", r"\d+(?:\.\d+)? ?%"):
        wanted = set(re.findall(pattern, english.partition("\n---\n")[2]))
        assert wanted == set(re.findall(pattern, chinese))


def test_every_document_is_named_in_the_readme():
    for name in NAMES:
        assert name == "README.md" or f"]({name})" in read("README.md"), name


def test_the_terms_of_every_bundled_weight_are_those_of_its_card():
    terms = dict(
        re.findall(r"^\| `([^`]+)`[^|]* \|[^|]+\| ([^|]+) \|$", read(WEIGHTS), re.MULTILINE)
    )
    for folder in sorted((ROOT / "assets" / "checkpoints").iterdir()):
        card = SpaceCard.load(folder / "README.md").data.to_dict()
        license = card.get("license_name") or card["license"]
        assert terms[f"assets/checkpoints/{folder.name}"].lower().replace(" ", "-") == license


def test_every_weight_file_has_its_terms():
    for path in tracked():
        if path.endswith(".safetensors") and not path.startswith("tests/"):
            named = path.rpartition("/")[2] if "benchmarks/weights/" in path else path
            parents = [path, *(p.as_posix() for p in Path(path).parents)]
            assert any(f"`{p}`" in read(WEIGHTS) for p in (*parents, named)), path


def test_no_file_is_over_9_mb_but_the_one_that_may_be():
    large = {path for path in tracked() if (ROOT / path).stat().st_size > LARGEST_FILE}
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    (hook,) = (hook for hook in hooks if hook["id"] == "large-files")
    assert f"--maxkb={LARGEST_FILE // 1024}" in hook["entry"]
    assert len(large) == 1
    assert re.search(hook["exclude"], large.pop())


def tracked() -> list[str]:
    """The files of the repository; where there is none, all that could be in one."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    listed = done.stdout.splitlines()
    if not listed:
        folders = ("assets", "benchmarks", "docs", "pipelines", "tabs", "tests", "training")
        found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
        listed = [path.relative_to(ROOT).as_posix() for path in found]
    return [path for path in listed if (ROOT / path).is_file()]
