"""One tab of a page: its components, its settings as they hold them, and a run put into them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.core.errors import UserError
from pipelines.core.rules import is_picture
from pipelines.runs import provenance, timing
from pipelines.runs.product import Product
from tabs import chips, common, controls, examples, explain, i18n, results, sweeps
from tabs.any_picture import with_any_pictures
from tabs.latest_run import runs
from tabs.results import ResultComponents
from tabs.views import view_of

_RESTORED = ("status.restored", "status.restored_other")
_EXAMPLE = ("status.example", "status.example_other")
READY = "status.ready"

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
        chips: component with what is in force.
        sections: parts that unfold, by the group of their settings.
        thumbnails: components with the thumbnails of pictures, by the name of their setting.
        parts: components of the view besides the controls, by their element ids.
        explanation: component that explains how the tab works.
        examples: component with the stored examples.
        sweep: components of the sweep.
    """

    product: Product
    controls: Mapping[str, Any]
    result: ResultComponents
    token: gr.Textbox
    estimate: gr.HTML
    chips: gr.HTML
    sections: Mapping[str, gr.Accordion]
    thumbnails: Mapping[str, gr.Textbox]
    parts: Mapping[str, Any]
    explanation: gr.Markdown
    examples: gr.HTML
    sweep: sweeps.Panel

    def inputs(self) -> list[Component]:
        """Returns the controls in the order of the settings."""
        return [self.controls[f.name] for f in dataclasses.fields(self.product.settings)]

    def inputs_without_pictures(self) -> list[Component]:
        """Returns the controls that `settings_without_pictures` needs, in the same order."""
        return [self.controls[name] for name in names_without_pictures(self.product.settings)]

    def held_inputs(self) -> list[Component]:
        """Returns the components that `held` needs; no uploads, which are slow to send."""
        return [*self.inputs_without_pictures(), *self.thumbnails.values()]

    def held(self, values: Sequence[Any]) -> dict[str, Any]:
        """Returns the values of `held_inputs` by the names of their settings."""
        names = [*names_without_pictures(self.product.settings), *self.thumbnails]
        return dict(zip(names, values, strict=True))

    def state_outputs(self) -> list[Component]:
        """Returns the components that `state` updates."""
        named = {**self.controls, **self.parts}
        of_view = view_of(self.product).state(self.product.settings(), i18n.DEFAULT)
        others = [self.chips, self.estimate, *self.sections.values()]
        return [*(named[name] for name in of_view), *others]

    def state(self, values: Mapping[str, Any], language: str) -> dict[Any, Any]:
        """Returns all that follows from what the controls hold, besides their values.

        Args:
            values: of the controls by name; a thumbnail in place of each picture.
            language: of all texts.
        """
        found = chips.held(self.product, dict(values))
        return {
            **self._of_view(found.settings, language),
            **self._titles(found, language),
            self.chips: chips.chips(self.product, found, language),
            self.estimate: estimate_of(
                self.product,
                language,
                [values[name] for name in names_without_pictures(self.product.settings)],
            ),
        }

    def _of_view(self, settings: Any, language: str) -> dict[Any, Update]:
        named = {**self.controls, **self.parts}
        updates = view_of(self.product).state(settings, language)
        return {named[name]: gr.update(**update) for name, update in updates.items()}

    def _titles(self, found: chips.Held, language: str) -> dict[Any, Update]:
        """Returns the updates of the titles of the parts that unfold."""
        counts = {group: chips.count(self.product, group, found) for group in self.sections}
        return {
            section: gr.update(
                label=controls.section_title(self.product, group, language, counts[group])
            )
            for group, section in self.sections.items()
        }

    def control_updates(
        self, settings: Any, language: str = i18n.DEFAULT
    ) -> dict[Component, Update]:
        """Returns the updates that set all controls to settings, with their texts and ranges."""
        updates = {c: controls.update(settings, name, c) for name, c in self.controls.items()}
        of_view = self._of_view(settings, language)
        return {control: of_view.get(control, {}) | update for control, update in updates.items()}

    def shown_outputs(self) -> list[Component]:
        """Returns the components that `shown` updates."""
        found = [*self.inputs(), *self.thumbnails.values(), *self.state_outputs()]
        return list(dict.fromkeys(found))

    def shown(self, settings: Any, language: str) -> dict[Any, Any]:
        """Returns the updates that set the tab to settings: its controls and what follows.

        Parts that unfold are opened if some of their settings are set.
        """
        values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
        small = {name: chips.thumbnail(values[name]) for name in self.thumbnails}
        updates = self.state(values | small, language)
        found = chips.held(self.product, values | small)
        for group, section in self.sections.items():
            if chips.count(self.product, group, found):
                updates[section] |= gr.update(open=True)
        updates |= {self.thumbnails[name]: address for name, address in small.items()}
        return updates | self.control_updates(settings, language)

    def without(self, name: Any, values: Mapping[str, Any], language: str) -> dict[Any, Any]:
        """Returns the updates that take one setting back to its default, if there is such a one.

        Args:
            name: of the setting; anyone can send an event.
            values: as in `state`.
            language: of all texts.
        """
        if not isinstance(name, str) or name not in self.controls:
            return self.state(values, language)
        defaults = self.product.settings()
        value = getattr(defaults, name)
        updates = self.state({**values, name: value}, language)
        if name in self.thumbnails:
            updates[self.thumbnails[name]] = value
        control = self.controls[name]
        value_update = controls.update(defaults, name, control)
        return updates | {control: updates.get(control, {}) | value_update}

    def shown_inputs(self) -> list[Component]:
        """Returns the components that `translated_with` needs."""
        of_runs = [self.token, self.result.status, self.sweep.token, self.sweep.status]
        return [*of_runs, *self.held_inputs()]

    def translated_with(self, language: str, values: Sequence[Any]) -> dict[Any, Any]:
        """Returns the updates that translate all that the tab shows, and tells its runs.

        Args:
            language: its code.
            values: of `shown_inputs`.
        """
        token, status, sweep_token, sweep_status, *rest = values
        for each in (token, sweep_token):
            runs.speak(each, language)
        return {
            **self.translated(language, token, status),
            **sweeps.translated(self.sweep, self.product, language, sweep_token, sweep_status),
            **self.state(self.held(rest), language),
        }

    def translated(
        self, language: str, token: str | None, status: str | None = None
    ) -> dict[Any, Any]:
        """Returns the updates that translate the generated texts of the tab.

        Args:
            language: its code.
            token: of the page's latest run; empty if there was none.
            status: as the page shows it; None is that of the run.
        """
        updates: dict[Any, Any] = {
            self.explanation: explain.page(self.product, language),
            self.examples: examples.gallery(self.product, language),
        }
        preview = runs.preview(token)
        if preview is not None:
            stopped = not runs.is_drawing(token)
            updates_by_name = results.updates(self.product, preview, language, stopped=stopped)
            values = results.in_output_order(updates_by_name)
            updates |= dict(zip(self.result.outputs(), values, strict=True))
        elif not token:
            updates[self.result.pictures] = results.starting_noise(self.product, language)
        said = status or updates.get(self.result.status)
        said = said or common.status_line(i18n.translate(language, READY))
        updates[self.result.status] = common.translated_status(said, language)
        return updates


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
        work = product.work(with_any_pictures(settings_without_pictures(product, values)))
    except UserError:
        return ""
    seconds = timing.estimator.estimate(work)
    if seconds is None:
        measuring = "status.measuring" if timing.estimator.measuring else "status.no_estimate"
        return i18n.translate(language, measuring)
    return i18n.translate(language, "status.estimate", seconds=f"{timing.rounded(seconds):g}")


