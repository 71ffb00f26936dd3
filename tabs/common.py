"""What every tab shares: the one lane, throttled previews, status, errors, and the seed row."""

from __future__ import annotations

import dataclasses
import functools
import html
import inspect
import logging
import re
import secrets
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypedDict, TypeVar

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from pipelines.core import devices, images
from pipelines.core.errors import UserError
from pipelines.core.rules import MAX_SEED, Choice, Real, Whole, rule
from pipelines.runs import provenance, timing
from tabs import i18n
from tabs.i18n import Translatable

logger = logging.getLogger("studio")


class Lane(TypedDict):
    concurrency_id: str
    concurrency_limit: int | None


LANE: Lane = {"concurrency_id": "gpu", "concurrency_limit": None if devices.ZERO_GPU else 1}
"""Every generating event takes these, so that all tabs and the API together run one at a time; on
ZeroGPU each run is lent a card of its own."""

PREVIEW_SECONDS = 0.1
DEADLINE_SECONDS = 300.0

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""What events take that compute nothing, so that they neither wait nor cover what they change."""

_PROGRESS = re.compile(r'<progress value="(\d+)" max="(\d+)"')


T = TypeVar("T")


class Preview(Protocol):
    """What the three products yield; see `pipelines.products.digits.Preview`."""

    @property
    def pictures(self) -> list[Image.Image]: ...
    @property
    def step(self) -> int: ...
    @property
    def total_steps(self) -> int: ...
    @property
    def times(self) -> list[float]: ...
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


@contextmanager
def errors_said_in(language: str) -> Iterator[None]:
    """Makes errors fit for people, in their language.

    What a person can mend is shown as one sentence. Anything else is logged with an id, and only
    the id is shown.
    """
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        raise gr.Error(_told(error, language), print_exception=False) from None


def _told(error: Exception, language: str) -> str:
    """An error as one sentence; what a person cannot mend is logged."""
    if devices.is_out_of_memory(error):
        logger.exception("out of memory")
        devices.free_memory(error)
        return i18n.translate(language, "status.out_of_memory")
    if isinstance(error, UserError):
        return html.escape(i18n.sentence(language, error), quote=False)
    incident = secrets.token_hex(4)
    logger.exception("incident %s", incident)
    return i18n.translate(language, "status.incident", incident=incident)


def throttled(
    stream: Iterator[PreviewT],
    *,
    language: str = i18n.DEFAULT,
    wanted: Callable[[], bool] = lambda: True,
    every_seconds: float = PREVIEW_SECONDS,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Iterator[PreviewT]:
    """At most one preview per `every_seconds`; the first and the last always.

    Args:
        stream: a run.
        language: of the error.
        wanted: asked after every step; the run ends where the answer is no.
        every_seconds: between previews.
        deadline_seconds: the most that a run may take.

    Raises:
        gr.Error: when the run takes longer than `deadline_seconds`.
    """
    began = time.monotonic()
    shown = -float("inf")
    for preview in stream:
        now = time.monotonic()
        if not wanted():
            return
        if preview.finished or now - shown >= every_seconds:
            shown = now
            yield preview
        if now - began > deadline_seconds and not preview.finished:
            sentence = i18n.translate(
                language,
                "status.deadline",
                seconds=f"{deadline_seconds:g}",
                step=preview.step,
                total=preview.total_steps,
            )
            raise gr.Error(sentence, print_exception=False)


def spaced(stream: Iterator[T], seconds: float) -> Iterator[T]:
    """The first and the last of a stream, and of those between one per so many seconds.

    The last is also the one before an error.
    """
    shown, held = -float("inf"), None
    try:
        for held in stream:
            if time.monotonic() - shown >= seconds:
                shown = time.monotonic()
                yield held
                held = None
    except Exception:
        if held is not None:
            yield held
        raise
    if held is not None:
        yield held


def status_of(preview: Preview, language: str) -> str:
    """One line on where a run is: step, total, time left; when done, time taken and seed."""
    total = preview.total_steps
    if preview.finished:
        done = i18n.translate(
            language,
            "status.done",
            seconds=f"{preview.seconds:.1f}",
            total=total,
            seed=preview.settings.seed,
            model=preview.model,
        )
        return status_line(done)
    if preview.step == 0:
        return status_line(i18n.translate(language, "status.trying", tries=preview.settings.tries))
    left = timing.remaining(preview.times, total)
    running = i18n.translate(
        language, "status.step", step=preview.step, total=total, left=f"{left:.1f}"
    )
    return status_line(running, done=preview.step, total=total)


def status_line(text: str, *, done: int = 0, total: int = 0) -> str:
    """Text for the status component, read out by screen readers when it changes.

    Args:
        text: one line.
        done: steps of a run that goes on, for a bar.
        total: its steps; 0 is no run.
    """
    line = f'<p class="status" role="status" aria-live="polite">{html.escape(text)}</p>'
    bar = f'<progress value="{done}" max="{total}" aria-hidden="true"></progress>' if total else ""
    return line + bar


def stopped(status: str, language: str) -> str:
    """The status line after Stop: it keeps where the run was."""
    where = _PROGRESS.search(status)
    if where is None:
        return status
    return status_line(i18n.translate(language, "status.stopped", step=where[1], total=where[2]))


def stops(
    button: gr.Button,
    event: Any,
    status: gr.components.Component,
    language: gr.components.Component,
    *,
    halt: Callable[[str], None],
    token: gr.components.Component,
    press: str,
) -> None:
    """Makes `button` end the run behind `event`, and `status` say where that was.

    In this order: said while the run still streams, it is painted over by the run's last answer.

    Args:
        button: that is pressed.
        event: the run.
        status: of the run.
        language: component that knows it.
        halt: makes the runs before a token old ones.
        token: component that keeps the run's.
        press: JavaScript that numbers a press, and gives the token of that.
    """
    button.click(halt, inputs=token, js=press, **QUIET)
    button.click(None, cancels=[event], **QUIET).then(
        stopped, inputs=[status, language], outputs=status, **QUIET
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
        "versions": provenance.versions(),
    }


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
    chosen.__name__ = api_name  # what MCP calls the tool
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

    def endpoint(*values: Any) -> Iterator[tuple[list[gr.FileData], dict[str, Any]]]:
        given = {field.name: value for field, value in zip(fields, values, strict=True)}
        with errors_said_in(i18n.DEFAULT):
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
    *,
    prefix: str,
    maximum: float | None = None,
    info: str = "",
) -> gr.Slider:
    """A slider with the range, default and words of a setting.

    Args:
        settings: that have it.
        name: of the setting.
        prefix: of the element's id.
        maximum: narrows the range.
        info: key of other words on what its values mean.
    """
    bounds: Whole | Real = rule(settings, name)
    return gr.Slider(
        min(bounds.minimum, getattr(settings, name)),  # -1 is off
        bounds.maximum if maximum is None else maximum,
        getattr(settings, name),
        step=bounds.step if isinstance(bounds, Real) else 1,
        label=Translatable(f"setting.{name}"),
        info=Translatable(info or f"info.{name}"),
        elem_id=element_id(prefix, name),
    )


def radio(settings: type[Any], name: str, *, prefix: str, **options: Any) -> gr.Radio:
    """The names that a setting accepts, to choose one."""
    return gr.Radio(
        named(choices(settings, name)),
        value=getattr(settings, name),
        label=Translatable(f"setting.{name}"),
        elem_id=element_id(prefix, name),
        **options,
    )


def choices(settings: type[Any], name: str) -> list[str]:
    """The names that a setting accepts."""
    accepted: Choice = rule(settings, name)
    return list(accepted.options)


def named(options: Sequence[str]) -> list[tuple[str, str]]:
    """Each with what it is called on the page; what has no words of its own is called as it is."""
    known = i18n.table(i18n.DEFAULT)
    return [(Translatable(f"choice.{o}") if f"choice.{o}" in known else o, o) for o in options]


def element_id(prefix: str, name: str) -> str:
    """The id in the page of the control of a setting; `stop` is the button's."""
    return prefix + {"stop": "guide-until"}.get(name, name.replace("_", "-"))


def random_seed() -> int:
    """A seed to put into the seed field."""
    return secrets.randbelow(MAX_SEED + 1)


def seed_row(default: int, prefix: str) -> gr.Number:
    """A seed field and a button that puts a random seed into it."""
    with gr.Row(equal_height=True, elem_classes="seed-row"):
        seed = gr.Number(
            default,
            label=Translatable("setting.seed"),
            info=Translatable("info.seed"),
            precision=0,
            elem_id=f"{prefix}seed",
            min_width=120,
        )
        button = gr.Button(
            Translatable("shared.new_seed"), size="sm", elem_id=f"{prefix}new-seed", min_width=100
        )
    button.click(random_seed, outputs=seed, **QUIET)
    return seed
