"""What a score means: the units, and what a structure without overlap costs."""

from dataclasses import dataclass

from medcontext.errors import unknown_name

HD95_DEFINITIONS = {
    "hd95_pooled": "95th percentile of both directed sets of surface distances, pooled (medpy, nnFormer, the paper)",
    "hd95_max": "the larger of the 95th percentiles of the two directed sets (MONAI)",
}


@dataclass(frozen=True)
class Protocol:
    """The conventions of an evaluation.

    Args:
        name: as given by the user.
        millimetres: whether HD95 is in millimetres, else in voxels whatever their size.
        empty_hd95_is_diagonal: HD95 where only one of label and prediction has the structure: the length of the
            image's diagonal, which no true HD95 exceeds; else 0.
        absent_counts: whether a structure that neither has counts, with Dice 0 and HD95 0; else it is left out of
            the means and counted apart.
    """

    name: str
    millimetres: bool
    empty_hd95_is_diagonal: bool
    absent_counts: bool

    @property
    def hd95_unit(self) -> str:
        return "mm" if self.millimetres else "voxels"

    @property
    def conventions(self) -> dict[str, str]:
        """In words, for the summary file."""
        one_sided = "the image diagonal" if self.empty_hd95_is_diagonal else "0"
        absent = "DSC 0, HD95 0, counted in the means" if self.absent_counts else "left out of the means, counted"
        return {
            "missed (in the label, not predicted)": f"DSC 0, HD95 {one_sided}",
            "spurious (predicted, not in the label)": f"DSC 0, HD95 {one_sided}",
            "absent (in neither)": absent,
        }


PROTOCOLS = {
    "standard": Protocol("standard", millimetres=True, empty_hd95_is_diagonal=True, absent_counts=False),
    "legacy": Protocol("legacy", millimetres=False, empty_hd95_is_diagonal=False, absent_counts=True),
}
"""`standard` is for trust. A spurious structure costs as much as a missed one: by its formula its Dice is 0 and its
distance has no bound, and were it left out, a network that paints organs where there are none would pay nothing.

`legacy` is for comparing with the paper's tables, whose code scores so: HD95 in voxels and 0 for an empty mask, and
Dice 0 for a structure that the label lacks, whether it was predicted or not. (That code also scores on the resampled
grid; this follows from the files given, not from the protocol.)"""


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
