from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medcontext.comparison.read import read_study
from medcontext.reporting.figures import distributions, scatter, training_figures
from medcontext.reporting.trainings import Training
from tests.reporting.evaluations import make_training


def points(figure: Figure) -> np.ndarray:
    return np.concatenate([each.get_offsets() for each in figure.axes[0].collections])[:, 0]


def test_a_missed_structure_stands_apart_from_every_distance(arguments: list[str]) -> None:
    study = read_study(arguments)
    figure = distributions(study, "hd95_pooled", "HD95")
    (axes,) = figure.axes
    x = np.sort(points(figure))
    values = study.paired["right", "hd95_pooled"].case_means["ball_3"]
    assert x[-1] > 1.1 * x[-2], "the one that near misses"
    assert x[-1] < values[1], "not where the diagonal of the image is"
    assert axes.get_xticklabels()[-1].get_text() == "missed or\nfalse alarm"
    assert axes.get_xticks()[-1] == x[-1]
    assert axes.get_xlim()[0] == 0


def test_where_nothing_is_missed_there_is_no_place_for_it(evaluated: dict[str, Path]) -> None:
    figure = distributions(read_study([str(evaluated["far"])], least=1), "hd95_pooled", "HD95")
    assert not any("missed" in label.get_text() for label in figure.axes[0].get_xticklabels())


def test_dice_is_drawn_from_0_to_100(arguments: list[str], tmp_path: Path) -> None:
    study = read_study(arguments)
    for figure in (distributions(study, "dsc", "DSC, %"), scatter(study, 1)):
        assert figure.axes[0].get_xlim() == (0, 100)
    assert scatter(study, 1).axes[0].get_ylim() == (0, 100)
    curves = {"val/dice_student": [(50, 0.5), (100, 0.75)], "train/consistency": [(50, 0.0), (100, 0.0)]}
    figures = training_figures([Training("a", make_training(tmp_path / "run"), curves, {})])
    (axes,) = figures["curve_val_dice_student"].axes
    assert axes.get_ylim() == (0, 100)
    assert list(axes.lines[0].get_ydata()) == [50, 75]
    assert "curve_train_consistency" not in figures, "of a part that no training has"
