"""Configurations: frozen, strict, and errors that name the key and what it should have been."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from rdcodec.errors import UsageError
from rdcodec.models.config import CONFIGS, ModelConfig, config_names, load_config, parse_record

SOUND = (CONFIGS / "J.toml").read_text(encoding="utf-8")


def load(tmp_path: Path, text: str) -> ModelConfig:
    path = tmp_path / "model.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_a_configuration_survives_json(tiny_config: ModelConfig) -> None:
    assert ModelConfig.model_validate_json(tiny_config.model_dump_json()) == tiny_config
    assert parse_record(ModelConfig, tiny_config.model_dump(), "here") == tiny_config


def test_packaged_models() -> None:
    assert {"H", "I", "J"} <= set(config_names())


def test_a_configuration_is_frozen(tiny_config: ModelConfig) -> None:
    with pytest.raises(ValidationError):
        tiny_config.latent_channels = 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("latent_channels", "latent_chanels", "unknown key latent_chanels; did you mean latent_channels?"),
        ("features", "feature", "unknown key entropy.feature; did you mean features?"),
        (
            "stride8 = { width = 96",
            "stride8 = { widht = 96",
            "unknown key analysis.stride8.widht; did you mean width?",
        ),
        ('name = "J"', 'name = "J"\nxyzzy = 1', "unknown key xyzzy"),
        ("latent_channels = 256", "latent_channels = 255", "latent_channels: .*multiple of 2"),
        ("latent_channels = 256", "latent_channels = 0", "latent_channels: .*greater than"),
        ("latent_channels = 256", 'latent_channels = "256"', "latent_channels: .*integer"),
        ("latent_channels = 256", "latent_channels = 256.0", "latent_channels: .*integer"),
        ("latent_channels = 256", "latent_channels = 100000", "latent_channels: .*less than"),
        ("hidden = 128", "", "entropy.hidden: .*required"),
        ('kind = "checkerboard"', 'kind = "charm"', "entropy.kind: .*checkerboard"),
        ('name = "J"', 'name = "../J"', "name: .*pattern"),
        ('name = "J"', 'name = "J.1"', "name: .*pattern"),
        ("blocks = 3", "blocks = -1", "analysis.stride8.blocks: .*greater than"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SOUND
    with pytest.raises(UsageError, match=message) as raised:
        load(tmp_path, SOUND.replace(old, new, 1))
    text = str(raised.value)
    assert text.startswith(str(tmp_path / "model.toml")) and "\n" not in text


def test_a_key_unlike_any_other_gets_no_advice(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        load(tmp_path, "xyzzy = 1\n" + SOUND)
    assert str(raised.value).endswith("unknown key xyzzy")


def test_not_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a TOML file"):
        load(tmp_path, "name = ")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(UsageError, match="not a TOML file"):
        load_config(tmp_path / "latin.toml")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such configuration"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize("data", [None, [], "I", 3])
def test_not_even_a_record(data: object) -> None:
    with pytest.raises(UsageError, match="here: "):
        parse_record(ModelConfig, data, "here")
