import pytest
import torch

from medcontext.errors import InputError
from medcontext.pretraining.settings import PCRLv2Settings
from medcontext.pretraining.views import Box, cut, draw_views, overlap

SHAPE = (160, 128, 120)


def drawn(seeds: int = 60) -> list:
    return [draw_views(SHAPE, PCRLv2Settings(), torch.Generator().manual_seed(seed)) for seed in range(seeds)]


def brute_overlap(first: Box, second: Box) -> float:
    inside = [torch.zeros(SHAPE, dtype=torch.bool) for _ in range(2)]
    for box, volume in zip((first, second), inside, strict=True):
        volume[tuple(slice(start, start + edge) for start, edge in zip(box.start, box.size, strict=True))] = True
    return float((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum())


def test_global_views_overlap_enough_and_lie_in_the_scan() -> None:
    sizes = set()
    for views in drawn(20):
        pair = torch.tensor([[view.start] for view in (views.first, views.second)])
        extents = torch.tensor([[view.size] for view in (views.first, views.second)])
        assert brute_overlap(views.first, views.second) == pytest.approx(float(overlap(pair, extents)), rel=1e-5)
        assert float(overlap(pair, extents)) > 0.3
        sizes |= {views.first.size, views.second.size}
    assert sizes <= set(PCRLv2Settings().global_boxes)
    assert len(sizes) >= 3
    for views in drawn():
        for box in (views.first, views.second, *views.local):
            assert all(s >= 0 and s + e <= n for s, e, n in zip(box.start, box.size, SHAPE, strict=True))


def test_six_local_views_start_within_three_voxels_of_the_union() -> None:
    outside = 0
    for views in drawn():
        assert len(views.local) == 6
        for box in views.local:
            assert box.size in PCRLv2Settings().local_boxes
            for axis in range(3):
                ends = [view.start[axis] + view.size[axis] for view in (views.first, views.second)]
                low = min(views.first.start[axis], views.second.start[axis])
                room = SHAPE[axis] - box.size[axis]
                assert min(low - 3, room) <= box.start[axis] <= max(ends) + 3
                outside += box.start[axis] < low
    assert outside > 0


def test_boxes_of_one_size_that_rarely_meet_are_found_in_a_large_scan() -> None:
    settings = PCRLv2Settings(global_boxes=((64, 64, 32),))
    views = draw_views((512, 512, 300), settings, torch.Generator().manual_seed(0))
    assert views.first != views.second


def test_boxes_that_cannot_overlap_so_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcontext.pretraining.views.ROUNDS", 3)
    settings = PCRLv2Settings(global_boxes=((96, 96, 64),), overlap=0.9999)
    with pytest.raises(InputError, match=r"hardly ever overlap .* 0\.9999, in crops of \(512, 512, 300\)"):
        draw_views((512, 512, 300), settings, torch.Generator().manual_seed(0))


def test_a_box_is_cut_and_resized() -> None:
    image = torch.randn(2, 12, 10, 8)
    box = Box((2, 0, 3), (4, 6, 5))
    assert torch.equal(cut(image, box, (4, 6, 5)), image[:, 2:6, :6, 3:])
    ramp = torch.arange(12.0).view(1, 12, 1, 1).expand(1, 12, 10, 8)
    torch.testing.assert_close(cut(ramp, Box((4, 0, 0), (8, 8, 8)), (4, 4, 4))[0, :, 0, 0], torch.arange(4.5, 12, 2))


def test_a_scan_smaller_than_a_box_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least \(112, 112, 96\), got \(96, 96, 96\)"):
        draw_views((96, 96, 96), PCRLv2Settings(), torch.Generator())
