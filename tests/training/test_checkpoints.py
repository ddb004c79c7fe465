import errno

import pytest
import torch

from siamtrack.errors import OutputError, TrainingError
from siamtrack.training import train as checkpoints
from siamtrack.training.train import read_checkpoint, write_checkpoint


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "run" / "last.pt"
    write_checkpoint(path, {"step": 3, "weights": {"a": torch.arange(4.0)}})
    state = read_checkpoint(path)
    assert state["step"] == 3 and state["weights"]["a"].tolist() == [0, 1, 2, 3]
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"step": 1})

    def fill_up(state, stream):
        stream.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", fill_up)
    with pytest.raises(OutputError, match=r"No space left.*before it is intact"):
        write_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert read_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "last.pt")
    damaged = tmp_path / "damaged.pt"
    write_checkpoint(damaged, {"step": 1, "x": torch.zeros(1000)})
    damaged.write_bytes(damaged.read_bytes()[:500])
    with pytest.raises(TrainingError, match="damaged"):
        read_checkpoint(damaged)
    other = tmp_path / "other.pt"
    torch.save({"state_dict": {}}, other)
    with pytest.raises(TrainingError, match="not a checkpoint of this version"):
        read_checkpoint(other)


class Payload:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    path = tmp_path / "last.pt"
    torch.save({"format": checkpoints.FORMAT, "step": Payload()}, path)
    with pytest.raises(TrainingError, match="damaged"):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""
