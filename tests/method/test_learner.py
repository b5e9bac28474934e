import copy
import math
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from monai.data import MetaTensor
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medcontext import MedContext, TubeMask, Unlabelled
from medcontext.errors import InputError
from medcontext.method import TokenAdapter
from medcontext.method.losses import consistency
from medcontext.method.masking import expand
from medcontext.method.targets import region_target
from tests.method.conftest import SUBJECTS, BatchNormNet

SUBJECT = SUBJECTS["unet"]


def make(dtype: torch.dtype = torch.float64, **options: object) -> MedContext:
    torch.manual_seed(0)
    return MedContext(SUBJECT.build(), mask=TubeMask(4), total_steps=10, **options).to(dtype)


def gradients(learner: MedContext) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], **tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(
            first[name], second[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance
        )


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({"consistency_kind": "none"}, {"whole", "masked"}),  # Table 7, masked loss alone
        ({"masked_loss": False}, {"whole", "consistency"}),  # Table 7, consistency alone
        ({"target": "student"}, {"whole", "masked", "consistency"}),  # Table 9, no teacher
        ({"consistency_kind": "reference"}, {"whole", "masked", "consistency"}),
        ({"ramp_up": 0.5}, {"whole", "masked", "consistency"}),
    ],
)
def test_every_variant_has_its_terms_and_both_forms_agree(options: dict, terms: set[str]) -> None:
    learner, joint = make(**options), make(**options)
    image, label = SUBJECT.batch(dtype=torch.float64)
    hidden = learner.draw(image)
    losses = learner.backward(image, label, hidden)
    expected = joint(image, label, hidden)
    expected.loss.backward()
    assert {name for name in ("whole", "masked", "consistency") if getattr(losses, name) > 0} == terms
    total = losses.whole + losses.masked + learner.current_beta() * losses.consistency
    torch.testing.assert_close(losses.loss, total)
    torch.testing.assert_close(losses.loss, expected.loss.detach())
    assert_same(gradients(learner), gradients(joint))


def test_without_a_mask_it_is_the_plain_baseline() -> None:
    torch.manual_seed(0)
    network = SUBJECT.build().double()
    learner = MedContext(copy.deepcopy(network), mask=None, total_steps=10)
    image, label = SUBJECT.batch(dtype=torch.float64)
    losses = learner.backward(image, label)
    loss = learner.supervised(network(image), label)
    loss.backward()
    assert losses.loss == losses.whole == loss.detach()
    assert_same(gradients(learner.network), gradients(network))
    assert list(learner.trainable_parameters()) == list(learner.network.parameters())


def test_the_consistency_weight_ramps_up() -> None:
    learner = make(beta=2.0, ramp_up=0.5)  # over 5 of 10 steps
    values = []
    for learner.step in range(7):
        values.append(learner.current_beta())
    assert values[0] == pytest.approx(2 * math.exp(-5))
    assert values == sorted(values)
    assert values[5] == values[6] == 2.0


def test_gradient_accumulation_gives_the_gradient_of_the_mean() -> None:
    learner, joint = make(), make()
    batches = [SUBJECT.batch(seed, dtype=torch.float64) for seed in range(3)]
    hidden = [learner.draw(image) for image, _ in batches]
    for (image, label), mask in zip(batches, hidden, strict=True):
        learner.backward(image, label, mask, backward=lambda loss: (loss / 3).backward())
    torch.stack([joint(*batch, mask).loss for batch, mask in zip(batches, hidden, strict=True)]).mean().backward()
    assert_same(gradients(learner), gradients(joint))


