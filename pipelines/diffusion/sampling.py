"""One sampler for everything: a solver, optionally a guide, one `SampleStep` per denoising step.

Every solver is told x0, whatever the network predicts: then clamping and guiding x0 need no way
back into the network's terms, which at high noise would lose all digits. eps is re-derived from x0.
A scheduler of diffusers says at which timesteps and noise levels; the step itself is `ddim_step`,
which for multistep solvers goes towards an extrapolated x0, with the fresh noise of their SDE.

The sampler knows no model. It is given a function that predicts and a scheduler of diffusers that
was made for this run, and yields after every step. Notation, for a timestep t:
`x_t = alpha * x0 + sigma * eps` with `alpha**2 + sigma**2 = 1`, so `alpha**2` is alpha_bar_t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn
from typing_extensions import TypeIs

from pipelines.core import devices

if TYPE_CHECKING:  # diffusers takes seconds to import, so it is imported at the first run
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    Scheduler = DDIMScheduler | DPMSolverMultistepScheduler


@dataclass(frozen=True)
class Steered:
    """What a network answers with guidance already in it, and what that was made of.

    Attributes:
        output: `(b, c, h, w)`, guided.
        conditional: `(b, c, h, w)`, without guidance.
        unconditional: `(b, c, h, w)`, with no condition at all.
    """

    output: Tensor
    conditional: Tensor
    unconditional: Tensor


Predictor = Callable[[Tensor, Tensor], Tensor | Steered]
"""`(x_t (b, c, h, w), t ())` to the network's output `(b, c, h, w)`: eps, v or x0."""

PlainPredictor = Callable[[Tensor, Tensor], Tensor]
"""One that knows no condition."""

SOLVERS = ("dpm++", "dpm++-guided", "dpm++-logsnr", "dpm++-3m", "ddim", "ddim-leading")

# A cosine schedule ends at almost no signal, where half log-SNR runs away; cut off as diffusers
# does for such schedules.
_LAMBDA_MIN = -5.1
_MAX_BATCH = 32
_FED_WITH_X0 = {"prediction_type": "sample"}


@dataclass(frozen=True)
class Spacing:
    """Where the timesteps of a multistep solver lie.

    Attributes:
        log_snr: 1 is even in half log-SNR, 0 even in t; in between, a mixture.
        cleanest: where the last one lies, in steps from no noise.
    """

    log_snr: float
    cleanest: float


MIXED = Spacing(log_snr=0.3, cleanest=0.5)
_SPACINGS = {
    "dpm++": MIXED,
    "dpm++-guided": Spacing(log_snr=0.6, cleanest=0.75),
    "dpm++-logsnr": Spacing(log_snr=1.0, cleanest=1.0),
    "dpm++-3m": Spacing(log_snr=0.8, cleanest=0.75),
}
_ORDERS = {"dpm++-3m": 3}  # of the others it is 2


@dataclass(frozen=True)
class StepContext:
    """What a guide may know of the step it corrects.

    Attributes:
        index: 0 for the first step, `total - 1` for the last.
        total: number of steps of this run.
        t: training timestep.
        alpha: signal level `()`; `alpha**2` is alpha_bar.
        sigma: noise level `()`; `alpha**2 + sigma**2 = 1`.
        alpha_prev: signal level `()` after the step; 1 after the last.
        x_t: `(b, c, h, w)`.
        x0: `(b, c, h, w)`, what the network predicts from `x_t`, not clamped.
        alpha_of_step: signal level `()` of the training timestep whose number is this step's: not
            of this step, but what the course's notebook takes for it.
        graph: the same `(x_t, x0)` with the network's graph between them, where the guide asked
            for it with `differentiates`.
    """

    index: int
    total: int
    t: int
    alpha: Tensor
    sigma: Tensor
    alpha_prev: Tensor
    x_t: Tensor
    x0: Tensor
    alpha_of_step: Tensor
    graph: tuple[Tensor, Tensor] | None = None

    @property
    def eps(self) -> Tensor:
        """The noise `(b, c, h, w)` that the network's x0 leaves."""
        return (self.x_t - self.alpha * self.x0) / self.sigma


