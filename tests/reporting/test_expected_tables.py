import base64
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from medcontext.inference.judge import Judged
from medcontext.reporting.content import expected_tables, make_page, read_content
from medcontext.reporting.expected import Pair
from medcontext.reporting.expected_tables import agreement, expected_rows
from medcontext.reporting.page import render
from tests.reporting.expectations import foreseen


def test_the_words_say_how_near_and_in_which_order() -> None:
    rng = np.random.default_rng(0)
    true, expected = rng.uniform(0.4, 0.9, (2, 20))
    text = agreement([Pair(x, x - 0.1, x + 0.1, y) for x, y in zip(expected, true, strict=True)])
    off = np.abs(true - expected)
    assert f"of 20 cases is off by {100 * off.mean():.1f} points" in text
    assert f"rank correlation of {spearmanr(expected, true).statistic:.2f}" in text
    assert f"{(off <= 0.1).sum()} of 20 true DSC lie" in text


def test_rows_keep_their_order_and_say_why() -> None:
    rows = [Judged("b", "mean", (0.5, 0.25, 0.755), None, "likely bad; liver: 3 ml, 10 to 12 ml"), Judged("a", "mean")]
    first, second = expected_rows(rows, {"b": 0.61})
    assert first == ("b", "50.0", "25.0 to 75.5", "61.0", ["likely bad", "liver: 3 ml, 10 to 12 ml"])
    assert second == ("a", "–", "–", "–", [])


def test_the_page_has_the_words_the_table_and_a_figure_that_leads_to_cases(
    evaluated: dict[str, Path], tmp_path: Path
) -> None:
    models = {name: foreseen(folder, tmp_path / name) for name, folder in evaluated.items()}
    content = read_content([f"{name}={folder}" for name, folder in models.items()])
    tables = expected_tables(content)
    assert [table.name for table in tables] == ["expected_1", "expected_2"]
    row = next(row for row in tables[1].rows if row.case == "ball_3")
    assert row.true == f"{100 * content.scores['ball_3'][1]:.1f}", "what was missed counts, as in the whole page"
    text = render(make_page(content, []))
    assert "near: the expected DSC of 8 cases is off by 10.0 points" in text
    table = text[text.rindex('<table class="expected scored"') :]
    assert table.index("ball_<wbr>5") < table.index("ball_<wbr>3")
    assert "<p>left: 3 ml, 10 to 12 ml in the labelled scans</p>" in text
    figure = text[text.index('aria-label="expected 2"') :]
    assert 'xlink:href="#case=ball_3"' in figure[: figure.index("</svg>")]
    for table, name in zip(tables, models, strict=True):
        content_of_link = base64.b64decode(table.download.link.partition("base64,")[2]).decode()
        assert content_of_link == (tmp_path / name / "predictions/expected.csv").read_text()
        assert f'download="{table.name}.csv" href="{table.download.link}"' in text