def test_a_grad_scaler_scales_both_views_alike() -> None:
    learner, plain = make(), make()
    image, label = SUBJECT.batch(dtype=torch.float64)
    hidden = learner.draw(image)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizers = [torch.optim.SGD(each.trainable_parameters(), lr=0.1) for each in (learner, plain)]
    learner.backward(image, label, hidden, backward=lambda loss: scaler.scale(loss).backward())
    plain.backward(image, label, hidden)
    assert_same({name: grad / 1024 for name, grad in gradients(learner).items()}, gradients(plain))
    scaler.step(optimizers[0])
    scaler.update()
    optimizers[1].step()
    assert_same(dict(learner.named_parameters()), dict(plain.named_parameters()))


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_losses_and_gradients() -> None:
    torch.manual_seed(0)
    network = SUBJECT.build()
    eager = MedContext(copy.deepcopy(network), mask=TubeMask(4), total_steps=10)
    compiled = MedContext(torch.compile(network, backend="aot_eager"), mask=TubeMask(4), total_steps=10)
    image, label = SUBJECT.batch()
    hidden = eager.draw(image)
    expected, actual = eager.backward(image, label, hidden), compiled.backward(image, label, hidden)
    assert actual.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    for ours, theirs in zip(compiled.trainable_parameters(), eager.trainable_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    compiled.update_teacher()
    assert compiled.step == 1


def test_the_whole_views_activations_are_gone_before_the_masked_view_starts() -> None:
    learner = make()
    activations: list[weakref.ref] = []
    alive_at_second_pass: list[int] = []

    def watch(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        alive_at_second_pass.append(sum(reference() is not None for reference in activations))
        if learner.network.training and output.requires_grad:
            activations.append(weakref.ref(output))

    for module in learner.network.modules():
        if not list(module.children()):
            module.register_forward_hook(watch)
    layers = sum(not list(module.children()) for module in learner.network.modules())
    alive_at_teacher: list[int] = []
    learner.teacher.register_forward_hook(
        lambda *_: alive_at_teacher.append(sum(reference() is not None for reference in activations))
    )
    learner.backward(*SUBJECT.batch(dtype=torch.float64))
    assert len(alive_at_second_pass) == 2 * layers
    assert max(alive_at_second_pass[:layers]) > 0  # the watch works
    assert alive_at_second_pass[layers] == 0
    assert alive_at_teacher == [0]


def test_the_teachers_logits_are_gone_before_the_masked_views_backward_pass() -> None:
    learner = make()
    logits: list[weakref.ref] = []
    alive: list[int] = []
    learner.teacher.register_forward_hook(lambda _module, _inputs, output: logits.append(weakref.ref(output)))

    def backward(loss: torch.Tensor) -> None:
        alive.append(sum(reference() is not None for reference in logits))
        loss.backward()

    learner.backward(*SUBJECT.batch(dtype=torch.float64), backward=backward)
    assert len(logits) == 1
    assert alive == [0, 0]


@pytest.mark.parametrize(
    "wrong", [{"beta": -1}, {"ramp_up": 2}, {"total_steps": 0}, {"masked_loss": False, "consistency_kind": "none"}]
)
def test_values_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        MedContext(nn.Conv3d(1, 2, 1), **({"total_steps": 10} | wrong))


def test_an_adapter_that_would_hide_nothing_is_refused() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 4, 4), nn.Upsample(scale_factor=4))
    tokens = TokenAdapter(network, "0", channels=2, token_size=(4, 4, 4))
    with pytest.raises(InputError, match="voxels fill what is hidden, and TokenAdapter would hide nothing"):
        MedContext(network, adapter=tokens, fill="labelled", total_steps=10)
    MedContext(network, adapter=tokens, total_steps=10)


def train_three_steps(
    network: nn.Module, batches: list, masks: list, part: slice, with_scans: bool
) -> dict[str, torch.Tensor]:
    """With scans each crop has one of the next batch beside it, every voxel a target: processes weigh alike."""
    rule = Unlabelled(start=0, share=1, threshold=0, keep_open=False)
    learner = MedContext(network, mask=TubeMask(4), total_steps=10, **({"unlabelled": rule} if with_scans else {}))
    scans = [image for image, _ in (*batches[1:], batches[0])]
    optimizer = torch.optim.SGD(learner.trainable_parameters(), lr=0.1, momentum=0.9)
    for (image, label), hidden, other in zip(batches, masks, scans, strict=True):
        learner.backward(image[part], label[part], hidden[part], unlabelled=other[part] if with_scans else None)
        optimizer.step()
        optimizer.zero_grad()
        learner.update_teacher()
    values = {name.replace("network.module.", "network."): value for name, value in learner.named_parameters()}
    return {name: value.detach().clone() for name, value in values.items()}


