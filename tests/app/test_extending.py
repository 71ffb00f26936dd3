"""What the page on extending says: one file or folder is enough, and is found everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.diffusion import plugins

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
assert list(PRODUCTS) == ["color", "text", "digits", "edit", "warmth"]

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
assert tabs == ["Colour", "Text", "Digits", "Edit", "Warmth", "About"]
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
@pytest.mark.thorough
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
    last = re.compile(r"(    computed_by: str = shared\.computed_by\(\)\n)")
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


OWN = """
import dataclasses
import pickle
from urllib.parse import parse_qsl
import torch
torch.set_num_threads(1)
import app
from pipelines.core.errors import UserError
from pipelines.diffusion import plugins
from pipelines.products import PRODUCTS, color, text
from pipelines.products.settings import ColorSettings, TextSettings
from pipelines.runs import provenance
from pipelines.runs.sweep import Axis, parse_axis, sweep
from tabs import about, sweeps

broken, mine = plugins.PLUGINS
assert not mine.problem, mine.problem
assert list(mine.losses) == ["warmth"] and list(mine.methods) == ["gentle"]
assert "ZeroDivisionError" in broken.problem
page = about.text("en")
assert mine.sha256[:16] in page and "warmth, gentle" in page and "ZeroDivisionError" in page

demo = app.build_demo()
api = demo.get_api_info()["named_endpoints"]
for name in ("/color", "/text", "/edit"):
    assert api[name]["parameters"][-1]["parameter_name"] == "warmth"
components = [c["props"] for c in demo.get_config_file()["components"]]
labels = {props.get("elem_id"): props.get("label") for props in components}
assert labels["color-warmth"] == labels["text-warmth"] == labels["edit-warmth"] == "Warmth"
assert parse_axis(ColorSettings, "warmth", "0, 1").values == (0.0, 1.0)

given = ColorSettings(warmth=1, method="gentle", model="emoji", num_inference_steps=4, color="gray")
*_, own = color.generate(given)
*_, plain = color.generate(dataclasses.replace(given, warmth=0))
assert own.pictures[0].tobytes() != plain.pictures[0].tobytes()
facts = color.PRODUCT.metadata(own)
assert facts["plugins"] == ["warmth", "gentle"]
assert facts["settings"]["warmth"] == 1
assert "warmth" not in color.PRODUCT.metadata(plain)["settings"]
assert provenance.from_facts(facts).settings == own.settings
from tabs.tab import _restored
other = facts | {"plugin_files": facts["plugin_files"] | {"warmth": "0" * 64}}
assert provenance.changed_plugins(provenance.from_facts(facts)) == []
assert provenance.changed_plugins(provenance.from_facts(other)) == ["warmth"]
assert "The file of warmth is another" in _restored(provenance.from_facts(other), "en")[-1]
query = dict(parse_qsl(provenance.to_query(own.settings)))
assert provenance.from_query(query).settings == own.settings
*_, grid = sweep(given, parse_axis(ColorSettings, "seed", "1"), Axis("", (None,)), color.generate)
saved = provenance.read_facts(sweeps.save(color.PRODUCT, grid))
assert saved["plugins"] == facts["plugins"]
assert saved["revisions"] == facts["revisions"]
assert provenance.from_facts(saved).settings == grid.settings

def refusal(function, argument):
    try:
        function(argument)
    except UserError as error:
        return str(error)

