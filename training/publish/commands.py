"""Publishes a trained model, or the app as a Space, on the Hugging Face Hub.

    python -m training.publish model paintings --repo-id someone/paintings --dry-run
    python -m training.publish model runs/kites --repo-id someone/kites
    python -m training.publish space --repo-id someone/studio

Only what has changed is sent, so the same command can be run again, also after an upload that was
broken off. `--push-to-hub` of the training commands does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from training.cards.parts import CARD_FILE
from training.core.refusals import options_refused
from training.publish import access, models, spaces, uploads
from training.publish.access import Kind
from training.publish.uploads import File, Plan

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

RepoId = Annotated[str, typer.Option(help="NAME or OWNER/NAME on the Hub")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="say what would be uploaded, and write nothing")
]


@dataclass(frozen=True)
class Shipment:
    """What is to be published.

    Attributes:
        kind: of the repository.
        files: all that the repository of that id should have.
        ours: patterns of the paths that only such files have.
        check: raises `ValueError` if the files are not fit to be published.
        private: whether a new repository can be seen by nobody else.
    """

    kind: Kind
    files: Callable[[str], Sequence[File]]
    ours: Sequence[str]
    check: Callable[[Sequence[File]], None] = lambda _: None
    private: bool = False


@app.command()
def model(
    folder: Annotated[str, typer.Argument(help="bundled key, checkpoint folder or run folder")],
    repo_id: RepoId,
    private: Annotated[
        bool, typer.Option("--private", help="a new repository can be seen by nobody else")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Publishes weights, samples and model card of a checkpoint."""
    with options_refused():
        found = models.find_folder(folder)
    files = partial(models.files_of, found)
    _publish(repo_id, Shipment("model", files, models.PATTERNS, private=private), dry_run)


@app.command()
def space(
    repo_id: RepoId,
    private: Annotated[
        bool, typer.Option("--private", help="a new Space can be seen by nobody else")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Publishes the app, with all that it needs and nothing else."""
    root = spaces.ROOT
    files = partial(spaces.files_of, root)
    check = partial(spaces.check, (root / spaces.README).read_text(encoding="utf-8"))
    _publish(repo_id, Shipment("space", files, spaces.PATTERNS, check, private), dry_run)


def reserve(repo_id: str) -> str:
    """The full id of the repository that a training will upload to; empty is none.

    Raises:
        ValueError: one sentence, if the token may not write there.
    """
    return access.make_repository(repo_id, option="push_to_hub") if repo_id else ""


def push(folder: Path, repo_id: str) -> None:
    """Uploads what a training has made, or ends the program with a sentence.

    Args:
        folder: of the checkpoint.
        repo_id: what `reserve` gave; empty is none.
    """
    if not repo_id:
        return
    try:
        files = models.files_of(folder, repo_id)
        uploads.check_sizes(files)
        _send(uploads.make_plan(repo_id, "model", files, ours=models.PATTERNS))
    except (ConnectionError, ValueError) as error:
        again = f"python -m training.publish model {folder} --repo-id {repo_id}"
        typer.echo(f"Trained, but not uploaded: {error}; do it with {again}", err=True)
        raise typer.Exit(1) from error


def _publish(repo_id: str, shipment: Shipment, dry_run: bool) -> None:
    with options_refused(), _failing_in_one_sentence():
        (_rehearse if dry_run else _perform)(repo_id, shipment)


def _perform(repo_id: str, shipment: Shipment) -> None:
    full_id = access.check_access(repo_id, shipment.kind)
    files = shipment.files(full_id)
    shipment.check(files)
    uploads.check_sizes(files)
    access.create(full_id, shipment.kind, private=shipment.private)
    plan = uploads.make_plan(full_id, shipment.kind, files, ours=shipment.ours)
    if not plan.nothing_to_do:
        typer.echo("\n".join(in_words(plan)))
    _send(plan)


def _rehearse(repo_id: str, shipment: Shipment) -> None:
    """Says what would be done; refusals come last, for the list needs no token."""
    full_id, refusals = repo_id, []
    try:
        full_id = access.check_access(repo_id, shipment.kind)
    except ValueError as error:
        refusals.append(str(error))
    files = shipment.files(full_id)
    reached = not refusals
    plan = uploads.make_plan(
        full_id,
        shipment.kind,
        files,
        private=shipment.private,
        ours=shipment.ours,
        reachable=reached,
    )
    typer.echo("\n".join([*in_words(plan), *_card_head(files)]))
    if plan.nothing_to_do:
        typer.echo("nothing to upload")
    for check in (shipment.check, uploads.check_sizes):
        try:
            check(files)
        except ValueError as error:
            refusals.append(str(error))
    if refusals:
        raise ValueError(" ".join(f"{refusal}." for refusal in refusals))


def _send(plan: Plan) -> None:
    if plan.nothing_to_do:
        typer.echo(f"nothing to upload: {plan.repo_id} has all {len(plan.same)} files as they are")
        return
    typer.echo(f"uploaded: {uploads.send(plan, 'Upload from Guided Diffusion Studio')}")


@contextmanager
def _failing_in_one_sentence() -> Iterator[None]:
    try:
        yield
    except ConnectionError as error:
        typer.echo(f"{error}; the same command goes on where it stopped.", err=True)
        raise typer.Exit(1) from error


def in_words(plan: Plan) -> Iterator[str]:
    """What an upload does, in one line per file."""
    state = "is there" if plan.exists else "will be created"
    seen_by = "private" if plan.private else "public"
    yield f"{plan.kind} {plan.repo_id}, {seen_by}: {state}"
    for file in sorted((*plan.changed, *plan.same), key=lambda file: file.path):
        what = "upload" if file in plan.changed else "same"
        yield f"  {what:6} {file.size:>12,} B  {'LFS' if file.lfs else '   '}  {file.path}"
    for path in plan.gone:
        yield f"  {'delete':6} {'':14}       {path}"
    large = sum(file.lfs for file in plan.changed)
    yield (
        f"{len(plan.changed)} of {len(plan.changed) + len(plan.same)} files to upload, "
        f"{_megabytes(plan.changed)} of {_megabytes((*plan.changed, *plan.same))}, {large} by LFS"
    )


def _megabytes(files: Sequence[File]) -> str:
    return f"{sum(file.size for file in files) / 1e6:.1f} MB"


def _card_head(files: Sequence[File]) -> Iterator[str]:
    """The card's metadata and title."""
    (card,) = (file for file in files if file.path == CARD_FILE)
    head, separator, _ = card.read().decode().partition("\n## ")
    yield f"{CARD_FILE} begins:"
    yield from (f"  {line}".rstrip() for line in head.rstrip().splitlines())
    if separator:
        yield "  ..."
