import argparse
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from medcontext.errors import InputError
from medcontext.networks.weight_files import containers, read_weight_file


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


def test_numbers_of_numpy_beside_the_tensors_are_plain_values(tmp_path: Path) -> None:
    """nnU-Net's and nnssl's checkpoints have such in their logs."""
    content = {"network_weights": {"a": torch.ones(2)}, "logging": [np.float64(1), np.int64(2), np.ones(2)]}
    torch.save(content, tmp_path / "nnssl.pth")
    read = read_weight_file(tmp_path / "nnssl.pth")
    assert dict(containers(read)).keys() == {"network_weights"}
    assert read["logging"][:2] == [1, 2]


def test_files_of_old_versions_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_weight_file(tmp_path / "old.pth")["a"], torch.ones(2))


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"state_dict": {"a": torch.ones(2)}, "more": Malicious(trace)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": Malicious(trace)}))
    for name, words in (("zip.pt", "posix.mkdir.*can run code"), ("plain.pkl", "not a file of weights")):
        with pytest.raises(InputError, match=words) as error:
            read_weight_file(tmp_path / name)
        assert "\n" not in str(error.value)
    assert not trace.exists()


def test_pcrlv2s_namespace_is_named_with_what_to_do(tmp_path: Path) -> None:
    torch.save({"opt": argparse.Namespace(lr=1), "state_dict": {}}, tmp_path / "pcrlv2.pt")
    with pytest.raises(InputError, match=r"holds a argparse.Namespace.*weights_only=False\)\['state_dict'\]"):
        read_weight_file(tmp_path / "pcrlv2.pt")


def test_what_is_no_whole_file_of_weights_is_refused_in_a_line(tmp_path: Path) -> None:
    torch.save({"a": torch.rand(1000)}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    wrong = {
        "truncated.pt": (whole[:2000], "not a whole one"),
        "altered.pt": (bytes(altered), "was altered"),
        "text.pt": (b"hello world\n" * 9, "not a file of weights"),
        "empty.pt": (b"", "not a file of weights"),
        "weights.safetensors": (whole, r"safetensors are not read.*torch.save\(s.load_file"),
    }
    for name, (content, words) in wrong.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words) as error:
            read_weight_file(tmp_path / name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(InputError, match="holds a list"):
        read_weight_file(tmp_path / "list.pt")
    with pytest.raises(InputError, match="not found"):
        read_weight_file(tmp_path / "none.pt")
