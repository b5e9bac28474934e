"""A trained network as a file for programs that know nothing of MedContext."""

from pathlib import Path
from typing import Literal

from medcontext.errors import InputError
from medcontext.files import AnyPath


def export(
    run: AnyPath,
    *,
    onnx: AnyPath | None = None,
    torch: AnyPath | None = None,
    bundle: AnyPath | None = None,
    checkpoint: str = "last",
    weights: Literal["student", "teacher"] = "student",
) -> list[Path]:
    """Write a trained network as a file for other programs.

    It takes any batch and, if the network can, any size. It is compared with torch before it is written, and says
    itself how scans are prepared and what its outputs mean.

    Args:
        run: folder of a training run
        onnx: an .onnx file to write, for ONNX Runtime and whatever else reads ONNX
        torch: a .pt2 file to write, of torch.export, which needs torch and not the network's code
        bundle: a folder to write, new or empty: a MONAI bundle, which MONAI's own command runs over a folder of scans,
            as `predict` does; see docs/monai.md
        checkpoint: last, best or a file
        weights: the student's, as in the paper, or the EMA teacher's

    Returns:
        The paths of what was written.

    Raises:
        InputError: if the run cannot be used, a file is there already or cannot be written, or the network cannot be
            exported or then gives other answers than in torch.
    """
    import json
    from collections.abc import Callable

    from medcontext.console import console, warn
    from medcontext.files import output_folder
    from medcontext.inference.export import export_network, write
    from medcontext.inference.export_facts import describe, sample
    from medcontext.inference.export_onnx import OnnxNetwork
    from medcontext.inference.export_torch import TorchNetwork
    from medcontext.integrations.bundle import write_bundle
    from medcontext.run import load_network, read_runs

    kinds: dict[str, tuple[AnyPath | None, Callable]] = {".onnx": (onnx, OnnxNetwork), ".pt2": (torch, TorchNetwork)}
    wanted = {end: (Path(path), kind) for end, (path, kind) in kinds.items() if path is not None}
    if not wanted and bundle is None:
        raise InputError("Nothing to write: give --onnx FILE, --torch FILE, --bundle DIR, or several.")
    for end, (path, _) in wanted.items():
        if path.suffix != end:
            raise InputError(f"{path} does not end in {end}; call it {path.with_suffix(end)}.")
        if path.exists():
            raise InputError(f"{path} is there already; choose another name, or remove it.")
    runs = read_runs(Path(run))
    if len(runs) > 1:
        raise InputError(
            f"{run} is a cross-validation of {len(runs)} networks, and an export holds one; export each fold alone, "
            f"such as {runs[0].folder}."
        )
    for path, _ in wanted.values():
        output_folder(path.parent, overwrite=True)  # before the work
    if bundle is not None:
        with console.status("exporting the bundle"):
            remarks = write_bundle(runs[0], Path(bundle), checkpoint, weights)
        warn(remarks)
        console.print(f"Written: {bundle}", soft_wrap=True)
        if not wanted:
            return [Path(bundle)]
    network = load_network(runs[0], checkpoint, weights)
    facts = describe(runs[0], runs[0].checkpoint(checkpoint), weights)
    crop, what = sample(runs[0])
    for path, kind in wanted.values():
        with console.status(f"exporting {path.name}"):
            outcome = export_network(kind, network, crop, bool(runs[0].regions))
        checked = {"size": "fixed" if outcome.fixed else "any", "checked": outcome.facts(what)}
        write(path, outcome.exported, json.dumps(facts | checked))
        size = f"only of {'x'.join(map(str, runs[0].crop_size))}: {outcome.fixed}" if outcome.fixed else "of any size"
        console.print(f"Images {size}. Compared with torch on {what}: {outcome.agreement}.", soft_wrap=True)
        console.print(f"Written: {path}", soft_wrap=True)
    return [path for path, _ in wanted.values()] + ([] if bundle is None else [Path(bundle)])
