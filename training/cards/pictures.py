"""The text of the model card of a model of pictures."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from pipelines.models.table import TABLE
from training.cards import words
from training.cards.parts import (
    ANSWERS,
    SAMPLES_FILE,
    WHERE_FROM_HUB,
    command_line,
    errors_table,
    figures_table,
    load_from_hub,
    loss_weights,
    pictures_per_step,
    remark_rows,
    steps_done,
    table,
    with_front_matter,
    wrap,
)
from training.core.file_kinds import LEFT_OUT
from training.core.sources import FREE, OTHER, SOURCES, Source, strictest

_STOCK = """\
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained("{source}")
"""
_OWN = """\
from pipelines.unets import {network}

unet = {network}.from_pretrained("{source}", subfolder="unet")
"""
_OWN_DRAWS = """\
from diffusers import DDPMPipeline, DDPMScheduler

scheduler = DDPMScheduler.from_pretrained("{source}", subfolder="scheduler")
pipeline = DDPMPipeline(unet, scheduler)
pipeline(num_inference_steps=50).images[0]
"""
_HUB_DRAWS = """\
from diffusers import DDPMPipeline, DDPMScheduler

scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
pipeline = DDPMPipeline(unet, scheduler)
pipeline(num_inference_steps=50).images[0]
"""
_STOCK_DRAWS = """\
pipeline(num_inference_steps=50).images[0]
"""

_TEXT = """\
# {name}

{summary}

![{num_samples} pictures that this model drew]({samples})

{told} in {drawn}.

## What it is

{what}

## How to load it

{where}

```python
{load}```

{call}

{how}:

```python
{draw}```

## Data and terms

{data}

## Recipe

{recipe}

```sh
{command}
```

## Measured

{errors}

{figures}

## What it cannot do

