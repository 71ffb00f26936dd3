"""Explanations of the tabs: the idea, the equations of a step, and the code that implements them.

The code is read from the imported modules, so that it is always the code that runs.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.diffusion import denoisers, guidance, losses, sampling
from pipelines.diffusion.methods import PUBLISHED
from pipelines.diffusion.methods.method import polyak
from pipelines.diffusion.solvers.ddim import ddim_step
from tabs import i18n

_ROOT = Path(__file__).resolve().parent.parent
_ARXIV = "https://arxiv.org/abs/"


@dataclass(frozen=True)
class Excerpt:
    """Some lines of a function, without its docstring.

    Attributes:
        caption: last part of the key of the text that describes the lines.
        function: function that contains the lines.
        first: start of the first statement.
        last: start of the last statement; empty for the first statement alone.
    """

    caption: str
    function: Callable[..., Any]
    first: str
    last: str = ""

    @property
    def file(self) -> str:
        """Path of the file, relative to the root of the project."""
        path = Path(inspect.getsourcefile(self.function) or "").resolve()
        return path.relative_to(_ROOT).as_posix()

    @property
    def code(self) -> str:
        """The lines, without their common indentation.

        Raises:
            LookupError: if no statement begins with `first` or `last`.
        """
        return _source_lines(self.function, self.first, self.last or self.first)


@cache
def _source_lines(function: Callable[..., Any], first: str, last: str) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    lines = source.splitlines()
    tree = ast.parse(source)
    begin = _statement(tree, lines, first, function)
    end = _statement(tree, lines, last, function, begin.lineno)
    docstring_lines = {n for doc in _docstrings(tree) for n in range(doc.lineno, _end(doc) + 1)}
    numbers = [n for n in range(begin.lineno, _end(end) + 1) if n not in docstring_lines]
    return textwrap.dedent("\n".join(lines[n - 1] for n in numbers if lines[n - 1].strip()))


def _statement(
    tree: ast.AST, lines: list[str], opening: str, function: Callable[..., Any], after: int = 1
) -> ast.stmt:
    """Returns the first statement from line `after` on that begins with `opening`."""
    matches = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
        and node.lineno >= after
        and lines[node.lineno - 1].strip().startswith(opening)
    ]
    if not matches:
        raise LookupError(f"{function.__qualname__} has no statement that begins with {opening!r}")
    return min(matches, key=lambda node: node.lineno)


def _docstrings(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            yield node.body[0]


def _end(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno


_LOOP = Excerpt("loop", sampling.sample, "prediction = denoise", "step = _advance")

EXCERPTS: dict[str, tuple[Excerpt, ...]] = {
    "color": (
        _LOOP,
        Excerpt("project", guidance.Guide._displacement, "full = ", "return full"),
        Excerpt("solver", ddim_step, "eps = ", "return alpha_prev * x0"),
    ),
    "text": (
        _LOOP,
        Excerpt("distance", losses.great_circle, "chord = ", "return "),
        Excerpt("gradient", guidance.Guide._differentiated, "with torch.enable_grad"),
        Excerpt("trust", polyak, "moved_rms = ", "return "),
    ),
    "digits": (
        _LOOP,
        Excerpt("mix", denoisers.denoiser, "def predict"),
    ),
}
"""Excerpts of code of each tab, in reading order."""

_STEP = r"x_s = \alpha_s\,x_0 + \sigma_s\,\varepsilon"
_RADIUS = r"r = \lambda\,\frac{\sigma_t}{\alpha_t}\,\mathrm{rms}(\varepsilon)"

_EQUATIONS: dict[str, tuple[str, ...]] = {
    "color": (
        r"d = x_0 - \Pi(x_0), \qquad " + _RADIUS,
        r"x_0 \leftarrow x_0 - \min\left(1, \frac{r}{\mathrm{rms}(d)}\right) d",
        _STEP,
    ),
    "text": (
        r"g = \frac{\partial}{\partial x_0}\,\frac{\theta^2}{2}, \qquad " + _RADIUS,
        r"x_0 \leftarrow x_0 - r\,\frac{g}{\mathrm{rms}(g)}",
        _STEP,
    ),
    "digits": (
        r"v = v_\varnothing + w\,(v_c - v_\varnothing)",
        r"x_0 = \alpha_t\,x_t - \sigma_t\,v",
        _STEP,
    ),
}


def _paper_address(name: str) -> str:
    """Returns the address of the paper of a method of `PUBLISHED`."""
    match = re.search(r"arXiv:(\S+)", PUBLISHED[name].summary)
    return _ARXIV + (match[1] if match else "")


COURSE = "https://github.com/huggingface/diffusion-models-class/tree/main/unit2"

_ADDRESSES: dict[str, str] = {
    "course": COURSE,
    "ddim": _ARXIV + "2010.02502",
    "dpm-solver": _ARXIV + "2211.01095",
    "search": _ARXIV + "2501.09732",
    "glide": _ARXIV + "2112.10741",
    "cfg": _ARXIV + "2207.12598",
    "clip": _ARXIV + "2103.00020",
    "interval": _ARXIV + "2404.07724",
    "autoguidance": _ARXIV + "2406.02507",
    **{name.lower(): _paper_address(name) for name in ("DPS", "FreeDoM", "UGD", "MPGD", "TFG")},
}

_SOLVERS = ("ddim", "dpm-solver")

_LINKS: dict[str, tuple[str, ...]] = {
    "color": ("course", *_SOLVERS, "dps", "freedom", "ugd", "mpgd", "tfg"),
    "text": (
        "course",
        *_SOLVERS,
        "clip",
        "glide",
        "freedom",
        "ugd",
        "mpgd",
        "tfg",
        "interval",
        "search",
    ),
    "digits": ("course", *_SOLVERS, "cfg", "glide", "interval", "autoguidance"),
}


def page(tab: str, language: str) -> str:
    """Returns the explanation of a tab as Markdown, with LaTeX between `$$`.

    Args:
        tab: "color", "text" or "digits".
        language: a key of `i18n.LANGUAGES`.
    """
    translate = _translator(language)
    return "\n\n".join(
        [
            translate(f"{tab}.idea"),
            f"**{translate('step')}**",
            *(f"$$ {equation} $$" for equation in _EQUATIONS[tab]),
            translate(f"{tab}.symbols"),
            f"**{translate('code')}**",
            *(_code_block(excerpt, translate) for excerpt in EXCERPTS[tab]),
            f"**{translate('links')}**",
            "\n".join(
                f"- {translate(f'link.{name}', url=_ADDRESSES[name])}" for name in _LINKS[tab]
            ),
        ]
    )


def _translator(language: str) -> Callable[..., str]:
    return lambda key, **values: i18n.translate(language, f"explain.{key}", **values)


def _code_block(excerpt: Excerpt, translate: Callable[..., str]) -> str:
    """Returns the code of an excerpt as Markdown, below its caption and the name of its file."""
    header = f"# {excerpt.file}, {excerpt.function.__qualname__}"
    return f"{translate(f'caption.{excerpt.caption}')}\n\n```python\n{header}\n{excerpt.code}\n```"
