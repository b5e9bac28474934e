"""The method's steps on a GPU: what the CPU computes, and the networks of the paper at their real size."""

import copy

import pytest
import torch
from torch import nn

from medcontext.method import MedContext, TubeMask, Unlabelled
from medcontext.networks import build_network
from tests.method.conftest import SUBJECTS, Subject

REAL = {  # crop and batch
    "unetr": (96, 2),
    "swin_unetr": (96, 2),
    "nnformer": (96, 2),
    "pcrlv2": (96, 2),
    "resenc": (128, 2),
    "resenc, large crop": (160, 2),
}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_a_step_computes_what_the_cpu_does(subject: Subject) -> None:
    torch.manual_seed(0)
    options = {"mask": TubeMask(subject.patch), "total_steps": 10, "unlabelled": Unlabelled(start=0)}
    learner = MedContext(subject.build(), **options).double()
    image, label = subject.batch(dtype=torch.float64)
    scans = subject.batch(1, torch.float64)[0][: learner.partners(len(image))]
    losses = []
    for device in ("cpu", "cuda"):
        own = copy.deepcopy(learner).to(device)
        torch.manual_seed(1)
        losses.append(own.backward(image.to(device), label.to(device), unlabelled=scans.to(device)))
    for name, value in losses[0]._asdict().items():
        torch.testing.assert_close(getattr(losses[1], name).cpu(), value, atol=1e-6, rtol=1e-6, msg=name)


@pytest.mark.parametrize("name", REAL)
def test_a_real_networks_step_fits_and_is_finite_in_half_precision(name: str, record_property) -> None:
    side, batch = REAL[name]
    network = build_network(name.partition(",")[0], in_channels=1, out_channels=14, crop_size=(side,) * 3).cuda()
    learner = MedContext(network, mask=TubeMask(16), total_steps=10, unlabelled=Unlabelled(start=0))
    optimizer = torch.optim.AdamW(learner.trainable_parameters(), lr=1e-4)
    image = torch.randn(batch, 1, *(side,) * 3, device="cuda")
    label = torch.randint(0, 14, image.shape, device="cuda")
    scans = torch.randn(learner.partners(batch), *image.shape[1:], device="cuda")
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            losses = learner.backward(image, label, unlabelled=scans)
        assert losses.loss.isfinite()
        assert nn.utils.clip_grad_norm_(learner.trainable_parameters(), 1).isfinite()
        optimizer.step()
        optimizer.zero_grad()
        learner.update_teacher()
    peak = torch.cuda.max_memory_allocated() / 2**30
    record_property("peak GiB", round(peak, 1))
    print(f"{name}: batch {batch} of {side}^3, {peak:.1f} GiB")  # noqa: T201
