"""Publishes a trained model, or the app as a Space, see `training.publish.commands`.

python -m training.publish model paintings --repo-id someone/paintings --dry-run
"""

from __future__ import annotations

from training.publish.commands import app

if __name__ == "__main__":
    app()
