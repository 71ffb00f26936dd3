"""A CLIP's training run, new or resumed, with the data that belongs to it."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from training import half_formed, loop, vocabulary
from training.clip_trainer import Recipe, Trainer
from training.pairs import Pairs, joined, load_pairs

DATA = Path("../shared/data")


def prepare(recipe: Recipe, folder: Path, data_folder: Path) -> tuple[Trainer, dict[str, Pairs]]:
    """A new run, or the one that was saved in the folder, and the pairs that are held out.

    Raises:
        ValueError: if the folder holds a run of another recipe, the data cannot be read, or a step
            wants more pairs than there are.
    """
    state = loop.load_state(folder)
    if state is not None:
        recipe.check_same(state["recipe"])
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: load_pairs(data_folder, name) for name in recipe.datasets}
    data = joined([train for train, _ in parts.values()])
    loop.batch_indices(len(data), recipe.batch_size, recipe.seed, 0)  # refuses too large a batch
    made = None
    if recipe.half_formed:
        made = half_formed.load_or_make(folder, data.pixels, recipe.half_formed, recipe.seed)
    tokenizer = vocabulary.make_tokenizer(
        (text for texts in data.sentences for text in texts), folder
    )
    accelerator = Accelerator(mixed_precision=recipe.mixed_precision)
    trainer = Trainer(recipe, data, made, tokenizer, folder, accelerator)
    if state is not None:
        trainer.restore(state)
    return trainer, {name: held for name, (_, held) in parts.items() if len(held)}