{limits}
"""


def render(facts: Mapping[str, Any], figures: Mapping[str, Any], repo_id: str = "") -> str:
    """The card's text.

    Args:
        facts: what `training.export_pictures` wrote to `recipe.json`; a `remark` may be added.
        figures: what a benchmark wrote to `figures.json`; empty if none was run.
        repo_id: where on the Hub it can be loaded from; empty is where the facts say.
    """
    recipe, samples, stock = facts["recipe"], facts["samples"], facts["network"] == "UNet2DModel"
    where, load, draw = _code(facts, repo_id)
    text = _TEXT.format(
        name=facts["name"],
        summary=_summary(facts),
        num_samples=samples["num_images"],
        samples=SAMPLES_FILE,
        told=words.drawn(facts),
        drawn=f"{samples['num_inference_steps']} steps of {samples['solver']}, seeds 0 to "
        f"{samples['num_images'] - 1}",
        what=wrap(" ".join(_what(facts))),
        where=wrap(where),
        load=load,
        call=wrap(_call(facts, "pipeline.unet" if stock else "unet")),
        how="To draw" if words.conditions_of(facts) else "To draw a picture in diffusers' own way",
        draw=draw,
        data=wrap(" ".join(dict.fromkeys(_data(facts)))),
        recipe=table(("what", "value"), _recipe_rows(facts)),
        command=_command(facts),
        errors=_errors(facts),
        figures=figures_table(figures),
        limits="\n".join(_limits(facts)),
    )
    tuned = ["fine-tuned"] if recipe["start_model"] else []
    licence = _licence(facts)
    metadata = ModelCardData(
        license=licence if licence in FREE else "other",
        license_name=None if licence in FREE else licence,
        library_name="diffusers",
        tags=["diffusion", words.task_of(facts), "pictures", *tuned],
        datasets=_hub_datasets(facts),
        base_model=_base_model(recipe["start_model"]),
        pipeline_tag=words.task_of(facts),
    )
    return with_front_matter(metadata, text)


def _licence(facts: Mapping[str, Any]) -> str:
    """That of the data, of the start models and of the CLIP, whose terms go on: the strictest."""
    used = [*_datasets(facts)]
    for model in _ancestors(facts):
        used += model["dataset_name"].split(",") if "dataset_name" in model else []
    of_data = [SOURCES.get(name, OTHER).licence for name in used]
    return strictest([*of_data, *words.licences(facts)])


def _datasets(facts: Mapping[str, Any]) -> list[str]:
    """What it was trained on; older facts tell of a single data set."""
    return facts.get("datasets") or [facts["recipe"]["dataset_name"]]


def _code(facts: Mapping[str, Any], repo_id: str) -> tuple[str, str, str]:
    """Where the code runs, in a sentence; what loads the model; what draws with it."""
    network, source = facts["network"], repo_id or facts["source"]
    if words.conditions_of(facts):
        return words.code(facts, repo_id)
    if network == "UNet2DModel":
        return "In a notebook:", _STOCK.format(source=source), _STOCK_DRAWS
    if repo_id:
        return f"In a notebook{WHERE_FROM_HUB}:", load_from_hub(network, repo_id), _HUB_DRAWS
    code = {"source": source, "network": network}
    where = "In a notebook in the project's folder:"
    return where, _OWN.format(**code), _OWN_DRAWS.format(**code)


def _base_model(start_model: str) -> str | None:
    """The start model if it is one of the Hub, where every id has an owner."""
    return start_model if "/" in start_model else None


def _summary(facts: Mapping[str, Any]) -> str:
    recipe = facts["recipe"]
    how = "fine-tuned" if recipe["start_model"] else "trained from scratch"
    titles = " and ".join(map(_title, _datasets(facts)))
    kind = "A conditional" if words.conditions_of(facts) else "An unconditional"
    told = f" that is told {words.in_words(facts)}," if words.conditions_of(facts) else ""
    return wrap(
        f"{kind} diffusion model of pictures of {recipe['image_size']}×"
        f"{recipe['image_size']} px,{told} {how} on {titles}, made with Guided Diffusion Studio."
    )


def _title(dataset: str) -> str:
    source = SOURCES.get(dataset)
    return source.title if source else f"`{dataset}`"


def _what(facts: Mapping[str, Any]) -> Iterator[str]:
    colours = "in colour" if facts["channels"] == 3 else "in grey"
    yield (
        f"A network of {facts['parameters'] / 1e6:.1f} million parameters (`{facts['network']}`) "
        f"that takes the noise out of pictures {colours}, step by step, until noise alone has "
        "become a picture."
    )
    if words.conditions_of(facts):
        yield from words.what(facts)
    child, model = f"`{facts['name']}`", facts["started_from"]
    while model:
        yield f"{child} was fine-tuned from `{model['name']}`, {_trained(model)}."
        child, model = f"`{model['name']}`", model.get("started_from")


def _trained(model: Mapping[str, Any]) -> str:
    if "steps" not in model:
        return "whose own training is not recorded here"
    begun = (
        "which was itself trained" if model["started_from"] else "which was trained from scratch"
    )
    return (
        f"{begun} on {_in_words(model['dataset_name'])} for {model['steps']:,} steps "
        f"({model['pictures_seen']:,} pictures of {model['image_size']} px)"
    )


def _in_words(dataset_name: str) -> str:
    return " and ".join(f"`{name}`" for name in dataset_name.split(","))


def _call(facts: Mapping[str, Any], unet: str) -> str:
    if words.conditions_of(facts):
        return words.call(facts)
    shape = f"(b, {facts['channels']}, {facts['recipe']['image_size']}, "
    return (
        f"Call the network with `{unet}(x_t, t)`: pictures "
        f"`{shape}{facts['recipe']['image_size']})` in [-1, 1], timesteps 0 to "
        f"{facts['num_timesteps'] - 1}. It answers with {ANSWERS[facts['recipe']['prediction']]}."
    )


def _data(facts: Mapping[str, Any]) -> Iterator[str]:
    names, total = _datasets(facts), facts["num_pictures"] + facts["held_out"]
    told = [SOURCES.get(name, OTHER) for name in names]
    of = _several(names, total) if len(names) > 1 else _one(facts, names[0], total)
    less = f", less {facts['held_out']} held out for the errors below" if facts["held_out"] else ""
    yield f"Trained on {of}{less}. Of each picture the middle square was taken."
    if facts["skipped"]:
        yield f"{facts['skipped']:,} more could not be read."
    for reason, count in facts.get("left_out", {}).items():
        yield f"Not used: {count:,} {LEFT_OUT[reason].partition(';')[0]}."
    if words.conditions_of(facts):
        yield from words.data(facts)
    elif facts.get("captions"):
        yield f"{facts['captions']:,} pictures had a caption, of which nothing was learned."
    if facts["enlarged"]:
        yield f"{facts['enlarged']:,} were smaller and were scaled up."
    if any(source.kind for source in told) and "datasets" in facts:
        yield "What `training/held_out.toml` names was left out."
    yield from dict.fromkeys(source.terms for source in told)
    for model in _ancestors(facts):
        for name in model.get("dataset_name", "").split(","):
            inherited = SOURCES.get(name)
            if inherited and inherited not in told:
                yield f"The start model `{model['name']}` was trained on {inherited.title}."
                yield inherited.terms
                told.append(inherited)


def _one(facts: Mapping[str, Any], name: str, total: int) -> str:
    """So many pictures of a data set."""
    source = SOURCES.get(name, OTHER)
    kind = _kind(source)
    if not facts["data_is_local"]:
        return f"{total:,} pictures of {_link(name)}{kind}"
    if source.subset_of:
        return f"`{name}`{kind}, a subset of {total:,} pictures of {_link(source.subset_of)}"
    return f"the {total:,} pictures of a folder `{name}`{kind}"


def _several(names: Sequence[str], total: int) -> str:
    """So many pictures of several data sets."""
    of = (f"`{name}`{_kind(SOURCES.get(name, OTHER)).replace(',', ':', 1)}" for name in names)
    return f"the {total:,} pictures of {len(names)} data sets ({'; '.join(of)})"


def _kind(source: Source) -> str:
    return f", {source.title}" if source.title else ""


def _link(dataset: str) -> str:
    return f"[`{dataset}`](https://huggingface.co/datasets/{dataset})"


def _ancestors(facts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    model = facts["started_from"]
    while model:
        yield model
        model = model.get("started_from")


def _hub_datasets(facts: Mapping[str, Any]) -> list[str] | None:
    """Ids for the Hub's links; a folder of one's own has none."""
    names = _datasets(facts)
    if not facts["data_is_local"]:
        return names
    known = (SOURCES.get(name, OTHER).subset_of for name in names)
    return [subset_of for subset_of in known if subset_of] or None


def _recipe_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe = facts["recipe"]
    processes = recipe["num_processes"]
    per_step = pictures_per_step(recipe)
    division = f"{recipe['batch_size']} × {recipe['grad_accumulation_steps']} × {processes}"
    return [
        ("start model", f"`{recipe['start_model']}`" if recipe["start_model"] else "none"),
        ("data set", f"{_data_sets(facts)}, {facts['num_pictures']:,} pictures"),
        ("size", f"{recipe['image_size']} px"),
        ("steps", steps_done(facts)),
        *_extensions(facts),
        ("pictures per step", f"{per_step} (batch × accumulation × processes: {division})"),
        ("pictures seen", f"{facts['steps'] * per_step:,}"),
        *_rows_told(recipe),
        *words.rows(facts),
        *_grounds(recipe),
        ("mirrored", "half of the pictures" if recipe["flip"] else "none"),
        ("what the network predicts", f"`{recipe['prediction']}`"),
        ("loss weights", loss_weights(recipe)),
        ("noise schedule", f"`{facts['schedule']}`, {facts['num_timesteps']:,} timesteps"),
        ("timesteps", "stratified over the step"),
        ("optimizer", f"AdamW, {facts['optimizer']}"),
        ("learning rate", f"{recipe['lr']:g}, after {recipe['warmup_steps']:,} steps of warm-up"),
        ("learning rate schedule", "half cosine down to 1 %"),
        ("averaged weights", f"EMA, decay {recipe['ema_decay']:g}; these are the ones saved"),
        ("seed", f"{recipe['seed']}"),
        ("time", f"{facts['seconds'] / 3600:.2f} hours of training steps"),
        ("device", f"{facts['device']}" + (f", {processes} processes" if processes > 1 else "")),
        ("parameters", f"{facts['parameters']:,}"),
        *remark_rows(facts),
    ]


def _extensions(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A finished run that went on says where."""
    if facts.get("extended_at"):
        at = ", ".join(f"{step:,}" for step in facts["extended_at"])
        yield "went on after steps", f"{at}, each time with a new learning-rate schedule"


