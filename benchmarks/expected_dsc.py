"""How well does `predict` know how good its segmentations are?

    python benchmarks/study.py acdc --data ACDC --work DIR --seeds 0 --arms baseline medcontext
    python benchmarks/expected_dsc.py acdc --data ACDC --work DIR --seeds 0 --arms baseline medcontext

Of a study's runs: `medcontext calibrate` on the cases that settings were chosen on, then `predict` and `evaluate` of
those that are reported, which the calibration did not see; also after a calibration on five of these patients alone.
Where a study has no such cases (BTCV), each reported patient is judged by a rule that was learnt from the others.
"""

import argparse
import csv
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

sys.path.append(str(Path(__file__).parent))
from study_data import STUDIES
from study_work import Work

import medcontext as mc
from medcontext.evaluation.scores import read_evaluation
from medcontext.inference.expected import expect, learn
from medcontext.inference.judge import LOWEST, lowest, read_expected
from medcontext.inference.worth import MEAN
from medcontext.run.calibration import FILE, Calibration, Observed, read_calibration

WORST = 0.1  # of the cases


@dataclass(frozen=True)
class Case:
    """What was expected of a case, and what it was: of each structure that was found, and their means."""

    name: str
    expected: list[float]
    intervals: list[tuple[float, float]]
    true: list[float]

    @property
    def means(self) -> tuple[float, float]:
        return float(np.mean(self.expected)), float(np.mean(self.true))


def judged(rows: Iterable[Observed], calibration: Calibration) -> list[Case]:
    """Cases by a rule, from their signs."""
    found: dict[str, list[tuple[tuple[float, float, float], float]]] = {}
    assert calibration.rule
    for row in rows:
        found.setdefault(row.case, []).append((expect(calibration.rule, row.structure, row.signs), row.dsc))
    return [
        Case(name, [e[0] for e, _ in own], [e[1:] for e, _ in own], [dsc for _, dsc in own])
        for name, own in found.items()
    ]


def one_out(observed: Iterable[Observed]) -> list[Case]:
    """Every patient's cases by a rule that was learnt from the others."""
    rows = list(observed)
    cases = []
    for patient in dict.fromkeys(row.patient for row in rows):
        rule, known = learn([row for row in rows if row.patient != patient])
        empty = Calibration("student", (), 0, False, (), None, known, rule)  # type: ignore[arg-type]
        cases += judged([row for row in rows if row.patient == patient], empty)
    return cases


def summary(cases: list[Case], threshold: float | None) -> list[str]:
    """The numbers of one row.

    Args:
        cases: judged.
        threshold: the expected mean below which one is flagged; None takes `LOWEST` of these very cases.
    """
    expected, true = np.array([case.means for case in cases]).T
    single = np.concatenate([np.abs(np.subtract(case.expected, case.true)) for case in cases])
    inside = [low <= dsc <= high for case in cases for (low, high), dsc in zip(case.intervals, case.true, strict=True)]
    widths = [high - low for case in cases for low, high in case.intervals]
    flagged = expected < (np.quantile(expected, LOWEST) if threshold is None else threshold)
    worst = np.argsort(true, kind="stable")[: max(1, round(WORST * len(true)))]
    first = np.argsort(expected, kind="stable")[: round(LOWEST * len(true))]
    return [
        str(len(cases)),
        f"{100 * true.mean():.1f}",
        f"{spearmanr(expected, true).statistic:.2f}",
        f"{100 * np.abs(expected - true).mean():.1f}",
        f"{100 * np.abs(true - np.median(true)).mean():.1f}",
        f"{100 * single.mean():.1f}",
        f"{100 * np.mean(inside):.0f} %",
        f"{100 * np.mean(widths):.0f}",
        f"{int(flagged.sum())}",
        f"{int(flagged[worst].sum())} of {len(worst)}",
        f"{len(set(worst) & set(first))} of {len(worst)}",
    ]


