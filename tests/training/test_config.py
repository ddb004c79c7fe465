import json
import warnings
from dataclasses import asdict
from pathlib import Path

import pytest

from siamtrack.errors import ConfigError
from siamtrack.training.config import TrainConfig, load_config, stored_config


def test_file_overrides_defaults_and_assignments_override_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[optim]\nrate = 0.5\nschedule = "constant"\n[loss]\nlogistic = 1\n')
    config = load_config(path, ("optim.rate=0.25", "cache=some/folder", "loss.contrastive=0.1"))
    assert config.optim.rate == 0.25
    assert config.optim.schedule == "constant"
    assert config.cache == "some/folder"
    assert config.loss == {"logistic": 1, "contrastive": 0.1}
    assert config.loop == TrainConfig().loop


def test_a_configuration_survives_being_plain_data():
    config = load_config(None, ("pairs.set_weights.clips=3", "loss.triplet.margin=0.2"))
    assert stored_config(json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("optim.rato=1", r"unknown key in section optim.*'rato'.*did you mean 'rate'"),
        ("optin.rate=1", r"top level.*'optin'.*'optim'"),
        ("pairs.augment.grai=1.0", r"pairs.augment.*'grai'.*'gray'"),
        ("optim.rate=fast", "optim.rate is 'fast'"),
        ("optim.rate=-1", "optim.rate is -1"),
        ("loop.steps=2.5", "loop.steps is 2.5"),
        ("loop.batch_size=0", "loop.batch_size is 0"),
        ("loop.workers=-1", "loop.workers is -1; give a value of at least 0"),
        ("loop.seed=-1", "loop.seed is -1"),
        ("loop.threads=-2", "loop.threads is -2"),
        ("loop.validate_every=-1", "loop.validate_every is -1"),
        ("loop.cross_negatives=nan", "loop.cross_negatives is nan"),
        ("validation.batches=-1", "validation.batches is -1"),
        ("pairs.max_gap=-3", "pairs.max_gap is -3"),
        ("pairs.memory=-1", "pairs.memory is -1"),
        ("pairs.flip=7", "pairs.flip is 7.0; give a value from 0 to 1"),
        ("pairs.search_scale=nan", "pairs.search_scale is nan"),
        ("pairs.rotation_deg=inf", "pairs.rotation_deg is inf"),
        ("pairs.augment.gray=1.5", "pairs.augment.gray is 1.5"),
        ("loop.batch_size=1", "cross_negatives needs"),
        ("loop.precision=int8", "unknown loop.precision 'int8'"),
        ("optim.optimizer=adam", r"unknown optim.optimizer 'adam'.*'adamw'"),
        ("optim.schedule=cosin", r"did you mean 'cosine'"),
        ("optim.ema_decay=1.0", "optim.ema_decay is 1.0"),
        ("optim.final_share=1.1", "optim.final_share is 1.1"),
        ("validation.held_out=1.0", "validation.held_out is 1.0"),
        ("pairs.negative=1.0", "pairs.negative is 1.0"),
        ("optim=3", "optim is 3; it is a section"),
        ("pairs.set_weights=3", "pairs.set_weights is 3; give a table"),
        ("pairs.set_weights.clips=many", "pairs.set_weights.clips is 'many'"),
        ("optim.rate", "is not an assignment"),
        ("cache.x=1", "cache is"),
    ],
)
def test_mistakes_are_refused(assignment, says):
    with pytest.raises(ConfigError, match=says):
        load_config(None, (assignment,))


def test_old_keys_of_the_augmentation_load_and_warn_where_they_are_typed(tmp_path):
    written = tmp_path / "old.toml"
    written.write_text("[pairs.augment]\ncolour = 0.1\n")
    with pytest.warns(FutureWarning) as warned:
        config = load_config(written, ("pairs.augment.grey=0.2", "pairs.augment.colour_joint=0.3"))
    named = " ".join(str(warning.message) for warning in warned)
    assert "'colour' is now 'color'" in named and "'grey' is now 'gray'" in named
    augment = config.pairs.augment
    assert (augment.color, augment.gray, augment.color_joint) == (0.1, 0.2, 0.3)
    with warnings.catch_warnings():  # a checkpoint's
        warnings.simplefilter("error")
        assert stored_config({"pairs": {"augment": {"colour": 0.1}}}).pairs.augment.color == 0.1
    with pytest.raises(ConfigError, match="'color' is given twice"):
        stored_config({"pairs": {"augment": {"colour": 0.1, "color": 0.1}}})


def test_the_old_key_of_the_optimizer_loads_and_warns_where_it_is_typed(tmp_path):
    written = tmp_path / "old.toml"
    written.write_text('[optim]\noptimiser = "sgd"\n')
    with pytest.warns(FutureWarning, match="'optimiser' is now 'optimizer'"):
        assert load_config(written).optim.optimizer == "sgd"
    with pytest.warns(FutureWarning, match="'optimiser' is now 'optimizer'"):
        assert load_config(None, ("optim.optimiser=sgd",)).optim.optimizer == "sgd"
    with pytest.warns(FutureWarning):  # the assignment counts, whichever name the file has
        assert load_config(written, ("optim.optimizer=adamw",)).optim.optimizer == "adamw"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stored_config({"optim": {"optimiser": "sgd"}}).optim.optimizer == "sgd"


def test_a_table_replaces_its_section():
    config = load_config(None, ("optim.rate=0.5", "optim={schedule = 'constant'}"))
    assert config.optim.schedule == "constant" and config.optim.rate == TrainConfig().optim.rate


def test_an_assignment_into_a_value_is_refused():
    with pytest.raises(ConfigError, match="cache is a value"):
        load_config(None, ("cache=a", "cache.b=1"))


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none.toml; give a TOML file, or .* lite0, siamfc"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path)
    bad = tmp_path / "bad.toml"
    bad.write_text("= 3")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(bad)


def test_a_configuration_that_comes_along_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = load_config(Path("lite0"), ("loop.steps=3",))
    assert named.network.architecture == "siamtrack-lite0" and named.loss["giou"] == 1.5
    (tmp_path / "lite0").write_text("cache = 'own'")  # a file of that name counts first
    assert load_config(Path("lite0")).cache == "own"
