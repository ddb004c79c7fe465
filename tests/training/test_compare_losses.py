"""Comparing losses: variants, resuming, the report with intervals, embedding separation."""

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from siamtrack.data.cache import CropCache
from siamtrack.errors import ConfigError, DatasetError, OutputError
from siamtrack.losses.combined import build_loss
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.network import coverage
from siamtrack.models.siamfc import SiamFC
from siamtrack.training import compare_losses as module
from siamtrack.training.batches import make_pair_dataset
from siamtrack.training.compare_losses import (
    LossVariant,
    VariantResult,
    as_markdown,
    compare,
    default_variants,
    select_variants,
    summarize,
    write_comparison,
)
from siamtrack.training.config import TrainConfig, stored_config
from siamtrack.training.validate import embedding_separation, roc_auc

PAIR = (
    LossVariant("response", {"iou_aware": 1.0, "giou": 1.5}),
    LossVariant("triplet", {"iou_aware": 1.0, "giou": 1.5, "triplet": {"mining": "offline"}}),
)


@pytest.fixture
def held_out(tmp_path):
    """Two sequences of a moving square."""
    for name in ("one", "two"):
        folder = tmp_path / "held_out" / name
        folder.mkdir(parents=True)
        rows = []
        for number in range(4):
            picture = np.full((100, 100, 3), 40, np.uint8)
            x, y = 30 + 3 * number, 40
            picture[y : y + 24, x : x + 24] = (200, 120, 220)
            cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
            rows.append(f"{x},{y},24,24")
        folder.with_suffix(".txt").write_text("\n".join(rows) + "\n")
    return f"folder:{tmp_path / 'held_out'}"


def test_variants_add_one_thing_each_to_the_response_losses():
    variants = {v.name: v for v in default_variants(TrainConfig())}
    plain = variants["response"].loss
    assert set(plain) == {"iou_aware", "giou"}  # the default's triplet loss is left out
    assert next(iter(variants)) == "response"
    minings = {n: v.loss["triplet"]["mining"] for n, v in variants.items() if "triplet" in v.loss}
    assert set(minings.values()) == {"random", "batch-all", "batch-hard", "semi-hard", "offline"}
    for variant in variants.values():
        build_loss(variant.loss)
        assert {k: v for k, v in variant.loss.items() if k in plain} == dict(plain)
        assert len(variant.loss) <= len(plain) + 1
        assert bool(variant.network) == variant.name.startswith("pseudo-")
    assert {"contrastive", "euclidean"} <= {k for v in variants.values() for k in v.loss}


def test_a_configuration_without_response_loss_is_refused():
    with pytest.raises(ConfigError, match="hold no response loss"):
        default_variants(stored_config({"loss": {"triplet": 1.0}}))


def test_variants_are_chosen_by_name_in_their_own_order():
    variants = default_variants(TrainConfig())
    assert [v.name for v in select_variants(variants, ["euclidean", "response"])] == [
        "response", "euclidean",
    ]  # fmt: skip
    assert select_variants(variants, []) == variants
    with pytest.raises(ConfigError, match=r"unknown variant 'euclid'.*'euclidean'"):
        select_variants(variants, ["euclid"])


def test_a_comparison_goes_on_where_it_stopped(small_run, held_out, tmp_path, monkeypatch):
    config, out = small_run(loop={"steps": 2}), tmp_path / "out"
    trained = []
    original = module.train

    def counted(run, folder, *, resume):
        trained.append((folder.name, resume))
        return original(run, folder, resume=resume)

    monkeypatch.setattr(module, "train", counted)
    short = {"max_frames": 2}
    first = compare(config, PAIR[:1], held_out, out, **short)
    assert trained == [("response", False)]
    both = compare(config, PAIR, held_out, out, **short)
    assert trained == [("response", False), ("triplet", False)]
    assert both[0] == first[0]
    (out / "triplet" / "result.json").unlink()  # stopped after training, before the result
    again = compare(config, PAIR, held_out, out, **short)
    assert trained[2:] == [("triplet", True)]
    assert again == both
    assert set(both[0].sequences) == {"one", "two"}
    assert all(0 <= f["ao"] <= 1 for o in both for f in o.sequences.values())
    assert 0 <= both[1].separation <= 1


def test_results_of_another_run_are_not_mixed_in(small_run, held_out, tmp_path):
    out = tmp_path / "out"
    compare(small_run(loop={"steps": 1}), PAIR[:1], held_out, out)
    with pytest.raises(OutputError, match="another configuration"):
        compare(small_run(loop={"steps": 2}), PAIR[:1], held_out, out)
    with pytest.raises(OutputError, match=r"was evaluated on .* with max_frames 0; give the same"):
        compare(small_run(loop={"steps": 1}), PAIR[:1], held_out, out, max_frames=2)


