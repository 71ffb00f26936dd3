"""How the small CLIP is judged: what is nearest, and on which pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from tests.fakes import tiny_pairs
from tests.fakes.tiny_pairs import colored_pairs
from training.clip import judging, vocabulary
from training.clip.judging import judge_trainer, retrieval, zero_shot
from training.clip.recipe import Recipe
from training.clip.towers import CONTEXT_LENGTH
from training.clip.trainer import Trainer

SENTENCE, PICTURE = "sentence of a picture", "picture of a sentence"


@pytest.fixture(autouse=True)
def quick(tmp_path: Path) -> Iterator[None]:
    with tiny_pairs.small(tmp_path / "cache"):
        yield


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    data = colored_pairs()
    recipe = Recipe(
        datasets=("colors",),
        half_formed="",
        max_steps=6,
        batch_size=8,
        warmup_steps=0,
        ema_decay=0.5,
        same_source_share=0.0,
    )
    tokenizer = vocabulary.make_tokenizer((text for of in data.sentences for text in of), tmp_path)
    run = Trainer(recipe, data, None, tokenizer, tmp_path, Accelerator())
    for _ in range(3):
        run.train_step()
    return run


def test_everything_is_found_when_each_sentence_is_nearest_to_its_picture():
    found = retrieval(torch.eye(12), torch.eye(12))
    assert set(found.values()) == {1.0}
    assert len(found) == 6


def test_nothing_is_found_when_all_others_are_nearer():
    found = retrieval(torch.eye(20), -torch.eye(20))  # its own is at -1, the others at 0
    assert set(found.values()) == {0.0}


def test_the_order_of_the_sentences_matters():
    found = retrieval(torch.eye(12), torch.eye(12).flip(0))  # exactly one is nearer
    assert found[f"{SENTENCE}, R@1"] == found[f"{PICTURE}, R@1"] == 0
    assert found[f"{SENTENCE}, R@5"] == found[f"{PICTURE}, R@5"] == 1


def test_both_directions_are_counted_each_for_itself():
    similarity = torch.tensor([[5.0, 1.0, 0.0], [6.0, 4.0, 0.0], [7.0, 0.0, 1.0]])
    found = retrieval(similarity, torch.eye(3))  # rows are pictures, columns sentences
    assert found[f"{SENTENCE}, R@1"] == pytest.approx(1 / 3)
    assert found[f"{PICTURE}, R@1"] == pytest.approx(2 / 3)


def test_ranks_are_counted_as_far_as_they_say():
    text = torch.eye(12)
    image = torch.eye(12)
    image[0] = torch.arange(12.0)  # eleven sentences are nearer to picture 0 than its own
    image[1, 2:6] = 2.0  # four are nearer to picture 1
    found = retrieval(image, text)
    shares = [found[f"{SENTENCE}, R@{k}"] for k in (1, 5, 10)]
    assert shares == pytest.approx([10 / 12, 11 / 12, 11 / 12])


def test_two_pictures_with_the_same_sentence_are_both_found():
    embedding = torch.eye(3)[[0, 0, 1]]
    assert set(retrieval(embedding, embedding).values()) == {1.0}


def test_zero_shot_counts_the_pictures_nearest_to_their_class():
    image = torch.tensor([[1.0, 0.1, 0.0], [0.0, 1.0, 0.2], [0.0, 0.3, 1.0], [0.9, 0.0, 1.0]])
    assert zero_shot(image, torch.eye(3), [0, 1, 2, 2]) == 1
    assert zero_shot(image, torch.eye(3), [0, 1, 2, 0]) == 0.75
    assert zero_shot(image, torch.eye(3), [1, 2, 0, 0]) == 0


def test_embeddings_have_length_1_and_do_not_depend_on_what_is_embedded_beside_them(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
):
    model, tokenizer = trainer.averaged(), trainer.tokenizer
    pictures, said = torch.rand(5, 3, 64, 64), ["red", "a blue picture", "white", "x", "red"]
    whole = judging.embed_pictures(model, pictures)
    texts = judging.embed_sentences(model, tokenizer, said)
    monkeypatch.setattr(judging, "_BATCH", 2)
    torch.testing.assert_close(whole, judging.embed_pictures(model, pictures))
    torch.testing.assert_close(texts, judging.embed_sentences(model, tokenizer, said))
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(5))
    assert torch.equal(texts[0], texts[4])


def test_a_class_is_the_mean_of_several_ways_to_say_it(trainer: Trainer):
    model, tokenizer = trainer.averaged(), trainer.tokenizer
    found = judging.class_embeddings(model, tokenizer, ["red", "blue"])
    said = [template.format("blue") for template in judging.TEMPLATES]
    tokens = tokenizer(said, CONTEXT_LENGTH)
    with torch.no_grad():
        blue = model.encode_text(tokens, normalize=True).mean(dim=0)
    torch.testing.assert_close(found[1], blue / blue.norm())


def test_labelled_pictures_are_judged_by_label_and_the_others_by_sentence(trainer: Trainer):
    labelled = colored_pairs(12)
    some = replace(labelled, labels=[*labelled.labels[:9], "", "", ""])
    told = replace(labelled, labels=[""] * 12)
    found = judge_trainer(trainer, {"some": some, "told": told})
    assert set(found["some"]) == {"accuracy", "chance", "pictures"}
    assert found["some"]["pictures"] == 9
    assert found["some"]["chance"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["told"]["chance, R@1"] == pytest.approx(1 / 12, abs=1e-4)
    assert len(found["told"]) == 9
    assert all(0 <= value <= 1 for value in found["told"].values())
    assert set(judging.flat(found)) >= {"some/accuracy", f"told/{SENTENCE}, R@5"}


def test_a_judgement_is_the_same_every_time_and_changes_nothing(trainer: Trainer):
    held_out = {"colors": colored_pairs(12)}
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    first = judge_trainer(trainer, held_out)
    assert judge_trainer(trainer, held_out) == first
    torch.testing.assert_close(trainer.model.state_dict(), before, rtol=0, atol=0)
    assert trainer.model.training


@pytest.mark.thorough
def test_a_model_that_learned_the_colors_tells_them_apart(trainer: Trainer):
    held_out = {"colors": colored_pairs(12)}
    for group in trainer.optimizer.param_groups:
        group["lr"] = 3e-3
    trainer.recipe = replace(trainer.recipe, max_steps=80, lr=3e-3)
    while trainer.step < 80:
        trainer.train_step()
    assert judge_trainer(trainer, held_out)["colors"]["accuracy"] > 0.7
