"""A comparison as people and programs read it: terminal table, sentence, CSV, JSON, Markdown, LaTeX."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from medcontext.comparison.compare import ALL, LEVEL, Comparison
from medcontext.console import console
from medcontext.files import output_folder, write_json, write_text

NAMES = {"dsc": "DSC", "hd95_pooled": "HD95 pooled", "hd95_max": "HD95 max"}


def show(comparisons: Sequence[Comparison], units: dict[str, str], remarks: Sequence[str] = ()) -> None:
    """Print a table for each metric and pair of models, what is wrong with them, and what can be concluded."""
    for rows in by_table(comparisons):
        console.print(make_table(rows, units[rows[0].metric]))
    for remark in remarks:
        console.print(Text(remark, "bold red"), soft_wrap=True)
    console.print(conclusion(comparisons))


def write(
    found: dict[str, Any], comparisons: Sequence[Comparison], units: dict[str, str], folder: Path, overwrite: bool
) -> None:
    """Write comparison.json (what `to_dict` found), .csv, .md and .tex.

    Raises:
        InputError: if the folder holds files and is not to be overwritten, or cannot be written to.
    """
    output_folder(folder, overwrite=overwrite)
    write_json(folder / "comparison.json", found)
    write_text(folder / "comparison.csv", to_csv(comparisons))
    write_text(folder / "comparison.md", to_markdown(comparisons, units))
    write_text(folder / "comparison.tex", to_latex(comparisons, units))
    console.print(f"Written: {folder / 'comparison'}.csv, .json, .md, .tex", soft_wrap=True)


def conclusion(comparisons: Sequence[Comparison]) -> str:
    """What can be concluded from the DSC, in plain sentences, one for each pair of models."""
    pairs = dict.fromkeys((row.first, row.second) for row in comparisons)
    return "\n".join(
        _sentence([row for row in comparisons if (row.first, row.second) == pair and row.metric == "dsc"])
        for pair in pairs
    )


def _sentence(rows: Sequence[Comparison]) -> str:
    overall = next(row for row in rows if row.structure == ALL)
    d, first, second = overall.difference, overall.first, overall.second
    interval = f"95 % interval {100 * d.low:+.2f} to {100 * d.high:+.2f}"
    points = f"{100 * d.mean:+.2f} DSC points ({interval}, {'p ' if d.p < 0.001 else 'p = '}{p_value(d.p)})"
    patients = f"these {d.n} patients" if d.n > 1 else "this one patient"
    if overall.significant:
        text = f"On {patients} {second} is {'better' if overall.better else 'worse'} than {first}: {points}."
    else:
        text = f"On {patients} no difference between {second} and {first} can be shown: {points}."
    found = [row for row in rows if row.structure != ALL and row.significant]
    for word, wanted in (("better", True), ("worse", False)):
        names = [row.structure for row in found if row.better == wanted]
        if names:
            text += f" {word.capitalize()}, after Holm's correction: {', '.join(names)}."
    return f"{text} {_about_seeds(overall)}"


def _about_seeds(overall: Comparison) -> str:
    spreads = [spread for spread in overall.seed_spreads if spread is not None]
    if len(spreads) < 2:
        return "With one training of a model, what chance in its training contributes is not known: train more seeds."
    if not overall.seed_differences:
        return f"From seed to seed the means vary by {100 * max(spreads):.2f} points (standard deviation)."
    listed = ", ".join(f"{100 * difference:+.2f}" for difference in overall.seed_differences)
    same = len({difference > 0 for difference in overall.seed_differences}) == 1
    return f"Seed by seed: {listed}{'' if same else '; not in the same direction with every seed'}."


def make_table(rows: Sequence[Comparison], unit: str) -> Table:
    """One metric of one pair of models, for a terminal of 80 columns; a star marks what is significant.

    Misses and false alarms, where there are any, take the place of the effect size.
    """
    first = rows[0]
    scale, unit = (100, "%") if first.metric == "dsc" else (1, unit)
    table = Table(
        title=Text(f"{NAMES[first.metric]}, {unit}: {first.second} against {first.first}, {_patients(rows)}"),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("structure", overflow="fold", min_width=9)
    for name in (first.first, first.second):
        table.add_column(Text(name), justify="right", overflow="fold", min_width=5)
    digits = 1 if first.metric == "dsc" or max(mean for row in rows for mean in row.means) >= 10 else 2
    counts = [name for name in ("missed", "spurious") if any(any(getattr(row, name)) for row in rows)]
    titles = {"missed": "missed", "spurious": "false"}
    for heading in ("diff.", "95 % interval", "p Holm", *([titles[name] for name in counts] or ["effect"])):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        d = row.difference
        if row.structure == ALL:
            table.add_section()
        table.add_row(
            Text(row.structure),
            *_means(row, scale, digits),
            f"{scale * d.mean:+.{digits}f}",
            f"{scale * d.low:+.{digits}f} to {scale * d.high:+.{digits}f}",
            p_value(row.p_holm) + ("*" if row.significant else " "),
            *([_both(getattr(row, name)) for name in counts] or [f"{d.effect:+.2f}"]),
            style="bold" if row.structure == ALL else "",
        )
    table.caption = f"* significant at {LEVEL:.0%}; the mean has its own p" + ("; false: alarms" if counts else "")
    return table


def _patients(rows: Sequence[Comparison]) -> str:
    least, most = min(row.difference.n for row in rows), max(row.difference.n for row in rows)
    return f"{most} patients" if least == most else f"{least} to {most} patients"


def _means(row: Comparison, scale: float, digits: int = 2) -> list[str]:
    """Both means, each with its spread over seeds where there are several."""
    return [
        f"{scale * mean:.{digits}f}" + ("" if spread is None else f" ± {scale * spread:.{digits}f}")
        for mean, spread in zip(row.means, row.seed_spreads, strict=True)
    ]


def to_csv(comparisons: Iterable[Comparison]) -> str:
    """One row for each pair of models, metric and structure; DSC as a fraction."""
    text = io.StringIO()
    rows = [_flat(row) for row in comparisons]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_dict(comparisons: Sequence[Comparison], models: dict[str, list[str]], units: dict[str, str]) -> dict[str, Any]:
    """For JSON; what cannot be computed is None."""
    rows = [{key: None if _is_nan(value) else value for key, value in _flat(row).items()} for row in comparisons]
    return {
        "models": models,
        "units": units,
        "interval": "95 %, bootstrap of the patients, BCa",
        "test": "Wilcoxon signed-rank, two-sided, exact with ties and zeros (Pratt)",
        "correction": "Holm over the structures of a metric",
        "effect": "matched-pairs rank-biserial correlation",
        "conclusion": conclusion(comparisons),
        "comparisons": rows,
    }


def to_markdown(comparisons: Sequence[Comparison], units: dict[str, str]) -> str:
    """Tables for a pull request or a notebook."""
    parts = [conclusion(comparisons)]
    for rows in by_table(comparisons):
        first = rows[0]
        scale = 100 if first.metric == "dsc" else 1
        unit = "%" if first.metric == "dsc" else units[first.metric]
        lines = [
            f"| {NAMES[first.metric]}, {unit} | {first.first} | {first.second} | difference | "
            "95 % interval | p (Holm) | effect | n | missed | false alarms |",
            "|---|" + "---:|" * 9,
        ]
        for row in rows:
            d = row.difference
            cells = (
                row.structure,
                *_means(row, scale),
                f"{scale * d.mean:+.2f}",
                f"{scale * d.low:+.2f} to {scale * d.high:+.2f}",
                p_value(row.p_holm) + "*" * row.significant,
                f"{d.effect:+.2f}",
                str(d.n),
                _both(row.missed),
                _both(row.spurious),
            )
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def to_latex(comparisons: Sequence[Comparison], units: dict[str, str]) -> str:
    """A table in the form of the paper's Table 1: a row for each model, the DSC of each structure, HD95 and DSC.

    The best of each column is bold; a star marks what differs significantly from the first row.
    """
    reference = comparisons[0].first
    others = list(dict.fromkeys(row.second for row in comparisons))
    structures = list(dict.fromkeys(row.structure for row in comparisons if row.structure != ALL))
    columns = [("dsc", name) for name in structures] + [("hd95_pooled", ALL), ("dsc", ALL)]
    cells = {(row.second, row.metric, row.structure): row for row in comparisons}
    lines = [
        "% \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'c' * len(columns)}}}",
        "\\toprule",
        " & ".join(["Model", *map(_latex, structures), f"HD95 ({_latex(units['hd95_pooled'])})", "DSC (\\%)"])
        + " \\\\",
        "\\midrule",
    ]
    table = {reference: [cells.get((others[0], *column)) for column in columns]}
    table |= {name: [cells.get((name, *column)) for column in columns] for name in others}
    best = [
        _best([(row[index], row is not table[reference]) for row in table.values()]) for index in range(len(columns))
    ]
    for name, row in table.items():
        shown = [_latex_cell(cell, name != reference, best[index]) for index, cell in enumerate(row)]
        lines.append(" & ".join([_latex(name), *shown]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def by_table(comparisons: Iterable[Comparison]) -> list[list[Comparison]]:
    """The rows of each pair of models and metric."""
    tables: dict[tuple[str, str, str], list[Comparison]] = {}
    for row in comparisons:
        tables.setdefault((row.first, row.second, row.metric), []).append(row)
    return list(tables.values())


def _best(column: Sequence[tuple[Comparison | None, bool]]) -> str:
    shown = [(_mean(cell, second), cell.metric) for cell, second in column if cell is not None]
    choose: Callable = max if shown and shown[0][1] == "dsc" else min
    return _round(*choose(shown)) if shown else ""


def _latex_cell(cell: Comparison | None, second: bool, best: str) -> str:
    if cell is None:
        return "--"
    text = _round(_mean(cell, second), cell.metric)
    text = f"\\textbf{{{text}}}" if text == best else text
    return f"{text}$^{{*}}$" if second and cell.significant else text


def _mean(cell: Comparison, second: bool) -> float:
    return cell.means[1 if second else 0]


def _round(value: float, metric: str) -> str:
    return f"{100 * value if metric == 'dsc' else value:.2f}"


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


def _both(counts: tuple[float, float]) -> str:
    return " / ".join(f"{count:g}" if count == round(count) else f"{count:.1f}" for count in counts)


def p_value(value: float) -> str:
    """A p as it is printed, in three digits."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
