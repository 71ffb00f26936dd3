"""The text of a digits checkpoint's model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

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
from training.core.sources import OTHER
from training.digits.data import HUB_MNIST

_HOW = {
    "channels": (
        "The label's embedding, a few numbers, is spread over the whole picture and stacked onto "
        "it as extra input channels, as the `ClassConditionedUnet` of the Hugging Face diffusion "
        "course does."
    ),
    "embedding": (
        "The label's embedding is added to the embedding of the timestep, which every block of "
        "the network receives."
    ),
    "cross-attention": (
        "Each label is a short sequence of learned tokens, and the picture's positions attend to "
        "them, as those of Stable Diffusion attend to a prompt."
    ),
}

# id and name for the Hub (the name only where it has no such licence), the terms in a sentence
_TERMS = {
    HUB_MNIST: (
        "cc-by-sa-3.0",
        None,
        "The pictures are MNIST by Yann LeCun, Corinna Cortes and Christopher Burges, under "
        "CC BY-SA 3.0; these weights are under the same terms.",
    )
}
_OTHER_TERMS = ("other", OTHER.licence, OTHER.terms)

_NO_LABEL = (
    'An eleventh class stands for "no label": it was learned by dropping labels, and '
    "classifier-free guidance starts from it."
)

_CALL = (
    "Call it with `unet(x_t, t, class_labels)`: pictures `(b, 1, 28, 28)` in [-1, 1], timesteps "
    "0 to 999, labels 0 to 9 (10 is no label)."
)

_IN_PROJECT = " in the project's folder"
_LOAD = """\
from pipelines.unets import {network}

unet = {network}.from_pretrained("assets/checkpoints/{name}/unet")
"""

_TEXT = """\
# {name}

Handwritten digits by class, one of the bundled models of Guided Diffusion Studio.

![Three rows of the digits 0 to 9 that this model drew]({samples})

Drawn at {drawn}.

## What it is

A diffusion model of {parameters} parameters that draws one handwritten digit, 28×28 px, grey, white
on black. It is one of three that differ in how the network learns which digit is wanted.

{how}

## How to load it

{where}

```python
{load}```

{call}

Or{elsewhere} let the project draw:

```python
from pipelines.digits import generate
from pipelines.settings import DigitsSettings

*_, last = generate(DigitsSettings(digits="2024", conditioning="{conditioning}"))
last.pictures[0]
```

## Data and terms

{data}

## Recipe

{recipe}

```sh
{command}
```

## Measured

Mean squared error of the predicted clean picture, in the range [-1, 1], on the {held_out} pictures
held out, per timestep (0 is clean, 999 is noise):

{errors}

{figures}

## What it cannot do

- Anything but a single digit in the style of MNIST: no letters, no numbers of several digits in one
  picture, no colour, no other size.
- Be right every time: now and then a picture looks like another digit, or like none.
- Show the whole variety of handwriting under strong guidance: the higher the guidance scale, the
  more alike the digits become.
- Tell which digit a picture shows: it is no classifier.
"""


def render(facts: Mapping[str, Any], figures: Mapping[str, Any], repo_id: str = "") -> str:
    """The card's text.

    Args:
        facts: what `training.export` wrote to `recipe.json`; a `remark` may be added by hand.
        figures: what a benchmark wrote to `figures.json`; empty if none was run.
        repo_id: where on the Hub it can be loaded from; empty is the project's folder.
    """
    recipe = facts["recipe"]
    dataset = recipe["dataset_name"]
    licence, licence_name, terms = _TERMS.get(dataset, _OTHER_TERMS)
    text = _TEXT.format(
        name=facts["name"],
        samples=SAMPLES_FILE,
        drawn=_drawn(facts["samples"]),
        parameters=f"{facts['parameters'] / 1e6:.1f} million",
        how=wrap(f"{_HOW[recipe['conditioning']]} {_NO_LABEL}"),
        where=wrap(f"The network, in a notebook{WHERE_FROM_HUB if repo_id else _IN_PROJECT}:"),
        load=load_from_hub(facts["network"], repo_id) if repo_id else _LOAD.format(**facts),
        elsewhere=_IN_PROJECT if repo_id else "",
        call=wrap(f"{_CALL} It answers with {ANSWERS[recipe['prediction']]}."),
        conditioning=recipe["conditioning"],
        data=wrap(f"{_trained_on(dataset, facts['held_out'])} {terms}"),
        held_out=facts["held_out"],
        recipe=table(("what", "value"), _recipe_rows(facts)),
        command=_command(recipe),
        errors=errors_table(facts["validation_x0_error"]),
        figures=figures_table(figures),
    )
    metadata = ModelCardData(
        license=licence,
        license_name=licence_name,
        library_name="diffusers",
        tags=["diffusion", "class-conditional", "classifier-free-guidance", "mnist"],
        datasets=[dataset],
        pipeline_tag="unconditional-image-generation",
    )
    return with_front_matter(metadata, text)


def _data(dataset: str) -> str:
    return "MNIST" if dataset == HUB_MNIST else "a data set of digits"


def _trained_on(dataset: str, held_out: int) -> str:
    link = f"[`{dataset}`](https://huggingface.co/datasets/{dataset})"
    return (
        f"Trained on the training split of {_data(dataset)} ({link}), less {held_out} pictures "
        "held out for the errors below; nothing was trained on the test split."
    )


def _drawn(samples: Mapping[str, Any]) -> str:
    return (
        f"guidance scale {samples['cfg_scale']:g} in {samples['num_inference_steps']} steps of "
        f"{samples['solver']}, seeds 0 to {samples['num_images'] - 1}"
    )


def _recipe_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe, steps = facts["recipe"], facts["steps"]
    return [
        ("data set", f"{_data(recipe['dataset_name'])}, `{recipe['dataset_name']}`"),
        ("steps", steps_done(facts)),
        ("batch size", f"{recipe['batch_size']}"),
        ("pictures seen", f"{steps * pictures_per_step(recipe):,}"),
        ("what the network predicts", f"`{recipe['prediction']}`"),
        ("loss weights", loss_weights(recipe)),
        ("noise schedule", "cosine (`squaredcos_cap_v2`), 1,000 timesteps"),
        ("timesteps", "stratified over the batch"),
        ("labels dropped", f"{100 * recipe['label_dropout']:g} %"),
        ("optimizer", f"AdamW, {facts['optimizer']}"),
        ("learning rate", f"{recipe['lr']:g}, after {recipe['warmup_steps']:,} steps of warm-up"),
        ("learning rate schedule", "half cosine down to 1 %"),
        ("averaged weights", f"EMA, decay {recipe['ema_decay']:g}; these are the ones saved"),
        ("seed", f"{recipe['seed']}"),
        ("time", f"{facts['seconds'] / 3600:.2f} hours of training steps"),
        ("device", facts["device"]),
        ("parameters", f"{facts['parameters']:,}"),
        *remark_rows(facts),
    ]


def _command(recipe: Mapping[str, Any]) -> str:
    """The command line that repeats the training."""
    default = {"dataset_name"} if recipe["dataset_name"] == HUB_MNIST else set()
    options = [f"--{k.replace('_', '-')} {v}" for k, v in recipe.items() if k not in default]
    return command_line("python -m training.train_digits", options)