def make_problem() -> tuple[nn.Module, list, list]:
    torch.manual_seed(0)
    network = SUBJECT.build().double()
    batches = [SUBJECT.batch(seed, dtype=torch.float64) for seed in range(3)]
    masks = [TubeMask(4, 0.5).sample(SUBJECT.crop, 2) for _ in range(3)]
    return network, batches, masks


def distributed_worker(rank: int, store: str, results: str, with_scans: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    network, batches, masks = make_problem()
    parameters = train_three_steps(DistributedDataParallel(network), batches, masks, slice(rank, rank + 1), with_scans)
    torch.save(parameters, f"{results}-{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("with_scans", [False, True])
def test_two_processes_train_as_one_on_the_same_global_batch(tmp_path, with_scans: bool) -> None:
    mp.spawn(distributed_worker, (str(tmp_path / "store"), str(tmp_path / "result"), with_scans), nprocs=2)
    first, second = (torch.load(tmp_path / f"result-{rank}") for rank in range(2))
    alone = train_three_steps(*make_problem(), slice(None), with_scans)
    assert_same(first, second, rtol=0, atol=0)
    assert_same(first, alone, rtol=1e-6, atol=1e-9)  # summed in another order
    start = dict(make_problem()[0].named_parameters())
    assert any(not torch.equal(alone[f"network.{name}"], value) for name, value in start.items())


@pytest.mark.parametrize(("clean", "number"), [("rest", 2), ("rest", 4), ("all", 1), ("all", 3)])
def test_tubes_are_filled_with_the_labelled_crop_before(clean: str, number: int) -> None:
    seen: list[torch.Tensor] = []
    network = nn.Conv3d(1, 3, 3, padding=1)
    model = MedContext(network, mask=TubeMask(4, 0.5), total_steps=8, share=number / 4, clean=clean, fill="labelled")
    network.register_forward_hook(lambda _module, inputs, _outputs: seen.append(inputs[0]))
    image, label = torch.rand(4, 1, 8, 8, 4), torch.randint(0, 3, (4, 1, 8, 8, 4))
    hidden = model.draw(image[-number:])
    losses = model(image, label, hidden)
    mask = expand(hidden, (8, 8, 4))
    answer = model.teacher(image)
    back = {1: 1, 2: 2, 3: 1, 4: 1}[number]  # each with one that is seen as it is, where there are enough
    expected = [
        torch.stack([torch.where(mask[n - 4], of[n - back], of[n]) for n in range(4 - number, 4)])
        for of in (image, label, answer)
    ]
    assert 0 < mask.sum() < mask.numel()
    assert torch.equal(seen[-1][-number:], expected[0])
    outputs = network(expected[0])
    torch.testing.assert_close(losses.masked, model.supervised(outputs, expected[1]))
    torch.testing.assert_close(losses.consistency, consistency(outputs, expected[2]))


def test_a_lonely_crop_has_none_to_be_filled_with_and_is_seen_as_it_is() -> None:
    image, label = torch.rand(1, 1, 8, 8), torch.randint(0, 3, (1, 1, 8, 8))
    learner = learner_of_images(fill="labelled")
    losses = learner.backward(image, label)
    torch.testing.assert_close(losses.loss, learner.supervised(learner.network(image), label).detach())
    assert losses.masked == losses.consistency == 0


def test_labels_of_a_hosts_coarser_outputs_are_filled_as_its_finest_ones() -> None:
    """A coarser label of the filled crop is what nearest neighbours, as nnU-Net takes them, make of its label."""
    seen: list[list[torch.Tensor]] = []
    learner = learner_of_images(
        supervised=Function(lambda outputs, targets: seen.append(targets) or outputs[0].sum()),
        fill="labelled",
        share=0.5,
        clean="rest",
    )
    label = torch.randint(0, 3, (4, 1, 12, 8))
    sizes = [(12, 8), (6, 4), (4, 3)]
    labels = [nn.functional.interpolate(label.float(), size, mode="nearest-exact").long() for size in sizes]
    hidden = learner.draw(torch.rand(2, 1, 12, 8))
    learner(torch.rand(4, 1, 12, 8), labels, hidden)
    own, clean = seen
    mask = expand(hidden, (12, 8))
    filled = torch.where(mask, label[[0, 1]], label[[2, 3]])
    assert 0 < mask.sum() < mask.numel()
    for size, made, whole in zip(sizes, own, clean, strict=True):
        assert torch.equal(made, nn.functional.interpolate(filled.float(), size, mode="nearest-exact").long())
        assert torch.equal(whole, nn.functional.interpolate(label[:2].float(), size, mode="nearest-exact").long())


def test_clean_and_masked_crops_go_through_the_network_in_one_pass() -> None:
    seen: list[torch.Tensor] = []
    network = nn.Conv3d(1, 3, 3, padding=1)
    model = MedContext(network, mask=TubeMask(4, 0.5), total_steps=8, share=0.5, clean="rest")
    network.register_forward_hook(lambda _module, inputs, _outputs: seen.append(inputs[0]))
    image, label = torch.rand(4, 1, 8, 8, 4), torch.randint(0, 3, (4, 1, 8, 8, 4))
    hidden = model.draw(image[2:])
    together = model(image, label, hidden)
    (view,) = seen
    assert torch.equal(view[:2], image[:2])
    apart = MedContext(network, mask=TubeMask(4, 0.5), total_steps=8)
    apart.teacher.load_state_dict(model.teacher.state_dict())
    masked = apart(image[2:], label[2:], hidden)
    torch.testing.assert_close(together.whole, model.supervised(network(image[:2]), label[:2]))
    torch.testing.assert_close(together.masked, masked.masked)
    torch.testing.assert_close(together.consistency, masked.consistency)
    torch.testing.assert_close(together.loss, together.whole + masked.masked + 0.5 * masked.consistency)


def test_batch_norm_trains_through_both_views() -> None:
    learner = MedContext(BatchNormNet(), mask=TubeMask(4), total_steps=10)
    before = learner.network.layers[1].running_mean.clone()
    image, label = SUBJECTS["batchnorm"].batch()
    learner.backward(image, label)
    assert not torch.equal(before, learner.network.layers[1].running_mean)
    assert torch.equal(before, learner.teacher.network.layers[1].running_mean)
    learner.update_teacher()
    assert torch.equal(learner.network.layers[1].running_mean, learner.teacher.network.layers[1].running_mean)


def learner_of_images(**options: object) -> MedContext:
    torch.manual_seed(0)
    return MedContext(nn.Conv2d(1, 3, 3, padding=1), mask=TubeMask(patch_size=4), total_steps=10, **options)


class Function(nn.Module):
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any) -> torch.Tensor:
        return self.function(*arguments)


class OwnLoss(nn.Module):
    """As a host's: takes all outputs and a target for each."""

    def forward(self, outputs: torch.Tensor, targets: list[torch.Tensor]) -> torch.Tensor:
        assert isinstance(targets, list)
        return nn.functional.cross_entropy(outputs, targets[0][:, 0]) + 0 * targets[1].sum()


def test_a_hosts_own_loss_gets_its_list_of_targets_as_it_is() -> None:
    image, label = torch.randn(2, 1, 8, 8), torch.randint(0, 3, (2, 1, 8, 8))
    targets = [label, label[:, :, ::2, ::2]]
    learner = learner_of_images(supervised=OwnLoss())
    hidden = learner.draw(image)
    joint, first = learner(image, targets, hidden), learner.backward(image, targets, hidden)
    torch.testing.assert_close(first.loss, joint.loss.detach())
    expected = nn.functional.cross_entropy(learner.network(image), label[:, 0])
    torch.testing.assert_close(first.whole, expected.detach())
    with_scans = learner_of_images(supervised=OwnLoss(), unlabelled=Unlabelled(start=0))
    assert with_scans.backward(image, targets, unlabelled=torch.randn(1, 1, 8, 8)).unlabelled > 0
    assert learner_of_images(supervised=OwnLoss(), fill="labelled").backward(image, targets).masked > 0


def test_a_host_says_what_its_labels_mean() -> None:
    """As nnU-Net's: maps of regions, and one of voxels of which nothing is known."""
    maps = (torch.rand(2, 3, 8, 8) > 0.5).float()
    maps[:, 2] = 0
    image, scans = torch.randn(2, 1, 8, 8), torch.randn(1, 1, 8, 8)

    def loss(outputs: torch.Tensor, targets: list[torch.Tensor]) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs, targets[0][:, :2])

    torch.manual_seed(0)
    learner = MedContext(
        nn.Conv2d(1, 2, 3, padding=1),
        mask=TubeMask(patch_size=4),
        total_steps=10,
        supervised=Function(loss),
        unlabelled=Unlabelled(start=0, threshold=0),
        read_label=region_target,
        regions=True,
    )
    hidden = torch.ones(1, 1, 2, 2, dtype=torch.bool)  # the filled crop is the labelled one
    filled = learner(image, [maps], hidden, unlabelled=scans)
    expected = learner.targeted(learner.network(image[1:]), region_target(maps[1:], 2))
    torch.testing.assert_close(filled.unlabelled, expected)
    maps[:, 2] = 1  # nothing is known
    assert learner(image, [maps], hidden, unlabelled=scans).unlabelled == 0
    assert learner.trust is not None
    assert learner.trust.known.shape == (2,)


