"""Endpoints of the API: those of the products, and others."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gradio as gr
from gradio.context import get_blocks_context

from pipelines.core.rules import meaning_of
from pipelines.runs import provenance
from pipelines.runs.product import Product
from tabs import i18n, lane, results, temp_files, uploads
from tabs.common import DEVICE_QUEUE, Preview, as_gradio_errors, throttle_previews
from tabs.lane import Turn
from tabs.temp_files import RunFiles


def run_info(preview: Preview) -> dict[str, Any]:
    """Returns the `info` that API callers get beside the images."""
    return {
        "seed": preview.settings.seed,
        "step": preview.step,
        "total_steps": preview.total_steps,
        "seconds": round(preview.seconds, 3),
        "model": preview.model,
        "revision": preview.revision,
        "settings": provenance.without_pictures(preview.settings),
        "versions": provenance.versions(),
    }


def add_endpoint(
    function: Callable[..., Any], *, api_name: str, returns: Any, uses_device: bool = True
) -> None:
    """Adds a typed API endpoint that calls a function or generator.

    Gradio takes the return annotation as the type of one result, so the annotation of a generator
    is replaced by the type of one item.

    Args:
        function: its parameters become those of the endpoint.
        api_name: name without the slash.
        returns: type of one result; a tuple type for several.
        uses_device: whether it computes on the device and so waits in the device's queue.
    """

    @functools.wraps(function)
    def endpoint(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    @functools.wraps(function)
    def streaming_endpoint(*args: Any, **kwargs: Any) -> Any:
        yield from function(*args, **kwargs)

    wrapper = streaming_endpoint if inspect.isgeneratorfunction(function) else endpoint
    hints = typing.get_type_hints(function) | {"return": returns}
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=hints[n]) for n, p in signature.parameters.items()]
    wrapper.__annotations__ = hints
    typed = signature.replace(parameters=parameters, return_annotation=returns)
    _set_signature(wrapper, typed)
    wrapper.__name__ = api_name  # MCP takes it as the name of the tool
    if uses_device:
        gr.api(wrapper, api_name=api_name, **DEVICE_QUEUE)
    else:
        gr.api(wrapper, api_name=api_name, concurrency_limit=None)


def add_run_endpoint(product: Product) -> None:
    """Adds the endpoint of a product; it streams `(images, info)`.

    The fields of its settings are the parameters, in their order.
    """
    fields = dataclasses.fields(product.settings)
    hints = typing.get_type_hints(product.settings)

    def endpoint(*values: Any) -> Iterator[tuple[list[gr.FileData], dict[str, Any]]]:
        arguments = {field.name: value for field, value in zip(fields, values, strict=True)}
        with as_gradio_errors(i18n.DEFAULT), closing(RunFiles(temp_files.files)) as run_files:
            yield from _answers(product, arguments, run_files)

    endpoint.__doc__ = product.description
    endpoint.__annotations__ = {field.name: hints[field.name] for field in fields}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(f.name, kind, default=f.default) for f in fields]
    _set_signature(endpoint, inspect.Signature(parameters))
    add_endpoint(endpoint, api_name=product.name, returns=tuple[list[gr.FileData], dict])
    _describe_parameters(product)


def _describe_parameters(product: Product) -> None:
    """Adds meaning, range and choices of every parameter to what the API tells of the endpoint."""
    context = get_blocks_context()
    functions = list(context.fns.values()) if context else []
    function = next(fn for fn in reversed(functions) if fn.api_name == product.name)
    for field, component in zip(dataclasses.fields(product.settings), function.inputs, strict=True):
        rule, meaning = field.metadata["rule"], meaning_of(product.settings, field.name)
        described = f"{meaning[:1].upper()}{meaning[1:]} Accepts {rule.accepts}."
        schema: Any = component
        schema._api_info |= rule.schema() | {
            "description": described,
            "additional_description": described,
        }


def _answers(
    product: Product, arguments: dict[str, Any], run_files: RunFiles
) -> Iterator[tuple[list[gr.FileData], dict[str, Any]]]:
    """Yields files and information for every preview that is shown."""
    turn = Turn()
    settings = product.settings(**uploads.with_uploads(product.settings, arguments))
    limit = lane.deadline_seconds()
    stream = turn.wait(lambda: product.run(settings, limit_seconds=limit))
    for preview in throttle_previews(stream, turn=turn):
        files = results.picture_files(product, preview)
        run_files.show([file.path for file in files])
        yield files, run_info(preview) | product.facts(preview) | product.details(preview)


def _set_signature(function: Callable[..., Any], signature: inspect.Signature) -> None:
    setattr(function, "__signature__", signature)  # noqa: B010 (unknown to type checkers)
