"""One suite over every network x mask x place where the mask enters."""

import copy

import pytest
import torch

from medcontext.method import BoxMask, CubeMask, MedContext, Momentum, TubeMask, Unlabelled
from medcontext.method.losses import heads
from tests.method.conftest import SUBJECTS, Subject

MASKS = {"tube": TubeMask, "cube": CubeMask, "box": BoxMask, "bernoulli": TubeMask}
SLOW = {"swin_unetr": [pytest.mark.slow]}  # windows take seconds on a CPU, in double precision half a minute
COMBINATIONS = [
    pytest.param(subject, mask, space, id=f"{name}-{mask}-{space}", marks=SLOW.get(name, []))
    for name, subject in SUBJECTS.items()
    for mask in MASKS
    for space in ("voxels", "tokens")
    if (space == "voxels" or subject.tokens) and (mask == "tube" or name not in SLOW)
]
everywhere = pytest.mark.parametrize(("subject", "mask", "space"), COMBINATIONS)
VIEWS = {
    "filled": {"unlabelled": Unlabelled(start=0)},
    "filled-every": {"unlabelled": Unlabelled(start=0, share=1)},
    "filled-all": {"unlabelled": Unlabelled(start=0, target="soft", share=1, clean="all")},
    "filled-both": {"unlabelled": Unlabelled(start=0, both=True, keep_open=False, share=1)},
    "masked": {"unlabelled": Unlabelled(start=0, view="masked", target="consistency", threshold=0.4, share=1)},
    "whole": {"unlabelled": Unlabelled(start=0, view="whole", threshold=0.4, share=0.5)},
    "filled-cube": {"mask": "cube", "unlabelled": Unlabelled(start=0)},
    "filled-box": {"mask": "box", "unlabelled": Unlabelled(start=0)},
    "masked-box": {"mask": "box", "unlabelled": Unlabelled(start=0, view="masked", share=1)},
}
with_scans = pytest.mark.parametrize(
    ("subject", "options"),
    [
        pytest.param(subject, options, id=f"{name}-{view}", marks=SLOW.get(name, []))
        for name, subject in SUBJECTS.items()
        for view, options in VIEWS.items()
        if name in ("unet", "batchnorm", "images") or view in ("filled", "masked")  # the others are slow
    ],
)


def make_with_scans(subject: Subject, mask: str = "tube", **options: object) -> MedContext:
    return make(subject, mask, "voxels", **options)


def make(subject: Subject, mask: str, space: str, ratio: float = 0.5, **options: object) -> MedContext:
    torch.manual_seed(0)
    network = subject.build()
    kind = MASKS[mask](patch_size=subject.patch, ratio=ratio, draw="bernoulli" if mask == "bernoulli" else "exact")
    return MedContext(network, mask=kind, adapter=subject.adapter(network, space), total_steps=10, **options)


def train_step(learner: MedContext, optimizer: torch.optim.Optimizer, subject: Subject, seed: int) -> float:
    torch.manual_seed(seed)
    loss = learner.backward(*subject.batch(seed)).loss
    optimizer.step()
    optimizer.zero_grad()
    learner.update_teacher()
    return loss.item()


@everywhere
def test_the_teacher_starts_as_a_copy_that_shares_no_storage(subject: Subject, mask: str, space: str) -> None:
    learner = make(subject, mask, space)
    student, teacher = learner.network.state_dict(), learner.teacher.network.state_dict()
    assert student.keys() == teacher.keys()
    assert all(torch.equal(student[key], teacher[key]) for key in student)
    storages = {tensor.untyped_storage().data_ptr() for tensor in student.values()}
    assert not storages & {tensor.untyped_storage().data_ptr() for tensor in teacher.values()}


