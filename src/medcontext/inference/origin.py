"""Where predictions come from: the `dataset.json` beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import medcontext
from medcontext.data.folders import listed
from medcontext.errors import InputError, counted
from medcontext.files import read_json, write_json
from medcontext.inference.ensemble import Member
from medcontext.run import Weights
from medcontext.run.calibration import Calibration
from medcontext.run.postprocessing import Keep, step_text

RECORD = "dataset.json"
PER_CASE = ("parts", "dropped_ml")  # its entries of single cases
WITHOUT = {"postprocessing": "--postprocess false", "calibrated_on": "--expected false"}
"""Of what a run may have been given since a prediction began, the option that goes on without it."""


def describe_origin(
    members: Sequence[Member],
    weights: Weights,
    inputs: Sequence[Path],
    steps: Mapping[str, Keep] = MappingProxyType({}),
    calibration: Calibration | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What the values mean, and everything that decides them.

    The values are those after the data set's "label_map" and that of the training's settings; the latter is noted, for
    labels to be scored as they were learnt. `probability_classes` are the classes along the last axis of probability
    files. Checkpoints are told apart by their content: training may have gone on under the same name.

    Args:
        members: networks, whose probabilities are averaged.
        weights: the student's or the teacher's.
        inputs: what is predicted; nothing where names are not to be noted.
        steps: of post-processing, by structure.
        calibration: by which the expected DSC is said.
        options: what else was given, noted where it is something.
    """
    run = members[0].run
    label_map = run.settings.prepare.label_map
    labels = {"background": 0} | dict(sorted(run.plan.labels.items(), key=lambda item: item[1]))
    return {
        "name": run.facts.dataset,
        "labels": labels,
        **({"regions": {name: list(values) for name, values in run.regions.items()}} if run.regions else {}),
        "probability_classes": list(run.regions or labels),
        "predicted_by": {
            "input": _plain([str(path.resolve()) for path in inputs] or ["not noted (--anonymous)"]),
            "weights": weights,
            **({"label_map": {str(value): target for value, target in label_map.items()}} if label_map else {}),
            "networks": [
                {
                    "checkpoint": str(member.checkpoint.resolve()),
                    "sha256": member.hash,
                    "overlap": member.window.overlap,
                    "mirror": member.window.mirror,
                }
                for member in members
            ],
            "medcontext": medcontext.__version__,
            **{name: given for name, given in options.items() if given},
            **({"calibrated_on": len({each.case for each in calibration.observed})} if calibration else {}),
            **({"postprocessing": {name: step_text(keep) for name, keep in steps.items()}} if steps else {}),
        },
    }


def check_same_origin(output: Path, origin: dict[str, Any]) -> None:
    """Refuse to add predictions to a folder with others, or with files that are no predictions.

    Raises:
        InputError: naming what differs.
    """
    if not output.is_dir() or all(path.name.startswith(".") for path in output.iterdir()):
        return
    if not (output / RECORD).is_file():
        raise InputError(f"{output} has files, but no {RECORD} of a prediction to go on with; choose another --output.")
    found = read_json(output / RECORD)
    if isinstance(found, dict) and {key: found[key] for key in found if key not in PER_CASE} == origin:
        return
    before = found.get("predicted_by") if isinstance(found, dict) else None
    if not isinstance(before, dict):
        raise InputError(f"{output} does not hold predictions (see its {RECORD}); choose another --output.")
    now = origin["predicted_by"]
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    changes = [f"{key} was {_short(before.get(key))}, now {_short(now.get(key))}" for key in keys]
    new = [option for key, option in WITHOUT.items() if key in now and key not in before]
    without = f" ({' '.join(new)}, as it began, of `medcontext predict`)" if new else ""
    raise InputError(
        f"{output} holds other predictions: {'; '.join(changes) or 'other labels'}. Resume with the same input, "
        f"networks and options{without}, or choose another --output."
    )


def _plain(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values


def _short(value: Any) -> Any:
    return listed(value, 3) if isinstance(value, list) and all(isinstance(each, str) for each in value) else value


def write_record(output: Path, origin: dict[str, Any], case: str, part: str, dropped: dict[str, float]) -> None:
    """Write what `describe_origin` says, and of a case which part it had in the training; of those before it stays.

    Args:
        output: the folder.
        origin: what `describe_origin` said.
        case: its name.
        part: of the training.
        dropped: what post-processing took from its structures, in ml.
    """
    record = read_json(output / RECORD) if (output / RECORD).is_file() else dict(origin)
    record["parts"] = {**record.get("parts", {}), case: part}
    taken = {**record.pop("dropped_ml", {}), case: dropped}
    if taken := {name: volumes for name, volumes in taken.items() if volumes}:
        record["dropped_ml"] = taken
    write_json(output / RECORD, record)


def dropped_words(output: Path) -> list[str]:
    """What post-processing took from the predictions in a folder: a sentence, or none."""
    record = read_json(output / RECORD) if (output / RECORD).is_file() else {}
    taken: dict[str, list[tuple[float, str]]] = {}
    for case, volumes in record.get("dropped_ml", {}).items():
        for name, ml in volumes.items():
            taken.setdefault(name, []).append((ml, case))
    each = [f"{name} in {counted(len(of), 'case')} ({max(of)[0]:.3g} ml in {max(of)[1]})" for name, of in taken.items()]
    return [f"Post-processing dropped components of {', '.join(each)}; --postprocess false keeps them."] if each else []
