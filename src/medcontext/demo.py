"""The whole way on a generated data set: few labels, more scans, beside the plain baseline, in minutes on a CPU."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rich.table import Table
from rich.text import Text

from medcontext.commands.evaluate import evaluate
from medcontext.commands.predict import predict
from medcontext.commands.report import report
from medcontext.commands.train import train
from medcontext.console import console
from medcontext.data.formats import read_dataset
from medcontext.evaluation.summary import Scores
from medcontext.files import AnyPath, output_folder, write_json
from medcontext.method import Unlabelled
from medcontext.phantom import write_phantom
from medcontext.pictures.mosaic import MosaicCase, draw_mosaic
from medcontext.reporting.niivue import has_niivue
from medcontext.settings import Settings

SIZE, SPACING = (56, 56, 40), (6.0, 6.0, 6.0)  # small enough for two cores, large enough for every organ
TRAINING, UNLABELLED, TESTING = 5, 20, 8
COMMON: dict[str, Any] = {
    "batch_size": 2,
    "crop_size": SIZE,
    "optimizer.lr": 2e-3,
    "network_args.num_res_units": 0,
    "method.mask.patch_size": 8,
}
ARMS = {"baseline": "none", "MedContext": "medcontext"}


def demo(output: AnyPath = Path("demo"), steps: int = 800, seed: int = 0) -> Path:
    """Generate scans, train MedContext and the baseline, and show the difference; minutes on a CPU.

    The baseline has the labelled scans alone, MedContext also those without labels, and as many steps as cost the same.

    Args:
        output: folder for everything, new or empty.
        steps: optimizer steps of the baseline.
        seed: of the scans and the trainings.

    Returns:
        The path of the picture.
    """
    output = output_folder(Path(output))
    counts = {"cases": TRAINING + TESTING, "test_cases": UNLABELLED}
    data = write_phantom(output / "data", **counts, size=SIZE, spacing=SPACING, seed=seed)  # type: ignore[arg-type]
    names = sorted(path.name.removesuffix(".nii.gz") for path in (data / "labelsTr").iterdir())
    split = output / "split.json"
    write_json(split, {"train": names[:TRAINING], "validation": [], "test": names[TRAINING:]})
    arms: dict[str, Scores] = {}
    for arm, method in ARMS.items():
        console.rule(Text(arm, "bold"))
        folder = output / arm.lower()
        settings = Settings.preset(method=method, split=str(split), steps=steps, seed=seed, **COMMON)
        scans = () if method == "none" else (data,)  # its imagesTs
        settings = replace(settings, steps=equal_steps(steps, settings.method.unlabelled) if scans else steps)
        run = train(data, folder / "run", settings, unlabelled=scans, cache=output / "cache")
        predict(run, data, folder / "predictions")
        arms[arm] = evaluate(folder / "predictions", data, folder / "scores")
    console.rule(Text("Result", "bold"))
    console.print(result_table({arm: scores.summary for arm, scores in arms.items()}))
    picture = output / "demo.png"
    draw(data, output, names[TRAINING:], picture)
    report(
        {arm: [scores] for arm, scores in arms.items()}, output / "report.html", cases=["all" if has_niivue() else "0"]
    )
    for arm in ARMS:
        console.print(f"Predictions, {arm}: {output / arm.lower() / 'predictions'}", soft_wrap=True)
    console.print(f"Picture: {picture}", soft_wrap=True)
    return picture


def equal_steps(steps: int, rule: Unlabelled) -> int:
    """How many steps with unlabelled scans cost what so many plain ones do.

    Before they join, a step is a plain one. After, a share of the crops is asked of the teacher, too, which costs a
    third of learning from a crop: a backward pass costs two forward passes.

    >>> equal_steps(900, Unlabelled(start=0.25, share=0.5))
    800
    """
    return round(steps / (1 + (1 - rule.start) * rule.share / 3))


def result_table(summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """Both means for every structure and their difference, with misses and false alarms beside them."""
    first, second = summaries.values()
    names = list(summaries)
    table = Table("structure", title=f"DSC in per cent, {len(first['cases'])} test scans")
    for heading in (*names, "difference", "missed", "false alarms"):
        table.add_column(heading, justify="right")
    for name in first["structures"]:
        table.add_row(name, *_cells(first["structures"][name], second["structures"][name]))
    table.add_section()
    table.add_row("mean", *_cells(first["mean"], second["mean"]), style="bold")
    return table


def _cells(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    a, b = (100 * (row["dsc"]["mean"] if isinstance(row["dsc"], dict) else row["dsc"]) for row in (first, second))
    counts = (f"{first[count]} and {second[count]}" for count in ("missed", "spurious"))
    return [f"{a:.1f}", f"{b:.1f}", f"{b - a:+.1f}", *counts]


def draw(data: Path, output: Path, names: Sequence[str], picture: Path) -> None:
    """The picture: image, truth and both predictions of two test scans."""
    dataset = read_dataset(data)
    cases = []
    for name in names[:2]:
        volumes = [data / "imagesTr", data / "labelsTr", *(output / arm.lower() / "predictions" for arm in ARMS)]
        loaded = [nib.as_closest_canonical(nib.load(folder / f"{name}.nii.gz")) for folder in volumes]
        image, truth, *predictions = (np.asanyarray(volume.dataobj) for volume in loaded)
        cases.append(MosaicCase(name, image, truth, dict(zip(ARMS, predictions, strict=True)), SPACING))
    title = f"Generated abdomen, {TRAINING} labelled scans; MedContext has {UNLABELLED} without labels; same cost"
    draw_mosaic(cases, dataset.structures, picture, slices=2, window=(-150, 250), title=title)
