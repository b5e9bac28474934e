"""Reading runs and checkpoints: what was written comes back, and nothing else gets in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from medcontext.data.plan import Normalization
from medcontext.data.splits import Split
from medcontext.errors import InputError
from medcontext.run import Run, load_network, make_network, read_checkpoint, read_run, write_checkpoint
from tests.inference.runs import LABELS, level_run, make_run, nearest_level, save_networks

FACTS = {
    "channels": ("T1", "FLAIR"),
    "spacing": (1.0, 1.5, 3.0),
    "normalization": Normalization("ct", -100.0, 200.0, 12.5, 80.0),
    "crop_foreground": True,
    "split": Split(("a", "b"), ("c",), ()),
}


def test_a_run_comes_back_as_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", **FACTS)
    assert read_run(tmp_path / "run") == run


@pytest.mark.parametrize("name", ["settings.yaml", "plan.json", "split.json", "run.json"])
def test_a_folder_without_one_of_the_files_is_no_run(name: str, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(InputError, match=rf"run is not a folder that `medcontext train` wrote: there is no {name}"):
        read_run(tmp_path / "run")


def test_a_missing_folder_and_a_file_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(InputError, match=f"{name} is not .* no such folder"):
            read_run(tmp_path / name)


@pytest.mark.parametrize("name", ["plan.json", "split.json", "run.json"])
@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"train": 3, "crop_size": 1, "version": 1}', '{"a'])
def test_a_damaged_file_is_refused_by_its_name(name: str, content: str, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(InputError, match=name):
        read_run(tmp_path / "run")


def test_settings_that_are_unknown_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    with (tmp_path / "run/settings.yaml").open("a") as file:
        file.write("stepz: 3\n")
    with pytest.raises(InputError, match=r"settings\.yaml.*stepz"):
        read_run(tmp_path / "run")


def test_student_and_teacher_are_told_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    student, teacher = nearest_level(run), nearest_level(run, (9.0, 8.0, 7.0, 6.0))
    save_networks(run, student, teacher)
    for weights, expected in (("student", student), ("teacher", teacher)):
        found = load_network(run, "last", weights)  # type: ignore[arg-type]
        assert not found.training
        for ours, theirs in zip(found.state_dict().values(), expected.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)


def test_best_and_last_and_files(tmp_path: Path) -> None:
    run = level_run(tmp_path / "run")
    save_networks(run, nearest_level(run, (4.0, 3.0, 2.0, 1.0)), name="best")
    shutil.copy(run.checkpoint("last"), tmp_path / "other.ckpt")
    last, best, file = (load_network(run, name) for name in ("last", "best", str(tmp_path / "other.ckpt")))
    assert not torch.equal(last.bias, best.bias)  # type: ignore[arg-type]
    assert torch.equal(last.bias, file.bias)  # type: ignore[arg-type]


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"Checkpoint not found: .*best\.ckpt.*--checkpoint"):
        load_network(run, "best")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"labels": {"liver": 1}}, "out_channels is 2, the run has 4"),
        ({"labels": {"tumour": 500, "liver": 200, "spleen": 600}}, "labels is .*tumour"),
        ({"channels": ("T1", "T2")}, "in_channels is 2, the run has 1"),
        ({"crop_size": (8, 8, 16)}, r"crop_size is \[8, 8, 16\]"),
        ({"network_args": {"kernel_size": 3, "padding": 1}}, "args is"),
        ({"spacing": (2.0, 2.0, 2.0)}, "plan is"),  # it would see images prepared otherwise than in its training
    ],
)
def test_a_checkpoint_of_another_network(facts: dict, message: str, tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other", **facts)
    path = save_networks(other, make_network(other))
    with pytest.raises(InputError, match=f"another network.*{message}"):
        load_network(run, str(path))


def test_a_checkpoint_of_a_run_that_is_alike_fits(tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "run"), level_run(tmp_path / "other")
    assert load_network(run, str(other.checkpoint("last")))


def test_a_network_whose_code_has_changed(tmp_path: Path) -> None:
    run = level_run(tmp_path / "run")
    values = torch.load(run.checkpoint("last"), weights_only=True)
    del values["learner"]["network.bias"]
    write_checkpoint(run.checkpoint("last"), values)
    with pytest.raises(InputError, match=r"last\.ckpt does not fit the network 'torch\.nn\.Conv3d'"):
        load_network(run)


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"not a checkpoint at all", json.dumps({"a": 1}).encode(), b"PK\x03\x04" + bytes(99)]
)
def test_a_file_that_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "some.ckpt").write_bytes(content)
    with pytest.raises(InputError, match=r"some\.ckpt"):
        read_checkpoint(tmp_path / "some.ckpt", run)


@pytest.mark.parametrize("values", [[1, 2], {"state_dict": {}}, torch.ones(3), {"network": {}}])
def test_a_checkpoint_of_another_program(values: object, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    torch.save(values, tmp_path / "some.ckpt")
    with pytest.raises(InputError, match=r"some\.ckpt is not a checkpoint that `medcontext train` wrote"):
        read_checkpoint(tmp_path / "some.ckpt", run)


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "owned",))

    run = make_run(tmp_path / "run")
    torch.save({"network": Evil(), "learner": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"evil\.ckpt"):
        read_checkpoint(tmp_path / "evil.ckpt", run)
    assert not (tmp_path / "owned").exists()


def test_truncated_and_altered_checkpoints_are_refused_or_harmless(tmp_path: Path) -> None:
    """Cut anywhere it is refused; a flipped bit is refused, or lies where it changes no value."""
    run = level_run(tmp_path / "run")
    whole, path = run.checkpoint("last").read_bytes(), tmp_path / "damaged.ckpt"
    weights = load_network(run).state_dict()
    rng = np.random.default_rng(0)
    for length in [1, len(whole) // 2, len(whole) - 1, *rng.integers(1, len(whole), 20)]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"damaged\.ckpt"):
            load_network(run, str(path))
    refused = 0
    for position in rng.integers(0, len(whole), 150):
        altered = bytearray(whole)
        altered[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(altered)
        try:
            found = load_network(run, str(path)).state_dict()
        except InputError:
            refused += 1
        else:
            assert all(torch.equal(found[key], weights[key]) for key in weights), position
    assert refused > 20


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    run = level_run(tmp_path / "run")
    before = run.checkpoint("last").read_bytes()
    with pytest.raises(InputError, match=r"Cannot write .*last\.ckpt"):
        write_checkpoint(run.checkpoint("last"), {"network": _Broken()})
    assert run.checkpoint("last").read_bytes() == before
    assert [path.name for path in run.checkpoint("last").parent.iterdir()] == ["last.ckpt"]


class _Broken:
    def __getstate__(self) -> None:
        raise OSError(28, "No space left on device")


def test_classes_are_the_sorted_values(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert run.plan.values == (0, 200, 500, 600)
    assert list(LABELS.values()) == [500, 200, 600]
    assert isinstance(run, Run)


def test_a_disk_full_at_the_first_checkpoint_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(values: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 14016 vs 13920")  # torch's words

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"new\.ckpt: the disk is full .*Free some space.*nothing half written"):
        write_checkpoint(tmp_path / "new.ckpt", {})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old.ckpt").write_bytes(b"whole")
    with pytest.raises(InputError, match="the checkpoint before is intact"):
        write_checkpoint(tmp_path / "old.ckpt", {})
    assert (tmp_path / "old.ckpt").read_bytes() == b"whole"
