"""What `run.json` says of a training: on what, with what, how far it is, what it took."""

from dataclasses import asdict, dataclass, field
from typing import Any

from medcontext.configuration import plain
from medcontext.data.regions import Regions
from medcontext.data.unlabelled import ScanLists
from medcontext.typed_json import taken


@dataclass(frozen=True)
class UnlabelledFacts(ScanLists):
    """The scans without labels that take part, and those that were left out.

    Args:
        scans: of each its source, name, and the digest of its image.
    """

    scans: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def from_dict(cls, content: Any) -> "UnlabelledFacts":
        """From plain values, see `Facts.from_dict`."""
        return taken(content, cls, "unlabelled")


@dataclass
class Facts:
    """They grow while the training goes on.

    Args:
        dataset: its name.
        crop_size: voxels (H, W, D) of the prepared grid.
        data: the folder that the data set was in.
        regions: the overlapping regions that the network segments; empty if it segments structures.
        versions: of what the training runs with.
        cases: for each labelled case that is read the digests of its images and of its label.
        rest: names of the training cases whose labels are not read.
        unlabelled: scans without labels.
        init_sha256: of the file of weights that it started from; None where it started from random ones.
        init: in words, what it started from; empty for random weights.
        init_tested: names of the test cases whose images that had seen.
        parameters: of the network; None before there is one.
        hardware: of the last process, for a person.
        devices: that share a step.
        precision: that it computes in, in Lightning's words.
        step: of the last checkpoint.
        ended: why it ended before its steps, in a sentence; None while it goes on, and of one that made all.
        seconds: until then, over all processes that the run took; None before the first.
        peak_gpu_memory_gib: the most of any process.
        changes: settings that a resume changed, in words, and the step of the last checkpoint then.
        wandb_id: of the record there.
        mlflow_id: likewise.
    """

    dataset: str
    crop_size: tuple[int, int, int]
    data: str = ""
    regions: Regions = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    cases: dict[str, tuple[str, str]] = field(default_factory=dict)
    rest: tuple[str, ...] = ()
    unlabelled: UnlabelledFacts = UnlabelledFacts()
    init_sha256: str | None = None
    init: str = ""
    init_tested: tuple[str, ...] = ()
    parameters: int | None = None
    hardware: str | None = None
    devices: int | None = None
    precision: str | None = None
    step: int | None = None
    ended: str | None = None
    seconds: float | None = None
    peak_gpu_memory_gib: float | None = None
    changes: tuple[tuple[int, str], ...] = ()
    wandb_id: str | None = None
    mlflow_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without what is not known."""
        content = asdict(self)
        content["unlabelled"] = {name: value for name, value in content["unlabelled"].items() if value}
        always = ("data", "regions", "versions")
        kept = {name: value for name, value in content.items() if value not in (None, (), {}, "") or name in always}
        return plain(kept)

    @classmethod
    def from_dict(cls, content: Any) -> "Facts":
        """The reverse; fields of other versions are left aside.

        Raises:
            InputError: if a field is missing, or is not what it must be.
        """
        return taken(content, cls, "it")
