"""Weights files and cards: what is saved comes back, and everything else is refused by name."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from siamtrack.errors import ConfigError, OutputError, WeightsError
from siamtrack.models import weights as weights_module
from siamtrack.models.import_siamfc import import_siamfc
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.network import SiameseNetwork
from siamtrack.models.siamfc import SiamFC, SiamFCConfig
from siamtrack.models.weights import (
    architecture_names,
    build_config,
    build_network,
    card_path,
    config_to_dict,
    find_weights,
    list_weights,
    load_network,
    read_card,
    save_network,
    weights_dir,
    write_card,
)
from siamtrack.utils.files import sha256

TINY = {"neck_channels": 8, "head_channels": 8, "fine_detail": False}


def tiny(**fields: object) -> SiameseNetwork:
    torch.manual_seed(0)
    return build_network("siamtrack-lite0", {**TINY, **fields})


def save(network: SiameseNetwork, path: Path, **more: object) -> None:
    save_network(network, path, training_data=["made up"], license="CC0-1.0", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "tiny.safetensors"
    known = {"pairs": 7, "commit": "abc", "notes": "A test."}
    save(tiny(), path, figures={"dev_success_auc": 0.5}, tracker={"scale_lr": 0.4}, **known)
    return path


@pytest.fixture
def weights(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil, with its card."""
    shutil.copy(card_path(saved), tmp_path)
    return Path(shutil.copy(saved, tmp_path))


def rewrite(path: Path, *, keep_metadata: bool = True, **changes: torch.Tensor | None) -> None:
    """Replace tensors of a file (None drops one) and give it a card that fits."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() if keep_metadata else None
    tensors = {**safetensors.torch.load_file(path), **changes}
    safetensors.torch.save_file(
        {k: v for k, v in tensors.items() if v is not None}, path, metadata=metadata
    )
    restamp(path)


def restamp(path: Path, **changes: object) -> None:
    """Bring the card's hash up to date and change other fields."""
    card = card_path(path)
    fields = {**json.loads(card.read_text()), "sha256": sha256(path), **changes}
    card.write_text(json.dumps(fields))


# -- what is saved comes back


@pytest.mark.parametrize(
    "network",
    [
        tiny(),
        tiny(pseudo_siamese=True, kernel_cells=3),
        SiamFC(SiamFCConfig(total_stride=4, out_channels=32, response_scale=0.5)),
        SiamFC(SiamFCConfig(pseudo_siamese=True)),
    ],
    ids=["lite0", "lite0-pseudo", "siamfc-stride-4", "siamfc-pseudo"],
)
def test_loaded_network_is_the_saved_one(network: SiameseNetwork, tmp_path: Path) -> None:
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    path = tmp_path / "it.safetensors"
    save(network, path)
    loaded = load_network(path)
    assert type(loaded) is type(network)
    assert loaded.config == network.config
    assert not loaded.training
    ours, theirs = network.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_shared_branch_is_stored_once(saved: Path) -> None:
    names = safetensors.torch.load_file(saved).keys()
    assert {name.partition(".")[0] for name in names} >= {"search_branch"}
    assert not [name for name in names if name.startswith("exemplar_branch")]
    loaded = load_network(saved)
    assert isinstance(loaded, SiamTrackLite0)
    assert loaded.exemplar_branch is loaded.search_branch


def test_network_is_put_on_the_device_asked_for(saved: Path) -> None:
    loaded = load_network(saved, device="meta")
    assert {tensor.device.type for tensor in loaded.state_dict().values()} == {"meta"}


def test_card_says_what_was_given_and_hashes_the_file(saved: Path) -> None:
    card = read_card(saved)
    assert card.architecture == "siamtrack-lite0"
    assert card.config == config_to_dict(tiny().config)
    assert card.training_data == ("made up",)
    assert (card.license, card.pairs, card.commit) == ("CC0-1.0", 7, "abc")
    assert (card.figures, card.notes) == ({"dev_success_auc": 0.5}, "A test.")
    assert card.tracker == {"scale_lr": 0.4}
    assert card.sha256 == sha256(saved)
    assert card.created.endswith("+00:00")


