"""What every tab is made of: wishes, results, controls, and the events between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from pipelines.core import images
from pipelines.core.errors import UserError
from pipelines.core.rules import Mask, Picture, rule, validate
from pipelines.models import hub
from pipelines.runs import provenance, timing
from tabs import common, examples, explain, i18n, results, sweeps
from tabs.i18n import Translatable
from tabs.latest_run import runs
from tabs.results import Product, Shown

_UPLOAD_PX = 256
_LOOK_SECONDS = 0.4  # between two looks at a download

# What is copied, and a tick on the button for a moment; the address is that of the page itself.
_COPY_SCRIPT = """async (query, language) => {
  if (query && query !== '!') await studio.copyLink(query, '#%s');
  return [query, language];
}"""

Values = dict[str, Any]
Update = dict[str, Any]


@dataclass
class Tab:
    """One tab, as built.

    Attributes:
        product: what it draws.
        controls: by the name of their setting, in no order.
        shown: the components of the result.
        token: knows which run of this page is the latest.
        estimate: says how long a run will take.
        how: the page on how it works.
        examples: pictures that answer at once.
        sweep: the components of the sweep.
        of_settings: more updates of controls that follow from settings, by name.
    """

    product: Product
    controls: Mapping[str, Any]
    shown: Shown
    token: gr.Textbox
    estimate: gr.HTML
    how: gr.Markdown
    examples: gr.HTML
    sweep: sweeps.Panel
    of_settings: Callable[[Any], dict[str, Update]] = field(default=lambda _: {})

    def inputs(self) -> list[Component]:
        """The controls in the order of the settings."""
        return [self.controls[f.name] for f in dataclasses.fields(self.product.settings)]

    def restored(self, settings: Any) -> dict[Component, Update]:
        """The updates that make the controls those of settings."""
        updates = {name: control_update(settings, name) for name in self.controls}
        for name, update in self.of_settings(settings).items():
            updates[name] = updates[name] | update
        return {self.controls[name]: update for name, update in updates.items()}

    def said(self, language: str, token: str | None) -> dict[Any, Any]:
        """What the tab says that is no fixed phrase, in a language."""
        found: dict[Any, Any] = {
            self.how: explain.page(self.product.name, language),
            self.examples: examples.shelf(self.product, language),
        }
        preview = runs.shown(token)
        if preview is None:
            return found | {self.shown.status: common.status_line(i18n.translate(language, READY))}
        again = results.updates(self.product, preview, language)
        return found | dict(zip(self.shown.outputs(), results.in_order(again), strict=True))


READY = "status.ready"


def settings_of(product: Product, values: Sequence[Any]) -> Any:
    """Settings from the values of the controls, in the order of the settings."""
    names = [f.name for f in dataclasses.fields(product.settings)]
    given = dict(zip(names, values, strict=True))
    for name in names:
        if _is_picture(product.settings, name):
            given[name] = upload_address(given[name])
    if given.get("mask"):
        given["region"] = "all"
    if isinstance(given.get("digits"), str):
        given["digits"] = given["digits"].strip()
    return product.settings(**given)


def control_update(settings: Any, name: str) -> Update:
    """What makes a control that of a setting."""
    value = getattr(settings, name)
    if _is_picture(type(settings), name):
        value = images.from_data_uri(value) if value else None
    return gr.update(value=value)


def _is_picture(settings: type[Any], name: str) -> bool:
    return isinstance(rule(settings, name), (Picture, Mask))


def upload_address(picture: Image.Image | None) -> str:
    """An uploaded picture as the setting that holds it."""
    if picture is None:
        return ""
    small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    small.thumbnail((_UPLOAD_PX, _UPLOAD_PX))
    return images.to_data_uri(small)


def build(
    product: Product,
    language: gr.Radio,
    *,
    wish: Callable[[], dict[str, Any]],
    extras: Callable[[], dict[str, Any]],
    starting: str,
    submits: Sequence[str],
    of_settings: Callable[[Any], dict[str, Update]] = lambda _: {},
) -> Tab:
    """Lays out a tab and wires its runs; call inside `gr.Blocks`.

    Args:
        product: what it draws.
        language: component that knows it.
        wish: makes the controls that come first; here and below, by the name of their setting.
        extras: makes the others.
        starting: HTML in place of a result, before there is one.
        submits: names of the text fields in which the Enter key starts a run.
        of_settings: see `Tab`.
    """
    prefix = product.prefix
    gr.Markdown(Translatable(f"{product.name}.introduction"), elem_classes="introduction")
    # The columns dissolve where the page is narrow, and the style puts their parts in order.
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_classes="hands", min_width=0):
            with gr.Column(elem_classes="wish", min_width=0):
                controls = wish()
                run, stop, estimate = _buttons(product)
            with gr.Column(elem_classes="controls", min_width=0):
                controls |= extras()
        with gr.Column(elem_classes="eyes", min_width=0):
            with gr.Column(elem_classes="shown", min_width=0):
                shown, copy = _result(product, starting)
            with gr.Column(elem_classes="shelf", min_width=0):
                gr.Markdown(Translatable("shared.examples"), elem_classes="shelf-title")
                shelf = examples.build(product)
            with gr.Column(elem_classes="look", min_width=0):
                gr.Markdown(Translatable("inside.title"), elem_classes="look-title")
                shown.charts.render()
                shown.filmstrip.render()
    with gr.Accordion(Translatable("sweep.title"), open=False, elem_id=f"{prefix}sweep"):
        sweep = sweeps.layout(product)
    with gr.Accordion(Translatable("explain.title"), open=False, elem_id=f"{prefix}explain"):
        how = gr.Markdown(
            explain.page(product.name, i18n.DEFAULT),
            latex_delimiters=[{"left": "$$", "right": "$$", "display": True}],
            elem_classes="how",
        )
    token = gr.Textbox(visible=False)
    tab = Tab(product, controls, shown, token, estimate, how, shelf, sweep, of_settings)
    event = _wire_run(tab, language, [run.click, *(controls[n].submit for n in submits)])
    common.stops(
        stop,
        event,
        shown.status,
        language,
        halt=runs.halt,
        token=token,
        press=_pressed(product),
    )
    _wire_copy(tab, language, copy)
    _wire_examples(tab, language)
    _wire_estimate(tab, language)
    sweeps.wire(
        sweep,
        product,
        language,
        tab.inputs(),
        lambda values: settings_of(product, values),
    )
    return tab


def _buttons(product: Product) -> tuple[gr.Button, gr.Button, gr.HTML]:
    """Paint and Stop, the switch that makes sliders live, and how long a run will take."""
    prefix = product.prefix
    with gr.Row(elem_classes="run-row"):
        run = gr.Button(
            Translatable(f"{product.name}.run"),
            variant="primary",
            elem_id=f"{prefix}draw",
            min_width=100,
        )
        stop = gr.Button(Translatable("shared.stop"), elem_id=f"{prefix}stop", min_width=80)
    with gr.Row(elem_classes="live-row"):
        gr.Checkbox(
            False,
            label=Translatable("shared.live"),
            info=Translatable("shared.live_info"),
            elem_id=f"{prefix}live",
            container=False,
            interactive=True,  # `assets/studio.js` reads it
        )
        estimate = gr.HTML(elem_id=f"{prefix}estimate", elem_classes="estimate")
    return run, stop, estimate


def _result(product: Product, starting: str) -> tuple[Shown, gr.Button]:
    """Pictures under a slider, status, scores, what to take away; plots and moments come later."""
    prefix = product.prefix
    small: dict[str, Any] = {"size": "sm", "min_width": 60}
    with gr.Row(elem_classes=["result", "stacked"] if product.crisp else "result"):
        with gr.Column(min_width=0):
            pictures = gr.HTML(starting, elem_id=f"{prefix}result")
            gr.Slider(  # moved by `assets/studio.js`, without asking the server
                0,
                100,
                50,
                step=1,
                label=Translatable("shared.cut"),
                interactive=True,  # though no event of Gradio's hangs on it
                buttons=[],
                elem_id=f"{prefix}cut",
                elem_classes="cut",
            )
        with gr.Column(min_width=0):
            ready = common.status_line(i18n.translate(i18n.DEFAULT, READY))
            status = gr.HTML(ready, elem_id=f"{prefix}status")
            scores = gr.HTML(elem_id=f"{prefix}scores")
            with gr.Row(elem_classes="take-away"):
                download = gr.DownloadButton(
                    Translatable("shared.save"),
                    interactive=False,
                    elem_id=f"{prefix}download",
                    **small,
                )
                animation = gr.DownloadButton(
                    Translatable("shared.animation"),
                    interactive=False,
                    elem_id=f"{prefix}animation",
                    **small,
                )
                copy = gr.Button(
                    Translatable("shared.copy_link"), elem_id=f"{prefix}copy-link", **small
                )
    shown = Shown(
        pictures=pictures,
        status=status,
        scores=scores,
        charts=gr.HTML(elem_id=f"{prefix}chart", render=False),
        filmstrip=gr.HTML(elem_id=f"{prefix}inside", render=False),
        download=download,
        animation=animation,
        link=gr.Textbox(visible=False),
    )
    return shown, copy


def _pressed(product: Product) -> str:
    """JavaScript that numbers a press, and gives its token in place of the component's."""
    number = (
        f"window.studio?.pressed('{product.name}') ?? token"  # pressed before the page is ready
    )
    return f"(token, ...others) => [{number}, ...others]"


