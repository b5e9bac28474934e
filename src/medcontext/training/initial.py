"""What a training must know of the weights that it starts from."""

from medcontext.data.cases import Dataset
from medcontext.data.folders import listed
from medcontext.data.splits import Split
from medcontext.data.unlabelled import compare_images
from medcontext.errors import InputError, counted
from medcontext.run import KeyReport, Run
from medcontext.run.weights import in_words


def note_initial(run: Run, report: KeyReport) -> None:
    """Note by its content which file of weights a run starts from.

    Raises:
        InputError: if it had another before, and was stopped before its first checkpoint.
    """
    if run.facts.init_sha256 not in (None, report.sha256):
        raise InputError(
            f"{run.folder} was started from the weights of {report.file}, which has other content by now. Bring back "
            "what was there, or choose another output."
        )
    run.facts.init_sha256, run.facts.init = report.sha256, in_words(report)


def check_unseen(run: Run, report: KeyReport, dataset: Dataset, split: Split, workers: int, allowed: bool) -> list[str]:
    """Refuse a pretraining that has seen a test image, unless that is allowed, and then noted.

    Args:
        run: that starts from it.
        report: of its weights.
        dataset: of the run's cases.
        split: their parts.
        workers: processes that read images.
        allowed: whether it may.

    Returns:
        What a person should know, a sentence each.

    Raises:
        InputError: naming the test cases; images count as the same by their content, whatever they are called.
    """
    scans = {digest: tuple(shape) for digest, shape in ((report.network or {}).get("scans") or {}).items()}
    if not scans:
        return []
    validation, test, unread = compare_images(dataset, split, scans, workers)
    validated, tested = (
        sorted(name for digest, name in part.items() if digest in scans) for part in (validation, test)
    )
    if tested and not allowed:
        raise InputError(
            f"{report.file} was pretrained on the images of {counted(len(tested), 'test case')}: {listed(tested)}. "
            "Scores on them would be too good. Pretrain on other scans (medcontext pretrain --data DATASET takes its "
            "training part alone, by the same --split and --seed), or allow it with --init_seen_tests, which is noted "
            "in the run and in its report."
        )
    run.facts.init_tested = tuple(tested)
    said = []
    for names, part in ((tested, "test"), (validated, "validation")):
        if names:
            said.append(
                f"Its pretraining saw the images, not the labels, of {counted(len(names), f'{part} case')}: "
                f"{listed(names)}. Scores on them are those of scans that the network has seen."
            )
    if unread:
        said.append(f"Cannot be read, and so not be compared with the pretraining's scans: {listed(unread)}.")
    return said
