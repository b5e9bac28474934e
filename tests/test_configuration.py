"""Settings from YAML: what a person may write there works, or is refused by one message that names the file."""

from pathlib import Path

import pytest

from medcontext.errors import InputError
from medcontext.settings import Settings


def parsed(tmp_path: Path, text: str, *more: str):  # type: ignore[no-untyped-def]
    file = tmp_path / "mine.yaml"
    file.write_bytes(text.encode("latin-1"))
    return Settings.parse([*more, "--config", str(file)])


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