def test_what_cannot_be_learnt_from_is_one_clear_error() -> None:
    image, label = torch.randn(2, 1, 8, 8), torch.randint(0, 3, (2, 1, 8, 8))
    with pytest.raises(InputError, match="The batch has no label"):
        learner_of_images().backward(image, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"Labels are \(B, 1, H, W, D\), integers 0 to K-1; got \(2, 8, 8\)"):
        learner_of_images().backward(image, label[:, 0])
    halving = MedContext(nn.Conv2d(1, 3, 2, stride=2), mask=TubeMask(patch_size=4), total_steps=10)
    with pytest.raises(InputError, match=r"must have the image's size \(8, 8\), got \(4, 4\)"):
        halving.backward(image, label)


def test_what_a_learner_adds_lies_where_its_network_does() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.ones(3))
    learner = MedContext(SUBJECT.build().to("meta"), mask=TubeMask(4), total_steps=10, supervised=loss)
    tensors = [*learner.parameters(), *learner.buffers()]
    assert learner.adapter is not None
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert loss.weight.device.type == "meta"


def test_the_outputs_on_the_whole_view_are_kept_if_wanted() -> None:
    image, label = torch.randn(2, 1, 8, 8), torch.randint(0, 3, (2, 1, 8, 8))
    learner = learner_of_images()
    learner.backward(image, label)
    assert learner.outputs is None
    learner.keeping = True
    expected = learner.network(image)
    learner.backward(image, label)
    assert torch.equal(learner.outputs, expected)
    assert not learner.outputs.requires_grad


