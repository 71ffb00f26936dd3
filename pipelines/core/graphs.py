"""Functions of tensors as graphs, which OpenVINO computes on a CPU in half the time or less.

In fp32 the numbers of a graph differ from PyTorch's in their last bits. A gradient is a function of
tensors too, and has a graph of its own. OpenVINO is optional: without it nothing here works, and
nothing else needs it.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

_TOLERANCES = {"fp32": 1e-3, "bf16": 0.1}

# What comes of tracing is checked. For good, since `catch_warnings` is not for threads.
warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
warnings.filterwarnings("ignore", "`torch.jit.trace", category=FutureWarning)

_NO_REASONS = ("Check '", "Exception from ", "FrontEnd API failed")
"""How lines of OpenVINO's errors begin that tell where in its code they are from, and not why."""


class GraphError(RuntimeError):
    """A graph cannot be built here; the message is one line that says why."""


def is_available() -> bool:
    """Returns whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


class Graph:
    """A compiled function, which one thread at a time computes."""

    def __init__(self, compiled: Any) -> None:
        """Shares the memory of inputs and outputs with a compiled model of OpenVINO."""
        self._request = compiled.create_infer_request()
        shared = (self._request.input_tensors, self._request.output_tensors)
        self._inputs, self._outputs = (
            [torch.from_numpy(tensor.data) for tensor in of_kind] for of_kind in shared
        )
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Returns the outputs of the function."""
        with self._lock:
            for memory, tensor in zip(self._inputs, inputs, strict=True):
                memory.copy_(tensor.detach())
            self._request.infer(share_outputs=True)
            return [memory.clone() for memory in self._outputs]


class Graphs:
    """The graphs of one function, each for a number of images; a graph of many is for no other.

    Args:
        function: of tensors; it must not branch on their values.
        examples: its inputs; the first axis of each is the batch's, unless it has none.
        precision: "fp32" or "bf16", in which the graphs compute; their outputs are fp32.

    Raises:
        GraphError: if OpenVINO is missing, or does not know an operation.
    """

    def __init__(
        self, function: Callable[..., Tensor], *examples: Tensor, precision: str = "fp32"
    ) -> None:
        self._function, self._examples, self._precision = function, examples, precision
        with _making_one(), torch.no_grad():
            traced = torch.jit.trace(function, examples, check_trace=False)
            self._converted = _converted(traced, examples)

    def graph(self, count: int) -> Graph:
        """Compiles the function for so many images.

        Raises:
            GraphError: if it computes something else than PyTorch.
        """
        inputs = [_repeated(example, count) for example in self._examples]
        with _making_one(), torch.no_grad():
            graph = _compiled(self._converted, inputs, self._precision)
            _check(graph, inputs, [self._function(*inputs)], _TOLERANCES[self._precision])
        return graph


def _repeated(example: Tensor, count: int) -> Tensor:
    if not example.ndim:
        return example
    return example[torch.arange(count) % len(example)]


@dataclass(frozen=True)
class Differentiable:
    """A function of one tensor and its vector-Jacobian product, as two graphs for one shape.

    What the first computes on its way, the second need not compute again.

    Attributes:
        forward: `x` to `y`, and the numbers that `backward` needs.
        backward: those numbers and `dL/dy` of the output's shape to `dL/dx`.
    """

    forward: Graph
    backward: Graph