def restore_run(
    tabs: Mapping[str, Tab], record: provenance.Record, language: str
) -> dict[Any, Any]:
    """Returns the updates that set a tab to the run of a picture or a link, without generating.

    Args:
        tabs: tabs by name.
        record: record of the run.
        language: language of the status.

    Raises:
        RecordError: if the product that drew it has no tab.
    """
    provenance.check_has_tab(record, tabs)
    tab = tabs[record.tab]
    return {
        **tab.shown(record.settings, language),
        **sweeps.axis_updates(tab.sweep, tab.product, record.facts),
        tab.result.status: common.status_line(*_restored(record, language)),
    }


def _restored(record: provenance.Record, language: str) -> list[str]:
    """Returns the sentences that the status says of a run of a picture or a link."""
    about = _about_weights(_RESTORED, record.revisions, language)
    partly = i18n.translate(language, "status.restored_partly")
    sentences: list[str] = [partly if record.problems else about]
    if by := provenance.computed_otherwise(record):
        here = provenance.computed()["by"]
        sentences.append(i18n.translate(language, "status.computed_by", by=by, here=here))
    if changed := provenance.changed_plugins(record):
        listed = ", ".join(changed)
        sentences.append(i18n.translate(language, "status.other_plugin", names=listed))
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
    return sentences


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
    weights = [
        i18n.translate(
            language, "status.weights", key=found.key, needed=found.needed, here=found.here
        )
        for found in provenance.other_weights(revisions)
    ]
    same, other = keys
    if not weights:
        return i18n.translate(language, same)
    return i18n.translate(language, other, weights=weights)
