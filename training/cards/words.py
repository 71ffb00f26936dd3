"""What the card of a model of pictures says besides, where it is told words or a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.models.table import CLIPS, TABLE
from training.cards.parts import ANSWERS
from training.core.sources import OF_CLIPS, OTHER, SOURCES

OPTIONS = (
    "condition",
    "clip_model",
    "features",
    "collages",
    "balanced",
    "focus_share",
    "new_lr_factor",
    "frozen",
)
"""Fields of the recipe that mean nothing without a condition."""

LOADS = """\
import os

os.environ["STUDIO_CHECKPOINTS"] = "mine={source}"
from pipelines.models import checkpoints

model = checkpoints.load("mine")
"""
_DRAWS = """\
from pipelines.core import images
from pipelines.runs.run import Plan, Run


def draw(condition):
    plan = Plan("mine", (0,), 20, "dpm++", 0.0, condition)
    *_, last = Run(plan, model, cfg_scale={cfg_scale:g}).steps()
    return last.x_prev  # (1, 3, h, w) in [-1, 1]


"""
_DRAWS_WORDS = """\
x0 = draw(model.reader.condition(["{example}"]))
images.to_pil(x0)[0]
"""
_DRAWS_PICTURE = """\
seen = model.reader.embedded({picture})  # (1, d), of a picture (1, 3, h, w) in [-1, 1]
images.to_pil(draw(model.reader.condition([""], seen)))[0]
"""
_NOISE = "torch.randn(1, 3, 64, 64).clamp(-1, 1)"

_EXAMPLES = {"emoji": "a red heart", "paintings": "a landscape with trees"}
_OTHER_EXAMPLE = "a house by the sea"
_CAPTIONS = {
    "emoji": "those on emoji are made of name, keywords, the everyday word for the thing, main "
    "colour and the colour behind it",
    "paintings": "those on paintings are made of genre, title, style, artist and main colours",
    "": "those on other pictures are their captions, or the names of their classes",
}
_DECENT = (
    "Words for nudity were left out of the sentences: titles that have one, and the genre of nudes."
)
_WHAT = {"words": "words", "picture": "a picture", "both": "both", "nothing": "nothing"}


def conditions_of(facts: Mapping[str, Any]) -> list[str]:
    """What the model is told; empty for an unconditional one."""
    told = facts["recipe"].get("condition", "")
    return [name.strip() for name in told.split(",") if name.strip()]


def in_words(facts: Mapping[str, Any]) -> str:
    """What the model is told, in a few words."""
    return " or ".join(_WHAT[name] for name in conditions_of(facts))


def task_of(facts: Mapping[str, Any]) -> str:
    """What the Hub calls it."""
    conditions = conditions_of(facts)
    if not conditions:
        return "unconditional-image-generation"
    return "text-to-image" if "words" in conditions else "image-to-image"


def code(facts: Mapping[str, Any], repo_id: str) -> tuple[str, str, str]:
    """Where the code runs, in a sentence; what loads the model; what draws with it."""
    conditions, draws = conditions_of(facts), _DRAWS.format(cfg_scale=facts["told"]["cfg_scale"])
    if "words" in conditions:
        draws += _DRAWS_WORDS.format(example=_example(facts))
    if "picture" in conditions:
        picture = "x0" if "words" in conditions else _NOISE
        draws = draws if picture == "x0" else f"import torch\n\n{draws}"
        draws += _DRAWS_PICTURE.format(picture=picture)
    where = "In a notebook in the project's folder, which has what reads the words"
    return f"{where}:", LOADS.format(source=repo_id or facts["source"]), draws


def _example(facts: Mapping[str, Any]) -> str:
    kinds = [SOURCES.get(name, OTHER).kind for name in facts["datasets"]]
    return next((_EXAMPLES[kind] for kind in kinds if kind), _OTHER_EXAMPLE)


def call(facts: Mapping[str, Any]) -> str:
    """How the network is called."""
    size = facts["recipe"]["image_size"]
    return (
        "`model.reader.condition(texts, picture)` makes the network's inputs and those of its null "
        "condition, and `model.denoise(x_t, t, **condition.inputs)` calls it: pictures "
        f"`(b, {facts['channels']}, {size}, {size})` in [-1, 1], timesteps 0 to "
        f"{facts['num_timesteps'] - 1}; without inputs it is told nothing. It answers with "
        f"{ANSWERS[facts['recipe']['prediction']]}."
    )


def what(facts: Mapping[str, Any]) -> Iterator[str]:
    """What the network is told, and what reads it."""
    features = {"embeddings": "before its transformer", "last": "after its transformer"}
    read = features[facts["recipe"]["features"]]
    yield (
        f"It is told {in_words(facts)}: positions of the picture attend to the words, and "
        "embeddings of the whole text and of a picture are added to the time embedding. Both are "
        f"read by a CLIP that comes with the weights in `clip/`, `{facts['told']['clip']['name']}` "
        f"as it was when training began; words are taken {read}."
    )


def data(facts: Mapping[str, Any]) -> Iterator[str]:
    """What is told of the pictures, how often, and what the CLIP learned from."""
    if "words" in conditions_of(facts):
        kinds = dict.fromkeys(SOURCES.get(name, OTHER).kind for name in facts["datasets"])
        yield (
            f"Of {facts['told']['pictures']:,} pictures something can be said, another sentence "
            f"every time: {'; '.join(_CAPTIONS[kind] for kind in kinds)}."
        )
        if "paintings" in kinds:
            yield _DECENT
    learned = facts["told"]["clip"].get("datasets")
    if not learned:
        yield "What its CLIP learned from is not recorded here; the terms of that hold too."
        return
    known = [OF_CLIPS.get(name, OTHER) for name in learned]
    yield f"Its CLIP learned from {', '.join(f'`{name}`' for name in learned)}."
    yield from dict.fromkeys(source.terms for source in known)


def licences(facts: Mapping[str, Any]) -> list[str]:
    """Those of what the CLIP learned from."""
    if not conditions_of(facts):
        return []
    learned: Sequence[str] = facts["told"]["clip"].get("datasets", ["an unknown one"])
    return [OF_CLIPS.get(name, OTHER).licence for name in learned]


def rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows of the table of the recipe."""
    if not conditions_of(facts):
        return
    recipe, shares = facts["recipe"], facts["told"]["shares"]
    yield "told", ", ".join(f"{_WHAT[name]} in {share:.0%}" for name, share in shares.items())
    yield "read by", f"`{facts['told']['clip']['name']}`, {recipe['features']}"
    if recipe["collages"]:
        yield "several in one picture", f"in {recipe['collages']:.0%}, at places that are told"
    if recipe["balanced"]:
        yield "names", "each drawn equally often, however many pictures it has"
    if recipe["balanced"] and recipe["focus"]:
        yield "share of those in focus", f"{recipe['focus_share']:.0%}"
    yield "learning rate of the condition's own weights", f"{recipe['new_lr_factor']:g} times that"
    if recipe["frozen"]:
        yield "trained", "only the condition's own weights"


