"""What a training must know of the weights that it starts from."""

from torch import nn

from medcontext.data.cases import Dataset
from medcontext.data.folders import listed
from medcontext.data.unlabelled import compare_images
from medcontext.errors import InputError, counted
from medcontext.run import Inputs, KeyReport, Run, initial_remarks, load_weights
from medcontext.run.weights import in_words


def start_from(
    inputs: Inputs, run: Run, network: nn.Module, dataset: Dataset, workers: int
) -> tuple[KeyReport, list[str]]:
    """Load the weights that a new run starts from, note them, and say what a person should know of them.

    Raises:
        InputError: if they do not fit, are not those that the run had before, or have seen a test image.
    """
    report = load_weights(network, inputs.init, partial=inputs.init_partial)
    note_initial(run, report)
    unseen = check_unseen(run, report, dataset, workers, inputs.init_seen_tests)
    return report, [*initial_remarks(report, run), *unseen]


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


def check_unseen(run: Run, report: KeyReport, dataset: Dataset, workers: int, allowed: bool) -> list[str]:
    """Refuse weights that have seen a test image, unless that is allowed, and then noted.

    They may be a pretraining's, or a run's, which has also seen what it started from saw.

    Args:
        run: that starts from it.
        report: of its weights.
        dataset: of the run's cases.
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
    validation, test, unread = compare_images(dataset, run.split, scans, workers)
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
