"""How each tab works: the idea, the equation of its step, and the lines of code that do it.

The code is read from the modules that run, so that it is always what runs.
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
    """Some lines of a function, with its docstring left out.

    Attributes:
        caption: what they do; the end of a key of the words.
        function: where they stand.
        first: how the first statement begins.
        last: how the last one begins; empty is the first.
    """

    caption: str
    function: Callable[..., Any]
    first: str
    last: str = ""

    @property
    def file(self) -> str:
        """The file that they stand in, from the root of the project."""
        path = Path(inspect.getsourcefile(self.function) or "").resolve()
        return path.relative_to(_ROOT).as_posix()

    @property
    def code(self) -> str:
        """The lines, without the indentation that they share.

        Raises:
            LookupError: if no statement begins like that.
        """
        return _lines(self.function, self.first, self.last or self.first)


@cache
def _lines(function: Callable[..., Any], first: str, last: str) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    lines = source.splitlines()
    tree = ast.parse(source)
    begins = _statement(tree, lines, first, function)
    ends = _statement(tree, lines, last, function, begins.lineno)
    left_out = {n for doc in _docstrings(tree) for n in range(doc.lineno, _end(doc) + 1)}
    wanted = range(begins.lineno, _end(ends) + 1)
    shown = [lines[n - 1] for n in wanted if n not in left_out and lines[n - 1].strip()]
    return textwrap.dedent("\n".join(shown))


def _statement(
    tree: ast.AST, lines: list[str], opening: str, function: Callable[..., Any], after: int = 1
) -> ast.stmt:
    """The first statement, from line `after` on, whose source begins with `opening`."""
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
        and node.lineno >= after
        and lines[node.lineno - 1].strip().startswith(opening)
    ]
    if not found:
        raise LookupError(f"{function.__qualname__} has no statement that begins with {opening!r}")
    return min(found, key=lambda node: node.lineno)


def _docstrings(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            yield node.body[0]


def _end(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno


_LOOP = Excerpt("loop", sampling.sample, "prediction = denoise", "x_t, before = step.x_prev")

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
        Excerpt("trust", polyak, "return "),
    ),
    "digits": (
        _LOOP,
        Excerpt("mix", denoisers.denoiser, "def predict"),
    ),
}
"""The code of each tab, in the order in which it is read."""

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


def _published(name: str) -> str:
    """The address of the paper of a method of `guidance.PUBLISHED`."""
    found = re.search(r"arXiv:(\S+)", PUBLISHED[name].summary)
    return _ARXIV + (found[1] if found else "")


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
    **{name.lower(): _published(name) for name in ("DPS", "FreeDoM", "UGD", "MPGD", "TFG")},
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
    """How a tab works, as Markdown with LaTeX between `$$`.

    Args:
        tab: "color", "text" or "digits".
        language: of `words.LANGUAGES`.
    """
    say = _speaker(language)
    return "\n\n".join(
        [
            say(f"{tab}.idea"),
            f"**{say('step')}**",
            *(f"$$ {equation} $$" for equation in _EQUATIONS[tab]),
            say(f"{tab}.symbols"),
            f"**{say('code')}**",
            *(_shown(excerpt, say) for excerpt in EXCERPTS[tab]),
            f"**{say('links')}**",
            "\n".join(f"- {say(f'link.{name}', url=_ADDRESSES[name])}" for name in _LINKS[tab]),
        ]
    )


def _speaker(language: str) -> Callable[..., str]:
    return lambda key, **values: i18n.translate(language, f"explain.{key}", **values)


def _shown(excerpt: Excerpt, say: Callable[..., str]) -> str:
    """Lines of code under what they do, and under the name of their file."""
    where = f"# {excerpt.file}, {excerpt.function.__qualname__}"
    return f"{say(f'caption.{excerpt.caption}')}\n\n```python\n{where}\n{excerpt.code}\n```"