@dataclass(frozen=True)
class Correction:
    """What a guide asks for in one step.

    Attributes:
        x0: `(b, c, h, w)`, to be used instead of the network's.
        push: `(b, c, h, w)`, to be subtracted from the step's result; None is nothing.
        keep_eps: whether the solver goes on with the network's eps; else with one that fits `x0`.
        loss: `(b,)` of the network's x0.
        gradient: `(b,)`, the length of the gradient that was followed.
        failed: `(b,)`, images whose gradient was not finite and that were left alone.
    """

    x0: Tensor
    push: Tensor | None
    keep_eps: bool
    loss: Tensor
    gradient: Tensor
    failed: Tensor


class Guide(Protocol):
    """Corrects the predicted x0 before the solver uses it; see `guidance.Guide`."""

    def times(self, index: int, total_steps: int) -> int:
        """How often step `index` is done; more than once, noise is added in between."""
        ...

    def differentiates(self, index: int, total_steps: int) -> bool:
        """Whether step `index` needs gradients through the network, which take time and memory."""
        ...

    def __call__(self, context: StepContext) -> Correction | None:
        """What to do in this step; None is nothing."""
        ...


@dataclass(frozen=True)
class SampleStep:
    """One denoising step.

    Attributes:
        index: 0 for the first step, `total - 1` for the last.
        total: number of steps of this run.
        t: training timestep that the step started from (999 is pure noise, 0 is clean).
        x_t: `(b, c, h, w)`, the noisy images the step started from.
        x0: `(b, c, h, w)`, the clean images predicted from `x_t` and guided, about [-1, 1].
        x0_network: `(b, c, h, w)`, what the network alone predicted.
        x0_unguided: `(b, c, h, w)`, what it would predict from the same `x_t` without guidance;
            another one than `x0_network` only under classifier-free guidance.
        x_prev: `(b, c, h, w)`, the less noisy images after the step; after the last, the result.
        loss: `(b,)` of `x0_network`; None where the step was not guided.
        gradient: `(b,)`, the length of what guidance follows: of the loss's gradient, or of the
            difference that the class makes to x0; None where the step was not guided.
        failed: `(b,)`, images that guidance left alone since its gradient was not finite.
    """

    index: int
    total: int
    t: int
    x_t: Tensor
    x0: Tensor
    x0_network: Tensor
    x0_unguided: Tensor
    x_prev: Tensor
    loss: Tensor | None = None
    gradient: Tensor | None = None
    failed: Tensor | None = None

    @property
    def shown(self) -> Tensor:
        """`(b, c, h, w)`, what to look at: what the network predicts, at the end the result.

        Not what guidance has just moved it to, in which its last crop stands out.
        """
        last = self.index + 1 == self.total
        return self.x_prev if last else self.x0_network.clamp(-1, 1)

    @property
    def change(self) -> Tensor:
        """What guidance changed in the predicted picture, `(b, c, h, w)`."""
        return self.x0.clamp(-1, 1) - self.x0_unguided.clamp(-1, 1)


@dataclass(frozen=True)
class _Predicted:
    """x0 `(b, c, h, w)`; under classifier-free guidance also the unguided one and its gradient."""

    x0: Tensor
    unguided: Tensor | None = None
    gradient: Tensor | None = None


def length(x: Tensor) -> Tensor:
    """Euclidean length of each image, `(b, c, h, w)` to `(b,)`."""
    return x.square().sum(dim=(1, 2, 3)).sqrt()


def rms(x: Tensor) -> Tensor:
    """Root mean square of each image, `(b, c, h, w)` to `(b, 1, 1, 1)`, never quite 0."""
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)


