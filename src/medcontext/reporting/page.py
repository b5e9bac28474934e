"""One HTML file that opens from disk without a network: everything it needs is in it."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

import medcontext
from medcontext.pictures.colours import ERRORS, colours_of
from medcontext.reporting.downloads import Download
from medcontext.reporting.drawing import MODEL_COLOURS, case_link
from medcontext.reporting.expected_tables import ExpectedTable
from medcontext.reporting.figures import to_svg
from medcontext.reporting.niivue import niivue_script
from medcontext.reporting.result_tables import ResultTable
from medcontext.reporting.suggestions import SuggestedTable
from medcontext.reporting.volumes import CaseVolumes

ASSETS = Path(__file__).parent / "assets"
MOST_VALUES = 255 - len(ERRORS)  # that 8 bits tell apart


@dataclass(frozen=True)
class ShownCase:
    """A case in the viewer.

    Args:
        name: of the case.
        means: of each model its mean DSC, a fraction; None where it is not known.
        scores: for each structure the DSC of each model.
        packed: its volumes, from `pack_case`; None where a server hands them out.
        remarks: why a person should look at it.
    """

    name: str
    means: Sequence[float | None]
    scores: Mapping[str, Sequence[float | None]]
    packed: str | None = None
    remarks: str = ""


@dataclass(frozen=True)
class Page:
    """What a page shows; parts that are empty are left out.

    Args:
        title: of the page.
        subtitle: what was trained on what.
        remarks: what is wrong with the results as a whole, in red.
        models: names.
        conclusion: sentences.
        tables: of results.
        table_note: on their reading.
        downloads: the tables as files.
        suggested: what to label next.
        expected: what was expected of segmentations, a table each.
        expected_notes: sentences below them.
        rankings: heading to cases, each with the mean DSC of every model.
        differences: figures beside the tables.
        figures: of the scores.
        curves: of the trainings.
        unknown_trainings: a sentence for each training that is not shown.
        methods: `columns`, `rows` and `settings` of the trainings.
        cases: in the viewer.
        values: of the segmentations, in the order of the colours, with their names.
        viewer_note: what the viewer shows of which cases.
        about: headings and texts.
        live: of a training that goes on: `state`, `step`, `steps`, `note`.
        truth: whether the cases have labels; where not, their scores are what is expected.
        served: whether a server hands the page out, which its script may ask for more.
    """

    title: str
    subtitle: str
    models: Sequence[str]
    remarks: Sequence[str] = ()
    conclusion: Sequence[str] = ()
    tables: Sequence[ResultTable] = ()
    table_note: str = ""
    downloads: Sequence[Download] = ()
    suggested: SuggestedTable | None = None
    expected: Sequence[ExpectedTable] = ()
    expected_notes: Sequence[str] = ()
    rankings: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    differences: Mapping[str, Figure] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    curves: Mapping[str, Figure] = field(default_factory=dict)
    unknown_trainings: Sequence[str] = ()
    methods: Mapping[str, Any] = field(default_factory=dict)
    cases: Sequence[ShownCase] = ()
    values: Mapping[str, Sequence[int]] = field(default_factory=dict)
    viewer_note: str = ""
    about: Sequence[tuple[str, str]] = ()
    live: Mapping[str, Any] | None = None
    truth: bool = True
    served: bool = False


def pack_case(volumes: CaseVolumes) -> str:
    """A case's volumes as JSON, for the page or for a server's answer."""
    content = volumes._asdict() | {"volumes": {key: b64encode(file).decode() for key, file in volumes.files.items()}}
    del content["files"]
    return json.dumps(content)


def render(page: Page) -> str:
    """The page's HTML.

    Raises:
        InputError: if there are cases to show and NiiVue is not installed.
    """
    viewer = bool(page.cases)
    served = page.served or any(case.packed is None for case in page.cases)
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["case_link"] = case_link
    return environment.get_template("page.html").render(
        vars(page)
        | {
            "version": medcontext.__version__,
            "served": served,
            "viewer": viewer,
            "most": "errors" if page.truth else "structures",
            "data": _embedded(_viewer_data(page)) if viewer else "",
            "packed": {f"case-{i}": _embedded(case.packed) for i, case in enumerate(page.cases) if case.packed},
            "niivue": niivue_script() if viewer else "",
            "expected": [
                table._asdict() | {"svg": to_svg(table.figure, table.name) if table.figure else ""}
                for table in page.expected
            ],
            "rankings": {heading: _ranking(rows) for heading, rows in page.rankings.items()},
            "differences": [to_svg(figure, name) for name, figure in page.differences.items()],
            "figures": [to_svg(figure, name) for name, figure in page.figures.items()],
            "curves": [to_svg(figure, name) for name, figure in page.curves.items()],
            "css": _asset("page.css"),
            "colours": MODEL_COLOURS,
            "page_js": _asset("page.js"),
            "viewer_js": _asset("viewer.js"),
        }
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _viewer_data(page: Page) -> str:
    return json.dumps(
        {
            "models": list(page.models),
            "truth": page.truth,
            "values": [{"name": name, "colour": colour} for name, colour in colours_of(page.values).items()],
            "errors": [{"name": name, "colour": colour} for name, colour in ERRORS.items()],
            "cases": [
                {
                    "name": case.name,
                    "means": list(case.means),
                    "scores": case.scores,
                    "remarks": case.remarks,
                    "packed": case.packed is not None,
                }
                for case in page.cases
            ],
        }
    )


def _embedded(text: str) -> str:
    """JSON that can stand inside a script: nothing in it looks like a tag."""
    return text.replace("<", "\\u003c")


def _ranking(rows: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "link": case_link(name), "scores": [f"{100 * score:.1f}" for score in scores]}
        for name, scores in rows.items()
    ]