def test_a_missing_data_set_is_refused_before_anything_is_trained(small_run, tmp_path):
    with pytest.raises(DatasetError):
        compare(small_run(), PAIR, f"folder:{tmp_path}/nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_report_is_table_data_and_plot(small_run, held_out, tmp_path):
    names = ["response", "pseudo-response"]
    config = small_run(loop={"steps": 1})
    variants = select_variants(default_variants(config), names)
    compare(config, variants, held_out, tmp_path / "out", max_frames=2)
    table = tmp_path / "out" / "comparison.md"
    assert table.read_text().splitlines()[2].startswith("| response | ")
    data = json.loads((table.parent / "comparison.json").read_text())
    assert [row["name"] for row in data["rows"]] == names
    plot = cv2.imread(str(table.parent / "comparison.png"))
    assert plot is not None and plot.std() > 5
    saved = json.loads((table.parent / "pseudo-response" / "config.json").read_text())
    assert saved["network"]["config"]["pseudo_siamese"] is True


def outcome(name, aucs, apart=None):
    figures = {f"s{i}": {"success_auc": a, "ao": a / 2} for i, a in enumerate(aucs)}
    return VariantResult(name, figures, apart)


def test_rows_give_means_intervals_and_the_difference_from_the_first():
    aucs = np.linspace(0.3, 0.7, 12)
    rows = summarize([outcome("a", aucs), outcome("b", aucs + 0.1, 0.9)])
    assert rows[0]["success_auc"]["value"] == pytest.approx(0.5)
    assert rows[0]["success_auc"]["low"] < 0.5 < rows[0]["success_auc"]["high"]
    assert rows[1]["ao"]["value"] == pytest.approx(0.3)
    against = rows[1]["against_first"]
    assert [against[k] for k in ("value", "low", "high")] == pytest.approx([0.1, 0.1, 0.1])
    assert against["p_value"] < 0.01 and rows[0]["against_first"]["p_value"] == 1.0
    lines = as_markdown(rows).splitlines()
    assert lines[2].endswith("|  |  |  |") and "+0.100 [+0.100, +0.100]" in lines[3]
    assert lines[3].endswith("| 0.900 |") and "12 held-out sequences" in lines[-1]


def test_one_sequence_has_no_interval(tmp_path):
    write_comparison([outcome("a", [0.5]), outcome("b", [0.6])], tmp_path)
    assert "| a | 0.500 | 0.250 |" in (tmp_path / "comparison.md").read_text()
    row = json.loads((tmp_path / "comparison.json").read_text())["rows"][0]
    assert row["success_auc"] == {"value": 0.5, "low": None, "high": None}


def test_outcomes_that_cannot_be_compared_are_refused():
    with pytest.raises(ConfigError, match="no sequence was tracked"):
        summarize([outcome("a", [])])
    with pytest.raises(ConfigError, match="different sequences"):
        summarize([outcome("a", [0.5, 0.5]), outcome("b", [0.5])])


def test_roc_area_by_hand():
    same, different = torch.tensor([0.9, 0.5]), torch.tensor([0.1, 0.5, 0.6])
    assert roc_auc(same, different) == pytest.approx((3 + 1.5) / 6)


def test_separation_counts_who_is_nearer_to_the_exemplar(small_run):
    config = small_run(
        pairs={"negative": 0.3}, loop={"batch_size": 4}, validation={"held_out": 0.0, "batches": 2}
    )
    network = SiamTrackLite0(Lite0Config(**config.network.config)).eval()
    cache = CropCache(Path(config.cache))
    pairs = make_pair_dataset(config, cache, network.config, "all")
    same, different = [], []
    with torch.inference_mode():
        for start in (0, 4):
            group = [pairs[start + i] for i in range(4)]
            codes = [describe(network, pair) for pair in group]
            for number, (pair, (z, target, beside)) in enumerate(zip(group, codes, strict=True)):
                (same if pair["positive"] else different).append(float(z @ target))
                if pair["has_distractor"]:
                    different.append(float(z @ beside))
                different.append(float(z @ codes[(number + 1) % 4][1]))
        wins = [(a > b) + 0.5 * (a == b) for a in same for b in different]
        assert embedding_separation(network, config, cache) == pytest.approx(
            np.mean(wins), abs=0.02
        )
    assert len(same) < 8 and len(different) > 8


def describe(network, pair):
    """Unit embeddings of the exemplar, of the target region and of the distractor region."""
    unit = torch.nn.functional.normalize
    mask = coverage(pair["z_box"][None], 2, 16)
    z = network.embed_exemplar(pair["z"][None], mask).embedding[0]
    cells = unit(network.embed_search(pair["x"][None]), dim=1)[0]
    shares = (coverage(pair[k][None], 4, 16)[0] for k in ("x_box", "distractor_box"))
    target, beside = (unit((cells * share).sum(dim=(1, 2)), dim=0) for share in shares)
    return z, target, beside


def test_networks_without_embeddings_have_no_separation(small_run):
    config = small_run(loop={"batch_size": 2})
    cache = CropCache(Path(config.cache))
    with torch.inference_mode():
        assert embedding_separation(SiamFC().eval(), config, cache) is None


def test_a_run_stored_with_old_keys_is_continued(small_run, held_out, tmp_path):
    config, out = small_run(loop={"steps": 1}), tmp_path / "out"
    first = compare(config, PAIR[:1], held_out, out, max_frames=2)
    for name in ("config.json", "result.json"):
        path = out / "response" / name
        text = path.read_text()
        assert '"optimizer"' in text and '"color"' in text
        path.write_text(text.replace('"optimizer"', '"optimiser"').replace('"color"', '"colour"'))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        assert compare(config, PAIR[:1], held_out, out, max_frames=2) == first
