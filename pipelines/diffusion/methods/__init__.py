"""All guidance methods: those that the studio offers, and published ones for comparison."""

from __future__ import annotations

from pipelines.diffusion.methods import course, ours, published
from pipelines.diffusion.methods.method import MAX_LAMBDA, Method, Pull, trust_radius

__all__ = [
    "MAX_LAMBDA",
    "METHODS",
    "PUBLISHED",
    "TEXT_METHODS",
    "Method",
    "Pull",
    "trust_radius",
]

METHODS: dict[str, Method] = ours.METHODS | {"course": course.COLOR}
TEXT_METHODS: dict[str, Method] = ours.TEXT_METHODS | {"course": course.TEXT}
PUBLISHED: dict[str, Method] = {
    "course, through the network": course.THROUGH_THE_NETWORK,
    **published.METHODS,
}
