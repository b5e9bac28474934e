"""Packing cases into a page, as far as they can be read and the page does not get too large."""

from collections.abc import Callable, Sequence

from medcontext.console import track
from medcontext.errors import InputError
from medcontext.reporting.page import ShownCase, pack_case
from medcontext.reporting.volumes import CaseVolumes

LARGEST = 100 << 20
"""Bytes of a page whose cases were not asked for by name."""


def pack_cases(
    names: Sequence[str],
    read: Callable[[str], CaseVolumes],
    shown: Callable[[str, str], ShownCase],
    largest: int | None = None,
) -> tuple[list[ShownCase], list[str]]:
    """The cases that can be shown, and a sentence on each that cannot.

    Args:
        names: of the cases.
        read: a case's volumes, by its name; an InputError says why not.
        shown: the case of the viewer, from its name and its packed volumes.
        largest: bytes in all, after which the cases that are left are not packed; None for no limit.
    """
    cases: list[ShownCase] = []
    missing: list[str] = []
    size = 0
    for index, name in enumerate(track(names, "packing cases")):
        try:
            volumes = read(name)
        except InputError as error:
            missing.append(f"{name}: {error}")
            continue
        missing += [f"{name}: {volumes.note}"] if volumes.note else []
        packed = pack_case(volumes)
        size += len(packed)
        if cases and largest is not None and size > largest:
            rest = ", ".join(names[index:])
            missing.append(f"{rest}: the page would be above {largest >> 20} MiB; name cases, or use --serve.")
            break
        cases.append(shown(name, packed))
    return cases, missing