def make_scheduler(
    config: Mapping[str, Any], *, solver: str, num_inference_steps: int, device: torch.device | str
) -> Scheduler:
    """A fresh scheduler for one run, fed with x0; schedulers keep state and must not be shared.

    Args:
        config: scheduler configuration of the checkpoint (betas, prediction type, ...).
        solver: "ddim" (Song et al. 2021, arXiv:2010.02502); "ddim-leading", the same at the
            timesteps that diffusers takes by default, which leave out the noisiest; "dpm++", which
            is DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095), with fresh noise its SDE
            variant, at `spaced_timesteps`; "dpm++-logsnr", the same at timesteps even in log-SNR,
            which suits pictures with detail; "dpm++-guided", between the two, which leaves
            guidance by words its steps at middle noise; or "dpm++-3m", nearer to log-SNR, with the
            third order of the same paper.
        num_inference_steps: 1 or more, at most the number of training timesteps.
        device: where the run computes.

    Raises:
        ValueError: for an unknown solver.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if solver not in _SPACINGS:
        timesteps = "leading" if solver == "ddim-leading" else "trailing"
        changes = {"clip_sample": False, "timestep_spacing": timesteps}
        made = DDIMScheduler.from_config(dict(config), **_FED_WITH_X0, **changes)
        scheduler = cast("DDIMScheduler", made)
        scheduler.set_timesteps(num_inference_steps, device=device)
        return scheduler
    order = _ORDERS.get(solver, 2)
    changes = {"algorithm_type": "dpmsolver++", "solver_order": order, "final_sigmas_type": "zero"}
    made = DPMSolverMultistepScheduler.from_config(dict(config), **_FED_WITH_X0, **changes)
    scheduler = cast("DPMSolverMultistepScheduler", made)
    spaced = spaced_timesteps(scheduler.alphas_cumprod, num_inference_steps, _SPACINGS[solver])
    scheduler.set_timesteps(timesteps=spaced, device=device)
    return scheduler


def spaced_timesteps(
    alphas_cumprod: Tensor, num_inference_steps: int, spacing: Spacing = MIXED
) -> list[int]:
    """Timesteps for a multistep solver, falling from the noisiest, each different.

    They are even in a mixture of t and half log-SNR. Half log-SNR alone, in which the solver's
    formulas are written, spends most of few steps at the two ends of a cosine schedule: at the
    clean end pictures get their detail, of which digits have none.

    Args:
        alphas_cumprod: `(num_timesteps,)`, falling.
        num_inference_steps: 1 or more, at most half of the training timesteps.
        spacing: what they are even in.
    """
    half_log_snr = (0.5 * torch.logit(alphas_cumprod.double())).clamp(min=_LAMBDA_MIN)
    rising = (half_log_snr[0] - half_log_snr) / (half_log_snr[0] - half_log_snr[-1])  # 0 to 1
    time = torch.linspace(0, 1, len(alphas_cumprod), dtype=torch.float64)
    warped = (1 - spacing.log_snr) * time + spacing.log_snr * rising
    cleanest = spacing.cleanest / num_inference_steps
    grid = torch.linspace(1, cleanest, num_inference_steps, dtype=torch.float64).flip(0)
    chosen: list[int] = []
    for place, t in enumerate(torch.searchsorted(warped, grid).tolist()):
        latest = len(warped) - num_inference_steps + place  # leaves room for those to come
        chosen.append(min(max(t, chosen[-1] + 1) if chosen else t, latest))
    return chosen[::-1]


def image_generators(seed: int, num_images: int) -> list[torch.Generator]:
    """One CPU generator per image; image i is seeded with `seed + i`.

    So an image depends neither on its batch nor on the device: image 3 of seed 10 is image 0 of
    seed 13.
    """
    return seeded([seed + i for i in range(num_images)])


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator per image, of a seed of its own."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def draw_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal noise `(b, *shape)` on the CPU, one generator per image."""
    return torch.stack([torch.randn(tuple(shape), generator=g) for g in generators])


