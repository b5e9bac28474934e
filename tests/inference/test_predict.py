"""Files in, segmentations out: voxel for voxel, in the user's values, whole or not at all."""

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medcontext.cli import main
from medcontext.commands.predict import predict
from medcontext.data.plan import Normalization
from medcontext.errors import InputError
from medcontext.inference import predict as module
from medcontext.run import Run
from tests.data.scans import affine_of, rotation
from tests.inference.runs import level_run, levels_image, make_run, nearest_level, random_run, read, save, save_networks

SPACING = (0.7, 1.5, 5.0)


def all_orientations() -> list[str]:
    """The 48 ways in which a scan's axes can lie."""
    pairs = itertools.permutations(("RL", "AP", "SI"))
    return ["".join(codes) for pair in pairs for codes in itertools.product(*pair)]


def odd_affines() -> dict[str, np.ndarray]:
    oblique = rotation(28, 0) @ rotation(-17, 2) @ affine_of("LSA", SPACING)
    sheared = affine_of("RPI", SPACING)
    sheared[0, 2] += 2.0
    return {"oblique": oblique, "sheared": sheared, "tiny": affine_of("PIR", (1e-3, 1e-3, 1e-3))}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return level_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three cases."""
    for index in range(3):
        save(tmp_path / f"images/case{index}.nii.gz", levels_image((9, 10, 6), index)[0])
    return tmp_path / "images"


BESIDE = ["dataset.json", "labels.ctbl", "labels.txt", "volumes.csv"]


def visible(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_orientation_and_affine_comes_back_voxel_for_voxel(run: Run, tmp_path: Path) -> None:
    affines = {codes: affine_of(codes, SPACING) for codes in all_orientations()} | odd_affines()
    expected = {}
    for index, (name, affine) in enumerate(affines.items()):
        image, expected[name] = levels_image((9, 11, 6), index)
        save(tmp_path / f"images/{name}.nii.gz", image, affine)
    assert len(affines) == 51
    predict([run.folder], tmp_path / "images", tmp_path / "out")
    for name, affine in affines.items():
        found, source = (nib.load(tmp_path / folder / f"{name}.nii.gz") for folder in ("out", "images"))
        np.testing.assert_array_equal(np.asanyarray(found.dataobj), expected[name], err_msg=name)
        np.testing.assert_array_equal(found.affine, source.affine)
        np.testing.assert_allclose(found.affine, affine, rtol=1e-6)
        for key in ("pixdim", "sform_code", "qform_code", "xyzt_units"):
            np.testing.assert_array_equal(found.header[key], source.header[key])


@pytest.mark.parametrize("shape", [(17, 9, 10), (3, 4, 5), (2, 20, 20), (40, 3, 2), (8, 8, 8), (9, 8, 7)])
def test_every_size_comes_back_voxel_for_voxel(shape: tuple[int, int, int], run: Run, tmp_path: Path) -> None:
    image, expected = levels_image(shape)
    path = save(tmp_path / "scan.nii.gz", image, affine_of("PIR", SPACING))
    for output, options in (("a", {}), ("b", {"mirror": True, "overlap": 0.0}), ("c", {"probabilities": True})):
        (found,) = predict([run.folder], path, tmp_path / output, **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(read(found), expected)


@pytest.mark.parametrize("shape", [(9, 8, 7), (8, 9, 8)])
def test_cropping_and_normalisation_keep_every_voxel_in_place(shape: tuple[int, int, int], tmp_path: Path) -> None:
    image, expected = levels_image(shape)
    image += 50
    image[:, :2], image[..., -1] = 0, 0
    expected[:, :2], expected[..., -1] = 0, 0
    scaled = make_run(tmp_path / "run", normalization=Normalization("range", -1000, 1000), crop_foreground=True)
    save_networks(scaled, nearest_level(scaled, [(level + 1050) / 2000 for level in (0, 100, 200, 300)]))
    path = save(tmp_path / "scan.nii.gz", image, affine_of("LSA", SPACING))
    (found,) = predict([scaled.folder], path, tmp_path / "out")
    np.testing.assert_array_equal(read(found), expected)


@pytest.mark.parametrize("codes", ["PIR", "LSA", "RPI", "IAL"])
def test_a_scan_stored_in_another_order_gets_the_same_segmentation(codes: str, tmp_path: Path) -> None:
    """Through everything: cropped, normalised, resampled, and a network that has a left and a right."""
    image, _ = levels_image((14, 11, 7))
    image[:3] = 0
    ras = nib.Nifti1Image(image, rotation(20, 1) @ affine_of("RAS", (1.0, 1.5, 3.0)))
    turned = ras.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
        )
    )
    assert nib.aff2axcodes(turned.affine) == tuple(codes)
    for name, stored in (("ras", ras), ("turned", turned)):
        (tmp_path / "images").mkdir(exist_ok=True)
        nib.save(stored, tmp_path / f"images/{name}.nii.gz")
    networks = random_run(
        tmp_path / "run", normalization=Normalization("zscore"), spacing=(1.2, 1.2, 2.0), crop_foreground=True
    )
    predict([networks.folder], tmp_path / "images", tmp_path / "out", probabilities=True)
    for folder in (tmp_path / "out", tmp_path / "out/probabilities"):
        straight, back = (nib.load(folder / f"{name}.nii.gz") for name in ("ras", "turned"))
        back = nib.as_closest_canonical(back)
        np.testing.assert_allclose(back.affine, straight.affine, atol=1e-5)
        np.testing.assert_allclose(back.get_fdata(), straight.get_fdata(), atol=1e-5)
    assert len(np.unique(straight.get_fdata())) > 2


def test_resampling_does_not_shift(tmp_path: Path) -> None:
    """A ball in an anisotropic oblique scan, seen by the network at 1.5 mm."""
    shape, affine = (40, 44, 14), rotation(15, 0) @ affine_of("PIL", (1.0, 1.0, 3.0))
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) * (1.0, 1.0, 3.0)
    truth = ((grid - (23.0, 18.0, 21.0)) ** 2).sum(-1) < 12**2
    path = save(tmp_path / "scan.nii.gz", np.where(truth, 100, 0).astype(np.float32), affine)
    resampled = level_run(tmp_path / "run", spacing=(1.5, 1.5, 1.5), crop_size=(32, 32, 32), labels={"ball": 7})
    (found,) = predict([resampled.folder], path, tmp_path / "out")
    ball = read(found) == 7
    assert 2 * (ball & truth).sum() / (ball.sum() + truth.sum()) > 0.97
    np.testing.assert_allclose(grid[ball].mean(0), grid[truth].mean(0), atol=0.2)  # mm; half a voxel would be 0.5


def test_probabilities_lie_on_the_files_grid_with_the_classes_last(run: Run, tmp_path: Path) -> None:
    image, expected = levels_image((9, 7, 5))
    path = save(tmp_path / "scan.nii.gz", image, affine_of("SRP", SPACING))
    (label,) = predict([run.folder], path, tmp_path / "out", probabilities=True)
    written = nib.load(tmp_path / "out/probabilities/scan.nii.gz")
    scores = np.asanyarray(written.dataobj)
    assert scores.shape == (9, 7, 5, 4)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(written.affine, nib.load(path).affine)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)
    record = json.loads((tmp_path / "out/dataset.json").read_text())
    assert record["probability_classes"] == ["background", "liver", "kidney", "spleen"]
    assert record["labels"] == {"background": 0, "liver": 200, "kidney": 500, "spleen": 600}
    values = np.array([record["labels"][name] for name in record["probability_classes"]])
    np.testing.assert_array_equal(values[scores.argmax(-1)], expected)
    np.testing.assert_array_equal(read(label), expected)


def test_probabilities_of_a_single_region_have_their_axis_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", labels={"tumour": 1})
    run.facts.regions = {"tumour": (1,)}
    run.write()
    save_networks(run, nearest_level(run))
    path = save(tmp_path / "scan.nii.gz", levels_image((9, 7, 5))[0])
    predict([run.folder], path, tmp_path / "out", probabilities=True)
    assert nib.load(tmp_path / "out/probabilities/scan.nii.gz").shape == (9, 7, 5, 1)


def test_values_with_gaps_come_back_in_a_small_integer_type(run: Run, images: Path, tmp_path: Path) -> None:
    for path in predict([run.folder], images, tmp_path / "out"):
        found = nib.load(path)
        assert found.get_data_dtype() == np.int16
        assert set(np.unique(found.dataobj)) == {0, 200, 500, 600}
    small = level_run(tmp_path / "run", labels={"a": 1, "b": 2, "c": 255})
    assert nib.load(predict([small.folder], images, tmp_path / "small")[0]).get_data_dtype() == np.uint8


def test_several_channels_as_files_and_as_4d(tmp_path: Path) -> None:
    """The class is told by the second channel alone."""
    image, expected = levels_image((9, 8, 7))
    noise = np.random.default_rng(0).normal(0, 1e3, image.shape).astype(np.float32)
    two, one = level_run(tmp_path / "run", channels=("T1", "FLAIR")), level_run(tmp_path / "one")
    save(tmp_path / "files/a_0000.nii.gz", noise)
    save(tmp_path / "files/a_0001.nii.gz", image)
    save(tmp_path / "4d/a.nii.gz", np.stack([noise, image], -1))
    for source in ("files", "4d", "files/a_0000.nii.gz", "4d/a.nii.gz"):
        output = tmp_path / "out" / source.replace("/", "-")
        (found,) = predict([two.folder], tmp_path / source, output)
        assert found.name == "a.nii.gz"
        np.testing.assert_array_equal(read(found), expected)
    with pytest.raises(InputError, match=r"a\.nii\.gz holds 2 channels, but 1 expected: MR"):
        predict([one.folder], tmp_path / "4d", tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_student_or_teacher(tmp_path: Path, images: Path) -> None:
    both = make_run(tmp_path / "run")
    save_networks(both, nearest_level(both), nearest_level(both, (300.0, 200.0, 100.0, 0.0)))
    predict([both.folder], images, tmp_path / "student")
    predict([both.folder], images, tmp_path / "teacher", weights="teacher")
    student, teacher = (read(tmp_path / name / "case0.nii.gz") for name in ("student", "teacher"))
    swapped = {0: 600, 200: 500, 500: 200, 600: 0}
    np.testing.assert_array_equal(teacher, np.vectorize(swapped.get)(student))


def test_the_same_again_is_the_same_to_the_bit(tmp_path: Path, images: Path) -> None:
    network = random_run(tmp_path / "run", normalization=Normalization("zscore"), crop_size=(4, 4, 4))
    for name in ("a", "b"):
        predict([network.folder], images, tmp_path / name, probabilities=True)
    for kind in ("", "probabilities"):
        a, b = (read(tmp_path / name / kind / "case1.nii.gz") for name in ("a", "b"))
        np.testing.assert_array_equal(a, b)


def test_one_bad_image_does_not_lose_the_others(run: Run, images: Path, tmp_path: Path) -> None:
    damaged = images / "case0.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"1 of 3 cases .*case0\.nii\.gz.*truncated.*other 2.*--resume"):
        predict([run.folder], images, tmp_path / "out")
    assert visible(tmp_path / "out") == ["case1.nii.gz", "case2.nii.gz", *BESIDE]
    image, expected = levels_image((9, 10, 6), 0)
    save(damaged, image)
    predict([run.folder], images, tmp_path / "out", resume=True)
    np.testing.assert_array_equal(read(tmp_path / "out/case0.nii.gz"), expected)


def test_where_nothing_could_be_predicted_nothing_is_left(run: Run, images: Path, tmp_path: Path) -> None:
    for path in images.iterdir():
        save(path, levels_image((9, 10, 6))[0][..., 0])
    with pytest.raises(InputError, match=r"3 of 3 cases .*2D image"):
        predict([run.folder], images, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="2D image"):
        predict([run.folder], images, tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()


CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8"
)
NUMPY = "Unable to allocate 750.5 MiB for an array with shape (640, 640, 480) and data type float32"


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (MemoryError(), "memory. Use"),
        (MemoryError(NUMPY), "Unable to allocate 750.5 MiB for an array"),
        (RuntimeError(f"{CPU} bytes. Error code 12 (Cannot allocate memory)"), "you tried to allocate 8 bytes. Use"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU"),
            "CUDA out of memory.",
        ),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
    ],
)
@pytest.mark.parametrize("place", ["read_image", "segment", "write_label"])
def test_lack_of_memory_for_one_case(
    refusal: Exception,
    words: str,
    place: str,
    run: Run,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = itertools.count()
    whole = getattr(module, place)

    def refuse(*arguments):  # type: ignore[no-untyped-def]
        if next(calls) == 1:
            raise refusal
        return whole(*arguments)

    monkeypatch.setattr(module, place, refuse)
    with pytest.raises(InputError, match="case 'case1': not enough memory") as caught:
        predict([run.folder], images, tmp_path / "out")
    assert words in str(caught.value)
    assert "a smaller scan" in str(caught.value)
    assert visible(tmp_path / "out") == ["case0.nii.gz", "case2.nii.gz", *BESIDE]


def test_nested_folders_and_what_is_said_of_them(run: Run, tmp_path: Path, capsys) -> None:
    for index in (7, 8):
        save(tmp_path / f"nested/Pat 0{index}/ct.nii.gz", levels_image((9, 10, 6), index)[0])
        save(tmp_path / f"nested/Pat 0{index}/seg.nii.gz", levels_image((9, 10, 6), index)[1].astype(np.int16))
    output = tmp_path / "nested/out"
    assert main(["predict", f"--run={run.folder}", f"--input={tmp_path / 'nested'}", f"--output={output}"]) == 0
    assert sorted(path.name for path in output.glob("*.nii.gz")) == ["Pat 07.nii.gz", "Pat 08.nii.gz"]
    np.testing.assert_array_equal(read(output / "Pat 08.nii.gz"), levels_image((9, 10, 6), 8)[1])
    assert "called like labels" in capsys.readouterr().out
    (output / "Pat 08.nii.gz").unlink()
    predict(run, tmp_path / "nested", output, resume=True)
    assert len(list(output.glob("*.nii.gz"))) == 2, "no prediction is taken for a scan"
    files = [str(tmp_path / f"nested/Pat 0{index}/ct.nii.gz") for index in (7, 8)]
    assert main(["predict", f"--run={run.folder}", "--input", *files, "--output", str(tmp_path / "two")]) == 0
    record = json.loads((tmp_path / "two/dataset.json").read_text())
    assert record["predicted_by"]["input"] == files
    with pytest.raises(InputError, match="input was "):
        predict(run, files[:1], tmp_path / "two", resume=True)


def test_the_commands_of_the_docs(run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "scores.md").read_text()
    block = text[text.index("## Prediction") :].split("```")[1].removeprefix("sh\n")
    (tmp_path / "RUN").symlink_to(run.folder)
    images.rename(tmp_path / "DATASET")
    for index in (7, 8):
        save(tmp_path / f"nested/Pat 0{index}/ct.nii.gz", levels_image((9, 10, 6), index)[0])
    monkeypatch.chdir(tmp_path)
    names = []
    for index, line in enumerate(block.splitlines()):
        words = shlex.split(line.replace("PREDICTIONS", f"out{index}"), comments=True)
        assert main(words[1:]) == 0
        names.append(sorted(path.name.removesuffix(".nii.gz") for path in Path(f"out{index}").glob("*.nii.gz")))
    both = ["Pat 07", "Pat 08"]
    assert names == [["case0", "case1", "case2"], both, both]


def test_resume_completes_and_keeps_what_is_there(run: Run, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    predict([run.folder], images, output)
    (output / "case1.nii.gz").unlink()
    (output / ".tmp-77-case1.nii.gz").write_bytes(b"half")
    before = (output / "case0.nii.gz").stat()
    assert len(predict([run.folder], images, output, resume=True)) == 3
    assert (output / "case0.nii.gz").stat() == before
    assert visible(output) == ["case0.nii.gz", "case1.nii.gz", "case2.nii.gz", *BESIDE]


def test_resume_adds_the_probabilities_that_were_not_asked_for_before(run: Run, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    predict([run.folder], images, output)
    predict([run.folder], images, output, probabilities=True, resume=True)
    assert len(list((output / "probabilities").iterdir())) == 3
    (output / "probabilities/case2.nii.gz").unlink()
    predict([run.folder], images, output, resume=True)
    assert not (output / "probabilities/case2.nii.gz").exists()


def test_resume_refuses_what_others_wrote(run: Run, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    predict([run.folder], images, output)
    changed = {
        "weights was student, now teacher": {"weights": "teacher"},
        "'mirror': False.*now.*'mirror': True": {"mirror": True},
        "'overlap': 0.5.*now.*'overlap': 0.25": {"overlap": 0.25},
    }
    for message, options in changed.items():
        with pytest.raises(InputError, match=message):
            predict([run.folder], images, output, resume=True, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="input was"):
        predict([run.folder], images / "case0.nii.gz", output, resume=True)
    other = level_run(tmp_path / "run")
    with pytest.raises(InputError, match="networks was"):
        predict([other.folder], images, output, resume=True)
    predict([other.folder], images, tmp_path / "more")
    save_networks(other, nearest_level(other, (1.0, 2.0, 3.0, 4.0)))  # trained on, under the same name
    with pytest.raises(InputError, match="sha256"):
        predict([other.folder], images, tmp_path / "more", resume=True)


def test_resume_takes_no_images_for_predictions(run: Run, images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no dataset\.json of a prediction"):
        predict([run.folder], images, images, resume=True)
    (images / "dataset.json").write_text('{"labels": {"a": 1}}')
    with pytest.raises(InputError, match="does not hold predictions"):
        predict([run.folder], images / "case0.nii.gz", images, resume=True)
    assert len(list(images.iterdir())) == 4


def test_an_output_with_files_or_that_is_one_is_refused(run: Run, images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not empty.*--resume"):
        predict([run.folder], images, images)
    with pytest.raises(InputError, match="is a file"):
        predict([run.folder], images, images / "case0.nii.gz")
    with pytest.raises(InputError, match="Cannot write"):
        predict([run.folder], images, images / "case0.nii.gz" / "out")


def test_a_folder_called_like_a_case_stops_with_one_message(run: Run, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    predict([run.folder], images, output)
    (output / "case1.nii.gz").unlink()
    (output / "case1.nii.gz").mkdir()
    with pytest.raises(InputError, match=r"Cannot write .*case1\.nii\.gz"):
        predict([run.folder], images, output, resume=True)


def test_cases_called_like_our_own_files(run: Run, tmp_path: Path) -> None:
    for name in ("dataset.json", "probabilities", "dataset"):
        save(tmp_path / f"images/{name}.nii.gz", levels_image((4, 5, 6))[0])
    predict([run.folder], tmp_path / "images", tmp_path / "out", probabilities=True)
    found = {"dataset.json.nii.gz", "dataset.nii.gz", "probabilities.nii.gz"}
    assert set(visible(tmp_path / "out")) == found | {f"probabilities/{name}" for name in found} | {*BESIDE}


def test_nothing_is_created_for_a_run_that_cannot_be_used(run: Run, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    empty = make_run(tmp_path / "untrained")
    for arguments, message in (
        (([tmp_path / "nowhere"], images), "is not a folder that"),
        (([empty.folder], images), "Checkpoint not found"),
        (([run.folder], tmp_path / "nowhere"), "not found"),
        (([run.folder], empty.folder), "No NIfTI files"),
    ):
        with pytest.raises(InputError, match=message):
            predict(*arguments, output)
        assert not output.exists()


@pytest.mark.slow
def test_a_killed_prediction_leaves_whole_files_and_goes_on(tmp_path: Path) -> None:
    """A real process, killed without warning while it works."""
    run = random_run(tmp_path / "run", normalization=Normalization("zscore"), crop_size=(16, 16, 16))
    for index in range(20):
        save(tmp_path / f"images/case{index:02d}.nii.gz", levels_image((24, 24, 16), index)[0])
    output = tmp_path / "out"
    arguments = ["--run", str(run.folder), "--input", str(tmp_path / "images"), "--output", str(output)]
    arguments += ["--probabilities", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "medcontext.cli", "predict", *arguments], stderr=subprocess.DEVNULL, env=os.environ
    )
    while len(list(output.glob("case*.nii.gz"))) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = sorted(output.glob("case*.nii.gz"))
    assert 3 <= len(done) < 20
    for path in done:  # whole, and with its probabilities
        assert read(path).shape == (24, 24, 16)
        assert read(output / "probabilities" / path.name).shape == (24, 24, 16, 4)
    times = [path.stat().st_mtime_ns for path in done]
    assert main(["predict", *arguments, "--resume"]) == 0
    assert [path.stat().st_mtime_ns for path in done] == times
    assert len(visible(output)) == 40 + len(BESIDE)
    assert not list(output.rglob(".tmp*"))


def test_the_command_line(run: Run, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = level_run(tmp_path / "run")
    command = ["predict", "--run", str(run.folder), str(other.folder), "--input", str(images)]
    options = ["--mirror", "--overlap", "0.25", "--probabilities", "--weights", "teacher", "--checkpoint", "last"]
    assert main([*command, "--output", str(tmp_path / "[bold]"), *options]) == 0
    assert f"3 cases predicted: {tmp_path / '[bold]'}" in capsys.readouterr().out.replace("\n", "")
    np.testing.assert_array_equal(read(tmp_path / "[bold]/case2.nii.gz"), levels_image((9, 10, 6), 2)[1])
    networks = json.loads((tmp_path / "[bold]/dataset.json").read_text())["predicted_by"]["networks"]
    assert [(network["overlap"], network["mirror"]) for network in networks] == [(0.25, True)] * 2
    assert main([*command, "--output", str(tmp_path / "[bold]")]) == 2
    assert main([*command, "--output", str(tmp_path / "out"), "--overlap", "1"]) == 2
    assert "overlap must be at least 0 and below 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_image_without_orientation_gets_a_segmentation_without(run: Run, tmp_path: Path, capsys) -> None:
    image, expected = levels_image((9, 11, 6), 0)
    bare = nib.Nifti1Image(image, None)
    bare.header["pixdim"][1:4] = 1, 1, 2
    (tmp_path / "images").mkdir()
    nib.save(bare, tmp_path / "images/a.nii.gz")
    predict([run.folder], tmp_path / "images", tmp_path / "out")
    found = nib.load(tmp_path / "out/a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), expected)
    assert (found.header["sform_code"], found.header["qform_code"]) == (0, 0)
    np.testing.assert_array_equal(found.header["pixdim"], nib.load(tmp_path / "images/a.nii.gz").header["pixdim"])
    told = capsys.readouterr().out
    assert "Warning: no orientation in the header" in told
    assert str(tmp_path / "images/a.nii.gz") in told


def test_an_image_in_microns_gets_a_segmentation_in_microns(run: Run, tmp_path: Path, capsys) -> None:
    image, expected = levels_image((9, 11, 6), 0)
    file = nib.Nifti1Image(image, np.diag([700.0, 1500, 5000, 1]))
    file.header.set_xyzt_units("micron")
    (tmp_path / "images").mkdir()
    nib.save(file, tmp_path / "images/a.nii.gz")
    predict([run.folder], tmp_path / "images", tmp_path / "out")
    found = nib.load(tmp_path / "out/a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), expected)
    np.testing.assert_array_equal(found.affine, file.affine)
    assert found.header.get_xyzt_units()[0] == "micron"
    assert "sizes are in microns" in capsys.readouterr().out


def test_files_that_are_not_predicted_are_named(run: Run, images: Path, tmp_path: Path, capsys) -> None:
    (images / "case1.nii.gz").rename(images / "case1.NII.GZ")
    for name in ("d.hdr", "d.img", "e.mha", "notes.txt"):
        (images / name).touch()
    written = predict([run.folder], images, tmp_path / "out")
    assert [path.name for path in written] == [f"case{index}.nii.gz" for index in range(3)]
    told = capsys.readouterr().out
    assert f"Warning: passed over in {images}, where .nii.gz and .nii files are read: d.hdr, d.img, e.mha." in told
