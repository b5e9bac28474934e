"""The cases that a training shows, in its folder: written in every validation, read by the page.

```
RUN/watch/<case>/image.nii.gz            as prepared, the first channel
RUN/watch/<case>/label.nii.gz            the truth
RUN/watch/<case>/student.nii.gz          what the student says
RUN/watch/<case>/teacher.nii.gz          what the teacher says
RUN/watch/<case>/masked.nii.gz           the image with tubes hidden, always the same ones
RUN/watch/<case>/student_masked.nii.gz   what the student says of it
RUN/watch/watch.json                     which cases, structures and panels there are; of which step; written last
```

All of a case lie on its prepared grid, in RAS axes; labels are in the data set's own values. The last two are there
for a method that hides tubes by its token, and not for one that fills them with other scans. Where scans without labels
join the training, the first of them is shown, too:

```
RUN/watch/unlabelled-<scan>/image.nii.gz, student.nii.gz, teacher.nii.gz
RUN/watch/unlabelled-<scan>/sure.nii.gz  1 where the teacher's answer counts as a target
```
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from medcontext.errors import InputError
from medcontext.files import read_json, write_json, writing

FOLDER = "watch"
VIEWS = {"student": "student", "teacher": "teacher", "student_masked": "student, masked view"}
"""Predictions by their file's name, and what a person calls them."""


@dataclass(frozen=True)
class Watched:
    """`watch.json`.

    Args:
        step: of the training; 0 before the first validation.
        cases: their names, in order.
        structures: each with its label values.
        panels: names of the volumes of each case.
    """

    step: int = 0
    cases: tuple[str, ...] = ()
    structures: dict[str, list[int]] = field(default_factory=dict)
    panels: tuple[str, ...] = ()

    @property
    def views(self) -> dict[str, str]:
        """Those of `VIEWS` that there are."""
        return {panel: name for panel, name in VIEWS.items() if panel in self.panels}


def case_folder(run: Path, case: str) -> Path:
    """Where a case's volumes are."""
    return run / FOLDER / case


def volume_path(run: Path, case: str, panel: str) -> Path:
    """The file of a volume."""
    return case_folder(run, case) / f"{panel}.nii.gz"


def scan_name(scan: str) -> str:
    """What a scan without a label is called among the cases."""
    return f"unlabelled-{scan}"


def write_watched(run: Path, watched: Watched) -> None:
    """Say what there is now.

    Raises:
        InputError: if it cannot be written, as on a full disk.
    """
    path = run / FOLDER / "watch.json"
    with writing(path):
        write_json(path, asdict(watched))


def read_watched(run: Path) -> Watched:
    """What a training said last; of step 0 before the first validation.

    Raises:
        InputError: if the file is damaged.
    """
    path = run / FOLDER / "watch.json"
    if not path.is_file():
        return Watched()
    content = read_json(path)
    missing = [key for key in asdict(Watched()) if key not in content]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}; it was written by another version.")
    return Watched(content["step"], tuple(content["cases"]), content["structures"], tuple(content["panels"]))