def test_figures_can_be_added_to_a_card_without_touching_the_weights(weights: Path) -> None:
    before = sha256(weights)
    card = read_card(weights)
    card.figures["got10k_ao"] = 0.4
    write_card(weights, card)
    assert read_card(weights).figures == {"dev_success_auc": 0.5, "got10k_ao": 0.4}
    assert sha256(weights) == before
    load_network(weights)


def test_half_precision_tensors_load_into_a_float_network(weights: Path) -> None:
    rewrite(weights, **{"box.weight": safetensors.torch.load_file(weights)["box.weight"].half()})
    assert load_network(weights).state_dict()["box.weight"].dtype == torch.float32


# -- names


def test_bundled_weights_are_found_by_name(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "weights_dir", lambda: weights.parent)
    (weights.parent / "README.md").write_text("not weights")
    assert list_weights() == ("tiny",)
    assert find_weights("tiny") == weights
    assert isinstance(load_network("tiny"), SiamTrackLite0)
    assert read_card("tiny").pairs == 7


def test_every_bundled_file_loads_and_matches_its_card() -> None:
    for name in list_weights():
        assert load_network(name).architecture == read_card(name).architecture


@pytest.mark.parametrize("layout", ["site/siamtrack/weights_files", "site/weights"])
def test_weights_folder_of_a_wheel_and_of_a_checkout(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "site" / "siamtrack" / "models" / "weights.py"
    monkeypatch.setattr(weights_module, "__file__", str(module))
    with pytest.raises(WeightsError, match=r"no weights folder .* install it again"):
        weights_dir()
    (tmp_path / layout).mkdir(parents=True)
    assert weights_dir() == (tmp_path / layout).resolve()


def test_home_folder_is_expanded(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(weights.parent))
    monkeypatch.setenv("USERPROFILE", str(weights.parent))
    assert find_weights("~/tiny.safetensors") == weights


# -- bad input


def test_unknown_name_lists_the_known_and_the_nearest(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "weights_dir", lambda: weights.parent)
    shutil.copy(weights, weights.with_name("other.safetensors"))
    with pytest.raises(WeightsError, match=r"'tinny'; did you mean 'tiny'\?.* other, tiny"):
        load_network("tinny")


def test_missing_path_suggests_a_file_beside_it(weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"did you mean '.*tiny\.safetensors'\?"):
        load_network(weights.with_name("tinny.safetensors"))


def test_folder_is_not_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is a folder; give the .safetensors file"):
        load_network(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 8, 100, 3000, -1])
def test_truncated_file(weights: Path, keep: int) -> None:
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"truncated.* get the file again"):
        load_network(weights)


