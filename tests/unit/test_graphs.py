"""Graphs compute what PyTorch computes, forwards and backwards."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.core import graphs
from pipelines.core.graphs import GraphError, Graphs, differentiable

needs_openvino = pytest.mark.skipif(not graphs.is_available(), reason="openvino is not installed")


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


def trained_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(8)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


DIFFERENTIABLE = {
    "convolution": lambda: nn.Conv2d(8, 6, 3, padding=1),
    "wide": lambda: nn.Conv2d(8, 6, 5, padding=1),
    "stride": lambda: nn.Conv2d(8, 6, 3, stride=2, padding=1),
    "groups": lambda: nn.Conv2d(8, 8, 3, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(8, 6, 3, stride=2),
    "channels-last": lambda: nn.Conv2d(8, 6, 3, padding=1).to(memory_format=torch.channels_last),
    "batch norm": trained_norm,
    "relu": lambda: nn.ReLU(inplace=False),
    "relu in place": lambda: nn.Sequential(nn.Conv2d(8, 6, 3), nn.ReLU(inplace=True)),
    "average": lambda: nn.AvgPool2d(2),
    "average, with a rest": lambda: nn.AvgPool2d(3),
    "attention": Attention,
    "twice": lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)),
}
"""Parts of the towers whose gradients are graphs."""

PARTS = DIFFERENTIABLE | {
    "group norm": lambda: nn.GroupNorm(2, 8),
    "layer norm": lambda: nn.LayerNorm(8),
    "silu": nn.SiLU,
    "enlarged": lambda: nn.Upsample(scale_factor=2),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return PARTS[name]().eval().requires_grad_(False)


@needs_openvino
@pytest.mark.parametrize("name", PARTS)
def test_graphs_compute_what_pytorch_does_for_any_number(name: str):
    part = made(name)
    graphs_of = Graphs(part, torch.randn(2, 8, 8, 8))
    for count in (1, 2, 5):
        x = torch.randn(count, 8, 8, 8)
        (y,) = graphs_of.graph(count)(x)
        torch.testing.assert_close(y, part(x), rtol=1e-4, atol=1e-5)


@needs_openvino
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_graph_differentiates_as_pytorch_does(name: str):
    part = made(name)
    x = torch.randn(2, 8, 8, 8, requires_grad=True)
    expected = part(x)
    outer = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(expected, x, outer)
    both = differentiable(part, torch.randn(2, 8, 8, 8))
    y, *kept = both.forward(x)
    (found,) = both.backward(*kept, outer)
    torch.testing.assert_close(y, expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)


@needs_openvino
def test_what_a_graph_returns_is_not_changed_by_the_next_call():
    graph = Graphs(nn.ReLU(), torch.randn(1, 4)).graph(1)
    (first,) = graph(torch.ones(1, 4))
    graph(torch.full((1, 4), 7.0))
    assert first.tolist() == [[1.0] * 4]


@needs_openvino
def test_what_cannot_be_a_graph_is_refused_in_one_line():
    with pytest.raises(GraphError) as caught:
        Graphs(torch.linalg.svdvals, torch.randn(2, 4, 4))
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(GraphError, match="averages over windows that overlap"):
        differentiable(nn.AvgPool2d(3, stride=1), torch.randn(1, 2, 8, 8))


@needs_openvino
def test_a_graph_that_computes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch):
    compiled = graphs._compiled

    def faulty(*arguments: Any) -> Any:
        graph = compiled(*arguments)
        return lambda *inputs: [output * 1.01 for output in graph(*inputs)]

    monkeypatch.setattr(graphs, "_compiled", faulty)
    with pytest.raises(GraphError, match="it computes otherwise"):
        Graphs(nn.SiLU(), torch.randn(1, 4)).graph(1)
    with pytest.raises(GraphError, match="it computes otherwise"):
        differentiable(nn.ReLU(), torch.ones(1, 4))


def test_without_openvino_it_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    graphs._core.cache_clear()
    with pytest.raises(GraphError, match="openvino"):
        Graphs(nn.ReLU(), torch.randn(1, 4))


@needs_openvino
def test_a_graph_is_in_its_own_precision_whatever_is_around_it():
    part, x = made("group norm"), torch.randn(1, 8, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = Graphs(part, x).graph(1)(x)
        both = differentiable(nn.Conv2d(8, 6, 3).requires_grad_(False), x)
        y, *_ = both.forward(x)
    assert found.dtype == y.dtype == torch.float32
    torch.testing.assert_close(found, part(x), rtol=1e-4, atol=1e-5)


TRACING = """
import threading
import torch
from pipelines.core import graphs

def branches(x):
    return x if x.sum() > 0 else -x  # which tracing warns of

def make():
    for _ in range(3):
        graphs.Graphs(branches, torch.ones(1, 4)).graph(1)
        graphs.differentiable(torch.nn.ReLU(), torch.ones(1, 4))

threads = [threading.Thread(target=make) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("made")
"""


@needs_openvino
def test_making_graphs_in_two_threads_says_nothing_on_the_console():
    done = subprocess.run([sys.executable, "-c", TRACING], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("made\n", "")