@everywhere
def test_only_updates_move_the_teacher_and_they_follow_the_closed_form(subject: Subject, mask: str, space: str) -> None:
    learner = make(subject, mask, space, momentum=Momentum(0.9, 0.9, warmup=False))
    optimizer = torch.optim.SGD(learner.trainable_parameters(), lr=0.05)
    expected = copy.deepcopy(dict(learner.network.named_parameters()))
    for seed in range(2):
        learner.backward(*subject.batch(seed))
        before = copy.deepcopy(learner.teacher.state_dict())
        optimizer.step()
        after = learner.teacher.state_dict()
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert all(parameter.grad is None for parameter in learner.teacher.parameters())
        optimizer.zero_grad()
        learner.update_teacher()
        for name, parameter in learner.network.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * parameter
    for name, parameter in learner.teacher.network.named_parameters():
        torch.testing.assert_close(parameter, expected[name].data, rtol=1e-5, atol=1e-6)
    students = {id(parameter) for parameter in learner.trainable_parameters()}
    assert not students & {id(parameter) for parameter in learner.teacher.parameters()}


@everywhere
def test_the_drawn_ratio_is_exact(subject: Subject, mask: str, space: str) -> None:
    hidden = make(subject, mask, space).draw(torch.zeros(64, 1, *subject.crop))
    share = hidden.float().flatten(1).mean(1)
    if mask == "box":
        assert (share == share[0]).all()
        assert 0 < share[0] < 1
    elif mask == "bernoulli":
        assert share.mean().item() == pytest.approx(0.5, abs=0.1)
    else:
        assert (share == 0.5).all()


@everywhere
def test_ratio_0_gives_the_whole_views_output(subject: Subject, mask: str, space: str) -> None:
    learner = make(subject, mask, space, ratio=0.0).eval()
    image, _ = subject.batch()
    whole = heads(learner.network(image))[0]
    masked = heads(learner.adapter.masked(learner.network, image, learner.draw(image)))[0]
    assert torch.equal(whole, masked)


