"""The help, and what is said of options that do not exist."""

import re
from pathlib import Path

import pytest

from medcontext.cli import COMMANDS, flags, main, make_parser
from medcontext.commands.train import train


@pytest.fixture(scope="module")
def text() -> str:
    return make_parser("train", train).format_help()


def test_the_help_of_a_training_begins_with_what_matters_most(text: str) -> None:
    first, _, rest = text.partition("\nfurther:\n")
    shown = re.findall(r"^  --([\w.]+)", first, re.MULTILINE)
    assert sorted(shown) == sorted(COMMANDS["train"].first)
    assert len(shown) == 10
    assert not set(shown) & set(re.findall(r"^  --([\w.]+)", rest, re.MULTILINE))
    assert "usage: medcontext train --data DATASET --output RUN [options]\n" in text
    assert "medcontext train --output RUN --resume [options]\n" in text


def test_the_help_has_no_types_of_python(text: str) -> None:
    assert not re.search(
        r"type:|Union|Literal|\bNone\b.*\)|<class|ITEM|Path to a configuration|default: True|null", text
    )
    assert re.search(r"--steps N +optimizer steps", text)
    assert re.search(r"--precision auto\|32\|bf16\n", text)
    assert re.search(r"--method.mask FILE +YAML file", text)
    assert re.search(r"--resume +go on", text)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--lr", "0.1"], "did you mean 'optimizer.lr'?"),
        (["--learning-rate=0.1"], "here it is --optimizer.lr."),
        (["--epochs", "5"], "here it is --steps, the optimizer steps in all: there are no epochs."),
        (["--device", "cuda"], "here it is --accelerator gpu or cpu, and --devices for how many."),
        (["--batch-siez", "2"], "did you mean 'batch_size'?"),
        (["--pretrained", "x"], "here it is --init RUN"),
        (["--steps", "many"], "Option --steps takes N, not many."),
        (["--accelerator", "cuda"], "Option --accelerator takes auto|cpu|gpu, not cuda; here it is gpu."),
    ],
)
def test_an_option_of_another_program_is_told_its_name_here(
    given: list[str], words: str, tmp_path: Path, capsys
) -> None:
    assert main(["train", "--data", "d", "--output", str(tmp_path / "run"), *given]) == 2
    message = capsys.readouterr().err
    assert words in " ".join(message.split())
    assert len(message.splitlines()) == 1


def test_hyphens_are_underscores_in_every_option_and_in_no_value() -> None:
    parser = make_parser("train", train)
    given = ["--batch-size=3", "--few-shot", "2", "--method.mask.patch-size", "8", "--network-args.feature-size", "8"]
    arguments = [*given, "--data=a-b", "--output", "c-d", "--skip-damaged"]
    values = parser.parse_args(flags(parser, arguments))
    assert (values.batch_size, values.few_shot, values.method.mask.patch_size) == (3, 2, 8)
    assert (values.network_args, values.skip_damaged) == ({"feature_size": 8}, True)
    assert (str(values.data), str(values.output)) == ("a-b", "c-d")
