"""Pictures moved to where a model misreads them: uphill, and no further than they may be."""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.clip.adversarial import worst_within

COUNT = 5


def pictures() -> Tensor:
    return torch.randn(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def loss_of(x: Tensor) -> Tensor:
    """Curved, so that one step does not tell the way for the next."""
    return F.avg_pool2d(x, 2).sin().square().sum()


def test_each_picture_is_moved_uphill_by_its_radius_and_not_further():
    radii = torch.tensor([0.0, 0.1, 0.5, 1.0, 2.0])
    before = pictures()
    after = worst_within(before, loss_of, radii)
    assert torch.equal(after[0], before[0])
    distances = (after - before).flatten(1).norm(dim=1)
    assert (distances <= radii * (1 + 1e-5)).all()
    assert (distances >= 0.7 * radii).all()
    for old, new in zip(before[1:], after[1:], strict=True):
        assert loss_of(new[None]) > loss_of(old[None])


def test_it_is_worse_than_anything_random_within_the_radius():
    radii = torch.full((COUNT,), 0.5)
    before = pictures()
    after = worst_within(before, loss_of, radii)
    for seed in range(50):
        way = torch.randn(before.shape, generator=torch.Generator().manual_seed(seed))
        way = 0.5 * way / way.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        assert loss_of(before + way) < loss_of(after)


def test_nothing_else_learns_from_it():
    weight = torch.ones(3, 1, 1, requires_grad=True)
    after = worst_within(pictures(), lambda x: loss_of(x * weight), torch.ones(COUNT))
    assert weight.grad is None
    assert not after.requires_grad


def test_a_flat_loss_moves_nothing():
    before = pictures()
    after = worst_within(before, lambda x: (x * 0).sum(), torch.ones(COUNT))
    assert torch.equal(after, before)
