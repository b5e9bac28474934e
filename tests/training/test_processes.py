"""Launchers' variables: they count if they agree with the settings; else one clear error before anything is read."""

import os
import socket
from pathlib import Path

import pytest

from medcontext.cli import main
from medcontext.errors import InputError
from medcontext.settings import Settings
from medcontext.training.processes import MAIN, OwnProcesses, Place, find_place
from tests.training.commands import arguments

BATCH = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "4"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"}
OWN = {"NODE_RANK": "0", "LOCAL_RANK": "1", "WORLD_SIZE": "2", MAIN: str(os.getppid())}
MACHINE = {"NODE_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "9"}


def settings(devices: int = 1, nodes: int = 1) -> Settings:
    return Settings(accelerator="cpu", devices=devices, nodes=nodes)


@pytest.mark.parametrize(
    ("variables", "asked", "place"),
    [
        ({}, settings(), Place()),
        ({}, settings(2), Place()),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x"}, settings(), Place()),
        ({"LOCAL_RANK": "0", "MASTER_ADDR": "x"}, settings(2), Place()),
        (OWN, settings(2), Place(first=False)),
        (BATCH, settings(), Place()),  # sbatch, without srun
        (BATCH, settings(4), Place()),
        ({**STEP, "SLURM_JOB_NAME": "bash"}, settings(), Place()),  # srun --pty bash
        ({**STEP, "SLURM_NTASKS": "1"}, settings(2), Place()),
        (STEP, settings(4), Place(launcher="SLURM")),
        ({**STEP, "SLURM_PROCID": "2"}, settings(4), Place(first=False, launcher="SLURM")),
        ({**STEP, "SLURM_NTASKS": "8"}, settings(4, 2), Place(launcher="SLURM")),
        (TORCHRUN, settings(2), Place(first=False, launcher="torchrun")),
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, settings(2), Place(launcher="torchrun")),
        ({**TORCHRUN, "LOCAL_RANK": "0", "GROUP_RANK": "1"}, settings(1, 2), Place(first=False, launcher="torchrun")),
        (MACHINE, settings(2, 2), Place(first=False)),
        ({**MACHINE, "NODE_RANK": "0"}, settings(1, 2), Place()),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, settings(), Place()),
    ],
)
def test_the_place_of_a_process(variables: dict[str, str], asked: Settings, place: Place) -> None:
    assert find_place(asked, variables) == place


@pytest.mark.parametrize(
    ("variables", "asked", "words"),
    [
        ({"NODE_RANK": "1"}, settings(), "NODE_RANK=1 in the environment.*env -u NODE_RANK medcontext"),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, settings(), "LOCAL_RANK=1, WORLD_SIZE=2"),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, settings(), "WORLD_SIZE=2"),
        ({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, settings(2), "RANK=1, LOCAL_RANK=1"),  # of nobody here
        ({"RANK": "1"}, settings(2), "RANK=1"),
        ({"LOCAL_RANK": "x"}, settings(), "LOCAL_RANK=x; a whole number"),
        ({}, settings(1, 2), "--nodes 2 needs a process on each machine.*NODE_RANK, MASTER_ADDR, MASTER_PORT"),
        (BATCH, settings(1, 2), "--nodes 2 needs a process on each machine: start it by srun"),
        (STEP, settings(), "SLURM started 4 processes.*SLURM_NTASKS.*--devices 1 --nodes 1 ask for 1"),
        ({**STEP, "SLURM_PROCID": "2"}, settings(), "SLURM started 4"),
        ({**BATCH, "SLURM_PROCID": "2"}, settings(), "SLURM started 4"),
        ({**BATCH, "SLURM_STEP_ID": "0"}, settings(4), "srun --ntasks-per-node=4"),
        (TORCHRUN, settings(), "torchrun started 2 processes.*ask for 1"),
        (
            {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"},
            settings(2),
            r"started 1 process \(WORLD_SIZE\).*for 2",
        ),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, settings(), "Open MPI's mpirun started 2 processes.*--devices 2"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, settings(2), "Open MPI's mpirun started 2 processes"),
        ({"PMI_SIZE": "3"}, settings(), "PMI_SIZE=3"),
    ],
)
def test_variables_of_other_processes_are_refused(variables: dict[str, str], asked: Settings, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_place(asked, variables)


def test_torchruns_variables_without_torchrun_are_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as agent:
        there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(agent.getsockname()[1])}
        variables = {**TORCHRUN, **there, "TORCHELASTIC_USE_AGENT_STORE": "True"}
        assert find_place(settings(2), variables).launcher == "torchrun"
    with pytest.raises(InputError, match=r"does not answer at 127\.0\.0\.1:"):
        find_place(settings(2), variables)


def test_what_lies_around_does_not_lead_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAIN, "")
    monkeypatch.setenv("MASTER_ADDR", "elsewhere")
    monkeypatch.setenv("MASTER_PORT", "9")
    alone, several = OwnProcesses(1), OwnProcesses(2)
    assert (alone.main_address, several.main_address, several.main_port) == ("127.0.0.1", "elsewhere", 9)
    assert alone.main_port == alone.main_port != 9
    assert not alone.creates_processes_externally
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert OwnProcesses(1).creates_processes_externally


def test_a_training_refuses_before_it_reads_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("NODE_RANK", "1")
        assert main(arguments(tmp_path / "nowhere", tmp_path / "run")) == 2
        assert "NODE_RANK=1" in capsys.readouterr().err
    assert main(arguments(tmp_path / "nowhere", tmp_path / "run", "--accelerator=gpu")) == 2
    message = capsys.readouterr().err
    assert "Data set not found" in message or "Cannot train on --accelerator gpu" in message
    assert not (tmp_path / "run").exists() or "Data set not found" in message
