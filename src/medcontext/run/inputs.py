"""What a training was given beside its settings, so that `--resume` needs nothing else.

`RUN/inputs.json` is written before the scans are prepared, and so is `settings.yaml`.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from medcontext.data.unlabelled import REST
from medcontext.errors import InputError
from medcontext.files import AnyPath, read_json, write_json, writing

INPUTS = "inputs.json"


@dataclass(frozen=True)
class Inputs:
    """Paths are as they were given; absolute in `inputs.json`.

    Args:
        data: the data set; empty if it was not given.
        unlabelled: where scans without labels come from: folders, data sets, or `rest`.
        skip_damaged: whether those that cannot be used are left out.
        cache: folder of prepared cases; empty for the usual one.
        init: the run, its checkpoint or another file whose weights the training starts from; empty for none.
        init_partial: whether less than most of them may fit.
        init_seen_tests: whether they may have seen test images.
        channels: names, where the scans do not say them; of a pretraining.
        like: the preset or run whose preparing a pretraining shares; empty for none.
        series: of DICOM folders among the unlabelled scans, which are meant.
    """

    data: str = ""
    unlabelled: tuple[str, ...] = ()
    skip_damaged: bool = False
    cache: str = ""
    init: str = ""
    init_partial: bool = False
    init_seen_tests: bool = False
    channels: tuple[str, ...] = ()
    like: str = ""
    series: tuple[str, ...] = ()

    @classmethod
    def given(
        cls,
        data: AnyPath | None,
        unlabelled: Sequence[AnyPath],
        skip_damaged: bool,
        cache: AnyPath | None,
        init: AnyPath | None,
        init_partial: bool = False,
        init_seen_tests: bool = False,
    ) -> "Inputs":
        """As a person gives them to a training."""
        paths = ("" if path is None else os.fspath(path) for path in (data, cache, init))
        data, cache, init = paths
        return cls(data, tuple(map(str, unlabelled)), skip_damaged, cache, init, init_partial, init_seen_tests)

    def over(self, before: "Inputs") -> "Inputs":
        """What is given now and, in the place of what is not, what was given before."""
        return Inputs(**{each.name: getattr(self, each.name) or getattr(before, each.name) for each in fields(Inputs)})

    def absolute(self) -> "Inputs":
        """The same, whatever the current folder."""
        data, cache, init = (path and os.path.abspath(path) for path in (self.data, self.cache, self.init))
        sources = (source if source == REST else os.path.abspath(source) for source in self.unlabelled)
        like = os.path.abspath(self.like) if Path(self.like).is_dir() and self.like else self.like
        return replace(self, data=data, unlabelled=tuple(sources), cache=cache, init=init, like=like)

    def write(self, run: Path) -> None:
        """Write it into a run's folder.

        Raises:
            InputError: if it cannot be written, as on a full disk.
        """
        with writing(run / INPUTS):
            write_json(run / INPUTS, asdict(self.absolute()))

    @classmethod
    def read(cls, run: Path) -> "Inputs":
        """What a run's folder says; nothing where the run was started by an earlier version, or not at all.

        Raises:
            InputError: if the file is damaged.
        """
        if not (run / INPUTS).is_file():
            return cls()
        content = read_json(run / INPUTS)
        try:
            known = asdict(cls()) | {name: content[name] for name in ("data", "unlabelled")} | content
            known = {each.name: known[each.name] for each in fields(cls)}  # those that an earlier version lacks are off
            lists = {name: tuple(known[name]) for name in ("unlabelled", "channels", "series")}
            return cls(**{**known, **lists})
        except (KeyError, TypeError) as error:
            raise InputError(f"{run / INPUTS} is damaged ({error}). Delete it, and give --data anew.") from error


def go_on_command(run: Path, command: str = "train") -> str:
    """What to type to go on with a run, or a pretraining.

    >>> go_on_command(Path("my run"))
    "medcontext train --output 'my run' --resume"
    """
    return f"medcontext {command} --output {shlex.quote(str(run))} --resume"
