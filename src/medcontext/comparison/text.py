"""A comparison as people read it in a terminal: tables, and what can be concluded."""

import math
from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from medcontext.comparison.compare import LEVEL, Comparison
from medcontext.comparison.statistics import Difference
from medcontext.comparison.study import ALL, Study
from medcontext.console import console
from medcontext.errors import counted

METRIC_NAMES = {"dsc": "DSC", "hd95_pooled": "HD95 pooled", "hd95_max": "HD95 max"}


def show(study: Study, comparisons: Sequence[Comparison]) -> None:
    """Print a table for each metric and pair of models, what is wrong with them, and what can be concluded."""
    for rows in by_table(comparisons):
        console.print(make_table(rows, study.units[rows[0].metric]))
    for remark in study.remarks:
        console.print(Text(remark, "bold red"), soft_wrap=True)
    for note in study.notes:
        console.print(note, soft_wrap=True)
    console.print(conclusion(comparisons))


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
    if d.n == 1:
        return (
            f"On this one patient {second} has {100 * d.mean:+.2f} DSC points against {first}. One patient says "
            "nothing of others: there is no interval and no test. Score more patients."
        )
    interval = f"95 % interval {interval_text(d, 100, 2)}"
    points = f"{100 * d.mean:+.2f} DSC points ({interval}, {'p ' if d.p < 0.001 else 'p = '}{p_value(d.p)})"
    patients = f"these {d.n} patients"
    if overall.significant:
        text = f"On {patients} {second} is {'better' if overall.better else 'worse'} than {first}: {points}."
    else:
        text = f"On {patients} no difference between {second} and {first} can be shown: {points}."
        if (least := 2 / 2**d.n) > LEVEL:
            text += f" So few patients can give no p below {p_value(least)}, whatever is compared: score six or more."
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
        title=Text(f"{METRIC_NAMES[first.metric]}, {unit}: {first.second} against {first.first}, {_patients(rows)}"),
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
            *means_text(row, scale, digits),
            f"{scale * d.mean:+.{digits}f}",
            interval_text(d, scale, digits),
            p_value(row.p_holm, d.n) + ("*" if row.significant else " "),
            *([both(getattr(row, name)) for name in counts] or [f"{d.effect:+.2f}"]),
            style="bold" if row.structure == ALL else "",
        )
    tested = f"* significant at {LEVEL:.0%}; the mean has its own p" * any(row.difference.n > 1 for row in rows)
    table.caption = "; ".join(filter(None, [tested, "false: alarms" * bool(counts)]))
    return table


def _patients(rows: Sequence[Comparison]) -> str:
    least, most = min(row.difference.n for row in rows), max(row.difference.n for row in rows)
    return counted(most, "patient") if least == most else f"{least} to {most} patients"


def interval_text(difference: Difference, scale: float, digits: int) -> str:
    """An interval as it is printed; a dash for one patient, who has none.

    >>> interval_text(Difference(0.1, 0.05, 0.2, 0.01, 1.0, 6), 100, 1)
    '+5.0 to +20.0'
    """
    low, high = (scale * end for end in (difference.low, difference.high))
    return "–" if math.isnan(low) else f"{low:+.{digits}f} to {high:+.{digits}f}"


def means_text(row: Comparison, scale: float, digits: int = 2) -> list[str]:
    """Both means, each with its spread over seeds where there are several."""
    return [
        f"{scale * mean:.{digits}f}" + ("" if spread is None else f" ± {scale * spread:.{digits}f}")
        for mean, spread in zip(row.means, row.seed_spreads, strict=True)
    ]


def by_table(comparisons: Iterable[Comparison]) -> list[list[Comparison]]:
    """The rows of each pair of models and metric."""
    tables: dict[tuple[str, str, str], list[Comparison]] = {}
    for row in comparisons:
        tables.setdefault((row.first, row.second, row.metric), []).append(row)
    return list(tables.values())


def both(counts: tuple[float, float]) -> str:
    """The counts of two models; of several seeds they may be broken."""
    return " / ".join(f"{count:g}" if count == round(count) else f"{count:.1f}" for count in counts)


def p_value(value: float, n: int | None = None) -> str:
    """A p as it is printed, in three digits; a dash for one patient, who has no test.

    >>> p_value(0.04), p_value(1e-5), p_value(1.0, n=1)
    ('0.040', '< 0.001', '–')
    """
    if n == 1:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
