"""What every tab shares: the one lane, throttled previews, status, errors, and the seed row."""

from __future__ import annotations

import dataclasses
import functools
import html
import inspect
import logging
import secrets
import time
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from pipelines import images
from pipelines.checkpoints import CheckpointError
from pipelines.settings import MAX_SEED, Choice, Real, SettingsError, Whole, rule

logger = logging.getLogger("studio")


class Lane(TypedDict):
    concurrency_id: str
    concurrency_limit: int


LANE: Lane = {"concurrency_id": "gpu", "concurrency_limit": 1}
"""Every generating event takes these, so that all tabs and the API together run one at a time."""

PREVIEW_SECONDS = 0.1
DEADLINE_SECONDS = 300.0

P = ParamSpec("P")
T = TypeVar("T")


class Preview(Protocol):
    """What the three products yield; see `pipelines.digits.Preview`."""

    @property
    def pictures(self) -> list[Image.Image]: ...
    @property
    def step(self) -> int: ...
    @property
    def total_steps(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def settings(self) -> Any: ...
    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def finished(self) -> bool: ...


PreviewT = TypeVar("PreviewT", bound=Preview)


def explained(stream: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """The handler with its errors made fit for people.

    What a person can mend is shown as one sentence. Anything else is logged with an id, and only
    the id is shown.
    """

    @functools.wraps(stream)
    def handler(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        try:
            yield from stream(*args, **kwargs)
        except (SettingsError, CheckpointError) as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from None
        except gr.Error:
            raise
        except Exception:
            incident = secrets.token_hex(4)
            logger.exception("incident %s", incident)
            message = f"Something went wrong here. The log has the details under {incident}."
            raise gr.Error(message, print_exception=False) from None

    return handler


def throttled(
    stream: Iterator[PreviewT],
    *,
    every_seconds: float = PREVIEW_SECONDS,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Iterator[PreviewT]:
    """At most one preview per `every_seconds`; the first and the last always.

    Raises:
        gr.Error: when the run takes longer than `deadline_seconds`.
    """
    began = time.monotonic()
    shown = -float("inf")
    for preview in stream:
        now = time.monotonic()
        if preview.finished or now - shown >= every_seconds:
            shown = now
            yield preview
        if now - began > deadline_seconds and not preview.finished:
            raise gr.Error(
                f"Stopped after {deadline_seconds:g} seconds at step {preview.step} of "
                f"{preview.total_steps}. Ask for fewer steps or fewer images.",
                print_exception=False,
            )


def status_of(preview: Preview) -> str:
    """One line on where a run is: step, total, time left; when done, time taken and seed."""
    if preview.finished:
        return status_line(
            f"Done in {preview.seconds:.1f} s: {preview.total_steps} steps, "
            f"seed {preview.settings.seed}, {preview.model}."
        )
    left = preview.seconds / preview.step * (preview.total_steps - preview.step)
    return status_line(f"Step {preview.step} of {preview.total_steps}, about {left:.1f} s left.")


def status_line(text: str) -> str:
    """Text for the status component, read out by screen readers when it changes."""
    return f'<p class="status" role="status" aria-live="polite">{html.escape(text)}</p>'


def stopped(status: str) -> str:
    """The status line after Stop: it keeps where the run was."""
    if "Step " not in status:
        return status
    where = status.split(">", 1)[1].split(",", 1)[0]
    return status_line(f"Stopped. {html.unescape(where)}: the picture is as far as it got.")


def stops(button: gr.Button, event: Any, status: gr.components.Component) -> None:
    """Makes `button` end the run behind `event`, and `status` say where that was.

    In this order: said while the run still streams, it is painted over by the run's last answer.
    """
    quiet: dict[str, Any] = {
        "queue": False,
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    button.click(None, cancels=[event], **quiet).then(
        stopped, inputs=status, outputs=status, **quiet
    )


def info_of(preview: Preview) -> dict[str, Any]:
    """What API callers get beside the images."""
    return {
        "seed": preview.settings.seed,
        "step": preview.step,
        "total_steps": preview.total_steps,
        "seconds": round(preview.seconds, 3),
        "model": preview.model,
        "revision": preview.revision,
        "settings": dataclasses.asdict(preview.settings),
    }


def metadata_of(preview: Preview) -> dict[str, Any]:
    """What a saved PNG says of itself: enough to draw it again, and nothing that changes."""
    info = info_of(preview)
    return {key: info[key] for key in ("model", "revision", "settings")}


def save_png(picture: Image.Image, name: str) -> str:
    """Path of the picture as PNG inside Gradio's cache, the only folder it serves files from."""
    return save_pil_to_cache(picture, get_upload_folder(), name=name, format="png")


def save_pictures(
    pictures: list[Image.Image], metadata: Mapping[str, Any], name: str
) -> list[gr.FileData]:
    """Every picture as a PNG file that says how it was made."""
    named = [(f"{name}-{i}", picture) for i, picture in enumerate(pictures)]
    paths = [save_png(images.with_metadata(p, metadata), n) for n, p in named]
    return [gr.FileData(path=path) for path in paths]


def publish(
    function: Callable[..., Any], *, api_name: str, returns: Any, lane: bool = True
) -> None:
    """Makes a typed API endpoint out of a function or generator.

    Gradio reads the types of one result from the return annotation, so that of a generator is
    replaced by what each of its yields is.

    Args:
        function: its parameters are the endpoint's.
        api_name: without the slash.
        returns: type of one result; a tuple type for several.
        lane: whether it computes on the device and must wait its turn.
    """

    @functools.wraps(function)
    def endpoint(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    @functools.wraps(function)
    def streaming_endpoint(*args: Any, **kwargs: Any) -> Any:
        yield from function(*args, **kwargs)

    chosen = streaming_endpoint if inspect.isgeneratorfunction(function) else endpoint
    hints = typing.get_type_hints(function) | {"return": returns}
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=hints[n]) for n, p in signature.parameters.items()]
    chosen.__annotations__ = hints
    typed = signature.replace(parameters=parameters, return_annotation=returns)
    _sign(chosen, typed)
    if lane:
        gr.api(chosen, api_name=api_name, **LANE)
    else:
        gr.api(chosen, api_name=api_name, concurrency_limit=None)


def publish_run(
    settings: type[Any],
    generate: Callable[[Any], Iterator[PreviewT]],
    answer: Callable[[PreviewT], tuple[list[gr.FileData], dict[str, Any]]],
    *,
    api_name: str,
) -> None:
    """Makes the endpoint of a product, which streams `(images, info)`.

    Args:
        settings: of the product; their names, types and defaults are the endpoint's.
        generate: settings to previews.
        answer: what callers get of a preview; its docstring tells them what the endpoint does.
        api_name: without the slash.
    """
    fields = dataclasses.fields(settings)
    hints = typing.get_type_hints(settings)

    @explained
    def endpoint(*values: Any) -> Iterator[tuple[list[gr.FileData], dict[str, Any]]]:
        given = {field.name: value for field, value in zip(fields, values, strict=True)}
        for preview in throttled(generate(settings(**given))):
            yield answer(preview)

    endpoint.__doc__ = answer.__doc__
    endpoint.__annotations__ = {field.name: hints[field.name] for field in fields}
    parameters = [
        inspect.Parameter(
            field.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=field.default
        )
        for field in fields
    ]
    _sign(endpoint, inspect.Signature(parameters))
    publish(endpoint, api_name=api_name, returns=tuple[list[gr.FileData], dict])


def _sign(function: Callable[..., Any], signature: inspect.Signature) -> None:
    setattr(function, "__signature__", signature)  # noqa: B010 (type checkers know no such one)


def slider(
    settings: type[Any],
    name: str,
    label: str,
    info: str,
    *,
    prefix: str = "",
    maximum: float | None = None,
) -> gr.Slider:
    """A slider with the range and default of a setting; `maximum` may narrow the range."""
    bounds: Whole | Real = rule(settings, name)
    return gr.Slider(
        min(bounds.minimum, getattr(settings, name)),  # -1 is off
        bounds.maximum if maximum is None else maximum,
        getattr(settings, name),
        step=bounds.step if isinstance(bounds, Real) else 1,
        label=label,
        info=info,
        elem_id=element_id(prefix, name),
    )


def choices(settings: type[Any], name: str) -> list[str]:
    """The names that a setting accepts."""
    accepted: Choice = rule(settings, name)
    return list(accepted.options)


def element_id(prefix: str, name: str) -> str:
    """The id in the page of the control of a setting; `stop` is the button's."""
    return prefix + {"stop": "guide-until"}.get(name, name.replace("_", "-"))


def random_seed() -> int:
    """A seed to put into the seed field."""
    return secrets.randbelow(MAX_SEED + 1)


def seed_row(default: int, prefix: str = "") -> gr.Number:
    """A seed field and a button that puts a random seed into it."""
    with gr.Row(equal_height=True, elem_classes="seed-row"):
        seed = gr.Number(
            default,
            label="Seed",
            info="-1: random",
            precision=0,
            elem_id=f"{prefix}seed",
            min_width=120,
        )
        button = gr.Button("New seed", size="sm", elem_id=f"{prefix}new-seed", min_width=100)
    button.click(random_seed, outputs=seed, api_visibility="private", show_progress="hidden")
    return seed
