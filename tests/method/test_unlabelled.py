import pytest
import torch
from torch import nn

from medcontext.errors import InputError
from medcontext.method import MedContext, TubeMask, Unlabelled
from medcontext.method.found import Found
from medcontext.method.losses import RegionDiceCE


def learner(rule: Unlabelled, **options: object) -> MedContext:
    torch.manual_seed(0)
    network = nn.Conv3d(1, 3, 3, padding=1)
    return MedContext(network, mask=TubeMask(4, 0.5), total_steps=8, unlabelled=rule, **options)


def bare(rule: Unlabelled) -> MedContext:
    return MedContext(nn.Conv3d(1, 3, 1), mask=None, total_steps=8, unlabelled=rule)


def batch(size: int = 2, unlabelled: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(size, 1, 8, 8, 4, generator=generator)
    label = torch.randint(0, 3, (size, 1, 8, 8, 4), generator=generator)
    return {"image": image, "label": label, "unlabelled": torch.randn(unlabelled, 1, 8, 8, 4, generator=generator)}


def test_before_their_start_unlabelled_scans_change_nothing() -> None:
    model = learner(Unlabelled(start=0.5))
    values = batch()
    before = model(**values)
    assert before.unlabelled == 0
    assert before.loss == before.whole == model.supervised(model.network(values["image"]), values["label"])
    model.step = 4
    assert model(**values).unlabelled > 0


class Seen(nn.Module):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 1)
        self.inputs: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.inputs.append(image.detach().clone())
        return self.layer(image)


@pytest.mark.parametrize("both", [False, True])
def test_filled_views_show_each_voxel_of_the_scan_that_the_mask_says(both: bool) -> None:
    network = Seen()
    rule = Unlabelled(start=0, both=both, share=1)
    model = MedContext(network, mask=TubeMask(4, 0.5), total_steps=8, unlabelled=rule)
    labelled, scans = torch.full((2, 1, 8, 8, 4), 1.0), torch.full((2, 1, 8, 8, 4), 2.0)
    hidden = model.draw_filled(scans)
    model(labelled, torch.zeros(2, 1, 8, 8, 4).long(), hidden, unlabelled=scans, varied=scans + 1)
    views = network.inputs
    assert len(views) == 1 + both  # no crop as it is, as many views as ways
    assert views[0].unique().tolist() == [1, 3]  # the student sees the varied scan
    mask = hidden.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(2, 1, 8, 8, 4)
    assert torch.equal(views[0] == 1, mask)
    if both:
        assert torch.equal(views[1] == 1, ~mask)
    assert torch.equal(model.teacher.network.inputs[0], scans)  # the teacher sees it whole, and not varied


def test_clean_and_filled_crops_go_through_the_network_in_one_pass() -> None:
    network = Seen()
    model = MedContext(network, mask=TubeMask(4, 0.5), total_steps=8, unlabelled=Unlabelled(start=0))
    labelled, scans = torch.rand(4, 1, 8, 8, 4), torch.rand(2, 1, 8, 8, 4)
    label = torch.randint(0, 2, (4, 1, 8, 8, 4))
    hidden = model.draw_filled(scans)
    together = model(labelled, label, hidden, unlabelled=scans)
    (view,) = network.inputs
    assert view.shape == labelled.shape, "in the memory of one view"
    assert torch.equal(view[:2], labelled[:2])
    apart = MedContext(network, mask=TubeMask(4, 0.5), total_steps=8, unlabelled=Unlabelled(start=0, share=1))
    torch.testing.assert_close(together.whole, apart.supervised(network(labelled[:2]), label[:2]))
    torch.testing.assert_close(together.unlabelled, apart(labelled[2:], label[2:], hidden, unlabelled=scans).unlabelled)
    torch.testing.assert_close(together.loss, together.whole + together.unlabelled)


def test_one_way_views_go_either_way() -> None:
    model = learner(Unlabelled())
    model.mask = TubeMask(2, 0.25)
    shares = model.draw_filled(torch.zeros(64, 1, 8, 8, 4)).float().mean(dim=(1, 2, 3, 4))
    assert set(shares.tolist()) == {0.25, 0.75}


def test_a_share_of_the_batch_spares_its_cost() -> None:
    network = Seen()
    model = MedContext(network, mask=TubeMask(4), total_steps=8, share=0.5, clean="rest")
    model(torch.zeros(4, 1, 8, 8, 4), torch.zeros(4, 1, 8, 8, 4).long())
    assert [len(view) for view in network.inputs] == [4], "no crop twice"


