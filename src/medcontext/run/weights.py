"""Weights for a network that starts where another training ended, ours or somebody else's."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medcontext.data.folders import listed
from medcontext.errors import InputError, counted
from medcontext.files import AnyPath, file_hash
from medcontext.networks.initial import (
    ENOUGH,
    FATES,
    TAKEN,
    Fate,
    KeyReport,
    Match,
    encoder_of,
    find_match,
    shape,
    what_became,
)
from medcontext.networks.weight_files import containers, read_weight_file
from medcontext.run.checkpoint import Weights, weights_in
from medcontext.run.folder import Run, read_run
from medcontext.run.pretraining import RECORD, read_pretraining

INITIAL = "initial.txt"


def load_weights(network: nn.Module, file: AnyPath, weights: Weights = "student", partial: bool = False) -> KeyReport:
    """Give a network the weights of a run's checkpoint, or of a file from elsewhere.

    A run's must fit whole, but for the last layer where that is for other labels, and for positions, which are
    interpolated for another crop. Of other files the network takes what it has a place for, under whatever prefix, in
    the layouts of `networks/conversions.py`; most of its encoder must be there. Nothing but tensors and plain values is
    unpickled.

    Args:
        network: as it is to start, its other weights random.
        file: a run or a pretraining, of which `last.ckpt` is taken, a checkpoint of it, or any file of named tensors
            that torch wrote.
        weights: the `student`'s or the EMA `teacher`'s, where the file has both.
        partial: take what fits, however little.

    Returns:
        What became of every tensor.

    Raises:
        InputError: if the file cannot be read, or too little of it fits. The network is then as it was.
    """
    path = Path(file)
    if path.is_dir():
        path = (read_pretraining if (path / RECORD).is_file() else read_run)(path).checkpoint("last")
    content = read_weight_file(path)
    learner, about = (part if isinstance(part := content.get(name), dict) else {} for name in ("learner", "network"))
    ours, pretrained = bool(learner) and "crop_size" in about, "objective" in about and "state_dict" in content
    found = {"learner": weights_in(content, weights)} if ours else dict(containers(content))
    found = {"state_dict": content["state_dict"]} if pretrained else found
    crop = about["crop_size"] if ours or pretrained else None
    match = find_match(network, found.items(), prefer=weights, repeat=partial or not ours, crop_size=crop)
    report = _report(network, path, match)
    if ours:
        step = learner.get("_extra_state", {}).get("step", 0)
        whole = not partial and _is_whole(report, network, match, about.get("out_channels"))
        scans = content.get("scans", {})  # older checkpoints lack it
        report = replace(report, step=step, network={**about, "scans": scans}, whole=whole)
    if pretrained:
        report = replace(report, step=content.get("step", 0), network=about, container="")
    if ours and not partial and not report.whole:
        raise InputError(_misfit(report, network, found["learner"]))
    if not ours or partial:
        _check_enough(report, network, match, found, partial)
    if bad := [name for name, (tensor, _) in match.ready.items() if not tensor.isfinite().all()]:
        raise InputError(f"{path} has weights that are not finite: {listed(bad)}. Take an earlier checkpoint.")
    network.load_state_dict({name: tensor for name, (tensor, _) in match.ready.items()}, strict=False)
    return report


def _report(network: nn.Module, path: Path, match: Match) -> KeyReport:
    tensors = what_became(network, match)
    encoder, names = encoder_of(network)
    inside = [each for each in tensors if each.name in names and each.fate != "unused"]
    share = sum(each.numbers for each in inside if each.fate in TAKEN) / max(1, sum(each.numbers for each in inside))
    place = ".".join(filter(None, (match.container, match.strip)))
    return KeyReport(path, file_hash(path), tensors, encoder, share, place)


def _is_whole(report: KeyReport, network: nn.Module, match: Match, outputs: int | None) -> bool:
    """Whether nothing but the number of labels is in the way."""
    own = network.state_dict()
    pairs = {pair for name in report.anew for pair in _differences(own[name], match.state[match.sources[name]])}
    last_layer = len(pairs) <= 1 and all(there == outputs for _, there in pairs)
    return last_layer and not report.of("missing") and not report.of("unused")


def _check_enough(
    report: KeyReport, network: nn.Module, match: Match, found: Mapping[str, Mapping[str, Tensor]], partial: bool
) -> None:
    """Refuse a file of which next to nothing fits.

    Raises:
        InputError: naming what does not.
    """
    where = f"{report.file} ({report.container})" if report.container else str(report.file)
    about, little = report.network or {}, report.share < ENOUGH and not partial
    if "name" in about and (little or not report.numbers(*TAKEN)):
        of = network_options(about["name"], about.get("args") or {})
        raise InputError(
            f"{report.file} has the weights of {of}, and no more than {report.share:.1%} of {report.encoder_words} "
            "here fits them. Train that network: give it these options."
        )
    if not report.numbers(*TAKEN):
        there = [name for state in found.values() for name in state]
        if not there:
            raise InputError(f"{report.file} has no named tensors in it. Give a file of weights.")
        misfit = [f"{each.name} is {each.how}" for each in report.tensors if each.fate == "shape differs"]
        names = f"its names are {listed(there, 3)}; here {listed(list(network.state_dict()), 3)}"
        raise InputError(
            f"{where} is not a checkpoint that `medcontext train` wrote, and none of its {len(there)} tensors fits "
            f"this network: {'; '.join(misfit[:3]) or names}. Choose the network that it is of by --network and "
            "--network_args."
        )
    if little:
        inside = [each for each in report.tensors if each.name.startswith(report.encoder)]
        lacking = [f"{each.name} ({each.how})" for each in inside if each.fate == "shape differs"][:3]
        missing = Counter(".".join(each.name.split(".")[:3]) for each in inside if each.fate == "missing")
        lacking += [f"{name} ({number} missing)" for name, number in missing.items()]
        raise InputError(
            f"{where} has {report.share:.1%} of {report.encoder_words}, less than {ENOUGH:.0%}. Not there: "
            f"{listed(lacking)}. Choose its network by --network and --network_args, or start from that much with "
            "--init_partial."
        )


def network_options(name: str, args: Mapping[str, Any]) -> str:
    """By which a command builds a network.

    >>> print(network_options("unetr", {"hidden_size": 48}))
    --network unetr --network_args '{"hidden_size": 48}'
    """
    return f"--network {name}" + (f" --network_args {shlex.quote(json.dumps(args))}" if args else "")


def initial_remarks(report: KeyReport, run: Run) -> list[str]:
    """What a person should know of the weights that a run starts from, a sentence each; all of it is in `initial.txt`.

    Args:
        report: of `load_weights`.
        run: that starts.
    """
    taken = f"{len(report.taken)} tensors, {report.share:.1%} of {report.encoder_words}"
    step = "" if report.step is None else f", step {report.step}"
    said = [f"Starts from the weights of {report.file}{step}: {taken}"]
    said += [_summed(report, fate) for fate in FATES[1:] if report.of(fate) and not report.whole]
    before, now = report.network, run.network_description()
    if before is not None and "objective" in before:
        if before["images"] != run.plan.image_hash:
            said.append(
                "Its scans were prepared by another plan (spacing or intensities, see plan.json): pretrain --like this "
                "run, or train with the same --prepare"
            )
    elif before is not None:
        if report.whole and report.anew:
            said.append(f"The last layer is anew, for its labels are others: {listed(report.anew)}")
        elif any(before.get(key) != now[key] for key in ("labels", "regions")):
            said.append(f"Its outputs were {_outputs(before)}, now {_outputs(now)}: as many, so the last layer stays")
        if before.get("plan") != now["plan"]:
            said.append("Its scans were prepared by another plan (spacing, intensities or labels, see plan.json)")
    return [*said, f"Every tensor of it: {run.folder / INITIAL}"]


def _summed(report: KeyReport, fate: Fate) -> str:
    """How many tensors had one fate, and where they are or what was done; names are cut to their beginning."""
    each = [tensor for tensor in report.tensors if tensor.fate == fate]
    words = {"missing": "not in the file, and so random", "unused": "without a place in this network"}.get(fate, fate)
    parts = 2 if fate == "unused" else 1  # a file's may have a prefix
    kinds = Counter(tensor.how if fate == "converted" else ".".join(tensor.name.split(".")[:parts]) for tensor in each)
    where = listed([f"{kind} ({number})" for kind, number in kinds.most_common()])
    return f"  {words}: {counted(len(each), 'tensor')}, {report.numbers(fate):,} numbers: {where}"


def in_words(report: KeyReport) -> str:
    """What weights came from, for `run.json` and the report.

    Args:
        report: of `load_weights`.
    """
    about = report.network or {}
    kind = f"{about['objective']} on {counted(len(about['scans']), 'scan')}, " if "objective" in about else ""
    step = "" if report.step is None else f"step {report.step} of "
    return f"{kind}{step}{report.file.resolve()}, SHA-256 {report.sha256[:8]}"


def without_place(words: str) -> str:
    """The same, for others than the run's owner: no path in it.

    Args:
        words: of `in_words`, or none.

    >>> without_place("mae on 20 scans, step 500 of /home/a/step 7 of it, too/last.ckpt, SHA-256 0123abcd")
    'mae on 20 scans, step 500, SHA-256 0123abcd'
    >>> without_place("/home/a/net.pt, SHA-256 0123abcd"), without_place("")
    ('SHA-256 0123abcd', '')
    """
    said = re.fullmatch(r"(\w+ on \d+ scans?, )?(?:(step \d+) of )?.*, (SHA-256 \w+)", words)
    kind, step, digest = said.groups("") if said else ("", "", "")
    return f"{kind}{step}{', ' if step else ''}{digest}"


def _outputs(network: Mapping[str, Any]) -> str:
    return ", ".join(network.get("regions") or network.get("labels") or ["unknown"])


def _differences(own: Tensor, there: Tensor) -> set[tuple[int, int]]:
    """Sizes that differ; (0, 0) where the tensors have not even the same number of axes."""
    if own.dim() != there.dim():
        return {(0, 0)}
    return {pair for pair in zip(own.shape, there.shape, strict=True) if pair[0] != pair[1]}


def _misfit(report: KeyReport, network: nn.Module, state: Mapping[str, Tensor]) -> str:
    own, about = network.state_dict(), report.network or {}
    wrong = sorted(own.keys() ^ state.keys()) + sorted(
        name for name in own.keys() & state.keys() if own[name].shape != state[name].shape
    )

    def said(tensors: Mapping[str, Tensor], name: str) -> str:
        return shape(tensors[name]) if name in tensors else "nothing"

    shown = "; ".join(f"{name} is {said(state, name)} there, {said(own, name)} here" for name in wrong[:3])
    crop = ",".join(map(str, about.get("crop_size", [])))
    of = network_options(str(about.get("name")), about.get("args") or {})
    return (
        f"The weights of {report.file} do not fit: {len(wrong)} tensors differ, and not in the number of labels alone "
        f"({shown}). They are of {of} --crop_size '[{crop}]', for {counted(about.get('in_channels') or 0, 'channel')}. "
        "Train that network, or take what fits of them by --init_partial."
    )
