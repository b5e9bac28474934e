"""Which process of a training this one is, and who started it: nobody, torchrun, SLURM, or a person on each machine.

Launchers tell their processes by variables, which stay behind in shells and batch scripts. They count here only if they
agree with what the settings ask for; else two processes would each train alone into one folder, or one would wait for
others that never come.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from medcontext.errors import InputError, counted
from medcontext.settings import TrainingSettings

MAIN = "MEDCONTEXT_MAIN"  # tells the processes that this one has Lightning start whose they are
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
FOREIGN = {  # who tells the number of its processes by which variable, and is no launcher that we know
    "OMPI_COMM_WORLD_SIZE": "Open MPI's mpirun",
    "MV2_COMM_WORLD_SIZE": "MVAPICH's mpirun",
    "PMI_SIZE": "an MPI launcher",
    "JSM_NAMESPACE_SIZE": "jsrun",
}


@dataclass(frozen=True)
class Place:
    """This process among those of a training.

    Args:
        first: whether it is the one that writes.
        launcher: "" where Lightning starts the others, "torchrun", or "SLURM".
    """

    first: bool = True
    launcher: str = ""

    def environment(self, nodes: int = 1) -> ClusterEnvironment:
        """Lightning's name for the launcher."""
        if self.launcher == "SLURM":
            return SLURMEnvironment(auto_requeue=False)
        return TorchElasticEnvironment() if self.launcher == "torchrun" else OwnProcesses(nodes)


class OwnProcesses(LightningEnvironment):
    """The first process on each machine starts the others there, whatever launchers' variables lie around.

    Args:
        nodes: with several, a person has started one process on each, and told it MASTER_ADDR and NODE_RANK.
    """

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.alone = nodes == 1
        os.environ[MAIN] = str(os.getpid())

    @property
    def creates_processes_externally(self) -> bool:
        return self.local_rank() > 0

    @property
    def main_address(self) -> str:
        return "127.0.0.1" if self.alone else super().main_address

    @property
    def main_port(self) -> int:
        if self.alone and self.local_rank() == 0 and self._main_port == -1:
            self._main_port = find_free_network_port()
        return super().main_port


def find_place(settings: TrainingSettings, variables: Mapping[str, str] = os.environ) -> Place:
    """Where this process stands, by the launchers' variables.

    Raises:
        InputError: if they speak of other processes than the settings ask for.
    """
    per_node = devices(settings)
    asked = per_node * settings.nodes
    for name, launcher in FOREIGN.items():
        started = _number(variables, name, 1)
        # srun sets PMI's too, and a mpirun that starts torchrun, one a machine, leaves its own
        if started > 1 and not _by_torchrun(variables) and not (name == "PMI_SIZE" and _in_step(variables)):
            raise InputError(
                f"{launcher} started {started} processes ({name}={started}), which MedContext cannot join into one "
                f"training. Start it once, with --devices {started}; on several machines by srun or torchrun."
            )
    if _by_torchrun(variables):
        _check(_number(variables, "WORLD_SIZE", 1), asked, "torchrun", "WORLD_SIZE", settings)
        _check_agent(variables)
        return Place(_number(variables, "RANK", 0) == 0, "torchrun")
    if _in_step(variables):
        name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in variables else "SLURM_NTASKS"
        started, rank = _number(variables, name, 1), _number(variables, "SLURM_PROCID", 0)
        if started > 1 or rank or settings.nodes > 1:
            _check(max(started, rank + 1), asked, "SLURM", name, settings)
            if _number(variables, "SLURM_NTASKS_PER_NODE", 0) != per_node:
                raise InputError(
                    f"SLURM_NTASKS_PER_NODE is {variables.get('SLURM_NTASKS_PER_NODE', 'not set')}, and {per_node} "
                    f"devices on each machine are asked for. Start with srun --ntasks-per-node={per_node}."
                )
            return Place(rank == 0, "SLURM")
    return _by_hand(settings, asked, variables)


def _by_hand(settings: TrainingSettings, asked: int, variables: Mapping[str, str]) -> Place:
    """No launcher that we know: one process, those that Lightning starts, or one command on each machine."""
    if variables.get(MAIN) == str(os.getppid()) and variables.get("LOCAL_RANK", "0") != "0":  # started by Lightning
        return Place(first=False)
    ranks = {name: _number(variables, name, 0) for name in RANKS}
    node = max(ranks["NODE_RANK"], ranks["GROUP_RANK"])
    found = {name: variables[name] for name in (*RANKS, "WORLD_SIZE") if name in variables}
    sound = _number(variables, "WORLD_SIZE", asked) == asked and ranks["LOCAL_RANK"] == 0 and node < settings.nodes
    if not sound or ranks["RANK"] not in (0, node * asked // settings.nodes):
        shown = ", ".join(f"{name}={value}" for name, value in found.items())
        raise InputError(
            f"{shown} in the environment: that is one of several processes, and --devices {settings.devices} --nodes "
            f"{settings.nodes} ask for {asked} that MedContext starts itself. Unset what is left over (env -u "
            f"{' -u '.join(found)} medcontext train ...), or start several by torchrun or srun."
        )
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in variables]
    if settings.nodes > 1 and missing:
        raise InputError(
            f"--nodes {settings.nodes} needs a process on each machine: start it by srun or torchrun, or once on each "
            f"with NODE_RANK, MASTER_ADDR and MASTER_PORT in the environment (missing: {', '.join(missing)})."
        )
    return Place(first=node == 0)


def devices(settings: TrainingSettings) -> int:
    """How many processes there are on a machine."""
    if isinstance(settings.devices, int):
        return settings.devices
    return max(1, torch.cuda.device_count()) if settings.accelerator != "cpu" else 1


def _check(started: int, asked: int, launcher: str, name: str, settings: TrainingSettings) -> None:
    if started != asked:
        raise InputError(
            f"{launcher} started {counted(started, 'process')} ({name}), but --devices {settings.devices} "
            f"--nodes {settings.nodes} ask for {asked}. Give as many devices as there are processes on each machine; "
            f"if {launcher} did not start this, unset its variables (env -u {name} ...)."
        )


def _check_agent(variables: Mapping[str, str]) -> None:
    """Refuse torchrun's variables where torchrun is not: its processes would wait for one another for half an hour."""
    if variables.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # then the first process does what the agent does
        return
    address = variables.get("MASTER_ADDR", "127.0.0.1"), _number(variables, "MASTER_PORT", 0)
    try:
        socket.create_connection(address, timeout=20).close()
    except OSError as error:
        raise InputError(
            f"torchrun's variables are set, but it does not answer at {address[0]}:{address[1]} "
            f"({error.strerror or error}). If it did not start this, unset TORCHELASTIC_RUN_ID and its others."
        ) from None


def _by_torchrun(variables: Mapping[str, str]) -> bool:
    return "TORCHELASTIC_RUN_ID" in variables


def _in_step(variables: Mapping[str, str]) -> bool:
    """Whether srun started this process. A batch script has SLURM's other variables too, and so has what it starts."""
    interactive = variables.get("SLURM_JOB_NAME") in ("bash", "interactive")
    step = "SLURM_STEP_ID" in variables or _number(variables, "SLURM_PROCID", 0) > 0
    return step and "SLURM_NTASKS" in variables and not interactive


def _number(variables: Mapping[str, str], name: str, otherwise: int) -> int:
    text = variables.get(name, "") or str(otherwise)
    if not text.isdecimal():
        raise InputError(f"The environment has {name}={text}; a whole number is expected. Correct or unset it.")
    return int(text)