def differentiable(function: Callable[[Tensor], Tensor], example: Tensor) -> Differentiable:
    """Compiles a function together with its gradient.

    Args:
        function: of one tensor; it must not branch on values.
        example: its input.

    Raises:
        GraphError: as `Graphs`, or if it computes something else than PyTorch.
    """

    def with_gradient(x: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
        pulled: Any = torch.func.vjp(function, x)
        y, pull_back = pulled
        return y, *pull_back(outer)

    with _making_one():
        generator = torch.Generator().manual_seed(0)
        outer = torch.randn(function(example).shape, generator=generator)
        with sdpa_kernel(SDPBackend.MATH):  # the others have a backward pass that no graph has
            y, gradient = with_gradient(example, outer)
            forward, backward = _halves(_make_fx(with_gradient, (example, outer)))
        there = _compiled_once(forward, [example])
        _check(there, [example], [y], _TOLERANCES["fp32"])
        _, *kept = there(example)
        back = _compiled_once(backward, [*kept, outer])
        _check(back, [*kept, outer], [gradient], _TOLERANCES["fp32"])
        return Differentiable(there, back)


def _compiled_once(function: Any, examples: Sequence[Tensor]) -> Graph:
    """Compiles a function for the shapes of the examples alone."""
    traced = torch.jit.trace(function, tuple(examples), check_trace=False)
    return _compiled(_converted(traced, examples), examples, "fp32")


def _halves(both: Any) -> tuple[Any, Any]:
    """Cuts the operations of `(x, outer)` to `(y, dL/dx)` in two, at what is known without `outer`.

    Returns:
        `x` to `y` and the kept numbers, and these and `outer` to `dL/dx`.
    """
    nodes = [*both.graph.nodes]
    x, outer = (node for node in nodes if node.op == "placeholder")
    (y, gradient), *_ = nodes[-1].args
    of_outer, of_x = _descendants(nodes, outer), _descendants(nodes, x)
    kept = [n for n in nodes if n in of_x - of_outer and any(user in of_outer for user in n.users)]
    return _part(both, [x], [y, *kept]), _part(both, [*kept, outer], [gradient])


def _descendants(nodes: Sequence[Any], first: Any) -> set[Any]:
    """Returns a node and all that depend on it; the nodes are in the order of computation."""
    found = {first}
    for node in nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _part(whole: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """Returns the operations that lead from some nodes of a graph to others."""
    from torch import fx

    graph, copies = fx.Graph(), {}
    for node in inputs:
        copies[node] = graph.placeholder(node.name)
    for node in whole.graph.nodes:
        is_operation = node not in copies and node.op in ("get_attr", "call_function")
        if is_operation and all(argument in copies for argument in node.all_input_nodes):
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in outputs))
    graph.eliminate_dead_code()
    return fx.GraphModule(whole, graph)


def _check(
    graph: Graph, inputs: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float
) -> None:
    """Checks that a graph computes what PyTorch does: compilers have faults, too.

    Raises:
        GraphError: if an output is further away than `tolerance` times the largest value.
    """
    for found, value in zip(graph(*inputs), expected, strict=False):  # what is kept comes after
        apart, largest = (found - value).abs().max().item(), value.abs().max().item()
        if not apart <= tolerance * max(largest, 1e-6):
            raise GraphError(f"it computes otherwise: {apart:.2g} of {largest:.2g}")


_making = threading.RLock()  # tracing changes PyTorch for all threads


@contextmanager
def _making_one() -> Iterator[None]:
    """Makes one graph at a time, in fp32 whatever is around it; errors are told in one line."""
    try:
        with _making, torch.autocast("cpu", enabled=False):
            yield
    except Exception as error:  # OpenVINO, tracing and each operation have errors of their own
        lines = (line.strip() for line in str(error).splitlines())
        told = (line for line in lines if line and not line.startswith(_NO_REASONS))
        reason = next(told, "") or type(error).__name__
        raise GraphError(reason) from error


def _make_fx(function: Callable[..., Any], examples: Sequence[Tensor]) -> Any:
    """Returns the function as a list of operations that OpenVINO knows."""
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(function, decomposition_table=_decompositions())(*examples)


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()


@dataclass(frozen=True)
class _Converted:
    """A traced function for OpenVINO.

    Attributes:
        model: of OpenVINO, for any shape; shares the memory of the weights.
        decoder: which holds that memory.
    """

    model: Any
    decoder: Any


def _converted(traced: Any, examples: Sequence[Tensor]) -> _Converted:
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    reader = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=tuple(examples))
    model = reader.convert(reader.load(decoder))
    apply_moc_transformations(model, cf=False, smart_reshape=True)  # as `convert_model` does
    return _Converted(model, decoder)


