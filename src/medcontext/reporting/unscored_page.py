"""The page of predictions without labels: what to label next, what is expected of each, and a viewer of these."""

from collections.abc import Sequence
from pathlib import Path

from medcontext.console import console
from medcontext.data.folders import listed
from medcontext.data.regions import MEAN
from medcontext.errors import InputError, counted
from medcontext.files import write_text
from medcontext.reporting.choice import choose_cases
from medcontext.reporting.expected_figures import by_structure
from medcontext.reporting.expected_tables import ExpectedTable, expected_rows, offer
from medcontext.reporting.packing import LARGEST, pack_cases
from medcontext.reporting.page import Page, ShownCase, pack_case, render
from medcontext.reporting.serve import serve
from medcontext.reporting.suggestions import suggested_table
from medcontext.reporting.unscored import PANEL, Unscored, inputs_of, read_unscored
from medcontext.reporting.volumes import CaseVolumes, read_volumes

NOTE = (
    "Nobody has checked these segmentations: what is expected of them is learnt from labelled cases (`medcontext "
    "calibrate`). In the figure each point is a case; bars reach from quartile to quartile, ticks are medians. A "
    "structure that nearly all labelled scans have, and that was not found, stands at 0."
)


def write_unscored(folder: Path, output: Path, cases: Sequence[str] = ("12",)) -> None:
    """Write the page as one HTML file.

    Args:
        folder: that `medcontext predict` or `medcontext suggest` wrote.
        output: the file.
        cases: in the viewer: a number, of those to label next, then of those to look at first; `all`; or names.

    Raises:
        InputError: see `read_unscored`; for a name that is not a case.
    """
    found = read_unscored(folder)
    chosen = _choose(found, cases)
    asked_for_by_name = list(cases) == ["all"] or list(cases) == chosen
    largest = None if asked_for_by_name else LARGEST
    shown, missing = pack_cases(
        chosen, lambda name: read_case(found, name), lambda name, packed: _shown(found, name, packed), largest
    )
    missing = [*found.notes, *missing]
    for sentence in missing:
        console.print(f"In the viewer: {sentence}", soft_wrap=True)
    note = f"This page holds {len(shown)} of {counted(len(found.cases), 'case')}, cropped to what is segmented."
    write_text(output, render(unscored_page(found, shown, " ".join([note, *missing]))))
    console.print(f"Written: {output} ({counted(len(shown), 'case')} in the viewer)", soft_wrap=True)


def serve_unscored(folder: Path, port: int = 0) -> None:
    """Show the page with all cases in a browser, read from disk as they are looked at, until interrupted.

    Args:
        folder: that `medcontext predict` or `medcontext suggest` wrote.
        port: of this machine alone (127.0.0.1); 0 for any that is free.

    Raises:
        InputError: see `read_unscored`; if the port is taken.
    """
    found = read_unscored(folder)
    names = list(found.files)
    page = render(unscored_page(found, [_shown(found, name) for name in names], " ".join(found.notes)))
    serve(lambda: page, lambda index: pack_case(read_case(found, names[index])), port)


def read_case(found: Unscored, name: str) -> CaseVolumes:
    """A case's volumes.

    Raises:
        InputError: if its files are not where they were, or cannot be read.
    """
    if name not in found.files:
        raise InputError("its files are not where they were.")
    return read_volumes(found.files[name], list(found.values.values()))


def unscored_page(found: Unscored, cases: Sequence[ShownCase], viewer_note: str = "") -> Page:
    """The page of predictions, with these cases in the viewer."""
    rows = found.cases
    flagged = sum(bool(row.remarks) for row in rows)
    words = f"Something speaks for a look at {flagged} of {counted(len(rows), 'case')}; they come first."
    if not flagged:
        words = f"None of {counted(len(rows), 'case')} stands out."
    known = any(row.expected for row in rows)
    figure = by_structure(found.rows) if known else None
    table = ExpectedTable("DSC in %", expected_rows(rows), False, offer(found.rows), "expected", figure, words)
    unknown = "No DSC can be expected: the labelled cases were too few. What speaks for a look is known all the same."
    trained = (
        f"Trained on {listed(found.trained)}, {len(found.trained)} of these {counted(len(rows), 'case')}: what is "
        "expected holds for scans that the network was not trained on."
    )
    learnt = found.origin.get("calibrated_on")
    return Page(
        title=f"{found.name or found.folder.resolve().name}: {counted(len(rows), 'segmentation')}, not checked",
        subtitle=" · ".join(
            [f"from {', '.join(inputs_of(found.origin)) or 'unknown images'}"]
            + ([f"calibrated on {counted(learnt, 'labelled case')}"] if isinstance(learnt, int) else [])
        ),
        models=[PANEL],
        remarks=[trained] if found.trained else [],
        suggested=suggested_table(found.suggested, rows) if found.suggested else None,
        expected=[table],
        expected_notes=[NOTE if known else unknown, *([] if cases else found.notes)],
        cases=cases,
        values=found.values,
        viewer_note=viewer_note,
        about=_about(found),
        truth=False,
    )


def _choose(found: Unscored, wanted: Sequence[str]) -> list[str]:
    """A number of cases in the order of need, or those that are named."""
    known = [row.case for row in found.cases]
    if not found.files:
        return []
    if len(wanted) == 1 and wanted[0].isdecimal() and wanted[0] not in known:
        return list(found.files)[: int(wanted[0])]
    if list(wanted) == ["all"]:
        return list(found.files)
    return choose_cases({}, wanted, known)


def _shown(found: Unscored, name: str, packed: str | None = None) -> ShownCase:
    own = {row.structure: row for row in found.rows if row.case == name}
    scores = {structure: [row.expected[0] if row.expected else None] for structure, row in own.items()}
    mean = scores.pop(MEAN)
    order = found.suggested.cases if found.suggested else []
    chosen = [f"to label next, {order.index(name) + 1} of {len(order)}"] if name in order else []
    remarks = [*chosen, own[MEAN].remarks] if own[MEAN].remarks else chosen
    return ShownCase(name, mean, scores, packed, "; ".join(remarks))


def _about(found: Unscored) -> list[tuple[str, str]]:
    rows = [("predictions", str(found.folder.resolve()))]
    rows += [("predicted from", path) for path in inputs_of(found.origin)]
    networks = found.origin.get("networks")
    for network in networks if isinstance(networks, list) else []:
        if isinstance(network, dict):
            rows.append(("network", f"{network.get('checkpoint')}, {found.origin.get('weights')}"))
    rows.append(("expected DSC", "with an interval, see `medcontext calibrate`; the mean is over the structures"))
    return rows