def options(facts: Mapping[str, Any]) -> Iterator[str]:
    """The same as options of the command."""
    if not conditions_of(facts):
        return
    recipe = facts["recipe"]
    yield f"--condition {','.join(conditions_of(facts))}"
    if recipe["clip_model"] != recipe["start_model"]:
        name = recipe["clip_model"]
        is_known = name in CLIPS or name in TABLE or "/" in name
        yield f"--clip-model {name if is_known else f'runs/{name}/checkpoint'}"
    yield f"--features {recipe['features']}"
    for name in ("collages", "focus_share", "new_lr_factor"):
        yield f"--{name.replace('_', '-')} {recipe[name]:g}"
    yield from (f"--{name}" for name in ("balanced", "frozen") if recipe[name])


def limit(facts: Mapping[str, Any]) -> str:
    """What it cannot do of what it is asked for."""
    if not conditions_of(facts):
        return (
            "Draw what it is asked for: it takes no label and no words. Colours and words can only "
            "steer it from outside, by guidance, while it draws."
        )
    return (
        "Draw all that it is told: it knows the things and the words of its training data, "
        "`clip/words.txt` lists what its CLIP read, and it may confuse which colour or place "
        "belongs to which thing."
    )


def drawn(facts: Mapping[str, Any]) -> str:
    """How the sample pictures were told what to draw."""
    if not conditions_of(facts):
        return "Drawn without guidance"
    scale = f"a CFG scale of {facts['told']['cfg_scale']:g}"
    if "words" in conditions_of(facts):
        return f"Drawn from sentences on pictures held out, at {scale},"
    return f"Drawn after pictures held out, at {scale},"