HEAD = (
    "arm", "seed", "calibrated on", "cases", "DSC %", "rank correlation", "error of a case's mean",
    "error of a constant", "error of a structure", "in its interval", "width", "flagged", "worst tenth flagged",
    "worst tenth among the lowest fifth",
)  # fmt: skip


def listed(work: Work, names: list[str], path: Path) -> Path:
    work.write_list(path, dict.fromkeys(names))
    return path


def observe(work: Work, arm: str, turn: int, seed: int) -> tuple[Calibration, list[Observed]]:
    """The calibration of a run, and what it makes of the reported cases."""
    place, parts = work.place(arm, turn, seed), work.study.parts(work.names, turn)
    run, output = place / "run", place / "expected"
    on = listed(work, parts.development or parts.report, place / "calibrated_on.json")
    if not (run / FILE).exists():
        work.call(mc.calibrate, run, work.data, on=on, device=work.accelerator)
    found = read_calibration(run / FILE)
    assert found
    if not parts.development:
        return found, []
    reported = listed(work, parts.report, place / "reported.json")
    if not (output / "scores" / "summary.json").exists():
        work.call(mc.predict, run, reported, output / "predictions", part="all", resume=True, expected=True)
        work.evaluate(output)
    scores = read_evaluation(output / "scores")
    rows = []
    for row in read_expected(output / "predictions"):
        if row.structure != MEAN and row.signs:
            dsc = scores.value((row.case, row.structure), "dsc")
            rows.append(Observed(row.case, scores.owners[row.case], row.structure, row.signs, dsc))
    return found, [row for row in rows if not np.isnan(row.dsc)]


def rows_of(work: Work, arm: str, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """The table's rows for an arm with a seed, and every case by the whole calibration."""
    cases, found = [], []
    threshold, label = None, "the other patients"
    few: list[str] = []
    for turn in range(work.study.turns):
        calibration, reported = observe(work, arm, turn, seed)
        if not reported:
            cases += one_out(calibration.observed)
            continue
        cases += judged(reported, calibration)
        patients = list(dict.fromkeys(row.patient for row in calibration.observed))
        threshold, label = lowest(calibration)[MEAN], f"{len(patients)} patients"
        own = [row for row in calibration.observed if row.patient in patients[:5]]
        rule, known = learn(own)
        five = replace(calibration, observed=known, rule=rule)
        few = summary(judged(reported, five), lowest(five)[MEAN])
    found.append([arm, str(seed), label, *summary(cases, threshold)])
    if few:
        found.append([arm, str(seed), "5 patients", *few])
    every = [[arm, str(seed), case.name, *(f"{value:.4f}" for value in case.means)] for case in cases]
    return found, every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", default=["baseline", "medcontext"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--machine", default="cpu")
    options = parser.parse_args()
    work = Work(STUDIES[options.study], options.data, options.work)
    rows, cases = [], []
    for arm in options.arms:
        for seed in options.seeds:
            if (work.place(arm, work.study.turns - 1, seed) / "predicted").exists():
                found, every = rows_of(work, arm, seed)
                rows, cases = rows + found, cases + every
    table = "\n".join(f"| {' | '.join(row)} |" for row in (HEAD, ["---"] * len(HEAD), *rows))
    versions = ", ".join(f"{name} {version(name)}" for name in ("medcontext", "torch", "monai"))
    text = f"""# The expected DSC against the true one

{work.study.title}. `python benchmarks/expected_dsc.py {options.study} --data DATA --work DIR --seeds
{" ".join(map(str, options.seeds))} --arms {" ".join(f"'{arm}'" for arm in options.arms)}`, after `benchmarks/study.py`
with the same. {versions}; {options.machine}. Errors and widths in points of DSC.

{table}
"""
    print(text)
    name = f"expected_dsc_{options.study}_{options.machine}_{date.today().isoformat()}"
    file = Path(__file__).parent / "results" / f"{name}.md"
    file.write_text(text)
    with file.with_suffix(".csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["arm", "seed", "case", "expected", "dsc"], *cases])


if __name__ == "__main__":
    main()
