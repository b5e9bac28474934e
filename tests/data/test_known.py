"""What is stated of the official data sets elsewhere, for people or as data, agrees with the registry."""

import pytest

from medcontext.configuration import PRESETS
from medcontext.data.known import KNOWN, SPLITS
from medcontext.data.regions import read_regions
from medcontext.data.split_files import PACKAGED, find_split
from medcontext.files import read_json
from medcontext.settings import Settings, TrainingSettings

PRESETS_OF_DATA = [
    path.stem for path in sorted((PRESETS / "run").glob("*.yaml")) if path.stem.partition("_")[0] in KNOWN
]


def test_each_has_its_packaged_split() -> None:
    assert {path.stem for path in PACKAGED.glob("*.json")} == set(SPLITS)
    assert {name for name in SPLITS if SPLITS[name] == name} == set(KNOWN)
    assert all(f"`{name}`" in (TrainingSettings.__doc__ or "") for name in SPLITS)


@pytest.mark.parametrize("name", KNOWN)
def test_the_packaged_splits_have_the_stated_sizes(name: str) -> None:
    content = read_json(find_split(name))
    if "seeded" in content:
        sizes = content["seeded"]["train"], content["seeded"]["test"]
    else:
        sizes = len(content["train"]), len(content["test"])
    assert sizes == (KNOWN[name].training, KNOWN[name].test)


def test_another_split_is_of_the_same_cases() -> None:
    own, other = (read_json(find_split(name)) for name in ("btcv", "btcv_24_6"))
    assert sorted(own["train"] + own["test"]) == sorted(other["train"] + other["test"])
    assert (len(other["train"]), len(other["test"])) == (24, 6)
    assert other["test"] == [f"img{number:04d}" for number in range(35, 41)]


@pytest.mark.parametrize("name", KNOWN)
def test_regions_and_what_is_scored_are_of_the_labels(name: str) -> None:
    known = KNOWN[name]
    values = sorted(known.labels.values())
    assert values[0] == known.labels["background"] == 0
    assert read_regions(known.regions, values, name) == known.regions
    assert set(known.scored) <= set(known.regions or known.labels) - {"background"}


@pytest.mark.parametrize("preset", PRESETS_OF_DATA)
def test_presets_state_the_same_split_and_regions(preset: str) -> None:
    settings, dataset = Settings.preset(preset), preset.partition("_")[0]
    assert settings.split == (preset.removesuffix("_unetr") if preset.startswith("btcv_24_6") else dataset)
    assert list(settings.regions.items()) == [(name, [*own]) for name, own in KNOWN[dataset].regions.items()]
