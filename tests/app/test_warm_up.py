"""The device is measured once, after the first page that somebody opens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.soak import calls
from pipelines.core import devices
from pipelines.products import PRODUCTS
from pipelines.runs import timing
from tabs import warm_up


class Threads(list[str]):
    """The names of the threads that measured."""

    def wait(self) -> None:
        ends = time.monotonic() + 5
        while not self and time.monotonic() < ends:
            time.sleep(0.01)


@pytest.fixture
def estimator(monkeypatch: pytest.MonkeyPatch) -> timing.Estimator:
    monkeypatch.setattr(warm_up, "estimator", timing.Estimator())
    return warm_up.estimator


@pytest.fixture
def measured(estimator: timing.Estimator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    threads = Threads()
    monkeypatch.setattr(warm_up, "measure", lambda: threads.append(threading.current_thread().name))
    yield threads
    warm_up._prepared.clear()


def test_only_a_page_after_the_preparation_measures_and_only_once(
    measured: Threads, estimator: timing.Estimator
):
    warm_up.page_opened()
    assert measured == []
    warm_up.prepare()
    assert measured == []
    warm_up.page_opened()
    assert estimator.measuring
    measured.wait()
    warm_up.page_opened()
    time.sleep(0.1)
    assert len(measured) == 1
    assert measured != [threading.current_thread().name], "the page does not wait"


def test_zero_gpu_and_those_who_do_not_want_it_measure_nothing(
    measured: Threads, estimator: timing.Estimator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDIO_WARM_UP", "0")
    warm_up.prepare()
    warm_up.page_opened()
    monkeypatch.delenv("STUDIO_WARM_UP")
    monkeypatch.setattr(devices, "ZERO_GPU", True)
    warm_up.prepare()
    warm_up.page_opened()
    assert measured == []
    assert not estimator.measuring


def test_opening_the_page_of_the_app_is_what_begins_it(served: str, measured: Threads):
    warm_up.prepare()
    with httpx.Client(base_url=served.rstrip("/")) as client:
        client.get("/")
        assert measured == [], "a health check is nobody who looks"
        calls.open_page(client)
    measured.wait()
    assert len(measured) == 1


@pytest.mark.usefixtures("tiny_checkpoints")
def test_every_product_can_be_estimated_afterwards(monkeypatch: pytest.MonkeyPatch):
    estimator = timing.Estimator()
    monkeypatch.setattr(timing, "estimator", estimator)
    warm_up.measure()
    for product in PRODUCTS.values():
        assert estimator.estimate(product.work(product.settings())) is not None
