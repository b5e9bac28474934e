"""Every preset runs, through the real command line, on generated scans laid out as its data set is."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from medcontext.cli import main
from medcontext.configuration import PRESETS, options_of
from medcontext.data.known import KNOWN, SPLITS
from medcontext.experiments.smoke import SMALL, SMOKE, split_file, write_data
from medcontext.experiments.tables import plain
from medcontext.listing import count_parameters, network_lines, presets
from medcontext.networks import NETWORKS
from medcontext.run import read_run
from medcontext.settings import Settings

NAMES = sorted(path.stem for path in (PRESETS / "run").glob("*.yaml"))
OFFICIAL = [name for name in NAMES if name.partition("_")[0] in KNOWN]
ANY_DATA = sorted(set(NAMES) - set(OFFICIAL))
PARAMETERS = {  # nnFormer's on BTCV are its code's to the last one; Swin UNETR's publication says 61.98 million
    "acdc_nnformer": 37_160_200,
    "acdc_pcrlv2": 19_073_860,
    "acdc_swin_unetr": 62_186_806,
    "acdc_unetr": 101_805_316,
    "brats17_nnformer": 37_600_581,
    "brats21_pcrlv2": 19_076_387,
    "brats21_swin_unetr": 62_191_941,
    "brats21_unetr": 111_245_155,
    "btcv_24_6_unetr": 92_802_478,
    "btcv_nnformer": 150_054_210,
    "btcv_pcrlv2": 19_074_510,
    "btcv_swin_unetr": 62_187_296,
    "btcv_unetr": 101_805_646,
    "dynunet": 16_544_038,
    "resenc": 62_809_928,
    "swin_unetr": 62_186_708,
    "unetr": 92_802_274,
}
TO_THE_END = ("acdc_unetr", "brats17_nnformer", "brats21_pcrlv2", "btcv_swin_unetr")  # each network, each data set
AS_ON_A_GPU = "--precision=bf16"
SMALL_OF = SMALL | {
    "dynunet": {"network_args.filters": [4, 8, 8, 8]},
    "resenc": {"network_args.features_per_stage": [4, 8, 8]},
}


def train(data: Path, output: Path, preset: str, *more: str) -> None:
    """Two steps with a shrunken network; the preset's own settings are left alone otherwise."""
    network = Settings.parse(["--preset", preset]).network
    small = options_of({**SMOKE, **SMALL_OF[network]})
    command = ["train", "--data", str(data), "--output", str(output), "--preset", preset, *small]
    assert main([*command, *more]) == 0


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where generated data sets, each written once, lie."""
    return tmp_path_factory.mktemp("official")


def check_run(folder: Path, preset: str) -> None:
    saved, content = (
        Settings.read(folder / "settings.yaml"),
        yaml.safe_load((PRESETS / "run" / f"{preset}.yaml").read_text()),
    )
    assert saved.network == content["network"]
    for group in ("optimizer", "augment"):
        for key, value in (content.get(group) or {}).items():
            found = getattr(getattr(saved, group), key)
            assert (list(found) if isinstance(found, tuple) else found) == value
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def train_official(official: Path, output: Path, preset: str, *more: str) -> Path:
    """Train on data laid out as the preset's data set is; returns the data's folder."""
    data = official / preset.partition("_")[0]
    write_data(data.name, data)
    train(data, output, preset, f"--split={split_file(data)}", "--method=paper", *more)
    check_run(output, preset)
    run = read_run(output)
    assert tuple(run.regions) == (("WT", "TC", "ET") if preset.startswith("brats") else ())
    assert len(run.split.train) == 6
    assert run.settings.method.name == "paper"
    return data


def slow(presets: Iterable[str], network: str) -> list[Any]:
    """Those of a network that takes longer run among the slow tests."""
    marks = [pytest.mark.slow]
    return [pytest.param(preset, marks=marks if preset.endswith(network) else []) for preset in presets]


@pytest.mark.slow
@pytest.mark.parametrize("preset", slow(sorted(set(OFFICIAL) - set(TO_THE_END)), "swin_unetr"))
def test_presets_of_data_sets_train_on_data_laid_out_so(official: Path, tmp_path: Path, preset: str) -> None:
    precision = [] if preset.endswith("swin_unetr") else [AS_ON_A_GPU]  # which takes it a minute on a CPU
    train_official(official, tmp_path / "run", preset, *precision)


@pytest.mark.parametrize("preset", slow(TO_THE_END, "swin_unetr"))
def test_every_network_and_every_layout_is_trained_predicted_and_evaluated(
    official: Path, tmp_path: Path, preset: str
) -> None:
    run, predictions, scores = (tmp_path / name for name in ("run", "predictions", "scores"))
    data = train_official(official, run, preset)
    assert main(["predict", "--run", str(run), "--input", str(data), "--output", str(predictions)]) == 0
    assert main(["evaluate", "--predictions", str(predictions), "--labels", str(data), "--output", str(scores)]) == 0
    tested = json.loads((run / "split.json").read_text())["test"]
    assert sorted(path.name for path in predictions.glob("*.nii.gz")) == [f"{name}.nii.gz" for name in sorted(tested)]
    summary = json.loads((scores / "summary.json").read_text())
    assert [case["name"] for case in summary["cases"]] == sorted(tested)
    structures = {plain(name) for name in summary["structures"]}
    assert structures >= set(map(plain, KNOWN[data.name].scored))
    assert len(structures) == {"btcv": 13}.get(data.name, 3)


@pytest.mark.parametrize("preset", ANY_DATA)
def test_presets_for_any_data_train(balls: Path, tmp_path: Path, preset: str) -> None:
    train(balls, tmp_path / "run", preset)
    check_run(tmp_path / "run", preset)


@pytest.mark.parametrize("preset", OFFICIAL)
def test_presets_follow_the_paper(preset: str) -> None:
    settings = Settings.parse(["--preset", preset])
    assert settings.split in SPLITS
    assert f"{settings.split}_{settings.network}" == preset
    expected = {
        "btcv_nnformer": (128, 128, 64),
        "acdc_nnformer": (160, 160, 14),
        "brats17_nnformer": (128, 128, 128),
    }
    assert settings.crop_size == expected.get(preset, (96, 96, 96))
    settings.method.mask.made().grid(settings.crop_size)
    for axis in (0, 1, 2):  # `reference` hides tubes along another axis
        other = Settings.parse(["--method", "reference", "--preset", preset, f"--method.mask.axis={axis}"])
        other.method.mask.made().grid(settings.crop_size)


def test_a_preset_fits_any_method_and_the_command_line_has_the_last_word() -> None:
    chosen = [Settings.parse(["--method", name, "--preset", "acdc_nnformer"]).method for name in ("none", "reference")]
    assert [method.mask.patch_size for method in chosen] == [(16, 16, 14)] * 2
    assert [(method.name, method.mask.ratio, method.masking) for method in chosen] == [
        ("none", 0.4, False),
        ("reference", 0.6, True),
    ]
    asked = Settings.parse(["--method.mask.patch_size=[20,20,14]", "--preset", "acdc_nnformer"])
    assert asked.method.mask.patch_size == (20, 20, 14)
    asked = Settings.parse(
        ["--preset=acdc_nnformer", "--method=paper", "--method.mask.patch_size=[20,20,14]", "--steps=3"]
    )
    assert (asked.method.mask.patch_size, asked.method.name, asked.steps) == ((20, 20, 14), "paper", 3)


def test_acdc_presets_run_without_its_spacing(official: Path, tmp_path: Path) -> None:
    data = official / "acdc"
    write_data("acdc", data)
    train(
        data,
        tmp_path / "run",
        "acdc_unetr",
        f"--split={split_file(data)}",
        "--prepare.spacing",
        "original",
        "--steps=1",
    )
    assert read_run(tmp_path / "run").plan.spacing is None


@pytest.mark.slow
def test_networks_are_listed_with_their_presets_and_sizes() -> None:
    found = {entry.name: entry.parameters for entry in presets()}
    assert found == PARAMETERS
    lines = list(network_lines())
    text = "\n".join(lines)
    for name in (*NETWORKS, *NAMES):
        assert f" {name} " in f" {text.replace('[bold]', ' ').replace('[/]', ' ')}"
    assert any("--preset btcv_mae" in line and "pretrain`: mae, crop 96 x 96 x 96" in line for line in lines)
    assert any("--preset acdc_nnformer" in line and " 37.2 M parameters" in line for line in lines)


def test_nnformer_has_its_publications_supervision_and_size() -> None:
    """Deep supervision on Synapse alone; 37,606,726 parameters with the four classes of its tumour publication."""
    settings = {name: Settings.parse(["--preset", f"{name}_nnformer"]) for name in ("acdc", "brats17", "btcv")}
    supervised = {name: found.network_args["deep_supervision"] for name, found in settings.items()}
    assert supervised == {"acdc": False, "brats17": False, "btcv": True}
    assert count_parameters(replace(settings["brats17"], regions={})) == 37_606_726