missing = "This run used 'coldness', a loss or method of somebody's own"
assert refusal(provenance.from_facts, facts | {"plugins": ["coldness"]}).startswith(missing)
assert refusal(provenance.from_query, query | {"plugins": "coldness"}).startswith(missing)
assert pickle.loads(pickle.dumps(own.settings)) == own.settings
print("found")
"""


@pytest.mark.timeout(250)
@pytest.mark.thorough
def test_losses_and_methods_of_ones_own_are_found_everywhere(tmp_path: Path):
    (tmp_path / "mine.py").write_text(code_under("Losses and methods of your own", "python"))
    (tmp_path / "broken.py").write_text("LOSSES = {'x': 1 / 0}")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "STUDIO_PLUGINS": f"{tmp_path / 'broken.py'}, {tmp_path / 'mine.py'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", OWN], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.endswith("found\n"), done.stderr


METHOD = """
from dataclasses import replace
from pipelines.diffusion.methods import METHODS
B = METHODS['fast']"""
LOSS = "class L:\n    polyak = 1.0\n    def __call__(self, x0):\n        return x0"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("LOSSES = {'Warm': abs}", "names must be a-z, 0-9 and _, got 'Warm'"),
        ("METHODS = {'balanced': 1}", "names must be new, got 'balanced'"),
        ("METHODS = {'mine': 1}", "METHODS must be of type Method, got 1 for 'mine'"),
        ("LOSSES = {'warm': 7}", "loss must be a function of x0, got 7"),
        ("LOSSES = {'warm': lambda x0: 1.0}", "loss must return a tensor of shape (2,), got float"),
        ("x = 1", "the file must have LOSSES or METHODS, by name, got neither"),
        ("def", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise RuntimeError", "RuntimeError"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("LOSSES = [abs]", "LOSSES must be a dictionary by name, got list"),
        ("METHODS = None", "METHODS must be a dictionary by name, got NoneType"),
        (f"LOSSES = {{'{'w' * 41}': abs}}", "names must be at most 40 letters, got 41"),
        ("LOSSES = {'class': abs}", "names must not be words of Python or of a link, got 'class'"),
        ("LOSSES = {'tab': abs}", "names must not be words of Python or of a link, got 'tab'"),
        (f"{METHOD}\nLOSSES = {{'m': abs}}\nMETHODS = {{'m': B}}", "names must be new, got 'm'"),
        (f"{METHOD}\nMETHODS['m'] = B", "not in the studio's"),
        (f"{METHOD}\nMETHODS = {{'m': replace(B, solver='x')}}", "solver of m must be one of"),
        (f"{METHOD}\nMETHODS = {{'m': replace(B, max_scale=-1)}}", "scales of m must be 0 <"),
        (f"{METHOD}\nMETHODS = {{'m': replace(B, eta=7)}}", "eta of m must be a number"),
        (f"{METHOD}\nMETHODS = {{'m': replace(B, step=lambda *a: 1)}}", "m fails: it must return"),
        (f"{LOSS}.sum()\nLOSSES = {{'warm': L()}}", "must give one value per image, (2,)"),
        (f"{LOSS}.mean((1, 2, 3)) * float('nan')\nLOSSES = {{'warm': L()}}", "got nan"),
        (
            "LOSSES = {'warm': lambda x0: x0.reshape(2, -1, 256).mean((1, 2))}",
            "warm fails: loss must give",
        ),
        (None, "the file cannot be read: No such file or directory"),
    ],
)
def test_a_broken_file_says_why(code: str | None, problem: str, tmp_path: Path):
    path = tmp_path / "mine.py"
    if code is not None:
        path.write_text(code)
    found = plugins._load(str(path), [])
    assert problem in found.problem
    assert not found.losses
    assert not found.methods


IN_USE = """
import torch
from pipelines.core.errors import UserError
from pipelines.diffusion import plugins
from pipelines.products import color
from pipelines.products.settings import ColorSettings, TextSettings
from tabs import about

plain = dict(model="emoji", num_inference_steps=2, num_images=1, color="gray")
taken = ("brightness", "check_together", "methods", "seed")
for name in taken:
    assert name not in plugins.losses_of(ColorSettings), name
assert plugins.losses_of(ColorSettings) == ("failing", "prompt")
assert plugins.losses_of(TextSettings) == ("brightness", "failing")
assert plugins.used_by(ColorSettings(seed=3, brightness=0.5)) == []
assert "not everywhere" in about.text("en") and "brightness" in about.text("en")
*_, drawn = color.generate(ColorSettings(seed=3, **plain))
assert "plugins" not in color.PRODUCT.metadata(drawn)
assert color.PRODUCT.metadata(drawn)["settings"]["seed"] == 3
try:
    list(color.generate(ColorSettings(failing=1, **plain)))
except UserError as error:
    told = str(error)
assert told == "failing, a loss or method of FILE, failed: not today", told
print("found")
"""

TAKEN = """
def loss(x0):
    return x0.square().mean((1, 2, 3))

def failing(x0):
    if not x0.requires_grad or x0.std() < 100 and len(calls) > 2:
        raise RuntimeError("not today")
    calls.append(0)
    return loss(x0)

calls = []
LOSSES = dict.fromkeys(("brightness", "check_together", "methods", "seed", "prompt"), loss)
LOSSES["failing"] = failing
"""


@pytest.mark.timeout(250)
def test_names_that_a_tab_has_already_are_left_out_of_it(tmp_path: Path):
    file = tmp_path / "taken.py"
    file.write_text(TAKEN)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "STUDIO_PLUGINS": str(file)}
    code = IN_USE.replace("FILE", str(file))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.endswith("found\n"), done.stderr