def _wire_run(tab: Tab, language: gr.Radio, triggers: Sequence[Any]) -> Any:
    """Makes a press announce a run, which ends the one in flight, and then draw it."""
    product = tab.product

    def draw(token: str, spoken: str, *values: Any) -> Iterator[list[Any]]:
        if not runs.begin(token):
            yield results.in_order({})
            return
        try:
            with common.errors_said_in(spoken):
                settings = validate(settings_of(product, values))
                yield results.in_order(results.begun(spoken))
                for status in loading(product, settings, spoken):
                    yield results.in_order({"status": status})
                stream = common.throttled(
                    product.run(settings),
                    language=spoken,
                    wanted=lambda: runs.is_latest(token),
                )
                for preview in stream:
                    if preview.finished:
                        runs.keep(token, preview)
                    yield results.in_order(results.updates(product, preview, spoken))
        except gr.Error:
            yield results.in_order(results.failed(spoken))
            raise

    announced = gr.on(
        triggers,
        runs.announce,
        inputs=tab.token,
        outputs=tab.token,
        js=_pressed(product),
        trigger_mode="multiple",
        **common.QUIET,
    )
    return announced.then(
        draw,
        inputs=[tab.token, language, *tab.inputs()],
        outputs=tab.shown.outputs(),
        show_progress_on=tab.shown.status,
        trigger_mode="always_last",
        api_visibility="private",
        **common.LANE,
    )