def test_tubes_filled_with_another_labelled_crop_take_its_labels() -> None:
    class Colour(nn.Module):
        """Segments by the image's own value, so that a voxel's label can be read off its image."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(50.0))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.scale * torch.cat([1 - image, image], 1)

    model = MedContext(Colour(), mask=TubeMask(4, 0.5), total_steps=8, fill="labelled")
    label = torch.stack([torch.zeros(1, 8, 8, 4), torch.ones(1, 8, 8, 4)]).long()
    losses = model(label.float(), label)
    assert losses.masked.item() < 0.6  # right everywhere; the Dice of an absent class alone is left
    assert losses.consistency.item() == pytest.approx(0, abs=1e-6)


def test_found_follows_what_the_teacher_finds() -> None:
    found = Found(expected=torch.tensor([0.9, 0.1, 0.01]))
    labels = torch.tensor([0.5, 0.3, 0.2])  # not used: the share was given
    known = found.update(torch.tensor([0.95, 0.05, 0.0]), labels)
    assert known[0] == 1
    assert known[1].item() == pytest.approx(0.05 / 0.07)
    assert known[2] == 0
    for _ in range(500):
        known = found.update(torch.tensor([0.89, 0.1, 0.01]), labels)
    assert known.tolist() == pytest.approx([1, 1, 1], abs=0.02)
    again = Found(expected=torch.tensor([0.9, 0.1, 0.01]))
    again.restore(found.state())
    assert torch.equal(again.known(), found.known())


def test_found_learns_what_to_expect_from_the_labels() -> None:
    assert Found().update(torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5]))[1].item() == pytest.approx(0.1 / 0.35)


def test_regions_take_unlabelled_scans() -> None:
    membership = torch.tensor([[False, True, True], [False, False, True]])
    torch.manual_seed(0)
    network = nn.Conv3d(1, 2, 1)
    rule = Unlabelled(start=0, threshold=0.5)
    model = MedContext(network, mask=TubeMask(4), total_steps=8, unlabelled=rule, supervised=RegionDiceCE(membership))
    losses = model.backward(**batch())
    assert losses.unlabelled > 0
    assert model.trust.known.shape == (2,)
    assert model.trust.share == 1


def test_a_batch_of_one_is_also_seen_as_it_is() -> None:
    """Else a smaller batch, as one makes it where memory is short, would be another method."""
    network = Seen()
    model = MedContext(network, mask=TubeMask(4), total_steps=8, unlabelled=Unlabelled(start=0))
    model(torch.ones(1, 1, 8, 8, 4), torch.zeros(1, 1, 8, 8, 4).long(), unlabelled=torch.full((1, 1, 8, 8, 4), 2.0))
    assert [view.unique().tolist() for view in network.inputs] == [[1], [1, 2]]


def test_what_is_found_is_what_the_teacher_would_say_also_of_a_soft_target() -> None:
    model = learner(Unlabelled(start=0, target="soft"))
    with torch.no_grad():
        model.teacher.network.weight.zero_()
        model.teacher.network.bias.copy_(torch.tensor([4.0, 0.0, 0.0]))
    model.found.expected = torch.tensor([0.98, 0.01, 0.01])
    model.backward(**batch())
    assert model.trust.known.tolist() == [1, 0, 0]


def test_trust_is_counted_on_the_scans_voxels_alone() -> None:
    model = learner(Unlabelled(start=0, threshold=0.0))
    model.backward(**batch())
    assert model.trust.share == 1
    model.unlabelled = Unlabelled(start=0, threshold=1.0)
    model.backward(**batch())
    assert model.trust.share == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Unlabelled(threshold=1.5), "threshold must lie between 0 and 1, got 1.5"),
        (lambda: Unlabelled(share=0), "unlabelled.share is a fraction of the batch"),
        (lambda: Unlabelled(start=1), "start is a fraction of the steps"),
        (lambda: Unlabelled(weight=-1), "weight must be at least 0"),
        (lambda: Unlabelled(target="consistency"), "needs the view masked or whole"),
        (lambda: learner(Unlabelled(view="none")).backward(**batch()), "no use for unlabelled scans"),
        (lambda: learner(Unlabelled(start=0)).backward(**batch(1, 2)), "got 2 beside 1"),
        (lambda: bare(Unlabelled()).backward(**batch()), "needs a mask"),
        (lambda: learner(Unlabelled(), share=0), "above 0 to 1; got 0"),
        (lambda: learner(Unlabelled(), clean="rest", target="student"), "use target 'teacher'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(make: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_the_mean_over_structures_leaves_the_background_out() -> None:
    found = Found()
    assert found.mean == 0
    found.update(torch.tensor([0.9, 0.1, 0.0]), torch.tensor([0.6, 0.1, 0.3]))
    assert found.mean == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scans", "message"),
    [
        (torch.zeros(1, 1, 10, 8, 4), "must divide the crop"),
        (torch.zeros(1, 1, 12, 8, 4), "crops of one size"),
        (torch.zeros(3, 1, 8, 8, 4), "got 3 beside 2"),
    ],
)
def test_crops_that_do_not_fit_are_refused_from_the_first_step_on(scans: torch.Tensor, message: str) -> None:
    values = batch()
    with pytest.raises(InputError, match=message):
        learner(Unlabelled(start=0.5)).backward(values["image"], values["label"], unlabelled=scans)
