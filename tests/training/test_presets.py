"""Every preset runs, through the real command line, on generated scans laid out as its data set is."""

import re
from pathlib import Path

import pytest
import yaml

from medcontext.cli import main
from medcontext.configuration import PRESETS, parse_settings, read_settings
from medcontext.experiments.smoke import SMALL, SMOKE, split_file, write_data
from medcontext.inference.run import read_run
from medcontext.networks import NETWORKS
from medcontext.training.assemble import make_mask
from medcontext.training.listing import network_lines

NAMES = sorted(path.stem for path in (PRESETS / "run").glob("*.yaml"))
OFFICIAL = [name for name in NAMES if name.partition("_")[0] in ("acdc", "brats17", "brats21", "btcv")]
ANY_DATA = sorted(set(NAMES) - set(OFFICIAL))
SMALL_OF = SMALL | {"dynunet": ["--network_args.filters=[4,8,8,8]"]}


def train(data: Path, output: Path, preset: str, *more: str) -> None:
    """Two steps with a shrunken network; the preset's own settings are left alone otherwise."""
    network = parse_settings(["--preset", preset]).network
    command = ["train", "--data", str(data), "--output", str(output), "--preset", preset, *SMOKE, *SMALL_OF[network]]
    assert main([*command, *more]) == 0


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where generated data sets, each written once, lie."""
    return tmp_path_factory.mktemp("official")


def check_run(folder: Path, preset: str) -> None:
    saved, content = (
        read_settings(folder / "settings.yaml"),
        yaml.safe_load((PRESETS / "run" / f"{preset}.yaml").read_text()),
    )
    assert saved.network == content["network"]
    for group in ("optimizer", "augment"):
        for key, value in (content.get(group) or {}).items():
            found = getattr(getattr(saved, group), key)
            assert (list(found) if isinstance(found, tuple) else found) == value
    assert (folder / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("preset", OFFICIAL)
def test_presets_of_data_sets_train_on_data_laid_out_so(official: Path, tmp_path: Path, preset: str) -> None:
    data = official / preset.partition("_")[0]
    write_data(data.name, data)
    train(data, tmp_path / "run", preset, f"--split={split_file(data)}", "--method=paper")
    check_run(tmp_path / "run", preset)
    run = read_run(tmp_path / "run")
    assert tuple(run.regions) == (("WT", "TC", "ET") if preset.startswith("brats") else ())
    assert len(run.split.train) == 6
    assert run.settings.method.name == "paper"


@pytest.mark.parametrize("preset", ANY_DATA)
def test_presets_for_any_data_train(balls: Path, tmp_path: Path, preset: str) -> None:
    train(balls, tmp_path / "run", preset)
    check_run(tmp_path / "run", preset)


@pytest.mark.parametrize("preset", OFFICIAL)
def test_presets_follow_the_paper(preset: str) -> None:
    settings = parse_settings(["--preset", preset])
    dataset, _, network = preset.partition("_")
    assert (settings.split, settings.network) == (dataset, network)
    expected = {
        "btcv_nnformer": (128, 128, 64),
        "acdc_nnformer": (160, 160, 14),
        "brats17_nnformer": (128, 128, 128),
    }
    assert settings.crop_size == expected.get(preset, (96, 96, 96))
    make_mask(settings.method.mask).grid(settings.crop_size)
    for axis in (0, 1, 2):  # `reference` hides tubes along another axis
        other = parse_settings(["--method", "reference", "--preset", preset, f"--method.mask.axis={axis}"])
        make_mask(other.method.mask).grid(settings.crop_size)


def test_a_preset_fits_any_method_and_the_command_line_has_the_last_word() -> None:
    chosen = [parse_settings(["--method", name, "--preset", "acdc_nnformer"]).method for name in ("none", "reference")]
    assert [method.mask.patch_size for method in chosen] == [(16, 16, 14)] * 2
    assert [(method.name, method.mask.ratio, method.masking) for method in chosen] == [
        ("none", 0.4, False),
        ("reference", 0.6, True),
    ]
    asked = parse_settings(["--method.mask.patch_size=[20,20,14]", "--preset", "acdc_nnformer"])
    assert asked.method.mask.patch_size == (20, 20, 14)
    asked = parse_settings(
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


def test_networks_are_listed_with_their_presets() -> None:
    text = "\n".join(network_lines())
    for name in (*NETWORKS, *NAMES):
        assert f" {name} " in f" {text.replace('[bold]', ' ').replace('[/]', ' ')}"
    # nnFormer's code has 150 M for Synapse, and 37 M with half its width; Swin UNETR's publication 61.98 M
    for preset, millions in {"btcv_swin_unetr": 62.2, "btcv_nnformer": 150.1, "acdc_nnformer": 37.2}.items():
        assert re.search(rf"--preset {preset} +{millions} M parameters", text)