def loading(product: Product, settings: Any, language: str) -> Iterator[str]:
    """Loads what a run needs, yielding the status meanwhile, and fetches what is not here yet.

    Raises:
        CheckpointError: if it cannot be had.
    """
    pool = ThreadPoolExecutor(max_workers=1)
    loaded = pool.submit(product.load, settings)
    pool.shutdown(wait=False)  # it goes on, also for a visitor who leaves
    while wait([loaded], timeout=_LOOK_SECONDS).not_done:
        yield _loading_status(product, settings, language)
    loaded.result()


def _loading_status(product: Product, settings: Any, language: str) -> str:
    for key in product.checkpoints(settings):
        download = hub.download_of(key)
        if download is not None and download.total:
            done, total = download.done / 1e6, download.total / 1e6
            text = i18n.translate(
                language, "status.fetching", name=key, done=f"{done:.0f}", total=f"{total:.0f}"
            )
            return common.status_line(text, done=download.done, total=download.total)
    return common.status_line(i18n.translate(language, "status.loading"))


def _wire_copy(tab: Tab, language: gr.Radio, copy: gr.Button) -> None:
    def explain_why_not(query: str, spoken: str) -> Any:
        if query and query != results.TOO_LONG:
            return gr.skip()
        key = "shared.link_too_long" if query else "shared.no_link_yet"
        return common.status_line(i18n.translate(spoken, key))

    copy.click(
        explain_why_not,
        inputs=[tab.shown.link, language],
        outputs=tab.shown.status,
        js=_COPY_SCRIPT % copy.elem_id,
        **common.QUIET,
    )


