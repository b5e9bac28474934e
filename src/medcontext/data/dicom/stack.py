"""From slices to a volume: their order and the affine, or one clear reason why they are none.

X runs along the rows, Y along the columns, Z from slice to slice in the direction of their normal, as in ITK: an
array of 3D Slicer, ITK-SNAP or SimpleITK has the same axes. DICOM's millimetres are LPS, ours RAS.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medcontext.data.dicom.planes import APART, Plane
from medcontext.data.placement import triple_text
from medcontext.errors import InputError, counted

UNEVEN = 0.1  # slices by which one may lie off an even stack: positions are written rounded
SAME_DIRECTION = 1e-3  # by which direction cosines may differ
TILTED = 0.5  # degrees between the stack's direction and the slices' normal; below, the affine is sheared by it
SAME_PLACE = 1e-3  # mm

RAS = np.diag([-1.0, -1.0, 1.0])


class Stack(NamedTuple):
    """A volume.

    Args:
        planes: in order of Z.
        affine: (4, 4), from voxel indices to mm in RAS+.
        shape: (X, Y, Z).
    """

    planes: tuple[Plane, ...]
    affine: np.ndarray
    shape: tuple[int, int, int]


def stack(planes: Sequence[Plane], where: Path) -> Stack:
    """Put slices in order.

    Args:
        planes: in any order.
        where: the path that a message should name.

    Raises:
        InputError: if they are not one volume of even spacing at right angles.
    """
    _check_each(planes, where)
    rows, columns = np.array(planes[0].orientation[:3]), np.array(planes[0].orientation[3:])
    normal = np.cross(rows, columns)
    positions = np.array([plane.position for plane in planes])  # (n, 3)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    planes, positions, along = [planes[index] for index in order], positions[order], along[order]
    _check_once(planes, along, where)
    _check_even(planes, along, where)
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    _check_straight(planes, positions, step, normal, where)
    between_rows, between_columns = planes[0].spacing
    matrix = np.stack([rows * between_columns, columns * between_rows, step], axis=1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = RAS @ matrix, RAS @ positions[0]
    (height, width) = planes[0].size
    return Stack(tuple(planes), affine, (width, height, len(planes)))


def spacing_text(planes: Sequence[Plane]) -> str:
    """The voxel sizes, roughly, also of slices that are no volume; or nothing."""
    if len(planes) < 2 or not all(plane.position and plane.orientation and plane.spacing for plane in planes):
        return ""
    normal = np.cross(planes[0].orientation[:3], planes[0].orientation[3:])
    along = np.sort([float(np.dot(plane.position, normal)) for plane in planes])
    return f", {triple_text((*planes[0].spacing[::-1], float(np.median(np.diff(along)))))} mm"


def _check_each(planes: Sequence[Plane], where: Path) -> None:
    """Refuse slices that do not say where they are, or that do not belong together."""
    for plane in planes:
        gone = {
            "position (ImagePositionPatient)": not plane.position,
            "orientation (ImageOrientationPatient)": not plane.orientation,
            "pixel spacing (PixelSpacing)": not plane.spacing or min(plane.spacing) <= 0,
        }
        missing = [what for what, none in gone.items() if none]
        if missing:
            raise InputError(
                f"{where}: the DICOM image {plane.name} has no usable {' and no '.join(missing)}: nobody knows where "
                "it lies. Export the original images of the scanner."
            )
    if len({plane.file for plane in planes}) > 1 and any(plane.frame for plane in planes):
        raise InputError(
            f"{where}: the series lies in several files of several frames each, such as {planes[-1].file.name}. Give "
            "the one that is meant, in a folder of its own."
        )
    sizes = {plane.name: f"{plane.size[1]}x{plane.size[0]}" for plane in planes}
    _check_alike(sizes, "sizes", where)
    first = np.array(planes[0].orientation)
    if abs(first[:3] @ first[3:]) > 0.01 or abs(np.linalg.norm(first.reshape(2, 3), axis=1) - 1).max() > 0.01:
        raise InputError(
            f"{where}: the orientation of {planes[0].name} is {first.tolist()}, not two directions at right angles. "
            "Export it again."
        )
    turned = [np.abs(np.array(plane.orientation) - first).max() > SAME_DIRECTION for plane in planes]
    directions = {
        plane.name: (", ".join(f"{value:.3g}" for value in plane.orientation) if turn else "that of the first")
        for plane, turn in zip(planes, turned, strict=True)
    }
    _check_alike(directions, "orientations", where)
    spacings = {plane.name: triple_text(plane.spacing) for plane in planes}
    _check_alike(spacings, "pixel spacings", where)
    frames = {plane.name: plane.frame_of_reference for plane in planes}
    if len(set(frames.values())) > 1:
        raise InputError(f"{where}: the slices lie in {len(set(frames.values()))} coordinate systems. {_APART}")


_APART = "Put the images of one volume into a folder of their own."


def _check_alike(said: dict[str, str], what: str, where: Path) -> None:
    counts = Counter(said.values())
    if len(counts) > 1:
        found = "; ".join(f"{text} ({counted(number, 'slice')})" for text, number in counts.most_common(4))
        odd = next(name for name, text in said.items() if text == counts.most_common()[-1][0])
        raise InputError(f"{where}: the slices have different {what}: {found}, such as {odd}. {_APART}")


def _check_once(planes: Sequence[Plane], along: np.ndarray, where: Path) -> None:
    """Refuse two slices at one place, and say what tells them apart."""
    places = Counter(np.round(along / SAME_PLACE).astype(int).tolist())
    doubled = np.flatnonzero(np.diff(along) < SAME_PLACE)
    if not len(doubled):
        return
    one, two = planes[int(doubled[0])], planes[int(doubled[0]) + 1]
    if one.instance == two.instance and one.frame == two.frame:
        raise InputError(
            f"{where}: {one.file} and {two.file} are the same image (SOPInstanceUID). Remove one; "
            f"{counted(len(doubled), 'image')} of the series {'is' if len(doubled) == 1 else 'are'} doubled."
        )
    differ = {APART[name] for name, text in one.apart if dict(two.apart).get(name, text) != text}
    why = f"they are different {' or '.join(sorted(differ))}" if differ else "nothing says why"
    if set(places.values()) == {max(places.values())}:
        raise InputError(
            f"{where}: the series holds {max(places.values())} volumes, for {len(places)} places have as many slices; "
            f"{why}. medcontext segments one volume: put the images of each into a folder of their own, or convert the "
            "series by dcm2niix and give the file that is meant."
        )
    raise InputError(
        f"{where}: {counted(len(doubled), 'slice')} too many: {one.name} and {two.name}, for one, lie at the same "
        f"place; {why}. Remove those that do not belong."
    )


def _check_even(planes: Sequence[Plane], along: np.ndarray, where: Path) -> None:
    """Refuse a stack with a gap or with another spacing at places."""
    even = np.linspace(along[0], along[-1], len(along))
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    off = float(np.abs(along - even).max()) / usual
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if off <= UNEVEN and not len(wide):
        return
    if len(wide):
        index = int(wide[0])
        lost = counted(max(1, sum(round(float(gaps[each]) / usual) - 1 for each in wide)), "slice")
        raise InputError(
            f"{where}: {lost} of the series seem to be missing: between {planes[index].name} and "
            f"{planes[index + 1].name} there are {gaps[index]:.4g} mm, elsewhere {usual:.4g} mm. Export it again."
        )
    raise InputError(
        f"{where}: the slices are not evenly spaced: {gaps.min():.4g} to {gaps.max():.4g} mm apart. Resample the scan "
        "to even slices, as dcm2niix does, and give that."
    )


def _check_straight(
    planes: Sequence[Plane], positions: np.ndarray, step: np.ndarray, normal: np.ndarray, where: Path
) -> None:
    """Refuse a stack that is sheared, or whose slices lie off a straight line."""
    angle = float(np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1))))
    if angle > TILTED:
        said = f" (the gantry's tilt is said to be {planes[0].tilt:g})" if planes[0].tilt else ""
        raise InputError(
            f"{where}: the slices are not stacked at right angles but tilted by {angle:.3g} degrees{said}. Convert the "
            "series by dcm2niix, which corrects a gantry's tilt, and give the file called _Tilt."
        )
    line = positions[0] + np.arange(len(positions))[:, None] * step
    off = np.linalg.norm((positions - line) - ((positions - line) @ normal)[:, None] * normal, axis=1)
    if off.max() > UNEVEN * min(planes[0].spacing):
        raise InputError(
            f"{where}: the slice {planes[int(off.argmax())].name} is shifted by {off.max():.3g} mm within its plane "
            "against the others. Resample the scan, or export it again."
        )
