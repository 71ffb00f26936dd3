"""What all model cards share: file names, tables, wrapped paragraphs, front matter."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from huggingface_hub import ModelCardData

CARD_FILE = "README.md"
FACTS_FILE = "recipe.json"
FIGURES_FILE = "figures.json"
SAMPLES_FILE = "samples.png"
NETWORKS_FILE = "unets.py"
"""What a repository with a network of our own has besides, so that it can be loaded."""

ANSWERS = {
    "epsilon": "the noise in `x_t`",
    "v_prediction": "v, which is alpha · noise - sigma · picture",
    "sample": "the clean picture",
}


_FROM_HUB = """\
import sys
from huggingface_hub import snapshot_download

folder = snapshot_download("{repo_id}")
sys.path.append(folder)
from unets import {network}

unet = {network}.from_pretrained(folder, subfolder="unet")
"""
WHERE_FROM_HUB = (
    f". The network's class is the project's own; `{NETWORKS_FILE}`, which defines it with "
    "diffusers and nothing else, comes with the weights"
)


def load_from_hub(network: str, repo_id: str) -> str:
    """Python that loads a network of our own from the Hub, without the project."""
    return _FROM_HUB.format(network=network, repo_id=repo_id)


def with_front_matter(metadata: ModelCardData, text: str) -> str:
    """The card with the Hub's metadata on top."""
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}"


def table(header: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    """A Markdown table of two columns."""
    lines = [header, ("---", "---"), *rows]
    return "\n".join(f"| {left} | {right} |" for left, right in lines)


def wrap(paragraph: str) -> str:
    """A paragraph in lines of at most 100 characters."""
    return textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False)


def errors_table(errors: Mapping[str, float]) -> str:
    """The validation errors, per timestep, or why there are none."""
    if not errors:
        return (
            "There were too few pictures to hold any out, or the data had changed, so no errors "
            "were measured."
        )
    return table(("timestep", "error"), [(t, f"{error:.4f}") for t, error in errors.items()])


def figures_table(figures: Mapping[str, Any]) -> str:
    """What benchmarks measured, or a sentence if none did."""
    if not figures:
        return "No benchmark figures have been recorded for these weights."
    rows = [(figure["label"], figure["value"]) for figure in figures.values()]
    return table(("benchmark", "figure"), rows)


def steps_done(facts: Mapping[str, Any]) -> str:
    """The steps, and of how many if the run is unfinished."""
    steps, planned = facts["steps"], facts["recipe"]["max_steps"]
    return f"{steps:,}" if steps == planned else f"{steps:,} of {planned:,}"


def remark_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The remark that may be added to the facts by hand."""
    return [("remark", facts["remark"])] if "remark" in facts else []


def loss_weights(recipe: Mapping[str, Any]) -> str:
    """How the timesteps are weighted."""
    clamp = recipe["snr_gamma"]
    return f"min-SNR, clamped at {clamp:g}" if clamp else "none"


def pictures_per_step(recipe: Mapping[str, Any]) -> int:
    """Pictures that one optimizer step learned from."""
    division = ("batch_size", "grad_accumulation_steps", "num_processes")
    batch_size, passes, processes = (recipe.get(name, 1) for name in division)
    return batch_size * passes * processes


def command_line(module: str, options: Iterable[str]) -> str:
    """A command on several lines."""
    return " \\\n  ".join([module, *options])
