"""The colours of structures: the same in pictures, on the page, and in the files for other programs."""

from collections.abc import Mapping, Sequence

# Any two differ clearly, whichever organs are neighbours, also to colour-blind eyes; none is grey as scans are, or near
# an error's. tests/pictures/test_colours.py has the distances.
COLOURS = (
    *("#5A96FF", "#FFFF1E", "#5A8700", "#F0C3C3", "#5A5AA5", "#00C378", "#B469C3"),
    *("#FFC30F", "#D2FFF0", "#FF87C3", "#008787", "#FF873C", "#A53C4B", "#87FF96"),
)
ERRORS = {"missed": "#FF1F1F", "spurious": "#00E5FF", "wrong structure": "#B000FF"}
"""Apart in hue, because light and shade of a body in 3D change all else."""

NamedValues = Mapping[str, int | Sequence[int]]
"""What is told apart in a picture: name to value or values of a label; regions with those inside them after them."""


def colours_of(structures: NamedValues) -> dict[str, str]:
    """A colour for each structure, as #RRGGBB, whatever their order and whichever others are shown.

    It is that of the label value: the values 1 to 14 have the colours in order, a larger one the next that is free, and
    where none is, another's. A structure of several values has that of the one which no structure after it has, as
    regions are drawn over one another, and written.

    >>> colours_of({"spleen": 2, "liver": 1}), colours_of({"spleen": 2})
    ({'spleen': '#FFFF1E', 'liver': '#5A96FF'}, {'spleen': '#FFFF1E'})
    >>> colours_of({"WT": (1, 2, 4), "TC": (1, 4), "ET": 4}) == dict(WT="#FFFF1E", TC="#5A96FF", ET="#F0C3C3")
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