def _compiled(converted: _Converted, inputs: Sequence[Tensor], precision: str) -> Graph:
    """Compiles for the shapes of the inputs: a graph for any shape takes twice the time."""
    model = converted.model.clone()
    model.reshape({i: [*tensor.shape] for i, tensor in enumerate(inputs)})
    properties = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # containers and other programs share the cores
    }
    return Graph(_core().compile_model(model, "CPU", properties))


# --- what OpenVINO does not know, in other operations ---------------------------------------------


@functools.cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    from torch._decomp import get_decompositions

    aten: Any = torch.ops.aten
    by_pytorch = (
        *(aten.threshold_backward, aten._softmax_backward_data, aten._safe_softmax),
        *(aten.select_backward, aten.select_scatter, aten._unsafe_view),
    )
    return {
        **get_decompositions(by_pytorch),
        aten._softmax.default: _softmax,
        aten.native_batch_norm.default: _batch_norm,
        aten.native_batch_norm_backward.default: _batch_norm_backward,
        aten.convolution_backward.default: _convolution_backward,
        aten.avg_pool2d_backward.default: _average_pool_backward,
    }


def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    powers = (x - x.amax(dim, keepdim=True)).exp()
    return powers / powers.sum(dim, keepdim=True)


def _batch_norm(
    x: Tensor,
    gain: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation with the statistics of training, which are constants."""
    scale = _per_channel(gain * torch.rsqrt(variance + eps), x)
    shifted = (x - _per_channel(mean, x)) * scale + _per_channel(bias, x)
    return shifted, mean.new_empty(0), mean.new_empty(0)


def _batch_norm_backward(
    outer: Tensor,
    x: Tensor,
    gain: Tensor,
    mean: Tensor,
    variance: Tensor,
    *others: Any,
) -> tuple[Tensor, None, None]:
    eps = others[3]  # after saved mean, saved deviation and `training`
    return outer * _per_channel(gain * torch.rsqrt(variance + eps), x), None, None


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))


def _convolution_backward(
    outer: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, None, None]:
    """The gradient by the input alone: the weights are constants."""
    if not wanted[0]:
        return None, None, None
    aten = torch.ops.aten
    if transposed:
        ordinary = (stride, padding, dilation, False, [0, 0], groups)
        return aten.convolution(outer, weight, None, *ordinary), None, None
    kernel = weight.shape[2:]
    if set(stride) == {1} and set(dilation) == {1} and groups == 1:
        turned = weight.transpose(0, 1).flip(2, 3).contiguous()
        rest = [size - 1 - pad for size, pad in zip(kernel, padding, strict=True)]
        ordinary = (stride, rest, dilation, False, [0, 0], 1)
        return aten.convolution(outer, turned, None, *ordinary), None, None
    missing = [
        full - ((part - 1) * step - 2 * pad + spread * (size - 1) + 1)
        for full, part, step, pad, spread, size in zip(
            x.shape[2:], outer.shape[2:], stride, padding, dilation, kernel, strict=True
        )
    ]
    turned_back = (stride, padding, dilation, True, missing, groups)
    return aten.convolution(outer, weight.contiguous(), None, *turned_back), None, None


def _average_pool_backward(
    outer: Tensor,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    *_: Any,
) -> Tensor:
    """Every pixel of a window gets an equal share, if windows neither overlap nor are padded."""
    if (stride and list(stride) != list(kernel)) or any(padding):
        raise GraphError("the gradient of averages over windows that overlap")
    share = torch.full((x.shape[1], 1, *kernel), 1 / (kernel[0] * kernel[1]))
    missing = [full % size for full, size in zip(x.shape[2:], kernel, strict=True)]
    return torch.ops.aten.convolution(
        outer, share, None, list(kernel), [0, 0], [1, 1], True, missing, x.shape[1]
    )