def predict_x0(
    output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, prediction_type: str
) -> Tensor:
    """The clean images that a network's output implies, not clamped.

    Args:
        output: `(b, c, h, w)`.
        x_t: `(b, c, h, w)`.
        alpha: signal level, `()` or broadcastable.
        sigma: noise level, likewise.
        prediction_type: "epsilon", "v_prediction" (Salimans & Ho 2022, arXiv:2202.00512, eq. 9)
            or "sample".

    Raises:
        ValueError: for an unknown prediction type.
    """
    match prediction_type:
        case "epsilon":
            return (x_t - sigma * output) / alpha
        case "v_prediction":
            return alpha * x_t - sigma * output
        case "sample":
            return output
    raise ValueError(
        f"prediction_type must be epsilon, v_prediction or sample, got {prediction_type!r}"
    )


def classifier_free_guidance(unet: nn.Module, class_labels: Tensor, cfg_scale: float) -> Predictor:
    """A predictor that steers a class-conditional network (Ho & Salimans 2022, arXiv:2207.12598).

    `output = uncond + cfg_scale * (cond - uncond)`, both in one batch. At scale 1 the
    unconditional half is not computed, which halves the cost.

    Args:
        unet: takes `(x_t, t, class_labels)`.
        class_labels: `(b, num_classes + 1)` float weights per image; the last column is the null
            class that was learned by dropping labels.
        cfg_scale: 1 is off, 0 ignores the labels, above 1 exaggerates them.
    """
    null = torch.zeros_like(class_labels)
    null[:, -1] = 1.0

    def predict(x_t: Tensor, t: Tensor) -> Tensor | Steered:
        if cfg_scale == 1:
            return _in_parts(unet, x_t, t, class_labels)
        both = _in_parts(unet, torch.cat([x_t, x_t]), t, torch.cat([null, class_labels]))
        uncond, cond = both.chunk(2)  # (b, c, h, w) each
        return Steered(uncond + cfg_scale * (cond - uncond), cond, uncond)

    return predict


def unconditional(unet: nn.Module) -> PlainPredictor:
    """A predictor of a network that takes `(x_t, t)` alone."""

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        with devices.autocast(x_t.device):
            parts = [unet(images, t).sample for images in x_t.split(_MAX_BATCH)]
        return torch.cat(parts).to(x_t.dtype)

    return predict


def _in_parts(unet: nn.Module, x_t: Tensor, t: Tensor, class_labels: Tensor) -> Tensor:
    """The network on a batch of any size, a few images at a time, which bounds the memory."""
    parts = zip(x_t.split(_MAX_BATCH), class_labels.split(_MAX_BATCH), strict=True)
    with devices.autocast(x_t.device):
        outputs = [unet(images, t, labels).sample for images, labels in parts]
    return torch.cat(outputs).to(x_t.dtype)


