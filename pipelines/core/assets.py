"""The folder of the files that come with the project."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "assets"
"""Checkpoints, translations, examples, style sheet and script."""
