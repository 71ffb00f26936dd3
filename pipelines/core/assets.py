"""Where the files that come with the project lie."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "assets"
"""Checkpoints, words, examples, style and script."""
