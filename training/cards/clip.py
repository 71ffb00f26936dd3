"""The text of the model card of a small CLIP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from huggingface_hub import ModelCardData

from training.cards.parts import (
    command_line,
    figures_table,
    remark_rows,
    steps_done,
    table,
    with_front_matter,
    wrap,
)
from training.clip.pairs import SOURCES
from training.core import sources

_TEXT = """\
# {name}

{purpose}

## How to load it

{load}
{what}

## Data and terms

{data}

## Recipe

{recipe}

```sh
{command}
```

## Measured

On pictures that it was not trained on:

{figures}

{benchmarks}

## What it cannot do

{limits}
"""

_FROM_FOLDER = """\
In a notebook, in the project's folder:

```python
import open_clip

folder = "{folder}"
model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{{folder}}")
model.eval()  # it comes ready for training
tokenizer = open_clip.get_tokenizer(
    f"local-dir:{{folder}}", bpe_path=f"{{folder}}/bpe_simple_vocab.txt.gz"
)
```
"""
_FROM_HUB = """\
In a notebook:

```python
import open_clip
from huggingface_hub import hf_hub_download

model, preprocess = open_clip.create_model_from_pretrained("hf-hub:{repo_id}")
model.eval()  # it comes ready for training
tokenizer = open_clip.get_tokenizer(
    "hf-hub:{repo_id}",
    bpe_path=hf_hub_download("{repo_id}", "bpe_simple_vocab.txt.gz"),
)
embedding = model.encode_text(tokenizer(["ships on the sea"]), normalize=True)
```
"""

_PURPOSE = (
    "A small CLIP for pictures of 64 x 64 pixels: it tells how well a sentence fits a picture, and "
)
_GUIDES = "is made to guide a diffusion model, on a CPU and without a network."
_JUDGES = "is made to judge what another one guided; it never saw half-formed pictures."

_TERMS = (
    "Flickr8k is for non-commercial research, as are the files of WikiArt (works made 1929 or "
    "before); the terms of the Intel scene images are unclear: research. The flowers are CC BY "
    "2.0, the emoji (Noto and Blob) Apache 2.0. "
)
_MORE_EMOJI = (
    "Of the other emoji, Fluent is under the MIT licence (Microsoft), Twemoji under CC BY 4.0 "
    "(Twitter and jdecked), FxEmoji under Apache 2.0 (Mozilla). "
)
_TERMS_OF_WEIGHTS = "These weights: non-commercial research."


def render(facts: Mapping[str, Any], figures: Mapping[str, Any], repo_id: str = "") -> str:
    """The card's text.

    Args:
        facts: what `training.export_clip` wrote to `recipe.json`; a `remark` may be added.
        figures: what a benchmark wrote to `figures.json`; empty if none was run.
        repo_id: where on the Hub it can be loaded from; empty is the folder.
    """
    text = _TEXT.format(
        name=facts["name"],
        load=(_FROM_HUB if repo_id else _FROM_FOLDER).format(
            folder=facts["folder"], repo_id=repo_id
        ),
        purpose=wrap(_PURPOSE + (_GUIDES if facts["half_formed_share"] else _JUDGES)),
        what=wrap(" ".join(_what(facts))),
        data=wrap(f"Pairs of picture and sentence: {_pairs(facts)}. {_SENTENCES} {_terms(facts)}"),
        recipe=table(("setting", "value"), _recipe(facts)),
        command=_commands(facts),
        figures=_measured(facts["figures"]),
        benchmarks=figures_table(figures),
        limits=wrap(_LIMITS),
    )
    metadata = ModelCardData(
        license="other",
        license_name="non-commercial-research",
        library_name="open_clip",
        pipeline_tag="zero-shot-image-classification",
        tags=["clip", "guidance"],
        datasets=_hub_datasets(facts["pairs"]) or None,
    )
    return with_front_matter(metadata, text)


_SENTENCES = (
    "Flickr8k has sentences that people wrote; those on paintings are made of genre, title, "
    "style, artist and main colours, those on scenes and flowers of the label, those on emoji of "
    "name, keywords, the everyday word for the thing, and main colour. Emoji come in their own "
    "colours and twice in others, those of everyday things six times, on grounds of any colour."
)
_LIMITS = (
    "It saw some ten thousand words a few times each: it knows portraits, landscapes, streets, "
    "dogs, children and colours, and little else; `words.txt` lists what it saw at least three "
    "times. Counting, relations and writing are beyond it. It repeats what its data take for "
    "granted about people. Do not use it to judge people or to filter content."
)


def _what(facts: Mapping[str, Any]) -> Iterator[str]:
    image, text = facts["image_parameters"], facts["text_parameters"]
    yield (
        f"The vocabulary is its own ({facts['vocabulary']:,} tokens: those of CLIP's 49,408 that "
        "its sentences use), hence `bpe_path`; without it the tokens are wrong. "
        f"Sentences have at most {facts['context_length'] - 2} tokens. The picture's tower is a "
        f"{facts['recipe']['architecture']} of {image / 1e6:.1f} million parameters, the text's a "
        f"transformer of {text / 1e6:.1f} million."
    )
    if facts["half_formed_share"]:
        yield (
            f"{facts['half_formed_share']:.0%} of the pictures it learned from were shown as a "
            f"diffusion model ({_formers(facts)}) predicts them from a random "
            "level of noise, since that is what guidance looks at; all were cropped, and some "
            "blurred or made noisy."
        )


def _formers(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name.strip()}`" for name in facts["recipe"]["half_formed"].split(","))


def _hub_datasets(pairs: Mapping[str, int]) -> list[str]:
    """Ids for the Hub's links, of those that are a part of a data set there."""
    known = (sources.SOURCES.get(name, sources.OTHER) for name in pairs)
    return [source.subset_of for source in known if source.subset_of]