def test_file_with_something_appended(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes() + b"!")
    with pytest.raises(WeightsError, match=r"damaged: it has \d+ bytes and needs \d+"):
        load_network(weights)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("it.safetensors", b"<html>404: not found</html>", "give weights that siamtrack saved"),
        ("it.pth", b"PK\x03\x04 a zip archive", "convert it with siamtrack import-weights"),
        ("it.bin", (9).to_bytes(8, "little") + b"not json!", "not a safetensors file"),
        ("it.bin", (9).to_bytes(8, "little") + b"{'a': 1} ", "not a safetensors file"),
        ("it.bin", (10).to_bytes(8, "little") + b'{"a": {} }', "not a safetensors file"),
        ("it.bin", (10).to_bytes(8, "little") + b'{"a": 123}', "not a safetensors file"),
    ],
)
def test_not_safetensors(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_network(path)


def test_tensors_that_lie_outside_the_file_are_refused(weights: Path) -> None:
    """A header whose offsets overlap is well-formed JSON of the right length."""
    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    header[names[0]]["data_offsets"] = header[names[1]]["data_offsets"]
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    restamp(weights)
    with pytest.raises(WeightsError, match=r"cannot read .* get the file again"):
        load_network(weights)


def test_unreadable_file(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"cannot read .*tiny.safetensors: Permission denied"):
        load_network(weights)


def test_safetensors_of_another_program(weights: Path) -> None:
    rewrite(weights, keep_metadata=False)
    with pytest.raises(WeightsError, match="siamtrack did not save it"):
        load_network(weights)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"architecture": "siamtrack-huge", "config": "{}"}, "unknown architecture .*siamtrack-"),
        ({"architecture": "siamtrack-lite0", "config": '{"depth": 3}'}, "unknown .*'depth'"),
        ({"architecture": "siamtrack-lite0", "config": "{"}, "cannot build"),
        ({"architecture": "siamtrack-lite0", "config": "[1]"}, "cannot build"),
    ],
)
def test_other_architecture(metadata: dict[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    tensors = {"a": torch.zeros(1)}
    safetensors.torch.save_file(tensors, path, metadata={"format": "siamtrack", **metadata})
    with pytest.raises(WeightsError, match=f"{message}.* update siamtrack"):
        load_network(path)


def test_changed_byte_is_noticed_by_the_hash(weights: Path) -> None:
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(WeightsError, match=r"sha256 is .*, the card says .* get the file and its"):
        load_network(weights)


@pytest.mark.parametrize("change", [{"architecture": "siamfc"}, {"config": {"neck_channels": 9}}])
def test_card_of_other_weights(weights: Path, change: dict[str, object]) -> None:
    restamp(weights, **change)
    with pytest.raises(WeightsError, match="its card says"):
        load_network(weights)


def test_all_tensors_that_do_not_fit_are_listed(weights: Path) -> None:
    rewrite(
        weights,
        **{
            "box.bias": None,
            "score.bias": None,
            "box.weight": torch.zeros(4, 9, 1, 1),
            "extra.weight": torch.zeros(2),
        },
    )
    with pytest.raises(WeightsError) as caught:
        load_network(weights)
    message = str(caught.value)
    for part in (
        "missing score.bias",
        "missing box.bias",
        "box.weight has shape (4, 9, 1, 1), needs (4, 8, 1, 1)",
        "unexpected extra.weight",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_neither_load_nor_save(weights: Path, bad: float) -> None:
    network = tiny()
    with torch.no_grad():
        network.score.bias.fill_(bad)  # type: ignore[union-attr,operator]
    with pytest.raises(WeightsError, match=r"not finite in score.bias"):
        save(network, weights.with_name("diverged.safetensors"))
    assert not weights.with_name("diverged.safetensors").exists()
    rewrite(weights, **{"score.bias": torch.tensor([bad])})
    with pytest.raises(WeightsError, match=r"not finite in score.bias"):
        load_network(weights)


# -- cards


def test_without_a_card_the_file_loads_with_a_warning(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card_path(weights).unlink()
    with caplog.at_level(logging.WARNING, "siamtrack"):
        load_network(weights)
    assert "no card" in caplog.text
    with pytest.raises(WeightsError, match=r"has no card; copy tiny\.json"):
        read_card(weights)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "card format 1"),
        ('{"card_format": 2}', "card format 1"),
    ],
)
def test_card_that_is_none(weights: Path, text: str, message: str) -> None:
    card_path(weights).write_text(text)
    with pytest.raises(WeightsError, match=message):
        load_network(weights)


def test_card_that_is_not_text(weights: Path) -> None:
    card_path(weights).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightsError, match=r"cannot read card .*tiny\.json"):
        load_network(weights)


def test_all_problems_of_a_card_are_listed(weights: Path) -> None:
    fields = json.loads(card_path(weights).read_text())
    del fields["licence"], fields["notes"]
    fields |= {"author": "someone", "training_data": "VID", "pairs": "many"}
    card_path(weights).write_text(json.dumps(fields))
    with pytest.raises(WeightsError) as caught:
        read_card(weights)
    message = str(caught.value)
    for part in (
        "field 'licence' is missing",
        "field 'author' is unknown",
        "field 'training_data' is 'VID'",
        "field 'pairs' is 'many'",
    ):
        assert part in message
    assert "notes" not in message


# -- writing


