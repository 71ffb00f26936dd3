"""What the page on extending says: one file or folder is enough, and is found everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")

USE = """
import io
import torch
torch.set_num_threads(1)
from gradio_client import Client
from PIL import Image
import app
from benchmarks.soak.server import free_port
from pipelines.products import PRODUCTS
from pipelines.runs import provenance
from pipelines.runs.sweep import parameters, parse_axis, suggestion
from tabs import explain, i18n, warm_up

product = PRODUCTS["warmth"]
assert list(PRODUCTS) == ["color", "text", "digits", "warmth"]

# in the language, and English where that says nothing
assert i18n.LANGUAGES == {"en": "English", "de": "Deutsch", "zh": "中文"}
assert i18n.translate("de", "color.title") == "Farbe"
assert i18n.translate("de", "shared.stop") == "Stop"
assert i18n.preferred_language("de-AT,de;q=0.9") == "de"

# on the page
demo = app.build_demo()
config = demo.get_config_file()
labels = {c["props"].get("elem_id"): c["props"].get("label") for c in config["components"]}
assert labels["warmth-text"] == "Warmth"
assert labels["warmth-seed"] == "Seed"
assert labels["color-hue"] == "Hue"
tabs = [c["props"]["label"] for c in config["components"] if c["type"] == "tabitem"]
assert tabs == ["Colour", "Text", "Digits", "Warmth", "About"]
assert "Deutsch" in str(labels | {c["id"]: c["props"].get("choices") for c in config["components"]})
assert "Red above blue is warm" in explain.page(product, "en")

# in sweeps
assert "warmth" in parameters(product.settings)
assert parse_axis(product.settings, "warmth", "-1..1 x 3").values == (-1.0, 0.0, 1.0)
assert suggestion(product.settings(), "warmth")
assert "hue" in parameters(PRODUCTS["color"].settings)

# in the API
_, url, _ = demo.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True,
                        **app.launch_options())
client = Client(url, verbose=False)
api = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
parameters_of = {name: [p["parameter_name"] for p in api[name]["parameters"]] for name in api}
assert parameters_of["/warmth"][:2] == ["warmth", "guidance_scale"]
assert parameters_of["/color"][-1] == "hue"
asked = {"warmth": 0.6, "model": "emoji", "num_inference_steps": 6}
pictures, info = client.predict(**asked, api_name="/warmth")
assert info["score_after"][0] > info["score_before"][0] + 0.1, info

# in the record and in the link
path = pictures[0] if isinstance(pictures[0], str) else pictures[0]["path"]
record = provenance.read(path)
assert (record.tab, record.settings.warmth, record.settings.model) == ("warmth", 0.6, "emoji")
query = provenance.to_query(record.settings)
assert query.startswith("tab=warmth&warmth=0.6")
from urllib.parse import parse_qsl
assert provenance.from_query(dict(parse_qsl(query))).settings == record.settings
demo.close()
print("found")
"""


def code_under(heading: str, language: str) -> str:
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    return section.split(f"```{language}\n", 1)[1].split("```", 1)[0]


@pytest.mark.timeout(250)
def test_a_product_a_setting_and_a_language_are_added_in_one_place_each(tmp_path: Path):
    for name in ("pipelines", "tabs", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("weights"))
    shutil.copytree(ROOT / "assets" / "words", tmp_path / "assets" / "words")
    for path in (ROOT / "assets").iterdir():
        if path.name != "words":
            (tmp_path / "assets" / path.name).symlink_to(path)
    shutil.copy(ROOT / "app.py", tmp_path)
    products = tmp_path / "pipelines" / "products"
    (products / "warmth.py").write_text(code_under("A product", "python"))
    color = products / "color.py"
    last = re.compile(r"(    eta: float = shared\.noise\(\)\n)")
    added = (
        r"\1    hue: float = setting(0.0, Real(0.0, 1.0), 'Hue', 'of nothing', group='advanced')\n"
    )
    color.write_text(last.sub(added, color.read_text()))
    german = tmp_path / "assets" / "words" / "de"
    german.mkdir()
    (german / "page.toml").write_text(code_under("A language", "toml"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.endswith("found\n"), done.stderr
