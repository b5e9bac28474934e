"""What a calibration is worth: how far its expected DSC lie from the true ones, each without that patient's cases."""

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text
from scipy.stats import spearmanr

from medcontext.data.regions import MEAN
from medcontext.errors import counted
from medcontext.inference.expected import LEAST
from medcontext.run.calibration import Calibration, Observed


def remarks(found: Calibration) -> list[str]:
    """What a person should know of it, a sentence each."""
    if found.rule:
        return []
    return [
        f"there are fewer than {LEAST} patients that the network was not trained on and whose structures it finds: no "
        "DSC can be expected. `predict` says what is unlike the labelled scans, and how sure the network is. Learn "
        "from a cross-validation (`medcontext cross_validate`), or from other labelled scans: --on DATASET."
    ]


def pairs(found: Calibration) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Expected and true DSC of the observed cases: of each structure, and first of the mean of each case."""
    judged = [each for each in found.observed if each.expected is not None]
    groups: dict[str, list[list[Observed]]] = {MEAN: []}
    for case in dict.fromkeys(each.case for each in judged):
        groups[MEAN].append([each for each in judged if each.case == case])
    for each in judged:
        groups.setdefault(each.structure, []).append([each])
    return {
        name: (
            np.array([np.mean([each.expected for each in own]) for own in cases]),
            np.array([np.mean([each.dsc for each in own]) for own in cases]),
        )
        for name, cases in groups.items()
    }


def table(found: Calibration) -> Table:
    """Of each structure the cases, their DSC, and how far what was expected is from it."""
    patients = len({each.patient for each in found.observed})
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"{counted(patients, 'patient')} not trained on")
    shown.add_column("structure", overflow="fold")
    for column in ("cases", "DSC %", "mean error", "rank correlation"):
        shown.add_column(column, justify="right", no_wrap=True)
    for name, (expected, true) in pairs(found).items() if found.rule else ():
        error = f"{100 * np.abs(expected - true).mean():.1f}"
        shown.add_row(Text(name), str(len(true)), f"{100 * true.mean():.1f}", error, rank_text(expected, true))
    return shown


def rank_text(expected: np.ndarray, true: np.ndarray) -> str:
    """Spearman's correlation, where there is one.

    >>> rank_text(np.array([0.1, 0.2, 0.4]), np.array([0.3, 0.5, 0.7])), rank_text(np.array([0.1]), np.array([0.2]))
    ('1.00', '-')
    """
    if len(true) < 3 or not np.ptp(expected) or not np.ptp(true):
        return "-"
    return f"{spearmanr(expected, true).statistic:.2f}"
