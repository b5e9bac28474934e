"""What a network's signs are worth: how good its segmentations were where labels say so, and which scans it knows.

```
RUN/calibration.json   of every case that the network was not trained on its signs and its DSC, and the rule that was
                       learnt from them; what the labelled scans look like
```
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from medcontext.errors import InputError
from medcontext.files import read_json, write_json, writing
from medcontext.typed_json import taken

FILE, UNFINISHED = "calibration.json", "calibration-unfinished.json"


@dataclass(frozen=True)
class Observed:
    """One structure in one case that the network was not trained on.

    Args:
        case: its name.
        patient: whose scan it is.
        structure: its name.
        signs: see `medcontext.inference.signs`.
        dsc: a fraction.
        expected: the DSC that a rule says which was learnt without this patient; None where there is no other.
        digest: of the image, the label and the affine, by which the case is told from another one of its name.
        scan: of the image alone; nothing in files that lack it.
    """

    case: str
    patient: str
    structure: str
    signs: tuple[float, ...]
    dsc: float
    expected: float | None = None
    digest: str = ""
    scan: str = ""


@dataclass(frozen=True)
class Rule:
    """From signs to the expected DSC: an intercept, a weight for each sign, and what a structure differs by.

    Args:
        intercept: at the signs' means.
        means: of each sign.
        weights: of each sign, none below 0.
        offsets: of each structure.
        width: of the interval: it reaches so many times the distance from a DSC of 1 to either side.
        level: the share of unseen cases whose DSC it holds, as far as so few cases can tell.
    """

    intercept: float
    means: tuple[float, ...]
    weights: tuple[float, ...]
    offsets: dict[str, float]
    width: float
    level: float


@dataclass(frozen=True)
class Known:
    """The labelled scans of a training, to tell others from them.

    Args:
        quantiles: of each scan's prepared intensities, (C, 21).
        extents: of each scan's field of view to the right, anterior and superior, in mm.
        volumes: of each structure in each scan, in ml; 0 where it is not there.
    """

    quantiles: tuple[tuple[tuple[float, ...], ...], ...]
    extents: tuple[tuple[float, float, float], ...]
    volumes: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Calibration:
    """`calibration.json`.

    Args:
        weights: the student's or the teacher's.
        networks: SHA-256 of the checkpoint, or of each fold's.
        overlap: of neighbouring windows.
        mirror: whether mirrored views were averaged.
        signs: names, in order.
        known: what the labelled scans look like.
        observed: what was learnt from; empty where there are no cases but those of the training.
        rule: that was learnt; None likewise.
        postprocessing: what was done to the predictions, by structure; nothing in files that lack it.
    """

    weights: str
    networks: tuple[str, ...]
    overlap: float
    mirror: bool
    signs: tuple[str, ...]
    known: Known
    observed: tuple[Observed, ...] = ()
    rule: Rule | None = None
    postprocessing: dict[str, str] = field(default_factory=dict)

    def holds_for(self, other: "Calibration") -> bool:
        """Whether it was made as another is: with the same networks in any order, windows, signs, post-processing."""
        same = ("weights", "overlap", "mirror", "signs", "postprocessing")
        return sorted(self.networks) == sorted(other.networks) and all(
            getattr(self, name) == getattr(other, name) for name in same
        )


def write_calibration(path: Path, found: Calibration) -> None:
    """Write what was found.

    Raises:
        InputError: if it cannot be written, as on a full disk.
    """
    with writing(path):
        write_json(path, asdict(found))


def read_calibration(path: Path) -> Calibration | None:
    """What was found; None where nobody has looked.

    Raises:
        InputError: if the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return taken(read_json(path), Calibration, "it")
    except InputError as error:
        raise InputError(f"{path} is damaged: {error} Remove it, and run `medcontext calibrate` again.") from None
