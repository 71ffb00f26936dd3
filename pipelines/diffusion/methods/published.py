"""Published methods for comparison, written as settings of the same rule."""

from __future__ import annotations

from typing import Any

from pipelines.diffusion.methods.method import (
    Method,
    by_alpha_step,
    by_root_alpha_step,
    by_root_loss,
    normalized_by_weight,
    normalized_on_x_prev,
    over_snr,
)

_NOT_OURS: dict[str, Any] = {"exact": False, "max_scale": 1e6}

METHODS: dict[str, Method] = {
    "DPS": Method("Chung et al. 2023, arXiv:2209.14687", step=None, push=by_root_loss, **_NOT_OURS),
    "FreeDoM": Method(
        "Yu et al. 2023, arXiv:2303.09833", step=None, push=normalized_on_x_prev, **_NOT_OURS
    ),
    "UGD": Method(
        "Bansal et al. 2023, arXiv:2302.07121", step=over_snr, through_network=True, **_NOT_OURS
    ),
    "MPGD": Method("He et al. 2024, arXiv:2311.16424", step=normalized_by_weight, **_NOT_OURS),
    "TFG": Method(
        "Ye et al. 2024, arXiv:2409.15761",
        step=by_alpha_step,
        push=by_root_alpha_step,
        keep_eps=True,
        **_NOT_OURS,
    ),
}
