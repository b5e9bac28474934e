import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from medcontext.inference.judge import Judged
from medcontext.reporting.drawing import MODEL_COLOURS
from medcontext.reporting.expected import Foreseen, Pair
from medcontext.reporting.expected_figures import against_true, by_structure


def points(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(each.get_offsets()) for each in figure.axes[0].collections]


def test_expected_lies_to_the_right_and_true_upwards_in_the_models_colour() -> None:
    pairs = {"a": Pair(0.5, 0.4, 0.6, 0.7), "b": Pair(0.9, 0.8, 1, 0.85)}
    figure = against_true(Foreseen("m", 1, [], pairs))
    np.testing.assert_allclose(points(figure)[0], [(50, 70), (90, 85)])
    (axes,) = figure.axes
    assert to_hex(axes.collections[0].get_facecolor()[0]).upper() == MODEL_COLOURS[1]
    assert axes.collections[0].get_urls() == ["#case=a", "#case=b"]
    assert axes.get_xlim() == axes.get_ylim() == (0, 100)


def test_each_structure_has_a_row_and_the_mean_the_last() -> None:
    rows = [
        Judged("a", "mean", (0.5, 0.4, 0.6)),
        Judged("a", "liver", (0.6, 0.4, 0.8)),
        Judged("a", "spleen", (0.4, 0.3, 0.5)),
        Judged("b", "mean"),
        Judged("b", "liver"),
        Judged("b", "spleen"),
    ]
    figure = by_structure(rows)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["liver", "spleen", "mean"]
    np.testing.assert_allclose([each[:, 0] for each in points(figure)], [[60], [40], [50]])
