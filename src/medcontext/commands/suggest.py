"""Which scans to label next.

```
OUTPUT/suggested.csv   the scans, the most useful first, and why
OUTPUT/suggested.png   they and their segmentations
OUTPUT/predictions     of all scans, see `medcontext.commands.predict`; a labeller can start from them
```
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from medcontext.errors import InputError, counted
from medcontext.files import AnyPath, several


def suggest(
    run: AnyPath,
    input: AnyPath | Sequence[AnyPath],
    output: AnyPath,
    *,
    count: int = 5,
    image: Sequence[str] = (),
    series: str | Sequence[str] = (),
    device: Literal["auto", "cpu", "gpu"] = "auto",
) -> list[str]:
    """Suggest which scans to label next: those that a network segments badly, unlike the labelled ones and each other.

    The run must be calibrated (`medcontext calibrate`). All scans are segmented; each suggestion is the one that stands
    for most of what is segmented badly and is far from all labelled scans. Scans that the network was trained or
    calibrated on are not suggested. Interrupted, it goes on when called again.

    Args:
        run: folder of a training run, or of a cross-validation
        input: scans, as `medcontext predict` takes them
        output: folder of the list, the picture and all segmentations
        count: how many to suggest
        image: in nested folders, which files are meant: a name or glob for each channel
        series: of DICOM folders with several, which are meant, as `medcontext predict` takes it
        device: where to compute; auto is a GPU where there is one

    Returns:
        The names of the scans, the most useful first.

    Raises:
        InputError: if the run is not calibrated, a scan cannot be segmented, or there are fewer than `count`.
    """
    from medcontext.commands.predict import predict
    from medcontext.console import console
    from medcontext.inference.suggested import choose, write_suggested
    from medcontext.inference.suggested_table import PREDICTIONS

    if count < 1:
        raise InputError(f"--count is {count}; give at least 1.")
    output = Path(output)
    wanted = several(series)
    folder = output / PREDICTIONS
    predict(run, input, folder, image=image, series=wanted, part="all", expected=True, resume=True, device=device)
    inputs = [input] if isinstance(input, str) or not isinstance(input, Sequence) else list(input)
    chosen = choose(Path(run), [Path(each) for each in inputs], image, wanted, folder, count)
    write_suggested(chosen, output)
    console.print(f"{counted(count, 'scan')} to label next, with pictures in {output}:", soft_wrap=True)
    for number, each in enumerate(chosen, start=1):
        console.print(f"{number:3} {each.case.name}: {each.reason}", soft_wrap=True)
    shown = shlex.quote(str(output))
    console.print(f"As a page, these first: medcontext report --predictions {shown} --serve", soft_wrap=True)
    return [each.case.name for each in chosen]
