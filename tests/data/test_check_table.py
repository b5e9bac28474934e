"""What a person sees of a check."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from medcontext.data.cases import Dataset
from medcontext.data.check import CaseReport, Problem, Report
from medcontext.data.check_table import print_report, write_csv

LABELS = {"background": 0, "liver": 1, "spleen": 2}


def case(name: str, *problems: Problem, voxels: dict[int, int] | None = None) -> CaseReport:
    return CaseReport(
        name,
        labelled=True,
        shape=(512, 512, 147),
        spacing=(0.7578125, 0.7578125, 5.0),
        orientation="LPS",
        intensity=((-1024.0, 3071.0),),
        voxels={0: 1000, 1: 500, 2: 25} if voxels is None else voxels,
        voxel_volume=0.5,
        problems=problems,
    )


def report_of(*cases: CaseReport, labels: dict[str, int] = LABELS) -> Report:
    dataset = Dataset("Abdomen [raw]", Path("/data/abdomen"), ("CT",), labels, ())
    return Report(dataset, cases, tuple(problem for case in cases for problem in case.problems))


def printed(report: Report, width: int = 100, **options: bool) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=width), **options)
    return stream.getvalue()


def test_a_row_says_what_is_in_a_case() -> None:
    text = printed(report_of(case("scan_1")))
    assert "Abdomen [raw]: 1 case," in text
    row = next(line.split() for line in text.splitlines() if "scan_1" in line)
    assert row == ["scan_1", "512x512x147", "0.758x0.758x5", "LPS", "-1024", "to", "3071", "250", "12.5"]
    assert "No problems found" in text


def test_structures_are_summed_up_where_they_do_not_fit() -> None:
    labels = {"background": 0, **{f"structure_{value}": value for value in range(1, 14)}}
    text = printed(report_of(case("scan_1"), labels=labels))
    assert next(line.split() for line in text.splitlines() if "scan_1" in line)[-2:] == ["2/13", "262"]
    assert "structure_13" in text  # in the table of structures
    assert "0 of 1" in text


def test_structure_table_counts_only_the_cases_that_have_it() -> None:
    text = printed(report_of(case("a"), case("b", voxels={0: 9, 1: 100}), case("c", voxels={0: 9, 1: 300})))
    liver, spleen = (
        next(line.split() for line in text.splitlines() if line.split()[:1] == [n]) for n in ("liver", "spleen")
    )
    assert liver == ["liver", "1", "3", "of", "3", "150", "50", "to", "250"]
    assert spleen == ["spleen", "2", "1", "of", "3", "12.5", "12.5", "to", "12.5"]


@pytest.mark.parametrize("width", [80, 120])
def test_long_tables_are_cut_but_conspicuous_cases_stay(width: int) -> None:
    wrong = Problem("error", "the header is wrong", "scan_123")
    cases = [case(f"scan_{n:03d}", *([wrong] if n == 123 else [])) for n in range(200)]
    text = printed(report_of(*cases), width)
    assert text.count("512x512x147") == 6 + 1 + 3 + 1  # rows, and the summary's line
    assert "scan_123 " in text
    assert "... 117 more" in text
    assert "... 73 more" in text
    assert max(map(len, text.splitlines())) <= width
    assert printed(report_of(*cases), width, all_rows=True).count("512x512x147") == 201


def test_a_gap_of_one_case_is_filled() -> None:
    flagged = Problem("warning", "the label is empty", "x")
    text = printed(report_of(*(case(f"scan_{n:02d}", *([flagged] if n in (20, 22) else [])) for n in range(60))))
    assert "scan_21" in text
    assert "... 1 more" not in text.replace("... 14 more", "")


def test_a_shared_problem_is_printed_once_with_its_cases() -> None:
    cases = [case(f"s{n}", Problem("error", "value 3 is not declared", f"s{n}", f"{n} voxels")) for n in range(1, 7)]
    text = " ".join(printed(report_of(*cases)).split())
    assert text.count("value 3 is not declared") == 1
    assert "s1 (1 voxels), s2 (2 voxels), s3 (3 voxels), s4 (4 voxels) and 2 more: value 3" in text
    assert "6 errors, 0 warnings." in text


def test_errors_come_before_warnings_and_notes_and_paths_are_short() -> None:
    problems = (
        Problem("note", "voxel sizes differ"),
        Problem("warning", "the label is empty", "a"),
        Problem("error", "/data/abdomen/imagesTr/a.nii.gz has [5] NaN voxels", "a"),
    )
    text = printed(report_of(case("a", *problems)))
    assert text.index("NaN") < text.index("empty") < text.index("differ")
    assert "a: imagesTr/a.nii.gz has [5] NaN voxels" in text
    assert "1 error, 1 warning." in text


def test_cases_that_cannot_be_read_have_question_marks() -> None:
    broken = CaseReport("broken", labelled=True, problems=(Problem("error", "Cannot read it", "broken"),))
    unlabelled = CaseReport("test", False, (4, 4, 4), (1.0, 1.0, 1.0), "RAS", intensity=((0.0, 1.0),))
    text = printed(report_of(broken))
    assert next(line.split() for line in text.splitlines() if "broken" in line) == ["broken"] + ["?"] * 6
    text = printed(report_of(case("a"), unlabelled))
    assert next(line.split() for line in text.splitlines() if line.startswith(" test"))[-2:] == ["-", "-"]
    assert "1 labelled, 1 without a label" in text


def test_nothing_but_problems() -> None:
    report = Report(report_of().dataset, (), (Problem("error", "case 'a': not found"),))
    assert "case 'a': not found" in printed(report)


def test_csv_has_every_case(tmp_path: Path) -> None:
    cases = [case(f"scan_{n:03d}") for n in range(99)] + [CaseReport("broken", labelled=True)]
    write_csv(report_of(*cases), tmp_path / "check.csv")
    with (tmp_path / "check.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 100
    assert rows[0]["spleen_ml"] == "12.5"
    np.testing.assert_allclose([float(v) for v in rows[0]["spacing_mm"].split()], (0.757812, 0.757812, 5))
    assert rows[-1] == {**dict.fromkeys(rows[0], ""), "case": "broken"}


def test_errors_that_differ_in_the_file_alone_are_printed_a_few_times() -> None:
    def error(number: int) -> Problem:
        return Problem("error", f"/data/abdomen/scan_{number}.nii.gz has {number} NaN voxels", f"scan_{number}")

    other = Problem("error", "/data/abdomen/x.nii.gz is a 2D image", "x")
    text = printed(report_of(*(case(f"scan_{number}", error(number)) for number in range(1000)), case("x", other)))
    assert sum("NaN voxels" in line for line in text.splitlines() if line.startswith("error")) == 10
    assert "Do first: scan_0.nii.gz has 0 NaN voxels (1000 such)" in text
    assert "and 990 more like these" in text
    assert "x.nii.gz is a 2D image" in text
    assert "1001 errors, 0 warnings" in text
