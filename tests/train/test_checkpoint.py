"""Checkpoints: whole or refused."""

from __future__ import annotations

import pickle

import pytest
import torch

import forcefield.train.checkpoint
from forcefield.train.checkpoint import load_checkpoint, save_checkpoint

STATE = {"weights": {"a": torch.arange(1000.0)}, "step": 7, "seconds": 1.5, "list": [1, None, "text"]}


def test_checkpoint_comes_back(tmp_path):
    save_checkpoint(tmp_path / "c.pt", STATE)
    state = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(state["weights"]["a"], STATE["weights"]["a"])
    assert {k: v for k, v in state.items() if k != "weights"} == {k: v for k, v in STATE.items() if k != "weights"}
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_checkpoint_is_refused(tmp_path, share):
    path = tmp_path / "c.pt"
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


def test_files_that_hold_code_are_refused_unrun(tmp_path):
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"step": Evil()}, tmp_path / "torch.pt")
    for name in ("plain.pt", "torch.pt", "missing.pt"):
        with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
            load_checkpoint(tmp_path / name)


def test_kill_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "c.pt", STATE)

    def killed(state, file):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(forcefield.train.checkpoint.torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path / "c.pt", {"step": 8})
    assert load_checkpoint(tmp_path / "c.pt")["step"] == 7
    save_checkpoint(tmp_path / "c.pt", {"step": 9})
    assert load_checkpoint(tmp_path / "c.pt")["step"] == 9
