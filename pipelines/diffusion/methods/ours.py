"""The methods that the studio offers besides the course's."""

from __future__ import annotations

from dataclasses import replace

from pipelines.diffusion.methods.method import Method

METHODS: dict[str, Method] = {
    "fast": Method(
        "exact or x0 steps with a fast solver, 10-12 steps",
        solver="dpm++-logsnr",
        eta=0,
        takes_noise=False,
    ),
    "balanced": Method("exact or x0 steps, some fresh noise", solver="dpm++-3m", eta=0.25),
    "thorough": Method(
        "gradients through the network, middle steps done twice",
        solver="dpm++-guided",
        eta=0.4,
        through_network=True,
        exact=False,
        recurrence=2,
    ),
}

TEXT_METHODS: dict[str, Method] = METHODS | {"fast": replace(METHODS["fast"], solver="dpm++")}
"""The same for CLIP guidance.

Words need steps at middle noise, where objects take shape. A colour can be reached at any noise
level, so that few steps are better spent on detail.
"""
