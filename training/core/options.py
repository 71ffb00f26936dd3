"""Options declared once, as fields of a dataclass, and the command line that is made from them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import torch
import typer

from pipelines.core.rules import Rule

_SAME: Any = object()


def option(
    default: Any,
    help_text: str,
    rule: Rule | None = None,
    *,
    name: str = "",
    written: tuple[Any, Any] = _SAME,
    minimum: float | None = None,
    flag: bool = False,
    older: Any = _SAME,
) -> Any:
    """Declares a field that is an option of the command line.

    Args:
        default: of the field; `dataclasses.MISSING` is none.
        help_text: what `--help` says.
        rule: what the field accepts.
        name: of the option, where it is not the field's.
        written: type and default on the command line, where the field's are others.
        minimum: that the command line itself demands, and tells.
        flag: whether it can only be switched on.
        older: the value of runs from before there was this field; without, all runs have it.
    """
    kept = {
        "help": help_text,
        "rule": rule,
        "name": name,
        "minimum": minimum,
        "flag": flag,
        "written": written,
        "older": older,
    }
    metadata = {key: value for key, value in kept.items() if value is not _SAME}
    return dataclasses.field(default=default, metadata=metadata)


def decided(rule: Rule) -> Any:
    """Declares a field that is no option: the program decides it."""
    return dataclasses.field(metadata={"rule": rule})


class Given(dict[str, Any]):
    """The values of a command line by field name.

    Attributes:
        explicit: names of the fields that were written there; the others have their defaults.
    """

    def __init__(self) -> None:
        super().__init__()
        self.explicit: set[str] = set()

    @property
    def written(self) -> dict[str, Any]:
        """The values that were written on the command line."""
        return {name: value for name, value in self.items() if name in self.explicit}


def command(*classes: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command whose options are the fields of some dataclasses.

    The function is called with one `Given` for each class.
    """

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        fields = {_name(f): (number, f.name) for number, c in enumerate(classes) for f in _of(c)}
        parameters = [_parameter(c, f) for c in classes for f in _of(c)]

        @functools.wraps(run)
        def main(context: typer.Context, **values: Any) -> None:
            parts = [Given() for _ in classes]
            for name, value in values.items():
                number, field_name = fields[name]
                parts[number][field_name] = value
                source = context.get_parameter_source(name)
                if source is not None and source.name != "DEFAULT":
                    parts[number].explicit.add(field_name)
            run(*parts)

        del main.__wrapped__  # pyright: ignore[reportAttributeAccessIssue]
        told = inspect.Parameter(
            "context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context
        )
        parameters.insert(0, told)
        main.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        signature = inspect.Signature(sorted(parameters, key=lambda p: p.default is not p.empty))
        main.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        return main

    return decorate


def set_threads(threads: int) -> None:
    """Limits the CPU threads; 0 leaves PyTorch's choice."""
    if threads:
        torch.set_num_threads(threads)


def _of(options: Any) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(options) if "help" in f.metadata]


def _name(field: dataclasses.Field[Any]) -> str:
    return field.metadata["name"] or field.name


def _parameter(options: Any, field: dataclasses.Field[Any]) -> inspect.Parameter:
    told = field.metadata
    kind, default = told.get("written", (get_type_hints(options)[field.name], field.default))
    flags = [f"--{_name(field).replace('_', '-')}"] if told["flag"] else []
    typer_option = typer.Option(*flags, help=told["help"], min=told["minimum"])
    return inspect.Parameter(
        _name(field),
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is dataclasses.MISSING else default,
        annotation=Annotated[kind, typer_option],
    )
