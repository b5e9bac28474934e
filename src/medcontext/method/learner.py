"""MedContext around any segmentation network (Gani et al., MICCAI 2024, section 2)."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medcontext.errors import InputError
from medcontext.method.adapters import Adapter, VoxelAdapter
from medcontext.method.batches import (
    Label,
    before,
    clean_crops,
    crops,
    finest,
    first_head,
    labels_before,
    parted,
    plain,
    reach,
    shares_of,
    some,
)
from medcontext.method.found import Found, Trust
from medcontext.method.losses import DeepSupervision, DiceCE, TargetDiceCE, consistency
from medcontext.method.masking import CubeMask, TubeMask, expand
from medcontext.method.momentum import Momentum, risen
from medcontext.method.parallel import average, average_gradient
from medcontext.method.targets import Target, label_target, teacher_target
from medcontext.method.teacher import EMATeacher
from medcontext.method.terms import Losses
from medcontext.method.unlabelled import Unlabelled


class MedContext(nn.Module):
    """The student, its teacher and the losses.

    `learner.backward(image, label)` trains with the peak memory of one view; `learner(image, label).loss` is the
    plain differentiable loss. Both give the same gradient. Call `update_teacher()` after every optimizer step.

    Args:
        network: the student, any module from (B, C, H, W, D) to logits (B, K, H, W, D), or to a list of them
            (deep supervision); or for images (B, C, H, W), and then nothing below has a D. It may be wrapped by
            DistributedDataParallel or torch.compile. What the learner adds is put on its device.
        mask: what to hide; None trains on whole views alone, the baseline.
        adapter: where the mask enters; by default the voxels of a volume with `in_channels` channels.
        total_steps: optimizer steps of the whole training; the momentum's and the ramp-up's length.
        momentum: the teacher's.
        beta: weight of the consistency term, at least 0. The paper's is 0.5.
        ramp_up: fraction of the training, 0 to 1, over which beta rises from near zero along
            `exp(-5 (1 - t)^2)` (Tarvainen and Valpola, 2017). The paper has none.
        masked_loss: whether the student also segments the masked view (MSL in Table 7).
        consistency_kind: equation 2 (`paper`), the official code's variant (`reference`) or `none` (CL in Table 7).
        target: what the masked view must agree with: the EMA `teacher`'s answer on the whole view, or the
            `student`'s own, detached (Table 9, no teacher).
        teacher_every: optimizer steps between two updates of the teacher. The paper's is 1.
        buffers: how the teacher follows buffers, see `EMATeacher`.
        supervised: the supervised loss of logits (B, K, ...) and labels (B, 1, ...); equation 3 by default.
        in_channels: the image's channels, for the default adapter.
        fill: what fills the hidden tubes of labelled crops: the learnable `token` (equation 1), or the
            `labelled` crop before it in the batch, with its labels: one that is seen as it is, where there are enough;
            a batch of one is then seen as it is.
        share: of a batch's crops, those that get the masked view, above 0 to 1; the last ones. The paper's is 1.
        clean: whether `all` crops are seen as they are, or only the `rest` that get no masked view, which spares their
            cost. The paper's is `all`.
        unlabelled: how scans without labels join, where `backward` is given some.
        expected: (K,), the share of each class (or region) among the voxels of a labelled scan, see `Found`.
        read_label: what a host's label says, (finest label, K) to `Target`, where scans without labels join; by default
            the label is (B, 1, H, W, D), integers 0 to K-1.
        regions: whether the outputs are overlapping regions, each with a sigmoid, as `read_label` gives them.

    Raises:
        InputError: if a value is outside its range, no loss uses the mask, or settings contradict one another.

    Example:
        >>> network = nn.Conv3d(1, 3, kernel_size=3, padding=1)
        >>> learner = MedContext(network, mask=TubeMask(patch_size=4), total_steps=10)
        >>> optimizer = torch.optim.AdamW(learner.trainable_parameters(), lr=1e-3)
        >>> image, label = torch.randn(2, 1, 8, 8, 4), torch.randint(0, 3, (2, 1, 8, 8, 4))
        >>> losses = learner.backward(image, label)
        >>> optimizer.step(); optimizer.zero_grad()
        >>> learner.update_teacher()
        >>> bool(losses.loss > 0), learner.step
        (True, 1)
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        total_steps: int,
        mask: CubeMask | None = TubeMask(),  # noqa: B008 (frozen)
        adapter: Adapter | None = None,
        momentum: Momentum = Momentum(),  # noqa: B008 (frozen)
        beta: float = 0.5,
        ramp_up: float = 0.0,
        masked_loss: bool = True,
        consistency_kind: Literal["paper", "reference", "none"] = "paper",
        target: Literal["teacher", "student"] = "teacher",
        teacher_every: int = 1,
        buffers: Literal["copy", "average"] = "copy",
        supervised: nn.Module | None = None,
        in_channels: int = 1,
        fill: Literal["token", "labelled"] = "token",
        share: float = 1.0,
        clean: Literal["all", "rest"] = "all",
        unlabelled: Unlabelled = Unlabelled(view="none"),  # noqa: B008 (frozen)
        expected: Tensor | None = None,
        read_label: Callable[[Tensor, int], Target] | None = None,
        regions: bool = False,
    ) -> None:
        super().__init__()
        if beta < 0:
            raise InputError(f"beta must be at least 0, got {beta}.")
        if not 0 <= ramp_up <= 1:
            raise InputError(f"ramp_up is a fraction of the training, 0 to 1; got {ramp_up}.")
        if total_steps < 1 or teacher_every < 1:
            raise InputError(f"total_steps and teacher_every must be at least 1, got {total_steps}, {teacher_every}.")
        if mask is not None and not masked_loss and consistency_kind == "none":
            raise InputError("A mask without masked_loss and without consistency has no effect; use mask=None.")
        if not 0 < share <= 1:
            raise InputError(f"share is a fraction of the batch, above 0 to 1; got {share}.")
        if clean == "rest" and target == "student" and mask is not None:
            raise InputError("With clean 'rest' the student does not see the masked crops whole; use target 'teacher'.")
        if fill == "labelled" and not isinstance(adapter, VoxelAdapter | None) and unlabelled.view != "masked":
            raise InputError(
                f"With fill 'labelled' voxels fill what is hidden, and {type(adapter).__name__} would hide nothing; "
                "use fill 'token', or leave the adapter out."
            )
        self.network = network
        self.teacher = EMATeacher(network, buffers)
        self.mask = mask
        self.adapter = None if mask is None else adapter or VoxelAdapter(in_channels)
        self.supervised = DeepSupervision(supervised or DiceCE())
        self.regions = regions or self.membership is not None
        self.read_label = read_label or self._read_label
        self.targeted = DeepSupervision(TargetDiceCE(self.regions))
        self.total_steps = total_steps
        self.momentum = momentum
        self.beta = beta
        self.ramp_up = ramp_up
        self.masked_loss = masked_loss
        self.consistency_kind = consistency_kind
        self.target = target
        self.teacher_every = teacher_every
        self.fill = fill
        self.share = share
        self.clean = clean
        self.unlabelled = unlabelled
        self.found = Found(expected, background=not self.regions)
        self.observing = True  # whether a step notes `trust`, for curves
        self.trust: Trust | None = None  # of the last such step with unlabelled scans
        self.keeping = False  # whether `outputs` are kept, for metrics of the training
        self.outputs: Any = None  # of the last step's crops that were seen as they are; None where none was
        self.step = 0
        if (first := next(network.parameters(), None)) is not None:
            for own in (self.adapter, self.supervised, self.targeted):
                if own is not None:
                    own.to(first.device)

    @property
    def membership(self) -> Tensor | None:
        """(R, K) booleans, which class belongs to which region, where our own loss segments regions."""
        return getattr(self.supervised.loss, "membership", None)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The student's parameters and the embedding `xi`, never the teacher's."""
        yield from self.network.parameters()
        if self.adapter is not None:
            yield from self.adapter.parameters()

    def is_trained_by(self, *optimizers: torch.optim.Optimizer) -> bool:
        """Whether optimizers have all of the trainable parameters, between them."""
        held = {id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]}
        return all(id(each) in held for each in self.trainable_parameters() if each.requires_grad)

    def seconds(self, batch: int) -> int:
        """How many of a batch of labelled crops, the last ones, get the masked view."""
        return some(batch, self.share)

    def partners(self, batch: int) -> int:
        """How many unlabelled crops belong beside a batch of so many labelled ones."""
        return some(batch, self.unlabelled.share)

    def joined(self) -> bool:
        """Whether scans without labels take part in this step: not before the teacher is worth asking."""
        return self.unlabelled.view != "none" and self.step + 1 >= self.unlabelled.first_step(self.total_steps)

    def draw(self, image: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """Draw what to hide of images (B, C, H, W, D): (B, 1, h, w, d) booleans on their device, or None."""
        if self.mask is None:
            return None
        return self.mask.sample(tuple(image.shape[2:]), len(image), generator).to(image.device)

    def draw_filled(self, scans: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """Draw what to hide of unlabelled scans (M, C, H, W, D): (M, 1, h, w, d) booleans, or None.

        In filled views True is where the labelled crop shows. If they go one way, the half of the samples, at random,
        are the reverse: there the tubes are the unlabelled scan's, in a labelled crop.
        """
        hidden = self.draw(scans, generator)
        if hidden is None or self.unlabelled.view != "filled" or self.unlabelled.both:
            return hidden
        reverse = torch.rand(len(scans), generator=generator) < 0.5
        return hidden ^ reverse.view(-1, *(1,) * (hidden.dim() - 1)).to(hidden.device)

    def forward(
        self,
        image: Tensor,
        label: Label,
        hidden: Tensor | None = None,
        *,
        unlabelled: Tensor | None = None,
        varied: Tensor | None = None,
    ) -> Losses:
        """All terms, differentiable as a whole; the arguments are those of `backward`."""
        return Losses.sum([view() for view in self._views(image, label, hidden, unlabelled, varied)])

    def backward(
        self,
        image: Tensor,
        label: Label,
        hidden: Tensor | None = None,
        *,
        unlabelled: Tensor | None = None,
        varied: Tensor | None = None,
        backward: Callable[[Tensor], Any] = Tensor.backward,
        no_sync: Callable[[], AbstractContextManager] | None = None,
    ) -> Losses:
        """Accumulate the gradient of all terms, one view after the other, in the memory of one.

        Args:
            image: (B, C, H, W, D).
            label: (B, 1, H, W, D), integers 0 to K-1. A list goes to the supervised loss as it is, beside all outputs;
                the first of it must be such a label where scans without labels join.
            hidden: what to hide of the crops that get a second view, see `draw` and `draw_filled`; drawn anew if not
                given.
            unlabelled: (M, C, H, W, D), crops of scans without labels, as the teacher sees them; M at most B where
                they are filled. Not used before their start, see `Unlabelled.start`.
            varied: the same crops as the student sees them, with stronger changes of intensity; by default alike.
            backward: how to backpropagate a term: `lambda loss: scaler.scale(loss).backward()` with a GradScaler,
                `lambda loss: (loss / n).backward()` to accumulate over n batches.
            no_sync: under data parallelism, the context in which gradients are not yet exchanged; that of a
                network wrapped by DistributedDataParallel is found by itself.

        Returns:
            The terms, detached.
        """
        no_sync = no_sync or getattr(self.network, "no_sync", None) or nullcontext
        views = self._views(image, label, hidden, unlabelled, varied)
        done = []
        for number, view in enumerate(views, start=1):
            with no_sync() if number < len(views) else nullcontext():
                terms = view()
                backward(terms.loss)
                done.append(terms.detach())
                del terms
        if self.adapter is not None:  # it lives outside the wrapped network
            average_gradient(self.adapter.embedding, self.network)
        return Losses.sum(done)

    def update_teacher(self) -> None:
        """Move the teacher towards the student; call it after every optimizer step."""
        if (self.step + 1) % self.teacher_every == 0:
            self.teacher.update(self.network, self.momentum.at(self.step, self.total_steps))
        self.step += 1

    def restart_teacher(self) -> None:
        """Let the teacher be a copy of the student again, as after other weights were loaded into that."""
        self.teacher.update(self.network, momentum=0.0)

    def current_beta(self) -> float:
        """Beta at this step, after its ramp-up."""
        return self.beta * risen(self.step, self.ramp_up * self.total_steps)

    def current_weight(self) -> float:
        """The weight of the teacher's voxels at this step, after their start and ramp-up."""
        rule = self.unlabelled
        return rule.weight * risen(self.step - rule.start * self.total_steps, rule.ramp_up * self.total_steps)

    def _views(
        self, image: Tensor, label: Label, hidden: Tensor | None, unlabelled: Tensor | None, varied: Tensor | None
    ) -> list[Callable[[], Losses]]:
        """A step's views, each to be computed when the graph of the one before is gone."""
        if label is None:
            raise InputError("The batch has no label: give (B, 1, H, W, D), integers 0 to K-1.")
        image, unlabelled, varied = (plain(each) for each in (image, unlabelled, varied))
        label = plain(label) if isinstance(label, Tensor) else [plain(each) for each in label]
        self.outputs = None
        if unlabelled is not None and self.unlabelled.view == "none":
            raise InputError("This learner has no use for unlabelled scans; construct it with unlabelled=Unlabelled().")
        if unlabelled is not None and self.mask is None and self.unlabelled.view != "whole":
            raise InputError(
                f"The unlabelled view '{self.unlabelled.view}' needs a mask; give one, or use view 'whole'."
            )
        if unlabelled is not None:
            self._check_scans(image, unlabelled)
        if unlabelled is not None and self.joined():
            return self._unlabelled_views(image, label, hidden, unlabelled, unlabelled if varied is None else varied)
        lonely = self.fill == "labelled" and len(image) == 1
        if unlabelled is not None or self.mask is None or lonely:
            return [lambda: self._with_token(self._whole(image, label))]
        number = self.seconds(len(image))
        seen = clean_crops(len(image), number, self.clean, self.share)
        kept: list[Tensor] = []  # the student's answer on the whole view, where that is the target
        masked = functools.partial(self._masked, image, label, number, hidden, kept)
        if seen + number == len(image):  # one pass, in the memory of one view: many small ones are slower
            return [lambda: masked(seen)]
        views = [lambda: self._whole(image[:seen], crops(label, slice(seen)), kept)] if seen else []
        return [*views, lambda: masked(0)]

    def _check_scans(self, image: Tensor, scans: Tensor) -> None:
        """Refuse crops of which no view can be made, from the first step on, not only where they join."""
        if self.mask is not None and self.unlabelled.view != "whole":
            self.mask.checked(tuple(scans.shape[2:]))
        if self.unlabelled.view != "filled":
            return
        if scans.shape[1:] != image.shape[1:]:
            raise InputError(
                f"Filled views need crops of one size: the labelled are {tuple(image.shape[1:])}, the unlabelled "
                f"{tuple(scans.shape[1:])}."
            )
        if len(scans) > len(image):
            raise InputError(
                f"Filled views need a labelled crop for each unlabelled one: got {len(scans)} beside {len(image)}."
            )

    def _whole(self, image: Tensor, label: Label, kept: list[Tensor] | None = None) -> Losses:
        """The supervised term of crops as they are."""
        outputs = self.network(image)
        whole = self.supervised(outputs, label)
        self._keep(outputs)
        if kept is not None and self.target == "student" and self.consistency_kind != "none":
            kept.append(first_head(outputs, image).detach())
        return Losses.of(whole, whole=whole)

    def _masked(
        self, image: Tensor, label: Label, number: int, hidden: Tensor | None, kept: list[Tensor], seen: int
    ) -> Losses:
        """The supervised term and the consistency term of the masked view of a batch's last `number` crops.

        The first `seen` crops, which are none or all others, are seen as they are in the same pass.
        """
        assert self.adapter is not None
        first, target = len(image) - number, None
        hidden = self.draw(image[first:]) if hidden is None else hidden
        assert hidden is not None
        if self.consistency_kind != "none":
            back = reach(len(image), number) if self.fill == "labelled" else 0
            asked = max(0, first - back)  # also what fills the first crop's tubes
            target = kept.pop()[asked:] if kept else first_head(self.teacher(image[asked:]), image)
        if self.fill == "labelled":
            mask = expand(hidden, tuple(image.shape[2:]))
            shown, own = before(image, mask), labels_before(label, mask)
            target = None if target is None else before(target, mask)
            outputs = self.network(torch.cat([image[:seen], shown]))
        else:
            own = crops(label, slice(first, None))
            hidden = torch.cat([hidden.new_zeros(seen, *hidden.shape[1:]), hidden])
            outputs = self.adapter.masked(self.network, image[first - seen :], hidden)
        clean, outputs = parted(outputs, seen)
        agreement = masked = whole = torch.zeros((), device=image.device)
        # The consistency first: the backward pass runs in the opposite order, and so has freed what the supervised
        # loss keeps before the gradient of the consistency takes its place.
        if target is not None:
            agreement = consistency(first_head(outputs, image), target, self.consistency_kind)  # type: ignore[arg-type]
        if self.masked_loss:
            masked = self.supervised(outputs, own)
        if seen:
            whole = self.supervised(clean, crops(label, slice(seen)))
            self._keep(clean)
        loss = whole + masked + self.current_beta() * agreement
        losses = Losses.of(loss, whole=whole, masked=masked, consistency=agreement)
        return self._with_token(losses) if self.fill == "labelled" else losses

    def _unlabelled_views(
        self, image: Tensor, label: Label, hidden: Tensor | None, scans: Tensor, varied: Tensor
    ) -> list[Callable[[], Losses]]:
        """Labelled crops as they are, then the views of the scans without labels."""
        filled, number = self.unlabelled.view == "filled", len(scans)
        hidden = self.draw_filled(scans) if hidden is None else hidden
        seen = clean_crops(len(image), number, self.unlabelled.clean if filled else "all", self.unlabelled.share)
        answer = functools.cache(lambda: self._answer(scans, finest(label)))  # when the first view's graph is gone
        whole = [lambda: self._whole(image[:seen], crops(label, slice(seen)))] if seen else []
        if not filled:
            return [*whole, lambda: self._alone(varied, hidden, *answer())]
        assert hidden is not None
        masks = [hidden, ~hidden] if self.unlabelled.both else [hidden]
        if seen + number * len(masks) == len(image):  # one pass, as above
            return [lambda: self._filled(image, label, varied, hidden, answer)]
        last = slice(len(image) - number, None)
        partners = functools.partial(self._filled, image[last], crops(label, last), varied)
        return whole + [functools.partial(partners, mask, answer) for mask in masks]

    def _read_label(self, label: Tensor, classes: int) -> Target:
        return label_target(label, classes, self.membership)

    def _answer(self, scans: Tensor, label: Tensor) -> tuple[Target, Tensor | None]:
        """The target that the teacher's answer on whole scans (M, C, H, W, D) makes; its logits where these count."""
        rule = self.unlabelled
        logits = first_head(self.teacher(scans), scans)
        target = teacher_target(logits, threshold=rule.threshold, soft=rule.target == "soft", regions=self.regions)
        said = teacher_target(logits, threshold=0.0, regions=self.regions) if rule.target == "soft" else target
        said = said._replace(weight=torch.ones_like(said.weight))  # also where it is not sure
        labels = self.read_label(label, logits.shape[1])
        known = self.found.update(average(shares_of(said), self.network), average(shares_of(labels), self.network))
        target = target.kept_open(known) if rule.keep_open else target
        return target, logits if rule.target == "consistency" else None

    def _filled(
        self, image: Tensor, label: Label, scans: Tensor, hidden: Tensor, answer: Callable[[], tuple[Target, Any]]
    ) -> Losses:
        """Labelled crops where the mask says so, unlabelled ones elsewhere, and their targets likewise.

        The first crops, where there are more than scans, have no partner and are seen as they are in the same pass.
        """
        target, _ = answer()
        seen = len(image) - len(scans)
        mask = expand(hidden, tuple(scans.shape[2:]))
        outputs = self.network(torch.cat([image[:seen], torch.where(mask, image[seen:], scans)]))
        clean, outputs = parted(outputs, seen)
        self._observe(outputs, target, ~mask)
        weighted = target._replace(weight=target.weight * self.current_weight())
        labelled = self.read_label(finest(label)[seen:], target.share.shape[1])
        loss = self.targeted(outputs, weighted.filled(mask, labelled))
        whole = self.supervised(clean, crops(label, slice(seen))) if seen else torch.zeros_like(loss)
        if seen:
            self._keep(clean)
        return self._with_token(Losses.of(whole + loss, whole=whole, unlabelled=loss))

    def _alone(self, scans: Tensor, hidden: Tensor | None, target: Target, logits: Tensor | None) -> Losses:
        """Unlabelled crops, masked or whole, against the teacher's answer."""
        if self.unlabelled.view == "masked":
            assert self.adapter is not None
            assert hidden is not None
            outputs = self.adapter.masked(self.network, scans, hidden)
        else:
            outputs = self.network(scans)
        if logits is None:
            loss = self.targeted(outputs, target)
        else:
            loss = consistency(first_head(outputs, scans), logits)
            target = target._replace(weight=torch.ones_like(target.weight))
        self._observe(outputs, target, torch.ones_like(target.weight[:, :1], dtype=torch.bool))
        return self._with_token(Losses.of(self.current_weight() * loss, unlabelled=loss))

    def _keep(self, outputs: Any) -> None:
        """Remember a network's outputs, detached, if they are wanted."""
        if self.keeping:
            self.outputs = outputs.detach() if isinstance(outputs, Tensor) else [each.detach() for each in outputs]

    def _with_token(self, losses: Losses) -> Losses:
        """The same, with a gradient of 0 for an embedding that the view does not show: data parallelism awaits one."""
        if self.adapter is None:
            return losses
        return losses._replace(loss=losses.loss + 0 * self.adapter.embedding.sum())

    @torch.no_grad()
    def _observe(self, outputs: Any, target: Target, theirs: Tensor) -> None:
        """Note how sure the teacher is, and whether the student agrees, on the scan's voxels (M, 1, H, W, D)."""
        if not self.observing:
            return
        logits = first_head(outputs, target.share)
        self.trust = Trust.of(logits, target, theirs, self.regions, self.found.known())

    def get_extra_state(self) -> dict[str, Any]:
        return {"step": self.step, "found": self.found.state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.found.restore(state.get("found", {"updates": 0}))  # older checkpoints lack it
