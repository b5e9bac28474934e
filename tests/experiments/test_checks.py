"""What is wrong is found before anything is trained, and nothing is written."""

import json
from pathlib import Path

import pytest

from medcontext.cli import main
from medcontext.experiments.smoke import write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans laid out as the four data sets; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("acdc", "btcv", "brats17"):
        write_data(name, folder / name)
    return folder


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    def run(*arguments: object) -> str:
        monkeypatch.setattr("medcontext.experiments.reproduce.run_cells", lambda *_: pytest.fail("started"))
        output = tmp_path / "out"
        assert main(["reproduce", *map(str, arguments), "--output", str(output)]) == 2
        assert not output.exists()
        return " ".join(capsys.readouterr().err.split())

    return run


def split_file(folder: Path, source: Path, **changes: list[str]) -> Path:
    file = folder / "own.json"
    file.write_text(json.dumps(json.loads((source / "split.json").read_text()) | changes))
    return file


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_split_without_test_cases(data: Path, tmp_path: Path, refuse, dry: tuple[str, ...]) -> None:
    given = f"acdc:split={split_file(tmp_path, data / 'acdc', test=[])}"
    options = ("table4", "--only", "dataset=acdc", "model=unetr", "--data", f"acdc={data / 'acdc'}", *dry)
    message = refuse(*options, "--set", given)
    assert "has no test cases in the split" in message
    assert '--set acdc:split=FILE, with {"train": [...], "validation": [...], "test": [...]}' in message


def test_a_split_without_training_cases_or_with_too_few(data: Path, tmp_path: Path, refuse) -> None:
    options = ("table2", "--only", "model=unetr", "--data", f"acdc={data / 'acdc'}")
    given = f"acdc:split={split_file(tmp_path, data / 'acdc', train=[])}"
    assert "has no training cases" in (message := refuse(*options, "--set", given))
    assert "--set acdc:split=FILE" in message
    given = f"split={split_file(tmp_path, data / 'acdc')}"
    assert "few_shot is 50, but the training part has" in refuse(*options, "--set", given, "--few_shot=50")


def test_the_training_part_alone_of_the_real_data_sets(shared_data: Path, refuse) -> None:
    folders = [f"{name}={shared_data / name.upper()}" for name in ("acdc", "btcv")]
    message = refuse("table4", "--only", "dataset=acdc", "model=unetr", "--data", folders[0], "--steps=1")
    assert "none of the 40 test cases with a label in the split acdc" in message
    message = refuse("table1", "--only", "model=unetr", "--data", folders[1], "--steps=1")
    assert "none of the 12 test cases with a label in the split btcv" in message


def test_other_data_than_the_tables(data: Path, refuse) -> None:
    message = refuse("table3", "--only", "model=unetr", "--data", f"brats21={data / 'btcv'}")
    assert "has 1 channel (CT), brats21 has 4" in message
    given = f"split={data / 'brats17' / 'split.json'}"
    message = refuse("table3", "--only", "model=unetr", "--data", f"brats21={data / 'brats17'}", "--set", given)
    assert "region 'WT' consists of [1, 2, 4]; give some of the label values [1, 2, 3]" in message
    message = refuse("table1", "--only", "model=unetr", "--data", f"btcv={data / 'acdc'}")
    assert "has no spleen, right_kidney" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table2", "--only", "model=unetr", "--set", "network_args.feture_size=4"], "feture_size"),
        (["table6", "--only", "dataset=btcv", "--method", "reference"], "mask.space 'tokens' is there for"),
        (
            ["table2", "--only", "model=unetr", "--set", "crop_size=[96,96,90]"],
            "acdc_unetr-none-seed0: Network",
        ),
        (["table2", "--only", "model=unetr", "--set", "method.mask.patch_size=20"], "must divide the crop"),
        (["table2", "--method", "none"], "hides nothing"),
        (["table2", "--set", "seed=5", "--seeds", "0", "1"], "--seeds is meant for it"),
        (["table2", "--slurm", "partition=gpu"], "is only used with --launcher slurm"),
        (["table2", "--launcher", "slurm", "--slurm", "partition"], "--slurm takes NAME=VALUE"),
        (["table2", "--launcher", "slurm", "--slurm", "timeout_min=1h"], "timeout_min takes a whole number, got '1h'"),
    ],
)
def test_settings_that_cannot_work(arguments: list[str], words: str, refuse) -> None:
    assert words in refuse(*arguments, "--dry-run")
