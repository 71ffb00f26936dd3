"""Networks as a run calls them: as graphs of OpenVINO where that is wanted, else in PyTorch.

A graph computes what the network does, several times as fast on a CPU. It is made when a network is
first used. Where none can be made, the reason is logged once, and PyTorch computes.
"""

from __future__ import annotations

import functools
import gc
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

from pipelines.core import devices, graphs
from pipelines.core.graphs import Differentiable, GraphError
from pipelines.models import ways
from pipelines.models.ways import Way, chosen

logger = logging.getLogger("studio")

IMAGES_AT_ONCE, VIEWS_AT_ONCE = (4, 1), (1,)
"""Images that a UNet computes at once, and those that an encoder does; each number has a graph of
its own, which takes three times the memory of the weights."""

T = TypeVar("T")


class _Made:
    """What is made once for a network and kept, such as its graphs.

    Args:
        name: of the network, for the log.
        network: whose graphs they are.
        way: how it is computed; None is what is chosen when it is first used.
    """

    def __init__(self, name: str, network: nn.Module, way: Way | None = None) -> None:
        self.name, self._network, self._way = name, network, way
        self._made: dict[Any, Any] = {}
        self._lock = threading.RLock()

    def get(self, key: Any, make: Callable[[], T]) -> T | None:
        """Returns what was made, or makes it; None where PyTorch is to compute.

        Args:
            key: tells apart what is made for the network.
            make: makes it.
        """
        with self._lock:
            if key not in self._made:
                self._made[key] = self._try(make) if self.way.engine == "OpenVINO" else None
            return self._made[key]

    def by(self, way: Way, make: Callable[[], T]) -> T | None:
        """Returns the network in another way, made when it is first asked for; None if in its own.

        Args:
            way: how it shall be computed.
            make: makes it.
        """
        if way == (self._way or chosen(self._where)):
            return None
        with self._lock:
            if way not in self._made:
                self._made[way] = make()
            return self._made[way]

    @property
    def _where(self) -> torch.device:
        return next(self._network.parameters()).device

    @functools.cached_property
    def way(self) -> Way:
        """How the network is computed, from its first pass on."""
        weights = [*self._network.parameters(), *self._network.buffers()]
        way = self._way or chosen(self._where)
        if way.engine == "PyTorch" or ways.is_graph(way, sum(weight.nbytes for weight in weights)):
            return way
        return Way("PyTorch", devices.named_precision(self._where) or "fp32")

    def _try(self, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except GraphError as error:
            logger.warning("%s has no graph here, PyTorch computes it: %s", self.name, error)
            return None
        finally:  # what was traced refers to itself
            gc.collect()
            devices.return_freed_memory()

    def forward(
        self,
        key: Any,
        function: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        sizes: Sequence[int],
    ) -> Tensor | None:
        """Returns the output of a function of the network, a few images at once.

        Args:
            key: tells apart the functions of the network, and the shapes of their inputs.
            function: of the inputs.
            inputs: the first axis of each is the batch's, unless it has none.
            sizes: how many images may be computed at once, the most first; the last is 1.
        """
        precision = self.way.precision
        graphs_of = self.get(key, lambda: graphs.Graphs(function, *inputs, precision=precision))
        if graphs_of is None:
            return None
        outputs, first = [], 0
        for count in _sizes(len(inputs[0]), sizes):
            graph = self.get((key, count), functools.partial(graphs_of.graph, count))
            if graph is None:
                return None
            part = [x[first : first + count] if x.ndim else x for x in inputs]
            outputs.append(graph(*part)[0])
            first += count
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


class Denoising:
    """A UNet as the sampler calls it, with gradients through it in PyTorch.

    Args:
        name: of the model, for the log.
        unet: of diffusers, frozen, in evaluation mode.
        way: how it is computed; None is what is chosen when it is first used.
        null: inputs that tell the network nothing, `(1, ...)` each, for calls without any.
    """

    def __init__(
        self,
        name: str,
        unet: nn.Module,
        way: Way | None = None,
        null: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._unet, self._made, self._null = unet, _Made(name, unet, way), dict(null or {})

    def by(self, way: Way) -> Denoising:
        """Returns the same network, computed in a way; its graphs are kept with this one."""
        name, null = self._made.name, self._null
        return self._made.by(way, lambda: Denoising(name, self._unet, way, null)) or self

    def __call__(self, x_t: Tensor, t: Tensor, **inputs: Tensor) -> UNet2DOutput:
        """Returns the output of the network.

        Args:
            x_t: `(b, c, h, w)`.
            t: timestep `()`, int64.
            inputs: what the network takes besides, by name, `(b, ...)` each; none is `null`.
        """
        inputs = inputs or {k: v.expand(len(x_t), *v.shape[1:]) for k, v in self._null.items()}
        if torch.is_grad_enabled() and x_t.requires_grad:
            return self._unet(x_t, t, **inputs)
        names, values = tuple(inputs), tuple(inputs.values())

        def output(x_t: Tensor, t: Tensor, *values: Tensor) -> Tensor:
            others = dict(zip(names, values, strict=True))
            return self._unet(x_t, t, **others, return_dict=False)[0]

        key = (names, *(value.shape[1:] for value in (x_t, *values)))
        sample = self._made.forward(key, output, (x_t, t, *values), IMAGES_AT_ONCE)
        if sample is None:
            with devices.autocast(x_t.device, self._made.way.precision):
                return self._unet(x_t, t, **inputs)
        return UNet2DOutput(sample)


class Encoding:
    """An encoder of pictures, whose embeddings can be differentiated by the pictures.

    Args:
        name: of the model, for the log.
        encoder: `(b, 3, h, w)` to `(b, d)`, frozen, in evaluation mode.
        way: how it is computed; None is what is chosen when it is first used.
    """

    def __init__(self, name: str, encoder: nn.Module, way: Way | None = None) -> None:
        self._encoder, self._made = encoder, _Made(name, encoder, way)

    def by(self, way: Way) -> Encoding:
        """Returns the same encoder, computed in a way; its graphs are kept with this one."""
        return self._made.by(way, lambda: Encoding(self._made.name, self._encoder, way)) or self

    def __call__(self, pictures: Tensor) -> Tensor | None:
        """Returns the embeddings `(b, d)` of pictures `(b, 3, h, w)`; None without graphs."""
        both = self._differentiable(pictures)
        if both is not None:
            return torch.cat([cast(Tensor, _Encoded.apply(one, both)) for one in pictures.split(1)])
        if torch.is_grad_enabled() and pictures.requires_grad:
            return None
        inputs = (pictures.detach(),)
        return self._made.forward(pictures.shape[1:], self._encoder, inputs, VIEWS_AT_ONCE)

    @property
    def precision(self) -> str:
        """What PyTorch is to compute in where there is no graph; graphs are in fp32."""
        way = self._made.way
        return way.precision if way.engine == "PyTorch" else "fp32"

    def _differentiable(self, pictures: Tensor) -> Differentiable | None:
        return self._made.get(
            ("differentiable", pictures.shape[1:]),
            lambda: graphs.differentiable(self._encoder, pictures[:1].detach()),
        )


class _Encoded(torch.autograd.Function):
    """The embedding of one picture, whose gradient comes from a graph too."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, both: Differentiable) -> Tensor:
        embedding, *kept = both.forward(picture)
        ctx.save_for_backward(*kept)
        ctx.backward_graph = both.backward
        return embedding

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.backward_graph(*ctx.saved_tensors, outer[0])
        return gradient, None


def _sizes(count: int, of: Sequence[int]) -> list[int]:
    """Returns into how large parts so many images are divided, the largest first."""
    sizes: list[int] = []
    for size in of:
        sizes += [size] * ((count - sum(sizes)) // size)
    return sizes
