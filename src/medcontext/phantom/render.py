"""Turning drawn anatomy into a scan: pose, deformation, partial volume, blur and noise.

H, W, D: voxels towards the patient's right, front and head (RAS+). C: channels.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from medcontext.errors import InputError
from medcontext.phantom.anatomy import draw_abdomen
from medcontext.phantom.parts import Drawer, Part
from medcontext.phantom.pose import positions_of, smooth_field, voxel_centres
from medcontext.phantom.settings import BODY, Phantom
from medcontext.phantom.solids import Solid

_CAP = 2.0  # voxels from its surface, from where a solid covers all of a voxel or nothing


def draw(
    seed: int, index: int, settings: Phantom | None = None, drawer: Drawer = draw_abdomen
) -> tuple[np.ndarray, np.ndarray]:
    """One generated scan and its segmentation; the same arguments give the same bits.

    Args:
        seed: of the data set, 0 or above.
        index: of the case, 0 or above. A case does not depend on which others are drawn, and its anatomy (not its
            noise) is the same at every size.
        settings: the defaults if None.
        drawer: of other patients than abdomens; it says what the label's values are, and how bright the tissues.

    Returns:
        The image, int16 (C, H, W, D), Hounsfield units for one channel and 0 to about 1000 for several; and the
        label, uint8 (H, W, D), with the values of `STRUCTURES`, and of `DETAILS` where the settings ask for them.

    Raises:
        InputError: for a negative seed or index.

    >>> image, label = draw(0, 0, Phantom(size=(32, 32, 24)))
    >>> image.shape, label.shape, int(label.max())
    ((1, 32, 32, 24), (32, 32, 24), 9)
    """
    settings = settings or Phantom()
    if seed < 0 or index < 0:
        raise InputError(f"Phantom seed is {seed} and case index {index}; both are whole numbers from 0.")
    anatomy, tissues, pose, noise = map(np.random.default_rng, np.random.SeedSequence([seed, index]).spawn(4))
    patient = drawer(anatomy, tissues, settings)
    canvas = _Canvas(positions_of(pose, settings), patient.values["air"], patient.labels)
    for part in patient.parts:
        canvas.paint(part, patient.values)
    image = canvas.image + canvas.texture * _fine_vessels(pose, settings, patient.values)
    return _acquired(noise, image, patient.mr, settings), canvas.label


class _Canvas:
    """Image and label so far, painted over part by part."""

    def __init__(self, positions: np.ndarray, background: np.ndarray, labels: dict[str, int]) -> None:
        shape = positions.shape[1:]
        self.labels = labels
        self.positions = positions
        self.image = np.broadcast_to(background[:, None, None, None], (len(background), *shape)).copy()
        self.texture = np.zeros(shape, dtype=np.float32)
        self.label = np.zeros(shape, dtype=np.uint8)
        self._bounds: dict[int, np.ndarray] = {}
        others = ((1, 2), (0, 2), (0, 1))
        self._low = [positions[axis].min(axis=others[axis]) for axis in range(3)]
        self._high = [positions[axis].max(axis=others[axis]) for axis in range(3)]
        self._step = max(float(np.abs(np.diff(positions[axis], axis=axis)).max()) for axis in range(3))

    def paint(self, part: Part, values: dict[str, np.ndarray]) -> None:
        """Mix the part's tissue in by the share of each voxel that it fills; label by the voxel's centre."""
        window = self._window(part)
        if window is None:
            return
        distance = part.solid.distance(self.positions[(slice(None), *window)])
        if part.inside is not None:
            distance = np.maximum(distance, self._bounded(part.inside)[window] + np.float32(part.gap))
        layers = [(0.0, part.tissue)]
        if part.sheath > 0:
            layers.insert(0, (-part.sheath, "fat"))
        if part.core is not None:
            layers.append(part.core)
        share = _Coverage(distance)
        for depth, tissue in layers:
            self._mix(window, share(depth), values[tissue], 0.0 if depth < 0 else part.texture)
        self.label[window][distance < part.sheath] = 0
        self.label[window][distance < 0] = self.labels.get(part.structure or "", 0)

    def _mix(self, window: tuple[slice, ...], share: np.ndarray, values: np.ndarray, texture: float) -> None:
        for channel, value in zip(self.image, values, strict=True):
            channel[window] += share * (value - channel[window])
        self.texture[window] += share * (np.float32(texture) - self.texture[window])

    def _bounded(self, solid: Solid) -> np.ndarray:
        """The distance from everywhere to a solid that many parts lie in, computed once."""
        if id(solid) not in self._bounds:
            self._bounds[id(solid)] = solid.distance(self.positions)
        return self._bounds[id(solid)]

    def _window(self, part: Part) -> tuple[slice, ...] | None:
        """The voxels that a part can touch; at least two along each axis, for the gradient."""
        margin = part.sheath + _CAP * self._step
        box = part.solid.bounds()
        if part.inside is not None:
            inner = part.inside.bounds()
            box = np.maximum(box[0], inner[0]), np.minimum(box[1], inner[1])
        window = []
        for axis in range(3):
            near = (self._high[axis] >= box[0][axis] - margin) & (self._low[axis] <= box[1][axis] + margin)
            inside = np.flatnonzero(near)
            if not inside.size:
                return None
            start = min(int(inside[0]), near.size - 2)
            window.append(slice(start, max(int(inside[-1]) + 1, start + 2)))
        return tuple(window)


class _Coverage:
    """The share of each voxel inside a surface: how the distance changes across the voxel tells."""

    def __init__(self, distance: np.ndarray) -> None:
        self.distance = distance
        self.across = np.full_like(distance, 1e-6)
        for axis in range(3):
            self.across += np.abs(np.gradient(distance, axis=axis))

    def __call__(self, depth: float) -> np.ndarray:
        """The share, 0 to 1, that lies deeper than `depth` millimetres below the surface."""
        share = np.float32(0.5) - (self.distance + np.float32(depth)) / self.across
        return np.clip(share, 0, 1, out=share)


def _fine_vessels(rng: np.random.Generator, settings: Phantom, values: dict[str, np.ndarray]) -> np.ndarray:
    """What the vessels and the grain of liver and spleen add, (C, H, W, D): curves where two random fields are 0."""
    axes = voxel_centres(settings, BODY)
    first, second, grain = (smooth_field(rng, axes, gap) for gap in (24.0, 24.0, 12.0))
    vessels = np.exp(-(first**2 + second**2) / np.float32(0.17))
    change = (values["blood"] - values["parenchyma"]).reshape(-1, 1, 1, 1) * np.float32(0.7)
    return vessels * change + grain * (np.abs(change) + np.float32(20)) * np.float32(0.06)


def _acquired(rng: np.random.Generator, image: np.ndarray, mr: bool, settings: Phantom) -> np.ndarray:
    """Blur by the scanner's point spread, add grainy and white noise, round to int16."""
    spread = rng.uniform(0.4, 0.7) * np.array([1.0, 1.0, 0.8])
    level = rng.uniform(9, 22) * settings.noise
    grain = rng.uniform(0.6, 1.0)
    scans = []
    for channel in image:
        scan = gaussian_filter(channel, spread, mode="nearest")
        if mr:
            scan *= 1 + np.float32(0.3) * _bias(rng, settings)
        noise = gaussian_filter(rng.standard_normal(scan.shape, dtype=np.float32), (grain, grain, 0.5 * grain))
        noise *= np.float32(0.8 * level) / noise.std()
        noise += np.float32(0.6 * level) * rng.standard_normal(scan.shape, dtype=np.float32)
        scan += noise
        scans.append(np.clip(np.rint(scan), 0 if mr else -1024, 3071).astype(np.int16))
    return np.stack(scans)


def _bias(rng: np.random.Generator, settings: Phantom) -> np.ndarray:
    """The slow brightness of an MR coil, (H, W, D), about -1 to 1."""
    return np.tanh(0.4 * smooth_field(rng, voxel_centres(settings, BODY), 200.0))
