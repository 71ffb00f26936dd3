"""One tab of a page: its components, its settings as they hold them, and a run put into them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from pipelines.core import images
from pipelines.core.errors import SettingsError, UserError
from pipelines.core.rules import is_picture, validate
from pipelines.runs import provenance, timing
from pipelines.runs.product import Product
from tabs import common, controls, examples, explain, i18n, results, sweeps
from tabs.latest_run import runs
from tabs.results import ResultComponents
from tabs.views import view_of

_RESTORED = ("status.restored", "status.restored_other")
_EXAMPLE = ("status.example", "status.example_other")
READY = "status.ready"

_ANY_PICTURE = images.to_data_uri(Image.new("L", (1, 1), 255))

Update = dict[str, Any]


@dataclass
class Tab:
    """Components of one tab.

    Attributes:
        product: product that the tab generates.
        controls: controls by the name of their setting, in any order.
        result: components of the result.
        token: component with the token of the page's latest run.
        estimate: component with the estimated time of a run.
        explanation: component that explains how the tab works.
        examples: component with the stored examples.
        sweep: components of the sweep.
    """

    product: Product
    controls: Mapping[str, Any]
    result: ResultComponents
    token: gr.Textbox
    estimate: gr.HTML
    explanation: gr.Markdown
    examples: gr.HTML
    sweep: sweeps.Panel

    def inputs(self) -> list[Component]:
        """Returns the controls in the order of the settings."""
        return [self.controls[f.name] for f in dataclasses.fields(self.product.settings)]

    def inputs_without_pictures(self) -> list[Component]:
        """Returns the controls that `settings_without_pictures` needs, in the same order."""
        return [self.controls[name] for name in names_without_pictures(self.product.settings)]

    def control_updates(self, settings: Any) -> dict[Component, Update]:
        """Returns the updates that set all controls to settings."""
        updates = {name: controls.update(settings, name) for name in self.controls}
        for name, update in view_of(self.product).extra_updates(settings).items():
            updates[name] = updates[name] | update
        return {self.controls[name]: update for name, update in updates.items()}

    def translated(self, language: str, token: str | None) -> dict[Any, Any]:
        """Returns the updates that translate the generated texts of the tab."""
        updates: dict[Any, Any] = {
            self.explanation: explain.page(self.product, language),
            self.examples: examples.gallery(self.product, language),
        }
        preview = runs.preview(token)
        if preview is None:
            ready = common.status_line(i18n.translate(language, READY))
            return updates | {self.result.status: common.translated_status(ready)}
        stopped = not runs.is_drawing(token)
        updates_by_name = results.updates(self.product, preview, language, stopped=stopped)
        updates_by_name["status"] = common.translated_status(updates_by_name["status"])
        values = results.in_output_order(updates_by_name)
        return updates | dict(zip(self.result.outputs(), values, strict=True))


def settings_of(product: Product, values: Sequence[Any]) -> Any:
    """Returns settings from the values of the controls, in the order of the settings."""
    names = [f.name for f in dataclasses.fields(product.settings)]
    return _settings(product, dict(zip(names, values, strict=True)))


def settings_without_pictures(product: Product, values: Sequence[Any]) -> Any:
    """Returns settings from the values of the controls other than those of pictures."""
    names = names_without_pictures(product.settings)
    return _settings(product, dict(zip(names, values, strict=True)))


def names_without_pictures(settings: type[Any]) -> list[str]:
    """Returns the names of the settings that are no pictures."""
    names = [f.name for f in dataclasses.fields(settings)]
    return [name for name in names if not is_picture(settings, name)]


def _settings(product: Product, fields: dict[str, Any]) -> Any:
    return product.settings(**view_of(product).adjusted(fields))


def estimate_of(product: Product, language: str, values: Sequence[Any]) -> str:
    """Returns the estimated time of a run as text; empty if a value is wrong.

    Args:
        product: product of the run.
        language: language of the text.
        values: of the controls other than those of pictures, on which the time does not depend.
    """
    try:
        work = product.work(_validated(settings_without_pictures(product, values)))
    except UserError:
        return ""
    seconds = timing.estimator.estimate(work)
    if seconds is None:
        measuring = "status.measuring" if timing.estimator.measuring else "status.no_estimate"
        return i18n.translate(language, measuring)
    return i18n.translate(language, "status.estimate", seconds=f"{timing.rounded(seconds):g}")


def _validated(settings: Any) -> Any:
    """Returns checked settings; if they are only right with pictures, with any that there are.

    Raises:
        SettingsError: if a setting is wrong.
    """
    try:
        return validate(settings)
    except SettingsError:
        names = [f.name for f in dataclasses.fields(settings) if is_picture(settings, f.name)]
        if not names:
            raise
        return validate(dataclasses.replace(settings, **dict.fromkeys(names, _ANY_PICTURE)))


def restore_run(
    tabs: Mapping[str, Tab], record: provenance.Record, language: str
) -> dict[Any, Any]:
    """Returns the updates that set a tab to the run of a picture or a link, without generating.

    Args:
        tabs: tabs by name.
        record: record of the run.
        language: language of the status.
    """
    tab = tabs[record.tab]
    return {
        **tab.control_updates(record.settings),
        **sweeps.axis_updates(tab.sweep, tab.product, record.facts),
        tab.result.status: common.status_line(_restored(record, language)),
    }


def _restored(record: provenance.Record, language: str) -> str:
    """Returns what the status says of a run of a picture or a link."""
    sentences = [_about_weights(_RESTORED, record.revisions, language)]
    if record.stopped:
        step, total = record.stopped
        sentences.append(i18n.translate(language, "status.was_stopped", step=step, total=total))
    sweep = record.facts.get("sweep")
    done, cells = sweeps.cells_of(sweep) if isinstance(sweep, dict) else (0, 0)
    if done < cells:
        words = {"done": done, "total": cells}
        sentences.append(i18n.translate(language, "status.was_stopped_sweep", **words))
    if record.picture:
        index, count = record.picture
        sentences.append(i18n.translate(language, "status.one_of", number=index + 1, count=count))
    return i18n.translate(language, "page.space").join(sentences)


def example_status(preview: Any, language: str) -> str:
    """Returns the status line of an example that is shown."""
    return common.status_line(_about_weights(_EXAMPLE, preview.revisions, language))


def _about_weights(keys: tuple[str, str], revisions: Mapping[str, str], language: str) -> str:
    """Returns what is said of a run from elsewhere, with all weights that are others here.

    Args:
        keys: of the texts for the same weights and for others.
        revisions: of the weights that drew it, by key of the checkpoint.
        language: language of the status.
    """
    weights = i18n.joined(
        language,
        (
            i18n.translate(
                language, "status.weights", key=found.key, needed=found.needed, here=found.here
            )
            for found in provenance.other_weights(revisions)
        ),
    )
    same, other = keys
    return i18n.translate(language, other if weights else same, weights=weights)
