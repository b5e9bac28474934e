"""The whole way on a generated data set: few labels, more scans, beside the plain baseline, in minutes on a CPU."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from rich.table import Table
from rich.text import Text

from medcontext.commands.evaluate import evaluate
from medcontext.commands.predict import predict
from medcontext.commands.report import report
from medcontext.commands.train import train
from medcontext.console import console
from medcontext.data.formats import read_dataset
from medcontext.evaluation.summary import Scores
from medcontext.files import AnyPath, output_folder
from medcontext.method import Unlabelled
from medcontext.phantom import write_phantom
from medcontext.pictures.mosaic import MosaicCase, draw_mosaic
from medcontext.reporting.niivue import has_niivue
from medcontext.settings import Settings

SIZE, SPACING = (48, 48, 8), (7.5, 7.5, 25.0)  # as few voxels as show a heart's parts, so that trainings end
TRAINING, UNLABELLED, TESTING = 5, 20, 16
COMMON: dict[str, Any] = {
    "few_shot": TRAINING,
    "batch_size": 2,
    "crop_size": SIZE,
    "prepare.spacing": SPACING,
    "optimizer.lr": 2e-3,
    "network_args.num_res_units": 0,
    "method.mask.patch_size": 8,
    "augment.rotation": (0, 0, 30),  # in the plane alone, for slices are thick
    "augment.scale": (0.7, 1.4),
    "augment.affine_probability": 0.8,
}
ARMS = {"baseline": "none", "MedContext": "medcontext"}


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: crops this small are hardly faster on two, and many times slower beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def demo(output: AnyPath = Path("demo"), steps: int = 3000, seed: int = 0) -> Path:
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
    data = write_phantom(
        output / "data",
        cases=TRAINING + UNLABELLED,
        test_cases=TESTING,
        layout="acdc",
        size=SIZE,
        spacing=SPACING,
        seed=seed,
    )
    arms: dict[str, Scores] = {}
    for arm, method in ARMS.items():
        console.rule(Text(arm, "bold"))
        folder = output / arm.lower()
        split = str(data / "split.json")
        settings = Settings.preset(method=method, split=split, steps=steps, seed=seed, validation_cases=0, **COMMON)
        scans = () if method == "none" else ("rest",)
        settings = replace(settings, steps=equal_steps(steps, settings.method.unlabelled) if scans else steps)
        run = train(data, folder / "run", settings, unlabelled=scans, cache=output / "cache")
        predict(run, data, folder / "predictions")
        arms[arm] = evaluate(folder / "predictions", data, folder / "scores")
    console.rule(Text("Result", "bold"))
    console.print(result_table({arm: scores.summary for arm, scores in arms.items()}))
    picture = output / "demo.png"
    draw(data, arms, picture)
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
    table = Table(title=f"DSC in per cent, {len(first['cases'])} test scans")
    table.add_column("structure", no_wrap=True)
    for heading in (*names, "difference", "missed", "false\nalarms"):
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


def draw(data: Path, arms: Mapping[str, Scores], picture: Path) -> None:
    """The picture: image, truth and both predictions of a scan of two test patients."""
    cases = []
    for each in zip(*(scores.summary["cases"][:: TESTING // 2] for scores in arms.values()), strict=True):
        files = [each[0]["images"][0], each[0]["label"], *(case["prediction"] for case in each)]
        loaded = [np.asanyarray(nib.as_closest_canonical(nib.load(file)).dataobj) for file in files]
        image, truth, *predictions = loaded
        cases.append(MosaicCase(each[0]["name"], image, truth, dict(zip(arms, predictions, strict=True)), SPACING))
    title = f"Generated hearts, {TRAINING} labelled scans; MedContext has {UNLABELLED} without labels; same cost"
    draw_mosaic(cases, read_dataset(data).structures, picture, slices=2, title=title)
