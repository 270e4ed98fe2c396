"""Who follows whom, and batches that depend on their number alone."""

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.papers.brlp.latent_pairs import LatentPairs, with_age_map

AGES, PEOPLE = [70.0, 72.0, 75.0, 66.0, 66.0, 80.0], ["a", "a", "a", "b", "b", "c"]


def examples() -> LatentPairs:
    latents = [torch.full((2, 3, 2, 2), float(i)) for i in range(6)]
    return LatentPairs.of(latents, [torch.tensor([float(i)]) for i in range(6)], ages=AGES, people=PEOPLE)


def test_pairs_are_of_one_person_and_point_forward():
    assert examples().pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    with pytest.raises(NbkitError, match="a person scanned at two ages, found none"):
        LatentPairs.of(torch.zeros(2, 1, 1, 1, 1), torch.zeros(2, 1), ages=[66.0, 66.0], people=["b", "b"])


def test_a_batch_of_pairs():
    z, noise, t, context, start = examples().batch(40, paired=True, noise_steps=1000, seed=1, number=3)
    assert z.shape == noise.shape == (40, 2, 3, 2, 2) and start.shape == (40, 3, 3, 2, 2)
    later, first = z[:, 0, 0, 0, 0].long(), start[:, 0, 0, 0, 0].long()
    assert set(zip(first.tolist(), later.tolist(), strict=True)) == {(0, 1), (0, 2), (1, 2)}
    assert torch.equal(context[:, 0].long(), later)
    torch.testing.assert_close(start[:, 2], (torch.tensor(AGES)[first] / 100).view(-1, 1, 1, 1).expand(-1, 3, 2, 2))
    assert t.min() >= 0 and t.max() < 1000 and len(t.unique()) > 20
    assert abs(float(noise.mean())) < 0.1 and float(noise.std()) == pytest.approx(1, abs=0.1)


def test_a_batch_of_single_scans_covers_all():
    z, _, _, context, start = examples().batch(60, paired=False, noise_steps=10, seed=1, number=3)
    assert start is None and set(context[:, 0].tolist()) == set(range(6))
    assert torch.equal(z[:, 0, 0, 0, 0], context[:, 0])


def test_batches_depend_on_seed_kind_and_number():
    def noise(**changes) -> torch.Tensor:
        return examples().batch(2, **({"paired": True, "noise_steps": 10, "seed": 1, "number": 1} | changes))[1]

    torch.rand(3)
    assert torch.equal(noise(), noise())
    others = [noise(paired=False), noise(seed=2), noise(number=2)]
    assert not any(torch.equal(noise(), other) for other in others)


def test_the_map_of_age():
    latents = torch.zeros(2, 4, 2, 3, 2)
    found = with_age_map(latents, torch.tensor([60.0, 80.0]))
    assert torch.equal(found[:, :4], latents) and found[:, 4].amax(dim=(1, 2, 3)).tolist() == pytest.approx([0.6, 0.8])
