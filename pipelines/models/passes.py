"""Networks as a run calls them: as graphs of OpenVINO where that is wanted, else in PyTorch.

A graph computes what the network does, several times as fast on a CPU. It is made when a network is
first used. Where none can be made, the reason is logged once, and PyTorch computes.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

from pipelines.core import devices, graphs
from pipelines.core.graphs import Graph, GraphError
from pipelines.core.limits import MEGABYTE
from pipelines.models.ways import Way, chosen

logger = logging.getLogger("studio")

MOST_BYTES = 256 * MEGABYTE
"""Larger networks stay in PyTorch alone: a graph needs their memory once more."""

AT_ONCE = (4, 1)
"""Pictures that are encoded with gradients at once; each number has a graph of its own."""


class _Graphs:
    """The graphs of one network, each made once.

    Args:
        name: of the network, for the log.
        network: whose graphs they are.
        way: how it is computed; None is what is chosen when it is first used.
    """

    def __init__(self, name: str, network: nn.Module, way: Way | None = None) -> None:
        self._name, self._network, self._way = name, network, way
        self._made: dict[Any, Graph | None] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Graph]) -> Graph | None:
        """Returns a graph; None where PyTorch is to compute.

        Args:
            key: tells the graphs of the network apart.
            make: makes it.
        """
        with self._lock:
            if key not in self._made:
                self._made[key] = self._try(make) if self.way.engine == "OpenVINO" else None
            return self._made[key]

    @functools.cached_property
    def way(self) -> Way:
        """How the network is computed, from its first pass on."""
        weights = [*self._network.parameters(), *self._network.buffers()]
        way = self._way or chosen(weights[0].device)
        is_large = sum(weight.nbytes for weight in weights) > MOST_BYTES
        return Way("PyTorch", way.precision) if is_large else way

    def _try(self, make: Callable[[], Graph]) -> Graph | None:
        try:
            return make()
        except GraphError as error:
            logger.warning("%s has no graph here, PyTorch computes it: %s", self._name, error)
            return None


class Denoising:
    """A UNet as the sampler calls it, with gradients through it in PyTorch.

    Args:
        name: of the model, for the log.
        unet: of diffusers, frozen, in evaluation mode.
        way: how it is computed; None is what is chosen when it is first used.
    """

    def __init__(self, name: str, unet: nn.Module, way: Way | None = None) -> None:
        self._unet, self._graphs = unet, _Graphs(name, unet, way)

    def __call__(self, x_t: Tensor, t: Tensor, **inputs: Tensor) -> UNet2DOutput:
        """Returns the output of the network.

        Args:
            x_t: `(b, c, h, w)`.
            t: timestep `()`, int64.
            inputs: what the network takes besides, by name, `(b, ...)` each.
        """
        if torch.is_grad_enabled() and x_t.requires_grad:
            return self._unet(x_t, t, **inputs)
        names, values = tuple(inputs), tuple(inputs.values())
        shape = tuple(tuple(value.shape[1:]) for value in (x_t, *values))

        def output(x_t: Tensor, t: Tensor, *values: Tensor) -> Tensor:
            others = dict(zip(names, values, strict=True))
            return self._unet(x_t, t, **others, return_dict=False)[0]

        graph = self._graphs.get(
            (names, shape),
            lambda: graphs.forward_graph(
                output, x_t, t, *values, precision=self._graphs.way.precision
            ),
        )
        if graph is None:
            with devices.autocast(x_t.device, self._graphs.way.precision):
                return self._unet(x_t, t, **inputs)
        return UNet2DOutput(graph(x_t, t, *values)[0])


class Encoding:
    """An encoder of pictures, whose embeddings can be differentiated by the pictures.

    Args:
        name: of the model, for the log.
        encoder: `(b, 3, h, w)` to `(b, d)`, frozen, in evaluation mode.
    """

    def __init__(self, name: str, encoder: nn.Module) -> None:
        self._encoder, self._graphs = encoder, _Graphs(name, encoder)

    def __call__(self, pictures: Tensor) -> Tensor | None:
        """Returns the embeddings `(b, d)` of pictures `(b, 3, h, w)`; None without a graph."""
        if not (torch.is_grad_enabled() and pictures.requires_grad):
            return self.forward(pictures)
        parts = pictures.split(_sizes(len(pictures)))
        if self._forward(pictures) is None or None in map(self._gradient, parts):
            return None
        return cast(Tensor, _Encoded.apply(pictures, self))

    def forward(self, pictures: Tensor) -> Tensor | None:
        """Returns the embeddings without gradients; None without a graph."""
        graph = self._forward(pictures)
        return None if graph is None else graph(pictures)[0]

    def pulled_back(self, pictures: Tensor, outer: Tensor) -> Tensor:
        """Returns `dL/dx` of pictures from `dL/dy` of their embeddings `(b, d)`."""
        sizes = _sizes(len(pictures))
        gradients = [
            cast(Graph, self._gradient(part))(part, pulled)[1]
            for part, pulled in zip(pictures.split(sizes), outer.split(sizes), strict=True)
        ]
        return torch.cat(gradients)

    def _forward(self, pictures: Tensor) -> Graph | None:
        return self._graphs.get(
            ("forward", pictures.shape[1:]),
            lambda: graphs.forward_graph(self._encoder, pictures[:1].detach()),
        )

    def _gradient(self, pictures: Tensor) -> Graph | None:
        return self._graphs.get(
            ("gradient", pictures.shape),
            lambda: graphs.gradient_graph(self._encoder, pictures.detach()),
        )


class _Encoded(torch.autograd.Function):
    """Embeddings whose gradient comes from a graph too."""

    @staticmethod
    def forward(ctx: Any, pictures: Tensor, encoding: Encoding) -> Tensor:
        ctx.save_for_backward(pictures)
        ctx.encoding = encoding
        return cast(Tensor, encoding.forward(pictures))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        (pictures,) = ctx.saved_tensors
        return ctx.encoding.pulled_back(pictures, outer[0]), None


def _sizes(count: int) -> list[int]:
    """Returns how many pictures are encoded at once, largest parts first."""
    sizes: list[int] = []
    for size in AT_ONCE:
        sizes += [size] * ((count - sum(sizes)) // size)
    return sizes
