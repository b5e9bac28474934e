"""A comparison as files: CSV, JSON, Markdown, LaTeX."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medcontext.comparison.compare import Comparison
from medcontext.comparison.study import ALL, Study
from medcontext.comparison.text import METRIC_NAMES, both, by_table, conclusion, interval_text, means_text, p_value
from medcontext.console import console
from medcontext.evaluation import summary
from medcontext.files import output_folder, write_json, write_text


def write(study: Study, comparisons: Sequence[Comparison], folder: Path, overwrite: bool) -> None:
    """Write comparison.json, .csv, .md and .tex.

    Raises:
        InputError: if the folder holds files and is not to be overwritten, or cannot be written to.
    """
    output_folder(folder, overwrite=overwrite)
    write_json(folder / "comparison.json", to_dict(study, comparisons))
    write_text(folder / "comparison.csv", to_csv(comparisons))
    write_text(folder / "comparison.md", to_markdown(comparisons, study.units))
    write_text(folder / "comparison.tex", to_latex(study, comparisons))
    console.print(f"Written: {folder / 'comparison'}.csv, .json, .md, .tex", soft_wrap=True)


def to_csv(comparisons: Iterable[Comparison]) -> str:
    """One row for each pair of models, metric and structure; DSC as a fraction."""
    return summary.to_csv([_flat(row) for row in comparisons])


def to_dict(study: Study, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """For JSON; what cannot be computed is None."""
    rows = [{key: None if _is_nan(value) else value for key, value in _flat(row).items()} for row in comparisons]
    return {
        "models": study.folders,
        "units": study.units,
        "interval": "95 %, bootstrap of the patients, BCa",
        "test": "Wilcoxon signed-rank, two-sided, exact with ties and zeros (Pratt)",
        "correction": "Holm over the structures of a metric",
        "effect": "matched-pairs rank-biserial correlation",
        "conclusion": conclusion(comparisons),
        "comparisons": rows,
        "remarks": study.remarks,
        "notes": study.notes,
    }


def to_markdown(comparisons: Sequence[Comparison], units: Mapping[str, str]) -> str:
    """Tables for a pull request or a notebook."""
    parts = [conclusion(comparisons)]
    for rows in by_table(comparisons):
        first = rows[0]
        scale = 100 if first.metric == "dsc" else 1
        unit = "%" if first.metric == "dsc" else units[first.metric]
        lines = [
            f"| {METRIC_NAMES[first.metric]}, {unit} | {first.first} | {first.second} | difference | "
            "95 % interval | p | p (Holm) | effect | n | missed | false alarms |",
            "|---|" + "---:|" * 10,
        ]
        for row in rows:
            d = row.difference
            cells = (
                row.structure,
                *means_text(row, scale),
                f"{scale * d.mean:+.2f}",
                interval_text(d, scale, 2),
                p_value(d.p, d.n),
                p_value(row.p_holm, d.n) + "*" * row.significant,
                f"{d.effect:+.2f}",
                str(d.n),
                both(row.missed),
                both(row.spurious),
            )
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def to_latex(study: Study, comparisons: Sequence[Comparison] = ()) -> str:
    """A table in the form of the paper's Table 1: a row for each model, the DSC of each structure, HD95 and DSC.

    The best of each column is bold; a star marks what differs significantly from the first row.
    """
    columns = [*((name, "dsc") for name in study.structures), (ALL, "hd95_pooled"), (ALL, "dsc")]
    significant = {(row.second, row.structure, row.metric) for row in comparisons if row.significant}
    means = {(name, metric): _rounded(study.paired[name, metric].means, metric) for name, metric in columns}
    heads = [*map(_latex, study.structures), f"HD95 ({_latex(study.units['hd95_pooled'])})", "DSC (\\%)"]
    lines = [
        "% \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'c' * len(columns)}}}",
        "\\toprule",
        " & ".join(["Model", *heads]) + " \\\\",
        "\\midrule",
    ]
    for index, name in enumerate(study.names):
        cells = [_latex_cell(means[column], index, column[1], (name, *column) in significant) for column in columns]
        lines.append(" & ".join([_latex(name), *cells]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _rounded(means: Sequence[float], metric: str) -> list[str]:
    return [f"{100 * mean if metric == 'dsc' else mean:.2f}" for mean in means]


def _latex_cell(means: Sequence[str], index: int, metric: str, star: bool) -> str:
    """Of the model at an index; nothing counts where there are no means."""
    if not means:
        return "--"
    best = (max if metric == "dsc" else min)(means, key=float)
    text = f"\\textbf{{{best}}}" if means[index] == best and len(means) > 1 else means[index]
    return text + "$^{*}$" * star


def _latex(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, f"\\{character}" if character != "\\" else "/")
    return text


def _flat(row: Comparison) -> dict[str, Any]:
    values = asdict(row)
    difference = values.pop("difference")
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key == "seed_differences":
            flat[key] = " ".join(f"{difference:.6g}" for difference in value)
        elif isinstance(value, tuple):
            flat |= {f"{key}_first": value[0], f"{key}_second": value[1]}
        else:
            flat[key] = value
    flat |= {"difference": difference.pop("mean"), **difference}
    return flat


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
