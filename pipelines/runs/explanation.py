"""Explanations of products: the equations of a step, the code that computes them, the papers.

The code is read from the imported modules, so that it is always the code that runs. The texts are
those of the product.
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

from pipelines.diffusion import sampling
from pipelines.diffusion.methods import PUBLISHED

_ROOT = Path(__file__).resolve().parents[2]
_ARXIV = "https://arxiv.org/abs/"


@dataclass(frozen=True)
class Excerpt:
    """Some lines of a function, without its docstring.

    Attributes:
        caption: last part of the key of the text that describes the lines: `caption.NAME` of the
            product, or else of all products.
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


@dataclass(frozen=True)
class Explanation:
    """How a product works; its texts `idea` and `symbols` belong to it.

    Attributes:
        equations: of one step, in LaTeX.
        excerpts: the code that computes them, in reading order.
        links: names of what to read on, keys of `ADDRESSES`.
    """

    equations: tuple[str, ...] = ()
    excerpts: tuple[Excerpt, ...] = ()
    links: tuple[str, ...] = ()


LOOP = Excerpt("loop", sampling.sample, "prediction = denoise", "step = _advance")
"""The loop of the sampler, in which the explanations of all products begin."""

STEP = r"x_s = \alpha_s\,x_0 + \sigma_s\,\varepsilon"
RADIUS = r"r = \lambda\,\frac{\sigma_t}{\alpha_t}\,\mathrm{rms}(\varepsilon)"


def _paper_address(name: str) -> str:
    """Returns the address of the paper of a method of `PUBLISHED`."""
    match = re.search(r"arXiv:(\S+)", PUBLISHED[name].summary)
    return _ARXIV + (match[1] if match else "")


COURSE = "https://github.com/huggingface/diffusion-models-class/tree/main/unit2"

ADDRESSES: dict[str, str] = {
    "course": COURSE,
    "ddim": _ARXIV + "2010.02502",
    "dpm-solver": _ARXIV + "2211.01095",
    "search": _ARXIV + "2501.09732",
    "glide": _ARXIV + "2112.10741",
    "cfg": _ARXIV + "2207.12598",
    "clip": _ARXIV + "2103.00020",
    "interval": _ARXIV + "2404.07724",
    "ddnm": _ARXIV + "2212.00490",
    "repaint": _ARXIV + "2201.09865",
    "sdedit": _ARXIV + "2108.01073",
    "differential": _ARXIV + "2306.00950",
    "lanpaint": _ARXIV + "2502.03491",
    "autoguidance": _ARXIV + "2406.02507",
    **{name.lower(): _paper_address(name) for name in ("DPS", "FreeDoM", "UGD", "MPGD", "TFG")},
}
SOLVER_LINKS = ("ddim", "dpm-solver")
