"""Guidance losses, one per file in this folder; `loss` defines what a loss is."""

from pipelines.diffusion.losses.brightness import Brightness
from pipelines.diffusion.losses.contrast import Contrast
from pipelines.diffusion.losses.downsampled import Downsampled
from pipelines.diffusion.losses.embedding_distance import EmbeddingDistance, great_circle
from pipelines.diffusion.losses.grey import GreyIs
from pipelines.diffusion.losses.keep import Keep
from pipelines.diffusion.losses.loss import Loss, PlainLoss, Projectable, Term, of, total
from pipelines.diffusion.losses.luma import LUMINANCE, luma
from pipelines.diffusion.losses.mean_color import MeanColor
from pipelines.diffusion.losses.palette import Palette
from pipelines.diffusion.losses.regions import REGIONS, region_mask, resized_mask
from pipelines.diffusion.losses.symmetry import Symmetry
from pipelines.diffusion.losses.target_color import TargetColor

__all__ = [
    "LUMINANCE",
    "REGIONS",
    "Brightness",
    "Contrast",
    "Downsampled",
    "EmbeddingDistance",
    "GreyIs",
    "Keep",
    "Loss",
    "MeanColor",
    "Palette",
    "PlainLoss",
    "Projectable",
    "Symmetry",
    "TargetColor",
    "Term",
    "great_circle",
    "luma",
    "of",
    "region_mask",
    "resized_mask",
    "total",
]
