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
    """Refuse weights that have seen a test image, unless that is allowed, and then noted.

    They may be a pretraining's, or a run's, which has also seen what it started from saw.

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
    scans, pretrained = report.seen, "objective" in (report.network or {})
    if not scans:
        return []
    how = "pretrained on the images of" if pretrained else "trained, or what it started from was, on the images of"
    validation, test, unread = compare_images(dataset, split, scans, workers)
    validated, tested = (
        sorted(name for digest, name in part.items() if digest in scans) for part in (validation, test)
    )
    if tested and not allowed:
        raise InputError(
            f"{report.file} was {how} {counted(len(tested), 'test case')}: {listed(tested)}. Scores on them would be "
            "too good. Start from what saw other scans (medcontext pretrain --data DATASET, as medcontext train, takes "
            "the training part alone, by the same --split and --seed), or allow it with --init_seen_tests, which is "
            "noted in the run and in its report."
        )
    run.facts.init_tested = tuple(tested)
    behind = "Its pretraining saw the images, not the labels," if pretrained else "What it starts from saw the images"
    said = [
        f"{behind} of {counted(len(names), f'{part} case')}: {listed(names)}. Scores on them are those of scans that "
        "the network has seen."
        for names, part in ((tested, "test"), (validated, "validation"))
        if names
    ]
    if unread:
        said.append(f"Cannot be read, and so not be compared with the scans behind these weights: {listed(unread)}.")
    return said