def test_a_teacher_that_starts_again_is_a_copy_of_the_student() -> None:
    learner = learner_of_images()
    with torch.no_grad():
        learner.network.weight.add_(torch.randn_like(learner.network.weight))
    learner.restart_teacher()
    for own, their in zip(learner.teacher.network.parameters(), learner.network.parameters(), strict=True):
        assert torch.equal(own, their)
    assert learner.step == 0


def test_metatensors_give_plain_losses() -> None:
    image, label = MetaTensor(torch.randn(2, 1, 8, 8)), MetaTensor(torch.randint(0, 3, (2, 1, 8, 8)))
    learner = learner_of_images()
    losses = learner.backward(image, label)
    assert all(type(term) is torch.Tensor for term in losses)
    assert type(learner.network.weight.grad) is torch.Tensor


@pytest.mark.slow
def test_without_monai_a_loss_of_ones_own_is_enough() -> None:
    """nnU-Net's users may not have it."""
    code = """
import sys
sys.modules["monai"] = None
import torch
from medcontext.method import MedContext, TubeMask
class Own(torch.nn.Module):
    def forward(self, logits, label):
        return torch.nn.functional.cross_entropy(logits, label[:, 0])
learner = MedContext(torch.nn.Conv3d(1, 2, 1), mask=TubeMask(patch_size=4), total_steps=2, supervised=Own())
learner.backward(torch.zeros(1, 1, 8, 8, 4), torch.zeros(1, 1, 8, 8, 4, dtype=torch.long))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