def _wire_examples(tab: Tab, language: gr.Radio) -> None:
    """Makes a press on an example show it, and put its settings into the controls."""
    names = list(tab.controls)
    outputs = [tab.token, *tab.shown.outputs(), *(tab.controls[name] for name in names)]

    def show(token: str, spoken: str, event: gr.EventData) -> list[Any]:
        runs.halt(token)  # which ends a run in flight
        preview = examples.load(tab.product, str(event.name))
        runs.keep(token, preview)
        status = common.status_line(i18n.translate(spoken, "status.example"))
        found = results.in_order(results.updates(tab.product, preview, spoken, status=status))
        controls = tab.restored(preview.settings)
        return [token, *found, *(controls[tab.controls[name]] for name in names)]

    tab.examples.click(
        show,
        inputs=[tab.token, language],
        outputs=outputs,
        js=_pressed(tab.product),
        **common.QUIET,
    )


def _wire_estimate(tab: Tab, language: gr.Radio) -> None:
    """Makes every change of a control say anew how long a run will take."""

    def estimated(spoken: str, *values: Any) -> str:
        return estimate_of(tab.product, spoken, values)

    changes = [tab.controls[name].change for name in _DECIDING if name in tab.controls]
    gr.on(
        [*changes, tab.shown.link.change],  # a run, too, changes what the next one takes
        estimated,
        inputs=[language, *tab.inputs()],
        outputs=tab.estimate,
        trigger_mode="always_last",
        **common.QUIET,
    )


_DECIDING = (
    "num_inference_steps",
    "num_images",
    "method",
    "model",
    "seed",
    "cutouts",
    "clip_model",
    "every",
    "repeats",
    "start",
    "stop",
    "digits",
    "conditioning",
    "cfg_scale",
    "solver",
    "eta",
    "tries",
    "blend_with",
    "blend",
)


def estimate_of(product: Product, language: str, values: Sequence[Any]) -> str:
    """How long a run of these values will take, as HTML; nothing where they are wrong."""
    try:
        work = product.work(validate(settings_of(product, values)))
    except UserError:
        return ""
    seconds = timing.estimator.estimate(work)
    if seconds is None:
        measuring = "status.measuring" if timing.estimator.measuring else "status.no_estimate"
        return i18n.translate(language, measuring)
    return i18n.translate(language, "status.estimate", seconds=f"{timing.rounded(seconds):g}")


def bring_back(tabs: Mapping[str, Tab], found: provenance.Record, language: str) -> dict[Any, Any]:
    """The updates that put a run of a picture or a link into its tab, not yet drawn.

    Args:
        tabs: by name.
        found: the run.
        language: of the words.
    """
    tab = tabs[found.tab]
    loaded = provenance.revision_here(found)
    other = bool(found.revision and loaded and not loaded.startswith(found.revision))
    status = i18n.translate(language, "status.restored_other" if other else "status.restored")
    return {
        **tab.restored(found.settings),
        **sweeps.restored(tab.sweep, tab.product, found.facts),
        tab.shown.status: common.status_line(status),
    }
