"""Guided Diffusion Studio: composes the tabs and starts the server.

python app.py
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tabs.server.port import named_port
from tabs.server.shutdown import shutdown

# Read by Gradio and diffusers when they are imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Read by uvicorn, which else believes `X-Forwarded-For` of every program on this machine;
# `tabs.server.admission` reads the header of trusted proxies itself.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")

if __name__ == "__main__":  # before the imports, which take seconds and read the port too
    shutdown.install()
    try:
        named_port()
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

import gradio as gr
from gradio.block_function import BlockFunction

from pipelines.core import devices
from pipelines.core.assets import ASSETS
from pipelines.models import memory, ways
from pipelines.models.names import own_checkpoints
from pipelines.products import PRODUCTS
from tabs import about, common, endpoints, i18n, lane, page, shell, temp_files, warm_up
from tabs.i18n import Translatable
from tabs.server import headers, sessions
from tabs.server.limits import check_environment
from tabs.server.middleware import middleware
from tabs.tab import Tab
from tabs.theme import theme

TITLE = "Guided Diffusion Studio"
MAX_QUEUE = 24


class Studio(gr.Blocks):
    """The app; its endpoints accept calls without the last parameters."""

    def validate_inputs(self, block_fn: BlockFunction, inputs: list[Any]) -> None:
        """Appends the defaults of missing trailing values, so that clients of older versions work.

        Args:
            block_fn: function that is called.
            inputs: values in the order of its parameters.
        """
        if block_fn.api_visibility == "public":
            missing: Any = block_fn.inputs[len(inputs) :]
            inputs.extend(component.value for component in missing)
        super().validate_inputs(block_fn, inputs)

    def launch(self, *args: Any, **options: Any) -> Any:
        """Starts the server, like Gradio's, with few sessions kept; see `tabs.server.sessions`."""
        options.setdefault("state_session_capacity", sessions.max_sessions())
        return super().launch(*args, **options)

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses values that no control sends, such as text for a slider, with one sentence."""
        with common.as_refused_request():
            return await super().preprocess_data(*args, **kwargs)

    async def call_function(self, *args: Any, **kwargs: Any) -> Any:
        """Raises the errors of all events as sentences; those of runs know their language."""
        lane.note_task()
        with common.as_gradio_errors(i18n.DEFAULT):
            return await super().call_function(*args, **kwargs)


def build_demo(*, max_queue: int = MAX_QUEUE) -> gr.Blocks:
    """Builds all tabs and endpoints; loads no weights, and does not start the server.

    Args:
        max_queue: longest queue; further runs are refused because the queue is full.
    """
    with Studio(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        header = page.build_header(TITLE)
        for product in PRODUCTS.values():  # first, so that no event of the page takes their names
            endpoints.add_run_endpoint(product)
        tabs: dict[str, Tab] = {}
        with gr.Tabs(selected=next(iter(PRODUCTS)), elem_id="tabs") as row:
            for product in PRODUCTS.values():
                if product.has_tab:
                    with gr.Tab(Translatable(f"{product.name}.title"), id=product.name):
                        tabs[product.name] = shell.build(product, header.language)
            with gr.Tab(Translatable("about.title"), id="about") as about_tab:
                about.build(about_tab, header.language)
        page.wire(demo, header, row, tabs)
    demo.queue(max_size=max_queue, api_open=False)
    sessions.bound(demo)
    temp_files.files.watch(demo)
    return demo


def _script(*names: str) -> str:
    """Returns one JavaScript function that runs those of files in `assets`, in their order."""
    functions = ((ASSETS / name).read_text(encoding="utf-8") for name in names)
    return "() => {\n" + "\n".join(f"({function.rstrip()})();" for function in functions) + "\n}"


def launch_options() -> dict[str, Any]:
    """Returns the options of `launch` besides the address, for the app, the tests and Spaces."""
    return {
        "theme": theme(),
        "css_paths": ASSETS / "style.css",
        "js": _script("studio.js", "access.js", "pictures.js", "canvas.js"),
        "ssr_mode": False,
        "max_file_size": "10mb",
        "run_history": False,
        "app_kwargs": {"middleware": middleware()},
        "footer_links": ["api", "gradio", "settings"],
    }


def main() -> None:
    """Measures the device and serves until a signal; exits with 2 on a wrong environment."""
    try:
        check_environment()
        own_checkpoints()
        ways.chosen(devices.device())
        for check in (
            warm_up.is_wanted,
            memory.budget_mb,
            temp_files.budget_mb,
            sessions.max_sessions,
            headers.frame_ancestors,
            headers.allowed_hosts,
        ):
            check()
        options = launch_options()
        port = named_port()
        shutdown.own_temp_folder()
        demo = build_demo()
        shutdown.prepare(demo)
        warm_up.prepare()
        demo.launch(server_port=port, prevent_thread_lock=True, **options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        shutdown.end(2)
    shutdown.serve(demo)


if __name__ == "__main__":
    main()
