"""Random crops: inside the image, around the mask, the same for the same seed."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.training.crops import CropSampler, Example, pad_to


def example(shape, value=0.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(2, *shape, generator=g) + value
    mask = torch.zeros(1, *shape, dtype=torch.bool)
    mask[:, 1:-1, 1:-1, 1:-1] = True
    return Example(x, x[:1] * 2, mask)


def sampler(examples, crop=(4, 4, 4), batch=2, count=5, seed=3):
    return CropSampler(examples, crop=crop, batch=batch, crops_per_epoch=count, seed=seed)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(3, 9)] * 3), st.integers(0, 1000))
def test_crops_have_the_asked_shape_and_touch_the_mask(shape, seed):
    for batch in sampler([example(shape)], seed=seed).epoch(1):
        assert batch.inputs.shape[1:] == (2, 4, 4, 4)
        assert batch.mask.flatten(1).any(dim=1).all()
        torch.testing.assert_close(batch.target, batch.inputs[:, :1] * 2)


def test_an_epoch_has_the_asked_number_of_crops_whatever_the_batch():
    for batch in (1, 2, 5):
        crops = torch.cat([b.inputs for b in sampler([example((6, 7, 8))], batch=batch).epoch(4)])
        reference = torch.cat([b.inputs for b in sampler([example((6, 7, 8))], batch=3).epoch(4)])
        assert torch.equal(crops, reference)


def test_epochs_differ_and_repeat():
    s = sampler([example((8, 8, 8), seed=1), example((9, 8, 7), seed=2)])
    first, again, other = (torch.cat([b.inputs for b in s.epoch(e)]) for e in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_focus_voxels_are_in_every_second_crop():
    e = example((12, 12, 12))
    focus = torch.zeros_like(e.mask)
    focus[0, 10, 2, 6] = True
    e = Example(e.inputs, focus.float(), e.mask, focus)
    found = torch.cat([b.target.flatten(1).amax(dim=1) for b in sampler([e], count=8).epoch(1)])
    assert found[1::2].all()


def test_whole_images_are_each_seen_once_an_epoch():
    s = sampler([example((5, 5, 5), value=10.0 * i) for i in range(4)], crop=None)
    seen = sorted(int(b.inputs.mean() // 10) for b in s.epoch(2))
    assert seen == [0, 1, 2, 3]


def test_padding_adds_zeros_outside_the_mask():
    padded = pad_to(example((3, 5, 4)), (4, 4, 6))
    assert padded.inputs.shape == (2, 4, 5, 6)
    assert not padded.mask[:, 3:].any() and not padded.mask[..., 4:].any()
    assert padded.inputs[:, 3:].sum() == 0
