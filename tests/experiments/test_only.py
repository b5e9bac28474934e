import pytest

from medcontext.errors import InputError
from medcontext.experiments.only import Selection, choose
from medcontext.experiments.tables import get_grid, row_label


def select(table: str, **filters: str) -> Selection:
    return choose([get_grid(table)], [0, 1], filters)


def rows(selection: Selection) -> list[str]:
    return list(dict.fromkeys(row_label(entry.row) for entry in selection.entries[0]))


@pytest.mark.parametrize("text", ["unetr,swin_unetr", "unetr, swin_unetr", " Swin_UNETR ,unetr,"])
def test_values_are_separated_by_commas_with_or_without_spaces(text: str) -> None:
    found = select("table9", model=text, student_teacher="yes")
    assert rows(found) == ["UNETR, teacher", "Swin UNETR, teacher"]
    assert found.name == "model=unetr,swin_unetr-student_teacher=true"


@pytest.mark.parametrize(
    ("table", "filters", "expected"),
    [
        ("table2", {"medcontext": "No", "model": "unetr"}, ["UNETR"]),
        ("table2", {"medcontext": "1", "model": "unetr"}, ["UNETR + MedContext"]),
        ("table8", {"mask_ratio": "0.30,.5"}, ["mask ratio 0.3", "mask ratio 0.5"]),
        ("table7", {"msl": "on", "cl": "off"}, ["MSL"]),
        ("table6", {"pretrained": "false"}, ["PCRLv2 + MedContext"]),
        ("table6", {"pretrained": "yes"}, ["PCRLv2, pretrained"]),
        ("table5", {"method": "MAE,baseline"}, ["Baseline", "MAE"]),
        ("table5", {"pretrained": "yes"}, ["SimCLR", "MAE", "SimMIM"]),
    ],
)
def test_numbers_and_booleans_are_understood(table: str, filters: dict[str, str], expected: list[str]) -> None:
    assert rows(select(table, **filters)) == expected


def test_seeds_are_chosen_and_not_named_with_the_rest() -> None:
    found = select("table2", seed="1")
    assert (found.seeds, found.name) == ([1], "")
    assert select("table2").seeds == [0, 1]


@pytest.mark.parametrize(
    ("table", "filters", "message"),
    [
        ("table1", {"model": "unetr,swin_unter"}, "Unknown value of --only model 'swin_unter'; did you mean 'swin_un"),
        ("table1", {"model": "pcrlv2"}, "Known: nnformer, swin_unetr, unetr"),
        ("table1", {"medcontext": "both"}, "Known: false, true"),
        ("table8", {"mask_ratio": "0.35"}, "Known: 0.3, 0.4, 0.5"),
        ("table1", {"seed": "7"}, "Unknown value of --only seed '7'. Known: 0, 1"),
        ("table1", {"model": ","}, "Unknown value of --only model"),
        ("table1", {"modl": "unetr"}, "Unknown key of --only 'modl'; did you mean 'model'"),
        ("table5", {"method": "moco"}, "Unknown value of --only method 'moco'"),
        (
            "table6",
            {"pretrained": "yes", "medcontext": "yes"},
            "Nothing of table6 is left by --only pretrained=yes medcontext=yes.",
        ),
    ],
)
def test_what_no_row_has_is_refused_with_what_they_have(table: str, filters: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select(table, **filters)