def _pairs(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count:,} of `{name}`" for name, count in facts["pairs"].items())


def _terms(facts: Mapping[str, Any]) -> str:
    more = "emoji-more" in facts["pairs"]
    left_out = "What `training/held_out.toml` names was left out. " if more else ""
    return left_out + _TERMS + (_MORE_EMOJI if more else "") + _TERMS_OF_WEIGHTS


def _recipe(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe = facts["recipe"]
    seen = facts["steps"] * recipe["batch_size"]
    return [
        ("loss", "CLIP's, pictures of the same sentence being right answers to one another"),
        ("optimizer", f"AdamW, learning rate {recipe['lr']:g}, half a cosine"),
        ("steps", f"{steps_done(facts)} of {recipe['batch_size']} pairs ({seen:,} pairs)"),
        *_went_on_from(facts),
        *_harder(facts),
        *_blended(facts),
        ("averaged weights", f"decay {recipe['ema_decay']:g}"),
        ("arithmetic", recipe["mixed_precision"]),
        ("seed", str(recipe["seed"])),
        ("time", f"{facts['seconds'] / 60:.0f} min on {facts['device']}"),
        *remark_rows(facts),
    ]


def _went_on_from(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for run in facts.get("earlier", []):
        seen = run["steps"] * run["recipe"]["batch_size"]
        yield (
            "went on from",
            f"{run['steps']:,} steps, {seen:,} pairs, {run['seconds'] / 60:.0f} min on "
            f"{run['device']}",
        )


def _harder(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    recipe = facts["recipe"]
    share = recipe.get("same_source_share", 0.0)
    focus = recipe.get("focus", "")
    if share:
        sets = " and ".join(f"`{name.strip()}`" for name in focus.split(","))
        most = f", {facts['focus_share']:.0%} of them of {sets}" if focus else ""
        yield "pairs of a step", f"all of one data set in {share:.0%} of the steps{most}"
    radius = recipe.get("adversarial_radius", 0.0)
    if radius:
        yield (
            "misread pictures",
            f"each is moved to where it is read worst, by at most 0 to {radius:g} (Euclidean, of "
            "pictures in [-1, 1]; Madry et al. 2018, arXiv:1706.06083)",
        )


def _blended(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    blended = facts.get("blended")
    if blended:
        yield (
            "mixed in",
            f"{blended['share']:.0%} of the weights are those of `{blended['name']}`, from which "
            "it went on (Wortsman et al. 2022, arXiv:2109.01903)",
        )


def _commands(facts: Mapping[str, Any]) -> str:
    """The command lines that repeat the training, where the same data sets lie.

    Each run but the first goes on from the one before, which a name of its own keeps.
    """
    runs = [*facts.get("earlier", []), facts]
    lines = []
    for number, run in enumerate(runs, start=1):
        is_last = number == len(runs)
        places: dict[str, Any] = {"start_model": f"runs/part-{number - 1}/checkpoint"}
        places = places if number > 1 else {}
        name = facts["name"] if is_last else f"part-{number}"
        if not is_last:
            places["model_save_name"] = name
        lines.append(_command(run["recipe"] | places))
        if run.get("blended"):
            run_folder = "runs/clip-small" if is_last else f"runs/{name}"
            folder = name if is_last else f"runs/{name}/checkpoint"
            lines.append(_blend_command(run["blended"], run_folder, folder))
    return "\n".join(lines)


def _blend_command(blended: Mapping[str, Any], run_folder: str, folder: str) -> str:
    options = [
        f"{run_folder} {folder}",
        f"--blend-with runs/{blended['name']}/checkpoint",
        f"--blend-share {blended['share']:g}",
    ]
    return command_line("python -m training.export_clip", options)


def _command(recipe: Mapping[str, Any]) -> str:
    renamed = {"half_formed": "half_formed_by"}
    told = {"same_source_share": 0.0, **recipe}
    kept = {renamed.get(name, name): told[name] for name in told if name != "datasets"}
    if list(recipe["datasets"]) != list(SOURCES):  # those that are taken where none are named
        kept = {"datasets": ",".join(recipe["datasets"]), **kept}
    unless_empty = {"start_model", "focus"}
    kept = {name: value for name, value in kept.items() if value != "" or name not in unless_empty}
    options = [f"--{name.replace('_', '-')} {quote(str(kept[name]))}" for name in kept]
    return command_line("python -m training.train_clip", options)


def _measured(figures: Mapping[str, Mapping[str, float]]) -> str:
    rows = [(name, f"{value} (chance {chance})") for name, value, chance in figure_rows(figures)]
    return table(("measure", "figure"), rows)


def figure_rows(figures: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str, str]]:
    """What `clip_judging.judge` found, as `(measure, figure, chance)`."""
    rows = []
    for name, of in figures.items():
        if "accuracy" in of:
            label = f"zero-shot label, {of['pictures']:.0f} of `{name}`"
            rows.append((label, f"{of['accuracy']:.1%}", f"{of['chance']:.1%}"))
            continue
        for key, value in of.items():
            if not key.startswith("chance"):
                chance = of[f"chance, {key.rsplit(' ', 1)[1]}"]
                rows.append((f"`{name}`, {key}", f"{value:.1%}", f"{chance:.1%}"))
    return rows
