"""A model with exactly known answers: a mixture of Gaussians fitted to small pictures.

    python -m benchmarks.mixture

For such data the optimal denoiser has a closed form, and so has the distribution of the pictures
with a wanted mean colour. So guidance can be compared with the exact answer, which no trained
network allows. The mixture is fitted to paintings of 8x8 pixels and bundled with the code; neither
tests nor benchmarks need the paintings.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
import typer
from diffusers import DDIMScheduler
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from benchmarks import frechet
from pipelines.core.images import from_uint8
from pipelines.diffusion.denoisers import PlainPredictor

WEIGHTS = Path(__file__).resolve().parent / "weights" / "mixture.safetensors"
SHAPE = (3, 8, 8)
_NUM_VALUES = math.prod(SHAPE)
_PRIOR = 50.0
_RIDGE = 1e-4  # added to every variance, so that none is 0


@dataclass(frozen=True)
class Mixture:
    """A mixture of k Gaussians over pictures `SHAPE`, flattened to d values; all float64.

    Attributes:
        weights: `(k,)`, sum 1.
        means: `(k, d)`.
        covariances: `(k, d, d)`; may be singular.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor]:
        """Variances `(k, d)` along the principal axes, and those as columns `(k, d, d)`."""
        values, vectors = torch.linalg.eigh(self.covariances)
        return values.clamp(min=0), vectors

    def denoised(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Returns `E[x0 | x_t]`, `(n, 3, 8, 8)`, for noisy pictures; differentiable.

        Each Gaussian shrinks towards its mean along its axes; the results are averaged, weighted by
        the likelihood of `x_t` under each Gaussian.

        Args:
            x_t: `alpha * x0 + sigma * eps`, `(n, 3, 8, 8)`, of the float type to compute in.
            alpha: signal level `()`.
            sigma: noise level `()`.
        """
        weights, means, values, rotation, centres = self._prepared(x_t.dtype)
        rotated = (x_t.flatten(1) @ rotation).view(-1, *means.shape) - alpha * centres  # (n, k, d)
        spread = alpha**2 * values + sigma**2  # (k, d)
        energy = (rotated.square() / spread).sum(dim=2) + spread.log().sum(dim=1)  # (n, k)
        shares = torch.softmax(weights.log() - energy / 2, dim=1)
        shrunk = shares[:, :, None] * (alpha * values / spread) * rotated  # (n, k, d)
        return (shrunk.flatten(1) @ rotation.T + shares @ means).view_as(x_t)

    def _prepared(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Returns the constants of `denoised`, with all axes in one matrix `(d, k * d)`."""
        if dtype not in self._by_dtype:
            values, vectors = self._axes
            rotation = vectors.permute(1, 0, 2).flatten(1)  # (d, k * d)
            centres = torch.einsum("kd,kde->ke", self.means, vectors)
            parts = (self.weights, self.means, values, rotation, centres)
            self._by_dtype[dtype] = tuple(part.to(dtype) for part in parts)
        return self._by_dtype[dtype]

    @cached_property
    def _by_dtype(self) -> dict[torch.dtype, tuple[Tensor, ...]]:
        return {}

    def predictor(self, config: Mapping[str, Any]) -> PlainPredictor:
        """Returns the optimal network, with prediction type "sample".

        Args:
            config: of a scheduler, for the noise level of each timestep.
        """
        scheduler: Any = DDIMScheduler.from_config(dict(config))
        alphas_cumprod = scheduler.alphas_cumprod.double()

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            alpha_bar = alphas_cumprod[int(t)]
            return self.denoised(x_t, alpha_bar.sqrt().to(x_t), (1 - alpha_bar).sqrt().to(x_t))

        return predict

    def given(self, matrix: Tensor, values: Tensor) -> Mixture:
        """Returns the exact distribution of the pictures of which a linear function is known.

        A Gaussian conditioned on a linear function of it is a Gaussian; its weight is multiplied by
        the likelihood of the values under it.

        Args:
            matrix: `(m, d)`, from a flattened picture to the known values.
            values: `(m,)`.
        """
        matrix, values = matrix.double(), values.double()
        known = self.means @ matrix.T  # (k, m)
        cross = self.covariances @ matrix.T  # (k, d, m)
        spread = matrix @ cross  # (k, m, m)
        gain = torch.linalg.solve(spread, cross.mT).mT  # (k, d, m)
        normal = torch.distributions.MultivariateNormal(known, (spread + spread.mT) / 2)
        return Mixture(
            torch.softmax(self.weights.log() + normal.log_prob(values), dim=0),
            self.means + torch.einsum("kdm,km->kd", gain, values - known),
            self.covariances - gain @ cross.mT,
        )

    def given_mean_color(self, color: Tensor) -> Mixture:
        """Returns the exact distribution of the pictures whose mean colour is `color` `(3,)`."""
        return self.given(mean_color_matrix(), color)

    def given_pixels(self, picture: Tensor, redrawn: Tensor) -> Mixture:
        """Returns the exact distribution of the pictures that have some pixels of another one.

        Args:
            picture: `SHAPE`.
            redrawn: `(8, 8)`, 0 where a pixel is known, 1 where it is free.
        """
        known = (redrawn == 0).expand(SHAPE).flatten()  # (d,)
        return self.given(torch.eye(_NUM_VALUES).double()[known], picture.flatten()[known])

    def sample(self, count: int, seed: int) -> Tensor:
        """Draws pictures `(count, 3, 8, 8)` float32, the same ones for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        values, vectors = self._axes
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, _NUM_VALUES, generator=generator, dtype=torch.float64)
        scaled = noise * values.sqrt()[chosen]  # (n, d)
        pixels = self.means[chosen]
        for k in range(len(self.weights)):
            pixels[chosen == k] += scaled[chosen == k] @ vectors[k].T
        return pixels.float().view(count, *SHAPE)

    def moments(self) -> frechet.Gaussian:
        """Returns the mean and covariance of the mixture."""
        mean = self.weights @ self.means  # (d,)
        offsets = self.means - mean  # (k, d)
        between = torch.einsum("k,kd,ke->de", self.weights, offsets, offsets)
        within = torch.einsum("k,kde->de", self.weights, self.covariances)
        return frechet.Gaussian(mean.numpy(), (between + within).numpy())


def mean_color_matrix() -> Tensor:
    """Returns the matrix `(3, d)` float64 from a flattened picture to its mean colour."""
    pixels = SHAPE[1] * SHAPE[2]
    return torch.eye(3, dtype=torch.float64).repeat_interleave(pixels, dim=1) / pixels


def load_mixture(path: Path = WEIGHTS) -> Mixture:
    """Returns the fitted mixture.

    Raises:
        FileNotFoundError: if it was never fitted; the message names the command.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; python -m benchmarks.mixture makes it")
    stored = load_file(path)
    rows, columns = torch.tril_indices(_NUM_VALUES, _NUM_VALUES)
    covariances = torch.zeros(len(stored["weights"]), _NUM_VALUES, _NUM_VALUES).double()
    covariances[:, rows, columns] = stored["covariances"].double()
    covariances[:, columns, rows] = stored["covariances"].double()
    weights = stored["weights"].double()
    return Mixture(weights / weights.sum(), stored["means"].double(), covariances)


def save_mixture(mixture: Mixture, path: Path, metadata: dict[str, str]) -> None:
    """Writes the mixture atomically, with one half of each covariance."""
    rows, columns = torch.tril_indices(_NUM_VALUES, _NUM_VALUES)
    tensors = {
        "weights": mixture.weights.float(),
        "means": mixture.means.float(),
        "covariances": mixture.covariances[:, rows, columns].float(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, metadata)
    os.replace(temporary, path)


def fit(pixels: Tensor, *, num_components: int, rounds: int, seed: int) -> Mixture:
    """Fits a mixture by expectation maximisation, initialised with k-means.

    Each covariance is regularised towards that of all pictures, as if by `_PRIOR` more pictures;
    otherwise some Gaussians would collapse onto single pictures.

    Args:
        pixels: `(n, d)` float64.
        num_components: k.
        rounds: number of rounds of k-means, then of expectation maximisation.
        seed: of the initial centres.
    """
    generator = torch.Generator().manual_seed(seed)
    centres = pixels[torch.randperm(len(pixels), generator=generator)[:num_components]]
    shares = torch.zeros(len(pixels), num_components, dtype=pixels.dtype)
    for _ in range(rounds):
        nearest = torch.cdist(pixels, centres).argmin(dim=1)  # (n,)
        shares = F.one_hot(nearest, num_components).to(pixels)  # (n, k)
        centres = shares.T @ pixels / shares.sum(dim=0)[:, None]
    bar = tqdm(range(rounds), unit="round")
    mixture = _maximised(pixels, shares)
    for _ in bar:
        joint = torch.stack(
            [
                torch.distributions.MultivariateNormal(mean, covariance).log_prob(pixels)
                for mean, covariance in zip(mixture.means, mixture.covariances, strict=True)
            ],
            dim=1,
        ) + torch.log(mixture.weights)  # (n, k)
        bar.set_postfix(log_likelihood=f"{joint.logsumexp(dim=1).mean().item():.3f}")
        mixture = _maximised(pixels, torch.softmax(joint, dim=1))
    return mixture


def _maximised(pixels: Tensor, shares: Tensor) -> Mixture:
    """Returns the mixture of pictures `(n, d)` from their shares `(n, k)` in each Gaussian."""
    counts = shares.sum(dim=0)  # (k,)
    means = shares.T @ pixels / counts[:, None]
    ridge = _RIDGE * torch.eye(pixels.shape[1], dtype=pixels.dtype)
    prior = _PRIOR * pixels.T.cov()
    covariances = []
    for mean, share in zip(means, shares.T, strict=True):
        offsets = pixels - mean
        scatter = (offsets * share[:, None]).T @ offsets
        covariances.append((scatter + prior) / (share.sum() + _PRIOR) + ridge)
    return Mixture(counts / len(pixels), means, torch.stack(covariances))


def read_pictures(dataset_name: str) -> Tensor:
    """Reads all pictures of a data set, averaged down to `SHAPE`: `(n, 3, 8, 8)` in [-1, 1]."""
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    rows = load_dataset(dataset_name, split="train").select_columns(["image"])
    rows = rows.cast_column("image", ImageFeature(mode="RGB"))
    small = [
        np.asarray(ImageOps.fit(row["image"], SHAPE[1:], Image.Resampling.BOX))
        for row in cast(Iterable[dict[str, Any]], tqdm(rows, unit="picture"))
    ]
    return from_uint8(torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2))


def default_pictures() -> str:
    """Returns the folder of the paintings, under `STUDIO_DATA` or `../shared/data`."""
    return str(Path(os.environ.get("STUDIO_DATA", "../shared/data")) / "wikiart")


def main(
    dataset_name: Annotated[str, typer.Option(help="Hub id or folder [wikiart]")] = "",
    components: Annotated[int, typer.Option(min=1)] = 10,
    rounds: Annotated[int, typer.Option(min=1)] = 20,
    seed: int = 0,
    output: Annotated[Path, typer.Option(help="where the mixture goes")] = WEIGHTS,
) -> None:
    """Fits the mixture and stores it."""
    pixels = read_pictures(dataset_name or default_pictures()).flatten(1).double()
    mixture = fit(pixels, num_components=components, rounds=rounds, seed=seed)
    recipe = {"num_pictures": len(pixels), "rounds": rounds, "seed": seed}
    save_mixture(mixture, output, {key: str(value) for key, value in recipe.items()})
    shares = ", ".join(f"{share:.2f}" for share in mixture.weights.tolist())
    print(f"{len(pixels):,} pictures, shares {shares}; saved to {output}")


if __name__ == "__main__":
    typer.run(main)