def _data_sets(facts: Mapping[str, Any]) -> str:
    return " and ".join(f"`{name}`" for name in _datasets(facts))


def _rows_told(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if recipe.get("exclude"):
        yield "left out of the data", f"`{recipe['exclude']}`"
    if recipe.get("focus"):
        yield "about half of the pictures are of", f"`{_in_table(recipe['focus'])}`"


def _grounds(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if recipe.get("grounds", "white") == "colors":
        yield "what is transparent", "stands on a ground of another colour every time"
    if recipe.get("recolor"):
        yield "hues", f"turned on their circle in {recipe['recolor']:.0%} of the pictures"


def _command(facts: Mapping[str, Any]) -> str:
    """The command line that repeats the training."""
    recipe = facts["recipe"]
    ends = [*facts.get("extended_at", []), recipe["max_steps"]]
    alike = {k: v for k, v in recipe.items() if k not in _SPELLED_OUT} | {"max_steps": ends[0]}
    options = [
        f"--start-model {_start_model(facts)}" if recipe["start_model"] else "--from-scratch",
        f"--dataset-name {shlex.quote(_places(facts))}",
        *([f"--image-column {recipe['image_column']}"] if recipe["image_column"] else []),
        *_row_options(recipe),
        *words.options(facts),
        f"--model-save-name {facts['name']}",
        *(f"--{name.replace('_', '-')} {value}" for name, value in alike.items()),
        "--flip" if recipe["flip"] else "--no-flip",
    ]
    processes = recipe["num_processes"]
    launch = f"torchrun --nproc_per_node {processes}" if processes > 1 else "python"
    module = f"{launch} -m training.finetune_model"
    later = (
        f"{module} --resume --model-save-name {facts['name']} --max-steps {end}" for end in ends[1:]
    )
    return "\n".join([command_line(module, options), *later])


def _places(facts: Mapping[str, Any]) -> str:
    """Where the data sets of a command lie."""
    folder = "data/" if facts["data_is_local"] else ""
    return ",".join(f"{folder}{name}" for name in _datasets(facts))


def _in_table(text: str) -> str:
    """What stands in a cell of a table, where a bar would end it."""
    return text.replace("|", "\\|")


def _row_options(recipe: Mapping[str, Any]) -> Iterator[str]:
    """The same as options, quoted for a shell."""
    for name in ("exclude", "focus"):
        if recipe.get(name):
            yield f"--{name} {shlex.quote(recipe[name])}"
    if recipe.get("recolor"):
        yield f"--recolor {recipe['recolor']:g}"


_SPELLED_OUT = {
    "start_model",
    "dataset_name",
    "image_column",
    "exclude",
    "focus",
    "recolor",
    "num_processes",
    "flip",
    *words.OPTIONS,
}


def _start_model(facts: Mapping[str, Any]) -> str:
    name = facts["recipe"]["start_model"]
    own_run = "steps" in facts["started_from"] and name not in TABLE
    return f"runs/{name}/checkpoint" if own_run else name


def _errors(facts: Mapping[str, Any]) -> str:
    if not facts["validation_x0_error"]:
        return errors_table({})
    last = facts["num_timesteps"] - 1
    explained = wrap(
        "Mean squared error of the predicted clean picture, in the range [-1, 1], on the "
        f"{facts['held_out']} pictures held out, per timestep (0 is clean, {last} is noise):"
    )
    return f"{explained}\n\n{errors_table(facts['validation_x0_error'])}"


def _limits(facts: Mapping[str, Any]) -> Iterator[str]:
    size = facts["recipe"]["image_size"]
    known = [SOURCES.get(name, OTHER) for name in _datasets(facts)]
    limits = [
        words.limit(facts),
        f"Draw well what its training pictures do not show, or at a size other than {size} px.",
        "Draw fine detail: faces, hands and writing do not hold up, broad shapes and colours do.",
        "Promise that a picture is new: one may resemble a training picture.",
    ]
    warnings = [source.warning for source in known if source.warning]
    for limit in [*limits, *dict.fromkeys(warnings)]:
        yield wrap(f"- {limit}").replace("\n", "\n  ")
