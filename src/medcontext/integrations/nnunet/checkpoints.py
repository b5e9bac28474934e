"""nnU-Net's checkpoints with the teacher in them, and the teacher's alone: stock nnU-Net predicts with both."""

import os
from pathlib import Path
from typing import Any

import torch

from medcontext.errors import InputError
from medcontext.method import MedContext

STATE = "medcontext"  # what stock nnU-Net passes over


def unfinished(file: Path) -> Path:
    """Where a checkpoint is written before it takes its place."""
    return file.with_name(f"{file.name}.part")


def add_teacher(file: Path, learner: MedContext, trainer: str) -> None:
    """Put the teacher into an unfinished checkpoint that nnU-Net has written, and that in its place.

    Args:
        file: the checkpoint's place. Beside the best and the final one the teacher gets one of its own; not beside
            `checkpoint_latest.pth`, the only one that nnU-Net deletes.
        learner: whose teacher it is.
        trainer: the class that nnU-Net is to make the network by.
    """
    checkpoint = torch.load(unfinished(file), map_location="cpu", weights_only=False)
    checkpoint["trainer_name"] = trainer
    state = {
        "teacher": learner.teacher.network.state_dict(),
        "adapter": None if learner.adapter is None else learner.adapter.state_dict(),
        "progress": learner.get_extra_state(),
    }
    _write({**checkpoint, STATE: state}, file)
    if file.name != "checkpoint_latest.pth":
        del checkpoint["optimizer_state"]
        _write({**checkpoint, "network_weights": state["teacher"]}, file.with_name(f"{file.stem}_teacher.pth"))


def read_teacher(file: Any, learner: MedContext) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A checkpoint as a trainer with an embedding reads it, and what it has of the teacher: of a stock one, nothing.

    Args:
        file: its path, or what it holds.
        learner: that is to go on.

    Raises:
        InputError: if it is of a training with another method.
    """
    checkpoint = file if isinstance(file, dict) else torch.load(file, map_location="cpu", weights_only=False)
    state = checkpoint.pop(STATE, None)
    if state is not None and (state["adapter"] is None) != (learner.adapter is None):
        raise InputError(
            f"The checkpoint {file} is of a training with another method: go on with the trainer that wrote it, or "
            "start anew."
        )
    if state is None and learner.adapter is not None:
        groups = checkpoint["optimizer_state"]["param_groups"]  # which know nothing of the embedding yet
        groups.append({**groups[0], "params": [sum(len(group["params"]) for group in groups)]})
    return checkpoint, state


def restore(learner: MedContext, state: dict[str, Any]) -> None:
    """Let the teacher, the embedding and the step be those of a checkpoint."""
    learner.teacher.network.load_state_dict(state["teacher"])
    if learner.adapter is not None:
        learner.adapter.load_state_dict(state["adapter"])
    learner.set_extra_state(state["progress"])


def known_trainer(trainer: type) -> str:
    """The class by which nnU-Net alone, without this package, makes the same network again."""
    stock = next(base for base in trainer.__mro__ if base.__module__.startswith("nnunetv2."))
    same = trainer.build_network_architecture is stock.build_network_architecture  # type: ignore[attr-defined]
    return (stock if same else trainer).__name__


def _write(checkpoint: dict[str, Any], file: Path) -> None:
    """Whole or not at all."""
    torch.save(checkpoint, unfinished(file))
    os.replace(unfinished(file), file)
