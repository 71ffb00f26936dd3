"""The device: chosen, named, and locked once."""

from __future__ import annotations

import pytest
import torch

from pipelines import runtime


def test_the_device_can_be_set_and_a_wrong_one_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    assert runtime.device() == torch.device("cpu")
    monkeypatch.setenv("STUDIO_DEVICE", "abacus")
    with pytest.raises(ValueError, match=r"STUDIO_DEVICE must be a device .*, got 'abacus'"):
        runtime.device()


def test_without_a_setting_a_graphics_card_is_used_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("STUDIO_DEVICE", raising=False)
    for found, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        assert runtime.device().type == expected


def test_the_device_is_named_in_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert runtime.describe_device() == "CPU, 1 thread"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert runtime.describe_device() == "CPU, 8 threads"


def test_each_device_has_one_lock_of_its_own():
    cpu = runtime.device_lock(torch.device("cpu"))
    assert cpu is runtime.device_lock(torch.device("cpu"))
    assert cpu is not runtime.device_lock(torch.device("cuda:0"))
