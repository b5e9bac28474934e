"""What a report of evaluated runs is made from: scores, comparisons, trainings and the files of every case."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcontext.comparison.compare import Comparison, compare_models
from medcontext.comparison.read import Given, read_study
from medcontext.comparison.study import ALL, Study
from medcontext.comparison.text import conclusion
from medcontext.errors import counted
from medcontext.evaluation.protocols import HD95_DEFINITIONS
from medcontext.evaluation.summary import OUT_OF_FOLD
from medcontext.reporting.choice import CaseScores, rankings
from medcontext.reporting.downloads import downloads
from medcontext.reporting.expected import Foreseen, read_foreseen
from medcontext.reporting.expected_tables import NOTE, ExpectedTable, scored_table
from medcontext.reporting.figures import difference_figures, score_figures, training_figures
from medcontext.reporting.page import MOST_VALUES, Page, ShownCase
from medcontext.reporting.result_tables import result_tables
from medcontext.reporting.shown import Shown
from medcontext.reporting.trainings import find_trainings, methods_rows
from medcontext.reporting.volumes import CaseFiles

LISTED = 6  # cases of a ranking


@dataclass(frozen=True)
class Content:
    """Evaluated runs, read.

    Args:
        study: of one model or more.
        comparisons: of the first with every other.
        trainings: as far as they are known.
        unknown: a sentence for each that is not.
        files: of each case.
        values: that the files hold, by the name of what they mean.
        unseen: why no segmentation can be drawn; empty where they can.
        foreseen: what was expected of each model's predictions, as far as that is known.
        unfit: a sentence for each `expected.csv` that cannot be used.
    """

    study: Study
    comparisons: Sequence[Comparison]
    trainings: Sequence[Shown]
    unknown: Sequence[str]
    files: Mapping[str, CaseFiles]
    values: Mapping[str, tuple[int, ...]]
    unseen: str = ""
    foreseen: Sequence[Foreseen] = ()
    unfit: Sequence[str] = ()

    @property
    def scores(self) -> CaseScores:
        """The mean DSC of each case, a fraction; cases in which no structure counts are left out."""
        return self.study.paired[ALL, "dsc"].case_means


def read_content(given: Given) -> Content:
    """Read evaluations, given as for `medcontext compare`, and find what is behind them.

    Raises:
        InputError: see `read_study`.
    """
    study = read_study(given, least=1)
    comparisons = compare_models(study) if len(study.models) > 1 else []
    trainings, unknown = find_trainings(study)
    declared: list[Any] = [run.summary.get("values") for model in study.models for run in model.evaluations]
    unseen = ""
    if not all(declared):
        unseen = "An evaluation does not say which values its files hold; evaluate again to see the cases."
    elif any(values != declared[0] for values in declared):
        unseen = "The models were evaluated with different label values; their cases cannot be shown side by side."
    files = {} if unseen else case_files(study)
    values = {} if unseen else named_values(declared[0])
    return Content(study, comparisons, trainings, unknown, files, values, unseen, *read_foreseen(study))


def named_values(structures: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """What is told apart in a picture: the values that belong to the same structures, for these may overlap.

    >>> named_values({"kidneys": [1, 3], "WT": [2, 4], "ET": [4]})
    {'kidneys': (1, 3), 'WT': (2,), 'WT + ET': (4,)}
    """
    owners: dict[int, list[str]] = {}
    for name, values in structures.items():
        for value in values:
            owners.setdefault(value, []).append(name)
    named: dict[str, tuple[int, ...]] = {}
    for value, names in owners.items():
        together = " + ".join(names)
        named[together] = (*named.get(together, ()), value)
    return dict(list(named.items())[:MOST_VALUES])


def case_files(study: Study) -> dict[str, CaseFiles]:
    """The files of every case, as the evaluations remember them; of each model the first seed's that has the case."""
    entries = [
        {entry["name"]: entry for run in reversed(model.evaluations) for entry in run.summary.get("cases", [])}
        for model in study.models
    ]
    label_map = {int(value): target for value, target in study.summary.get("label_map", {}).items()}
    ignored = study.summary.get("ignored")
    names = [name for name in entries[0] if all(name in listed for listed in entries)]
    found = {}
    for name in names:
        images: list[str] = next((listed[name]["images"] for listed in entries if listed[name].get("images")), [])
        predictions = {
            model: Path(listed[name]["prediction"]) for model, listed in zip(study.names, entries, strict=True)
        }
        image = Path(images[0]) if images else None
        truth = Path(entries[0][name]["label"])
        found[name] = CaseFiles(name, image, truth, predictions, label_map=label_map, ignored=ignored)
    return found


def shown_case(content: Content, name: str, packed: str | None = None) -> ShownCase:
    """A case of the viewer, with its scores: as its files, those of the first seed that has the case."""
    scores: dict[str, list[float | None]] = {}
    count = len(content.study.models)
    for structure in content.study.structures:
        found = content.study.paired[structure, "dsc"].scores.get(name)
        scores[structure] = [next(iter(seeds.values())) for seeds in found] if found else [None] * count
    known = [[score for score in column if score is not None] for column in zip(*scores.values(), strict=True)]
    return ShownCase(name, [sum(each) / len(each) if each else None for each in known], scores, packed)


