"""Settings from YAML: what a person may write there works, or is refused by one message that names the file."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from medcontext.configuration import PRESETS
from medcontext.errors import InputError
from medcontext.method_settings import MethodSettings, TeacherSettings
from medcontext.pretrain_settings import PretrainSettings
from medcontext.settings import Settings

METHODS = sorted(path.stem for path in (PRESETS / "method").glob("*.yaml"))


def option(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "mine.yaml"
    file.write_bytes(text.encode("latin-1"))
    return ["--config", str(file)]


def parsed(tmp_path: Path, text: str, *more: str):  # type: ignore[no-untyped-def]
    return Settings.parse([*more, *option(tmp_path, text)])


@pytest.mark.parametrize("method", ["none", "'none'", "{name: none}"])
def test_the_baseline_by_name(tmp_path: Path, method: str) -> None:
    """A mapping with nothing but the baseline's name must not train MedContext under it."""
    plain = Settings.parse(["--method", "none"])
    assert parsed(tmp_path, f"method: {method}\n").method == plain.method
    assert parsed(tmp_path, f"steps: 7\nmethod: {method}\nregions: {{WT: [1, 2]}}\n").steps == 7
    assert not plain.method.masking


def test_a_method_by_name_with_changes(tmp_path: Path) -> None:
    method = parsed(tmp_path, "method:\n  name: paper\n  mask:\n    ratio: 0.6\n").method
    assert (method.name, method.mask.ratio, method.teacher.momentum_end) == ("paper", 0.6, 1.0)
    own = parsed(tmp_path, "method:\n  name: mine\n  beta: 0.25\n").method
    assert (own.name, own.beta, own.masking) == ("mine", 0.25, True)


def test_a_preset_by_name_comes_before_the_rest_of_its_file(tmp_path: Path) -> None:
    settings = parsed(tmp_path, "steps: 7\npreset: acdc_nnformer\nmethod: none\n")
    assert (settings.network, settings.steps, settings.method.name) == ("nnformer", 7, "none")
    assert settings == Settings.parse(["--preset", "acdc_nnformer", "--method", "none", "--steps", "7"])


def test_a_runs_own_settings_give_the_same_again(tmp_path: Path) -> None:
    settings = Settings.parse(["--preset", "btcv_unetr", "--method", "none", "--steps", "600"])
    settings.write(tmp_path / "settings.yaml")
    assert Settings.parse(["--config", str(tmp_path / "settings.yaml")]) == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method: null", r"mine\.yaml: method is None; give a name\. YAML reads null.*write `method: none`"),
        ("method: ~", "method is None"),
        ("method:", "method is None"),
        ("method: no", "method is False"),
        ("method: 3", "method is 3"),
        ("method: papr", "Unknown method 'papr'; did you mean 'paper'"),
        ("preset: null", r"mine\.yaml: preset is None"),
        ("preset: unettr", "Unknown preset 'unettr'; did you mean 'unetr'"),
        ("- steps", r"mine\.yaml holds no settings, but \['steps'\]"),
        ("", r"mine\.yaml holds no settings, but None"),
        ("a: [", r"mine\.yaml is not valid YAML: .*line 1"),
        ("split: m\xfcnster.json", r"mine\.yaml is not valid YAML: 'utf-8' codec"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parsed(tmp_path, text)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_by_name_replaces_what_was_set_of_the_method_before(tmp_path: Path, name: str) -> None:
    """Else a baseline after another method's settings would keep that one's teacher."""
    whole = Settings.preset(method=name)
    Settings.preset(method="reference", **{"method.share": 0.5}).write(tmp_path / "settings.yaml")
    assert Settings.parse(["--config", str(tmp_path / "settings.yaml"), "--method", name]) == whole
    assert Settings.parse(["--method.mask.ratio=0.7", "--method", "reference", "--method", name]) == whole
    fitted = Settings.preset("acdc_nnformer", method=name)  # whose mask does not have the default's patches
    assert parsed(tmp_path, f"preset: acdc_nnformer\nmethod: {name}\n") == fitted
    assert Settings.parse([*option(tmp_path, "preset: acdc_nnformer\n"), "--method", name]) == fitted
    (tmp_path / "own.yaml").write_text("beta: 0.25\n")  # a file of one's own changes what it says, and no more
    mine = Settings.parse(["--method", name, "--method", str(tmp_path / "own.yaml")]).method
    assert mine == replace(whole.method, beta=0.25)


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_file_says_only_what_differs_from_the_defaults(name: str) -> None:
    def repeated(content: dict[str, Any], defaults: Any) -> Iterator[str]:
        for key, value in content.items():
            default = getattr(defaults, key)
            if isinstance(value, dict):
                yield from (f"{key}.{inner}" for inner in repeated(value, default))
            elif value == default and key != "name":
                yield key

    content = yaml.safe_load((PRESETS / "method" / f"{name}.yaml").read_text())
    assert content["name"] == name
    assert list(repeated(content, MethodSettings())) == []


def test_the_papers_method_has_the_papers_values() -> None:
    """Whatever the defaults are."""
    paper = Settings.preset(method="paper").method
    assert (paper.masking, paper.masked_loss, paper.consistency, paper.target) == (True, True, "paper", "teacher")
    assert (paper.beta, paper.ramp_up, paper.fill, paper.share, paper.clean) == (0.5, 0, "token", 1, "all")
    assert (paper.mask.shape, paper.mask.patch_size, paper.mask.ratio, paper.mask.axis) == ("tube", 16, 0.4, 2)
    assert (paper.mask.draw, paper.mask.per_sample, paper.mask.space, paper.mask.initial) == (
        "exact",
        True,
        "voxels",
        "zeros",
    )
    assert paper.teacher == TeacherSettings(0.996, 1.0, False, "cosine", "step", 1, "copy")
    assert paper.unlabelled.view == "none"


def test_settings_are_there_without_torch() -> None:
    code = "import sys; from medcontext.settings import Settings; Settings(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_objective_brings_what_belongs_to_it_and_only_one_does(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("objective: simmim\nsteps: 7\n")
    alone = PretrainSettings.parse(["--config", str(file)])
    assert (alone.objective, alone.optimizer) == ("simmim", PretrainSettings.preset(objective="simmim").optimizer)
    for options in (
        ["--config", str(file), "--objective", "mae"],
        ["--objective=mae", "--config", str(file), "--objective=mae"],
    ):
        both = PretrainSettings.parse(options)
        assert (both.objective, both.steps) == ("mae", 7)
        assert both.optimizer == PretrainSettings.preset(objective="mae").optimizer
    other = PretrainSettings.parse(["--preset", "btcv_mae", "--objective", "pcrlv2", "--network", "pcrlv2"])
    assert other.optimizer == PretrainSettings.preset(objective="pcrlv2").optimizer
    own = PretrainSettings.parse(["--optimizer.lr", "0.5", "--objective", "pcrlv2"])
    assert (own.optimizer.lr, own.optimizer.name) == (0.5, "sgd")