def test_existing_weights_are_kept_unless_asked(weights: Path) -> None:
    before = weights.read_bytes()
    with pytest.raises(OutputError, match="exist; give another name"):
        save(tiny(), weights)
    assert weights.read_bytes() == before
    save(tiny(kernel_cells=3), weights, overwrite=True)
    assert load_network(weights).config == Lite0Config(
        **{**TINY, "kernel_cells": 3}  # type: ignore[arg-type]
    )


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"must end in \.safetensors"):
        save(tiny(), tmp_path / "it.pth")


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    save(tiny(), tmp_path / "new" / "folder" / "it.safetensors")
    left = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert left == {"it.safetensors", "it.json"}


def test_interrupted_write_leaves_the_old_weights(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(path: Path, data: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(data[:10])
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in weights.parent.iterdir()}
    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(OutputError, match=r"cannot write .*: No space left on device"):
        save(tiny(kernel_cells=3), weights, overwrite=True)
    assert {path.name: path.read_bytes() for path in weights.parent.iterdir()} == before


def test_old_weights_are_replaced_not_written_over(weights: Path) -> None:
    """Someone who has the old file open goes on reading the old file."""
    second_name = weights.with_name("held.safetensors")
    os.link(weights, second_name)
    before = weights.read_bytes()
    save(tiny(kernel_cells=3), weights, overwrite=True)
    assert weights.read_bytes() != before
    assert second_name.read_bytes() == before


def test_folder_that_cannot_be_made(weights: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        save(tiny(), weights / "under-a-file" / "it.safetensors")


# -- registry


def test_architectures_are_built_by_name() -> None:
    assert {"siamfc", "siamtrack-lite0"} <= set(architecture_names())
    for name in architecture_names():
        network = build_network(name)
        assert network.architecture == name
        assert build_config(name, config_to_dict(network.config)) == network.config


def test_config_object_of_the_architecture_is_taken_and_of_another_refused() -> None:
    config = SiamFCConfig(search_size_px=239)
    assert build_network("siamfc", config).config is config
    with pytest.raises(ConfigError, match="given a SiamFCConfig; it needs a Lite0Config"):
        build_network("siamtrack-lite0", config)


def test_unknown_architecture_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown architecture 'siamfcc'; .*'siamfc'"):
        build_network("siamfcc")


def test_whole_numbers_are_taken_for_floats_and_lists_for_tuples() -> None:
    config = build_config("siamfc", {"response_scale": 1, "input_std": [1, 2, 3]})
    assert config == SiamFCConfig(response_scale=1.0, input_std=(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exemplar_size": 127}, "unknown SiamFCConfig field .*'exemplar_size_px'"),
        ({"exemplar_size_px": "127"}, "exemplar_size_px is '127'; give a value of type int"),
        ({"exemplar_size_px": 127.0}, "exemplar_size_px is 127.0"),
        ({"pseudo_siamese": 1}, "pseudo_siamese is 1"),
        ({"bn_eps": True}, "bn_eps is True"),
        ({"input_mean": [1, 2]}, r"input_mean is \[1, 2\]"),
        ({"input_mean": [1, 2, None]}, "input_mean is None"),
        ({"exemplar_size_px": 128}, "exemplar_size_px is 128"),
    ],
)
def test_configuration_values_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config("siamfc", values)


def test_old_name_of_the_card_is_found_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="'WeightsCard' is now 'ModelCard'"):
        assert weights_module.WeightsCard is weights_module.ModelCard


@pytest.mark.parametrize("write", [save_network, import_siamfc])
def test_old_keyword_of_the_license_still_works(write, tmp_path: Path) -> None:
    target = tmp_path / "old.safetensors"
    if write is save_network:
        arguments = (build_network("siamfc"), target)
    else:
        checkpoint = tmp_path / "port.pth"
        torch.save(build_network("siamfc").backbone.state_dict(prefix="backbone."), checkpoint)
        arguments = (checkpoint, target)
    with pytest.warns(FutureWarning, match=f"{write.__name__} 'licence' is now 'license'"):
        card = write(*arguments, training_data=["none"], licence="MIT")
    assert card.license == read_card(target).license == "MIT"
