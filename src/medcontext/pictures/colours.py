"""The colours of structures: the same in pictures, on the page, and in the files for other programs."""

from collections.abc import Mapping, Sequence

# Okabe and Ito's colours without their red, which is for errors, then others that stay apart for colour-blind eyes.
COLOURS = (
    *("#56B4E9", "#E69F00", "#0072B2", "#FFFFFF", "#CC79A7", "#009E73", "#F0E442"),
    *("#7A52C7", "#A8743A", "#B7E07A", "#9A9A9A", "#F2C6A8", "#2B5F3A", "#C9B6F2"),
)

NamedValues = Mapping[str, int | Sequence[int]]
"""What is told apart in a picture: name to value or values of a label; regions with those inside them after them."""


def colours_of(structures: NamedValues) -> dict[str, str]:
    """A colour for each structure, as #RRGGBB, whatever their order and whichever others are shown.

    It is that of the label value: the values 1 to 14 have the colours in order, a larger one the next that is free, and
    where none is, another's. A structure of several values has that of the one which no structure after it has, as
    regions are drawn over one another, and written.

    >>> colours_of({"spleen": 2, "liver": 1}), colours_of({"spleen": 2})
    ({'spleen': '#E69F00', 'liver': '#56B4E9'}, {'spleen': '#E69F00'})
    >>> colours_of({"WT": (1, 2, 4), "TC": (1, 4), "ET": 4}) == dict(WT="#E69F00", TC="#56B4E9", ET="#FFFFFF")
    True
    """
    names = list(structures)
    sets = [{each} if isinstance(each, int) else set(each) for each in structures.values()]
    values = {name: min(sets[index].difference(*sets[index + 1 :]) or sets[index]) for index, name in enumerate(names)}
    found: dict[str, str] = {}
    for name in sorted(names, key=values.__getitem__):
        own = COLOURS[(values[name] - 1) % len(COLOURS)]
        taken = set(found.values())
        free = next((colour for colour in COLOURS if colour not in taken), own)
        found[name] = own if values[name] <= len(COLOURS) and own not in taken else free
    return {name: found[name] for name in names}
