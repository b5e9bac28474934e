"""Scans without labels in nnU-Net's folders: prepared, refused, paired, learnt from."""

import copy
import json
import multiprocessing
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.method import Unlabelled
from medcontext.method_settings import MethodSettings
from tests.integrations.nnunet.conftest import LABELLED, SHAPE, UNLABELLED, World, plan_alike, write_case, write_raw
from tests.integrations.nnunet.test_trainer import batches, first_step_like_stocks, ours, started

pytestmark = pytest.mark.slow
BALLS = "Dataset001_Balls"
AT_ONCE = MethodSettings(unlabelled=Unlabelled(start=0.0, threshold=0.0))


def preprocess(dataset: str, *options: str) -> int:
    return main(["nnunet", "preprocess", dataset, "-np", "1", *options])


@pytest.fixture(scope="module")
def ready(world: World) -> Path:
    """The folder of prepared scans; what stock nnU-Net has beside it is as it was."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    started(world, nnUNetTrainer)  # writes the splits
    prepared = world.prepared / BALLS
    before = {file: (prepared / file).read_bytes() for file in ("splits_final.json", "dataset_fingerprint.json")}
    assert preprocess("1", "-c", "3d_fullres", "2d") == 0
    assert before == {file: (prepared / file).read_bytes() for file in before}
    return prepared / "nnUNetPlans_3d_fullres_unlabelled"


def test_scans_are_prepared_as_the_labelled_ones(ready: Path, world: World) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    cases = infer_dataset_class(str(ready))(str(ready))
    assert cases.identifiers == [f"scan_{number}" for number in range(UNLABELLED)]
    image, mask, _, properties = cases.load_case("scan_0")
    assert tuple(image.shape[1:]) == SHAPE[::-1]
    assert abs(float(np.mean(image[:]))) < 0.1, "normalised"
    assert properties["class_locations"] == {}
    assert set(np.unique(mask[:])) <= {-1, 0}
    labelled = ready.with_name("nnUNetPlans_3d_fullres")
    assert len(infer_dataset_class(str(labelled)).get_identifiers(str(labelled))) == LABELLED
    looks = json.loads((ready.parent / f"{ready.name}.json").read_text())
    assert [look["problem"] for look in looks["scans"].values()] == [""] * UNLABELLED
    assert len(looks["labelled"]) == LABELLED


def test_what_is_ready_stays_and_what_changed_is_done_again(
    ready: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {file.name: file.stat().st_mtime_ns for file in ready.iterdir()}
    file = world.raw / BALLS / "imagesUn" / "scan_1_0000.nii.gz"
    kept = file.read_bytes()
    write_case(np.random.default_rng(9), file.parent, "scan_1")
    assert preprocess("1", "-c", "3d_fullres") == 0
    changed = {name for name, time in times.items() if (ready / name).stat().st_mtime_ns != time}
    assert changed == {"scan_1.b2nd", "scan_1_seg.b2nd", "scan_1.pkl"}
    file.write_bytes(kept)
    assert preprocess("1", "-c", "3d_fullres", "2d") == 0
    assert "3 scans ready" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_they_join_the_training(ready: Path, world: World, configuration: str) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    trainer = started(world, ours(nnUNetTrainer, method=AT_ONCE), configuration)
    patch = trainer.configuration_manager.patch_size
    (batch,) = batches(trainer, 1)
    assert batch["unlabelled"].shape == (1, 1, *patch)
    assert "unlabelled" not in next(trainer.dataloader_val)
    step = trainer.train_step(batch)
    assert float(step["unlabelled"]) > 0
    assert float(step["loss"]) == float(step["whole"]) > 0, "half of the batch is seen as it is"
    trainer.learner.observing = True
    assert trainer.learner.joined()
    log = next(Path(trainer.output_folder).glob("training_log_*.txt")).read_text()
    assert "MedContext: 3 scans without labels" in log


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_a_scan_is_mirrored_as_the_crop_that_it_is_filled_with(
    ready: Path, world: World, configuration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    seen: list[list[int]] = []
    flip = MirrorTransform._apply_to_image

    def noted(self: Any, image: torch.Tensor, **drawn: Any) -> torch.Tensor:
        seen.append(drawn["axes"])
        return flip(self, image, **drawn)

    loader = started(world, ours(nnUNetTrainer, method=AT_ONCE), configuration).dataloader_train.data_loader
    monkeypatch.setattr(MirrorTransform, "_apply_to_image", noted)
    monkeypatch.setattr(np.random, "permutation", np.arange)  # the partners are the last
    size, number = loader.batch_size, loader.partners
    for _ in range(8):
        next(loader)
    pairs = [(seen[start : start + size][-number:], seen[start + size : start + size + number])
             for start in range(0, len(seen), size + number)]  # fmt: skip
    assert len(seen) == 8 * (size + number)
    assert all(labelled == scans for labelled, scans in pairs)
    assert len({tuple(axes) for labelled, _ in pairs for axes in labelled}) > 1, "else this test shows nothing"


def test_they_join_when_the_teacher_is_worth_asking(ready: Path, world: World) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    trainer = started(world, ours(nnUNetTrainer, method=MethodSettings(unlabelled=Unlabelled(start=0.5, threshold=0))))
    terms = [trainer.train_step(batch) for batch in batches(trainer, 3)]  # of four
    assert [float(step["unlabelled"]) > 0 for step in terms] == [False, False, True]
    assert [float(step["masked"]) for step in terms] == [0, 0, 0], "a plain start"
    debug = json.loads(Path(trainer.output_folder, "debug.json").read_text())  # from which the report tells it
    assert "from 0, weight 0.5, from 50% of the steps on" in debug["told"]


def test_a_training_with_them_goes_on_where_it_was_killed(ready: Path, world: World) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    kind = ours(nnUNetTrainer, method=AT_ONCE)
    first = started(world, kind)
    for batch in batches(first, 2):
        first.train_step(batch)
    first.on_train_epoch_end([first.train_step(batches(first, 1)[0])])
    first.logger.log("mean_fg_dice", 0.5, 0)
    file = f"{first.output_folder}/checkpoint_latest.pth"
    first.save_checkpoint(file)
    second = world.trainer(kind)
    second.load_checkpoint(file)
    second.on_train_start()
    assert second.learner.found.updates == first.learner.found.updates == 3
    (batch,) = batches(second, 1)
    steps = []
    for trainer in (first, second):
        torch.manual_seed(1)
        trainer.network.train()
        steps.append({name: float(value) for name, value in trainer.train_step(copy.deepcopy(batch)).items()})
    assert steps[0] == steps[1]


def test_a_crop_lies_where_its_partner_does(ready: Path, world: World) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    trainer = started(world, ours(nnUNetTrainer, method=AT_ONCE))
    loader = trainer.dataloader_train.data_loader
    loader.transforms = loader.scan_transforms = lambda **both: both
    seen = []

    def noted(place: np.ndarray) -> torch.Tensor:
        seen.append(place)
        return original(place)

    original, loader.scan_at = loader.scan_at, noted
    places = []
    for _ in range(20):
        loader.generate_train_batch()
        places.append([tuple(place) for place in loader.places])
    assert all(tuple(place) in of_batch for place, of_batch in zip(seen, places, strict=True))
    partners = [of_batch.index(tuple(place)) for place, of_batch in zip(seen, places, strict=True)]
    assert set(partners) == {0, 1}, "crops with foreground, which nnU-Net puts last, and others have partners"
    name = loader.scans.identifiers
    loader.scans.identifiers = name[:1]
    loader.patch_size, loader.need_to_pad = loader.final_patch_size, np.zeros(3, int)  # else with room for rotations
    image = torch.from_numpy(loader.scans.load_case(name[0])[0][:])
    crop = original(np.array([0.5, 0.5, 0.5]))
    low = [size // 2 - extent // 2 for size, extent in zip(image.shape[1:], crop.shape[1:], strict=True)]
    inside = tuple(slice(start, start + extent) for start, extent in zip(low, crop.shape[1:], strict=True))
    assert torch.equal(crop, image[(slice(None), *inside)])


def test_scans_that_are_not_prepared_are_not_passed_over(ready: Path, world: World) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    extra = world.raw / BALLS / "imagesUn" / "new_0000.nii.gz"
    shutil.copy(world.raw / BALLS / "imagesUn" / "scan_0_0000.nii.gz", extra)
    try:
        with pytest.raises(InputError, match=r"1 scan of .*imagesUn must be prepared.*: new\. Run medcontext nnunet"):
            started(world, ours(nnUNetTrainer, method=AT_ONCE))
        labels_alone = started(world, ours(nnUNetTrainer))
        log = next(Path(labels_alone.output_folder).glob("training_log_*.txt")).read_text()
        assert "scans without labels are there, and not used" in log
    finally:
        extra.unlink()


def test_scans_that_were_taken_away_are_not_used(ready: Path, world: World, tmp_path: Path) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    file = world.raw / BALLS / "imagesUn" / "scan_2_0000.nii.gz"
    shutil.move(file, tmp_path)
    with pytest.raises(InputError, match=r"no longer in .*imagesUn: scan_2\."):
        started(world, ours(nnUNetTrainer, method=AT_ONCE))
    shutil.move(tmp_path / file.name, file)


def test_changed_scans_and_new_labels_are_noticed(ready: Path, world: World) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    file = world.raw / BALLS / "imagesUn" / "scan_2_0000.nii.gz"
    kept = file.read_bytes()
    file.write_bytes(kept + b"more")
    with pytest.raises(InputError, match=r"must be prepared, being new or changed: scan_2\."):
        started(world, ours(nnUNetTrainer, method=AT_ONCE))
    file.write_bytes(kept)
    assert preprocess("1", "-c", "3d_fullres", "2d") == 0
    labelled = ready.with_name("nnUNetPlans_3d_fullres")
    added = [shutil.copy(labelled / f"ball_0{end}", labelled / f"late{end}") for end in (".b2nd", "_seg.b2nd", ".pkl")]
    with pytest.raises(InputError, match=r"not compared with 1 labelled case, .*: late\. Run"):
        started(world, ours(nnUNetTrainer, method=AT_ONCE))
    for path in added:
        Path(path).unlink()


def test_test_scans_may_be_used_and_it_is_said(ready: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    same = trouble(world, "mine_0000.nii.gz", (world.raw / BALLS / "imagesTs" / "test_0_0000.nii.gz").read_bytes())
    assert preprocess("1") == 0
    assert "The images of 1 scan of imagesTs take part in the training: mine." in " ".join(
        capsys.readouterr().out.split()
    )
    same.unlink()
    assert preprocess("1") == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # a crop under way at nnU-Net's end
def test_crops_come_from_other_processes_too(ready: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from medcontext.integrations.nnunet.crops import PairedDataLoader

    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    starting = multiprocessing.get_context("spawn")  # a fork hangs now and then beside the threads of other tests
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", starting)
    trainer = started(world, ours(nnUNetTrainer, method=AT_ONCE))
    assert isinstance(pickle.loads(pickle.dumps(trainer.dataloader_train.generator)), PairedDataLoader)
    assert next(trainer.dataloader_train)["unlabelled"].shape == (1, 1, 16, 24, 20)
    trainer.on_train_end()


def test_another_plan_is_noticed(ready: Path, world: World) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    file = ready.parent / f"{ready.name}.json"
    kept = file.read_text()
    file.write_text(json.dumps(json.loads(kept) | {"plan": "older"}))
    with pytest.raises(InputError, match="prepared by another plan"):
        started(world, ours(nnUNetTrainer, method=AT_ONCE))
    file.write_text(kept)


def trouble(world: World, name: str, content: bytes) -> Path:
    file = world.raw / BALLS / "imagesUn" / name
    file.write_bytes(content)
    return file


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_used_is_named(ready: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    broken = trouble(world, "broken_0000.nii.gz", b"no image")
    labelled = world.raw / BALLS / "imagesTr" / "ball_3_0000.nii.gz"
    twin = trouble(world, "twin_0000.nii.gz", labelled.read_bytes())
    assert preprocess("1", "-c", "3d_fullres") == 2
    message = said(capsys)
    assert "2 of 5 scans cannot be used" in message
    assert "broken: " in message
    assert "twin has the image of the labelled case ball_3" in message
    assert preprocess("1", "-c", "3d_fullres", "--skip_damaged") == 0
    assert "Left out" in capsys.readouterr().out
    assert not list(ready.glob("twin*"))
    broken.unlink()
    twin.unlink()
    assert preprocess("1", "-c", "3d_fullres") == 0
    capsys.readouterr()
    whole = (world.raw / BALLS / "imagesUn" / "scan_0_0000.nii.gz").read_bytes()
    cut = trouble(world, "cut_0000.nii.gz", whole[: len(whole) // 2])
    assert preprocess("1", "-c", "3d_fullres") == 2
    assert "cut: Compressed file ended before" in said(capsys)
    cut.unlink()
    hidden = trouble(world, "._scan_0_0000.nii.gz", b"as a Mac leaves it")
    assert preprocess("1", "-c", "3d_fullres") == 0
    hidden.unlink()
    other = trouble(world, "other_0000.nii", b"")
    assert preprocess("1") == 2
    assert re.search(r"other_0000.nii does not end in .nii.gz", said(capsys))
    other.unlink()
    second = trouble(world, "scan_0_0001.nii.gz", labelled.read_bytes())
    assert preprocess("1") == 2
    assert re.search(r"scan_0 in \S* has the channels 0000, 0001", said(capsys))
    second.rename(unnamed := second.with_name("scan.nii.gz"))
    assert preprocess("1") == 2
    assert "scan.nii.gz has no channel in its name" in said(capsys)
    unnamed.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preprocess", "7"], "Could not find a dataset with the ID 7"),
        (["preprocess", "Dataset001_Bals"], "did you mean 'Dataset001_Balls'?"),
        (["preprocess"], "Which data set?"),
        (["preprocess", "-d", "1", "-np", "0"], "-np takes a number of processes"),
        (["train", "7", "3d_fullres", "0"], "Could not find a dataset with the ID 7"),
        (["preprocess", "1", "-c", "3d_fulres"], "did you mean '3d_fullres'?"),
        (["preprocess", "1", "-p", "nnUNetResEncUNetMPlans"], "nnUNetResEncUNetMPlans.json is missing"),
        (["preprocess", "1", "--epochs", "3"], "has no option --epochs"),
    ],
)
def test_wrong_words(world: World, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nnunet", *arguments]) == 2
    assert message in said(capsys)


def test_nothing_to_prepare_or_nothing_left(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    name = "Dataset008_Empty"
    write_raw(world.raw / name, {"background": 0, "left": 1, "right": 2})
    for file in (world.raw / name / "imagesUn").iterdir():
        file.write_bytes(b"no image")
    plan_alike(world, name)
    for options in ([], ["--skip_damaged"]):
        assert preprocess("8", *options) == 2
    message = said(capsys)
    assert "3 of 3 scans cannot be used" in message
    assert "No scan of" in message
    assert "is left" in message
    shutil.rmtree(world.prepared / name / "nnUNetPlans_3d_fullres")
    assert preprocess("8") == 2
    assert "prepare the labelled cases first, with nnUNetv2_preprocess -c 3d_fullres" in said(capsys)
    shutil.rmtree(world.raw / name / "imagesUn")
    (world.prepared / name / "nnUNetPlans_3d_fullres").mkdir()
    assert preprocess("8") == 2
    assert re.search(r"No scans in \S*imagesUn: put them there", said(capsys))


LABELS: dict[str, dict[str, Any]] = {
    "regions": {"background": 0, "both": [1, 2], "right": 2},
    "ignore": {"background": 0, "left": 1, "right": 2, "ignore": 3},
    "regions_and_ignore": {"background": 0, "both": [1, 2], "right": 2, "ignore": 3},
}


@pytest.mark.parametrize(("number", "kind"), list(enumerate(LABELS, start=2)))
def test_regions_and_the_ignore_label(world: World, number: int, kind: str) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    name = f"Dataset00{number}_{kind}"
    write_raw(world.raw / name, LABELS[kind], ignored="ignore" in kind)
    plan_alike(world, name)
    assert preprocess(str(number), "-c", "3d_fullres") == 0
    assert float(first_step_like_stocks(world, nnUNetTrainer, dataset=name)["masked"]) > 0
    trainer = started(world, ours(nnUNetTrainer, method=AT_ONCE), dataset=name)
    for batch in batches(trainer, 2):
        trainer.learner.observing = True
        step = trainer.train_step(batch)
        assert np.isfinite(step["unlabelled"])
        assert float(step["unlabelled"]) > 0
        assert trainer.learner.regions == ("regions" in kind)