def sample(
    predict: Predictor,
    noise: Tensor,
    scheduler: Scheduler,
    *,
    prediction_type: str,
    eta: float = 0.0,
    generators: Sequence[torch.Generator] | None = None,
    fresh_noise: Callable[[Scheduler, int], Tensor] | None = None,
    clip: bool = True,
    guide: Guide | None = None,
) -> Iterator[SampleStep]:
    """Denoises step by step; the last `SampleStep.x_prev` is the result.

    Each step opens and closes its own `no_grad`, since a consumer may resume this generator from
    another thread.

    Args:
        predict: the network, see `Predictor`.
        noise: `(b, c, h, w)`, standard normal, on the device of the run.
        scheduler: from `make_scheduler`, used for this run only.
        prediction_type: what `predict` answers, see `predict_x0`.
        eta: fresh noise, 0 for none, 1 as much as DDPM; of DDIM see `ddim_step`, of multistep
            solvers `_share_of_noise`.
        generators: one CPU generator per image for that noise; needed when `eta` is above 0.
        fresh_noise: what gives that of a step, `(b, c, h, w)`, instead of the generators.
        clip: clamp the predicted x0 to [-1, 1] in every step.
        guide: corrects the predicted x0 before the solver uses it; None is unguided.

    Raises:
        ValueError: if `eta` is above 0 without generators.
    """
    if eta > 0 and generators is None and fresh_noise is None:
        raise ValueError("generators must be given when eta is above 0")
    # Noise of repeats has generators of its own, so that it does not change that of the steps.
    again = [offspring(generator) for generator in generators or []]

    def drawn(_: Scheduler, __: int) -> Tensor:
        return draw_noise(generators or [], noise.shape[1:])

    fresh_of = fresh_noise or drawn
    is_third_order = _is_multistep(scheduler) and scheduler.config["solver_order"] == 3

    def predicted(x_t: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> _Predicted:
        def x0_of(output: Tensor) -> Tensor:
            return predict_x0(output, x_t, alpha, sigma, prediction_type)

        answer = predict(x_t, t)
        if not isinstance(answer, Steered):
            return _Predicted(x0_of(answer))
        cond, uncond = x0_of(answer.conditional), x0_of(answer.unconditional)
        return _Predicted(x0_of(answer.output), cond, length(cond - uncond))

    def denoise(
        x_t: Tensor, index: int, before: Sequence[SampleStep], fresh: Tensor | None
    ) -> SampleStep:
        t = scheduler.timesteps[index]
        alpha, sigma = signal_and_noise(scheduler, index)
        alpha_prev = _signal_after(scheduler, index)
        total = len(scheduler.timesteps)
        graph = None
        if guide is not None and guide.differentiates(index, total):
            with torch.enable_grad():
                leaf = x_t.detach().requires_grad_()
                found = predicted(leaf, t, alpha, sigma)
                graph = (leaf, found.x0)
        else:
            found = predicted(x_t, t, alpha, sigma)
        x0 = found.x0.detach()
        context = StepContext(
            index=index,
            total=total,
            t=int(t),
            alpha=alpha,
            sigma=sigma,
            alpha_prev=alpha_prev,
            x_t=x_t,
            x0=x0,
            alpha_of_step=scheduler.alphas_cumprod[index] ** 0.5,
            graph=graph,
        )
        asked = guide(context) if guide is not None else None
        guided = asked.x0 if asked else x0
        guided = guided.clamp(-1, 1) if clip else guided
        # Moving x_t along with x0 makes the solver find the network's own eps.
        moved = x_t
        if asked and asked.keep_eps:
            kept = alpha * guided + sigma * context.eps
            moved = torch.where(asked.failed.view(-1, 1, 1, 1), x_t, kept)
        towards = _extrapolated(scheduler, index, guided, before[0].x0) if before else guided
        if is_third_order and len(before) > 1 and index + 1 < total:
            own = [x0, *(step.x0_network for step in before)]
            own = [found.clamp(-1, 1) for found in own] if clip else own
            changed = [a - b for a, b in zip([guided, *(s.x0 for s in before)], own, strict=True)]
            towards = towards + _third_order(scheduler, index, own, changed, eta)
        share = _share_of_noise(scheduler, index, eta)
        x_prev = ddim_step(towards, moved, alpha, sigma, alpha_prev, share, fresh)
        if asked and asked.push is not None:
            x_prev = x_prev - asked.push
        return SampleStep(
            index=index,
            total=total,
            t=context.t,
            x_t=x_t,
            x0=guided,
            x0_network=x0,
            x0_unguided=x0 if found.unguided is None else found.unguided,
            x_prev=x_prev,
            loss=asked.loss if asked else None,
            gradient=asked.gradient if asked else found.gradient,
            failed=asked.failed if asked else None,
        )

    def step(x_t: Tensor, index: int, before: Sequence[SampleStep]) -> Sequence[SampleStep]:
        times = guide.times(index, len(scheduler.timesteps)) if guide else 1
        if times > 1 and not again:
            raise ValueError("steps can be repeated only with generators")
        shape = x_t.shape[1:]
        for _ in range(times - 1):
            fresh = draw_noise(again, shape) if eta else None
            x_prev = denoise(x_t, index, before, fresh).x_prev
            ratio = signal_and_noise(scheduler, index)[0] / _signal_after(scheduler, index)
            x_t = ratio * x_prev + (1 - ratio**2).sqrt() * draw_noise(again, shape).to(x_t)
            before = ()  # they lie on a path that the added noise has left
        found = denoise(x_t, index, before, fresh_of(scheduler, index) if eta else None)
        return (found, *before[:1])

    return _steps(step, noise * scheduler.init_noise_sigma, len(scheduler.timesteps))


def offspring(generator: torch.Generator, number: int = 0) -> torch.Generator:
    """A generator of its own that follows from another one's seed, a different one per `number`.

    Of a seed, the CPU's generator takes the lower 32 bits alone, so it is these that must differ.
    """
    scattered = (
        generator.initial_seed() * 2_654_435_761 + (2 * number + 1) * 1_013_904_223
    ) % 2**32
    return torch.Generator("cpu").manual_seed(scattered)


def _steps(
    advance: Callable[[Tensor, int, Sequence[SampleStep]], Sequence[SampleStep]],
    x_t: Tensor,
    total: int,
) -> Iterator[SampleStep]:
    before: Sequence[SampleStep] = ()  # the last two on the same path, the latest first
    for index in range(total):
        with devices.device_lock(x_t.device), torch.no_grad():
            before = advance(x_t, index, before)
        yield before[0]
        x_t = before[0].x_prev


def _is_multistep(scheduler: Scheduler) -> TypeIs[DPMSolverMultistepScheduler]:
    return hasattr(scheduler, "sigmas")


def signal_and_noise(scheduler: Scheduler, index: int) -> tuple[Tensor, Tensor]:
    """`(alpha, sigma)` that the scheduler works with in step `index`, each `()` float32."""
    if _is_multistep(scheduler):
        ratio = scheduler.sigmas[index]  # sigma / alpha
        alpha = (1 + ratio**2) ** -0.5
        return alpha, ratio * alpha
    alpha_bar = scheduler.alphas_cumprod[int(scheduler.timesteps[index])]
    return alpha_bar**0.5, (1 - alpha_bar) ** 0.5


def _signal_after(scheduler: Scheduler, index: int) -> Tensor:
    """alpha `()` that step `index` leads to; 1 after the last."""
    if index + 1 < len(scheduler.timesteps):
        return signal_and_noise(scheduler, index + 1)[0]
    if _is_multistep(scheduler):
        return torch.ones_like(signal_and_noise(scheduler, index)[0])
    return scheduler.final_alpha_cumprod**0.5


def _half_log_snr(scheduler: Scheduler, index: int) -> Tensor:
    """`log(alpha / sigma)` `()` of step `index`, in which multistep solvers measure steps."""
    alpha, sigma = signal_and_noise(scheduler, index)
    return torch.log(alpha / sigma)


def _extrapolated(scheduler: Scheduler, index: int, x0: Tensor, x0_before: Tensor) -> Tensor:
    """What step `index` goes towards, `(b, c, h, w)`: x0 halfway through it, if multistep.

    It lies on the line through the last two, as in DPM-Solver++(2M) (Lu et al. 2022,
    arXiv:2211.01095, algorithm 2). x0 is taken as it is in the last step, which has no end in
    log-SNR.

    Args:
        scheduler: of the run.
        index: of the step, 1 or more.
        x0: `(b, c, h, w)`, guided.
        x0_before: `(b, c, h, w)`, that of the step before.
    """
    is_last = index + 1 == len(scheduler.timesteps)
    if is_last or not _is_multistep(scheduler):
        return x0
    before, now, after = (_half_log_snr(scheduler, i) for i in (index - 1, index, index + 1))
    return x0 + (after - now) / (2 * (now - before)) * (x0 - x0_before)


def _share_of_noise(scheduler: Scheduler, index: int, eta: float) -> float:
    """The `eta` of `ddim_step` with which a step of a multistep solver adds its fresh noise.

    It is what the SDE of this `eta` adds on the same way (Xue et al. 2023, arXiv:2309.05019, whose
    tau it is), `sigma_prev * sqrt(1 - exp(-2 * eta**2 * h))` over `h` of half log-SNR. DDIM's own
    share falls as steps get longer, so that few steps would solve another equation than many.

    Args:
        scheduler: of the run.
        index: of the step.
        eta: of the run.
    """
    is_last = index + 1 == len(scheduler.timesteps)  # it ends without noise
    if eta == 0 or is_last or not _is_multistep(scheduler):
        return eta
    h = float(_half_log_snr(scheduler, index + 1) - _half_log_snr(scheduler, index))
    return math.sqrt(math.expm1(-2 * eta**2 * h) / math.expm1(-2 * h))


def _third_order(
    scheduler: Scheduler,
    index: int,
    x0: Sequence[Tensor],
    changed: Sequence[Tensor],
    eta: float,
) -> Tensor:
    """What the third order adds to the line of `_extrapolated`, `(b, c, h, w)`.

    The x0 of three steps lie on a parabola in half log-SNR, of which a step takes the mean, with
    the weights of its exponential integrator (Lu et al. 2022, arXiv:2211.01095, section 4). What
    guidance changes is not as smooth, and its pull on the network's own x0 makes a parabola
    overshoot: what is added fades, to a half where guidance moves x0 as much as the last step
    did, and an image that it leaves alone has all of it.

    Args:
        scheduler: of the run.
        index: of the step, 2 or more; not of the last, which has no end in log-SNR.
        x0: three times `(b, c, h, w)`, what the network alone predicted, the latest first.
        changed: as many, what guidance added to each.
        eta: of the run; fresh noise makes a step forget sooner, so that its end counts for more
            (Xue et al. 2023, arXiv:2309.05019).
    """
    earlier, before, now, after = (
        float(_half_log_snr(scheduler, i)) for i in range(index - 2, index + 2)
    )
    h, h_before, h_earlier = after - now, now - before, before - earlier
    rate = 1 + eta**2
    weight = -math.expm1(-rate * h)
    mean = h / weight - 1 / rate  # of the way gone, 0 to h
    mean_square = h * h / weight - 2 * mean / rate
    slope = (x0[0] - x0[1]) / h_before
    bend = (slope - (x0[1] - x0[2]) / h_earlier) / (h_before + h_earlier)
    added = (mean - h / 2) * slope + (mean_square + h_before * mean) * bend
    pull = torch.stack([rms(change) for change in changed]).amax(dim=0)  # (b, 1, 1, 1)
    fade = 1 / (1 + (pull / rms(x0[0] - x0[1])) ** 2)
    return fade * added


def ddim_step(
    x0: Tensor,
    x_t: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    alpha_prev: Tensor,
    eta: float = 0.0,
    fresh: Tensor | None = None,
) -> Tensor:
    """One step of DDIM (Song et al. 2021, arXiv:2010.02502, eq. 12 and 16).

    Towards an extrapolated x0 it is one of DPM-Solver++(2M): with eta 0 of the one for the ODE,
    with eta 1 of the one for the SDE (Lu et al. 2022, arXiv:2211.01095); between, see
    `_share_of_noise`.

    It ends at the noise level where the next step begins. diffusers' own, which takes every step
    to be as long as the rest, misses that level wherever the number of steps does not divide that
    of the timesteps.

    Args:
        x0: `(b, c, h, w)`, the clean images to go towards.
        x_t: `(b, c, h, w)`.
        alpha: signal level of `x_t`, `()`.
        sigma: noise level of `x_t`, `()`.
        alpha_prev: signal level to reach, `()`.
        eta: share of DDPM's fresh noise.
        fresh: `(b, c, h, w)`, standard normal; needed when `eta` is above 0.
    """
    eps = (x_t - alpha * x0) / sigma
    sigma_prev = (1 - alpha_prev**2) ** 0.5
    if fresh is None:
        return alpha_prev * x0 + sigma_prev * eps
    spread = eta * sigma_prev / sigma * (1 - (alpha / alpha_prev) ** 2) ** 0.5
    kept = (sigma_prev**2 - spread**2).clamp(min=0) ** 0.5
    return alpha_prev * x0 + kept * eps + spread * fresh.to(x_t)