def make_page(content: Content, cases: Sequence[ShownCase], viewer_note: str = "") -> Page:
    """The page of evaluated runs.

    Args:
        content: the runs.
        cases: to be shown in the viewer.
        viewer_note: which cases these are.
    """
    study, names = content.study, content.study.names
    text = conclusion(content.comparisons).splitlines() if content.comparisons else []
    return Page(
        title=f"{' and '.join(names[1:]) or names[0]}{f' against {names[0]}' if names[1:] else ''}",
        subtitle=_subtitle(content),
        models=names,
        remarks=study.remarks,
        conclusion=text,
        tables=result_tables(study, content.comparisons),
        downloads=downloads(study, content.comparisons),
        table_note=_table_note(content),
        expected=expected_tables(content),
        expected_notes=[*([NOTE] if content.foreseen else []), *content.unfit],
        rankings={
            heading.capitalize(): {name: content.scores[name] for name in order[:LISTED]}
            for heading, order in rankings(content.scores).items()
        },
        differences=difference_figures(content.comparisons),
        figures=score_figures(study),
        curves=training_figures(content.trainings),
        unknown_trainings=content.unknown,
        methods=methods(content.trainings),
        cases=cases,
        values=content.values,
        viewer_note=viewer_note,
        about=_about(content),
    )


def expected_tables(content: Content) -> list[ExpectedTable]:
    """Of each model whose predictions came with expectations."""
    alone = len(content.study.models) == 1
    return [
        scored_table(each, {row.case: shown_case(content, row.case).means[each.index] for row in each.cases}, alone)
        for each in content.foreseen
    ]


def methods(trainings: Sequence[Shown]) -> dict[str, object]:
    """The table for the methods section, and every setting of each training."""
    if not trainings:
        return {}
    folds: dict[str, set[int | str]] = {}
    for each in trainings:
        folds.setdefault(each.model, set()).add(each.fold)
    names = [each.title + f", fold {each.fold}" * (len(folds[each.model]) > 1) for each in trainings]
    return {
        "columns": names,
        "rows": methods_rows(trainings),
        "settings": [(name, each.every_setting) for name, each in zip(names, trainings, strict=True)],
    }


def _subtitle(content: Content) -> str:
    study = content.study
    parts = [_cases(study)]
    if content.trainings:
        counts = sorted({each.scans for each in content.trainings if each.scans})
        parts.insert(0, content.trainings[0].dataset)
        if counts:
            parts.append(f"trained on {' and '.join([*map(str, counts[:-1]), counted(counts[-1], 'scan')])}")
        parts.append(", ".join(dict.fromkeys(each.network for each in content.trainings)))
    parts.append(counted(study.seeds, "seed") + " of each model" * (len(study.models) > 1))
    return " · ".join(parts)


def _cases(study: Study) -> str:
    """How many cases of how many patients; which part they had in the training, where all are of one, before that."""
    cases, patients = len(study.owners), len(set(study.owners.values()))
    counts = [Counter(model.parts.values()) for model in study.models]
    kinds = set().union(*counts)
    one = {"test": "test ", "unknown": "test ", OUT_OF_FOLD: "out-of-fold "}.get(next(iter(kinds)), "")
    kind = one if len(kinds) == 1 else ""
    text = f"{counted(cases, f'{kind}case')} of {counted(patients, 'patient')}"
    if kind:
        return text
    listed = [", ".join(f"{found[part]} {part}" for part in sorted(found)) for found in counts]
    if len(set(listed)) == 1:
        return f"{text} ({listed[0]})"
    return f"{text} ({'; '.join(f'{name}: {each}' for name, each in zip(study.names, listed, strict=True))})"


def _table_note(content: Content) -> str:
    missing = (
        "A structure that was missed has DSC 0 and is never left out of a mean."
        if content.study.summary["protocol"] == "standard"
        else "The legacy protocol: HD95 in voxels and 0 for an empty mask, Dice 0 for what the label lacks."
    )
    missing = " ".join([*content.study.notes, missing])
    if not content.comparisons:
        return f"{missing} One model alone: give another evaluation to compare it with."
    return (
        f"{missing} Differences are from {content.study.names[0]}, patient by patient, with 95 % bootstrap intervals "
        "and the p of Wilcoxon's signed-rank test, corrected for all structures (Holm); * significant at 5 %. Where "
        "the correction alone makes p contradict the interval, p without it follows: a hint and no more, for of many "
        "structures some differ by chance. The best mean of each row is bold. Missed structures and false alarms: "
        "cases, for each model in turn."
    )


def _about(content: Content) -> list[tuple[str, str]]:
    summary = content.study.summary
    rows = [("protocol", str(summary["protocol"]))]
    rows += [(name, text) for name, text in summary.get("conventions", {}).items()]
    rows += [(name.replace("_", " ").replace("hd95", "HD95"), text) for name, text in HD95_DEFINITIONS.items()]
    rows += [("cases", content.unseen)] if content.unseen else []
    rows += [("mean", "of each case over its structures, then over patients; several seeds are averaged first")]
    return rows + [
        (f"scores of {name}", folder) for name, folders in content.study.folders.items() for folder in folders
    ]