@everywhere
def test_a_hidden_voxel_cannot_change_the_masked_output(subject: Subject, mask: str, space: str) -> None:
    learner = make(subject, mask, space).eval()
    image, _ = subject.batch()
    hidden = learner.draw(image)
    if not hidden.any():
        pytest.skip("nothing was hidden by this draw")
    patch = [extent // count for extent, count in zip(subject.crop, hidden.shape[2:], strict=True)]
    sample, _, *index = hidden.nonzero()[0].tolist()
    place = tuple(position * size + size // 2 for position, size in zip(index, patch, strict=True))
    changed = image.clone()
    changed[(sample, 0, *place)] += 10
    first, second = (heads(learner.adapter.masked(learner.network, x, hidden))[0] for x in (image, changed))
    if space == "voxels":
        assert torch.equal(first, second)
    else:
        # In token space the convolutional skip paths still see the volume: documented, and shown here.
        assert not torch.equal(first, second)


@everywhere
def test_two_backward_passes_give_the_gradient_of_the_joint_loss(subject: Subject, mask: str, space: str) -> None:
    if mask == "bernoulli":
        pytest.skip("differs from tube in its draw alone")
    learner = make(subject, mask, space).double()
    optimizer = torch.optim.SGD(learner.trainable_parameters(), lr=0.1)
    learner.backward(*subject.batch(9, dtype=torch.float64))
    optimizer.step()
    learner.update_teacher()  # now the teacher differs from the student
    learner.zero_grad()
    image, label = subject.batch(dtype=torch.float64)
    hidden = learner.draw(image)
    joint = make(subject, mask, space).double()
    joint.load_state_dict(learner.state_dict())
    expected = joint(image, label, hidden)
    expected.loss.backward()
    actual = learner.backward(image, label, hidden)
    for name in actual._fields:
        torch.testing.assert_close(getattr(actual, name), getattr(expected, name).detach())
    reference = dict(joint.named_parameters())
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad and reference[name].grad is not None:
            torch.testing.assert_close(parameter.grad, reference[name].grad, rtol=1e-9, atol=1e-12, msg=name)
    assert learner.adapter.embedding.grad.abs().max() > 0


@everywhere
def test_resuming_gives_the_identical_next_loss(subject: Subject, mask: str, space: str) -> None:
    learner = make(subject, mask, space)
    optimizer = torch.optim.AdamW(learner.trainable_parameters(), lr=1e-2)
    train_step(learner, optimizer, subject, seed=0)
    saved = copy.deepcopy((learner.state_dict(), optimizer.state_dict()))
    expected = train_step(learner, optimizer, subject, seed=1)

    resumed = make(subject, mask, space)
    optimizer = torch.optim.AdamW(resumed.trainable_parameters(), lr=1e-2)
    resumed.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    assert resumed.step == 1
    assert train_step(resumed, optimizer, subject, seed=1) == expected


@everywhere
def test_bfloat16_autocast_gives_nearly_the_same_losses(subject: Subject, mask: str, space: str) -> None:
    if mask != "tube" or subject is SUBJECTS["swin_unetr"]:
        pytest.skip("precision does not depend on the mask; bfloat16 windows take a minute on a CPU")
    learner = make(subject, mask, space)
    image, label = subject.batch()
    hidden = learner.draw(image)
    exact = learner(image, label, hidden)
    with torch.autocast("cpu", torch.bfloat16):
        rough = learner(image, label, hidden)
    assert rough.loss.dtype == torch.float32
    assert rough.loss.item() == pytest.approx(exact.loss.item(), rel=0.05)


def scans_of(subject: Subject, learner: MedContext, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict:
    """A batch with unlabelled crops, as many as belong beside it, seen differently by teacher and student."""
    image, label = subject.batch(seed, dtype)
    scans = subject.batch(seed + 100, dtype)[0][: learner.partners(len(image))]
    return {"image": image, "label": label, "unlabelled": scans, "varied": 1.1 * scans}


@with_scans
def test_with_unlabelled_scans_the_views_give_the_gradient_of_the_joint_loss(subject: Subject, options: dict) -> None:
    learner = make_with_scans(subject, **options).double()
    batch = scans_of(subject, learner, dtype=torch.float64)
    hidden = learner.draw_filled(batch["unlabelled"])
    joint = make_with_scans(subject, **options).double()
    expected = joint(**batch, hidden=hidden)
    expected.loss.backward()
    actual = learner.backward(**batch, hidden=hidden)
    assert actual.unlabelled > 0
    for name in actual._fields:
        torch.testing.assert_close(getattr(actual, name), getattr(expected, name).detach())
    reference = dict(joint.named_parameters())
    for name, parameter in learner.named_parameters():
        assert (parameter.grad is None) == (reference[name].grad is None), name
        if parameter.grad is not None:
            assert not name.startswith("teacher.")
            torch.testing.assert_close(parameter.grad, reference[name].grad, rtol=1e-9, atol=1e-12, msg=name)


@with_scans
def test_with_unlabelled_scans_resuming_gives_the_identical_next_loss(subject: Subject, options: dict) -> None:
    learner = make_with_scans(subject, **options)
    optimizer = torch.optim.AdamW(learner.trainable_parameters(), lr=1e-2)

    def step(learner: MedContext, optimizer: torch.optim.Optimizer, seed: int) -> float:
        torch.manual_seed(seed)
        loss = learner.backward(**scans_of(subject, learner, seed)).loss
        optimizer.step()
        optimizer.zero_grad()
        learner.update_teacher()
        return loss.item()

    step(learner, optimizer, 0)
    saved = copy.deepcopy((learner.state_dict(), optimizer.state_dict()))
    expected = step(learner, optimizer, 1)
    resumed = make_with_scans(subject, **options)
    optimizer = torch.optim.AdamW(resumed.trainable_parameters(), lr=1e-2)
    resumed.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    assert step(resumed, optimizer, 1) == expected
    assert all(torch.equal(a, b) for a, b in zip(resumed.trust, learner.trust, strict=True) if not a.isnan().any())
