"""Configurations: frozen, strict, and errors that name the key and what it should have been."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from rdcodec.errors import UsageError
from rdcodec.models.config import CONFIGS, ModelConfig, config_names, config_sha256, load_config, name_group
from rdcodec.models.records import parse_record

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "configs"
SOUND = (CONFIGS / "J.toml").read_text(encoding="utf-8")


def load(tmp_path: Path, text: str) -> ModelConfig:
    path = tmp_path / "model.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_a_configuration_survives_json(tiny_config: ModelConfig) -> None:
    assert ModelConfig.model_validate_json(tiny_config.model_dump_json()) == tiny_config
    assert parse_record(ModelConfig, tiny_config.model_dump(), "here") == tiny_config


def test_a_configuration_has_one_hash(tiny_config: ModelConfig) -> None:
    record = json.loads(json.dumps(tiny_config.model_dump()))
    turned = dict(reversed(record.items()))
    assert config_sha256(tiny_config) == config_sha256(record) == config_sha256(turned)
    assert config_sha256(tiny_config.model_copy(update={"name": "Other"})) != config_sha256(tiny_config)


def test_packaged_models() -> None:
    """Those of the family first, then other readings of it, then what it is compared with."""
    baselines = ["charm2020", "elic", "mbt2018-mean", "swint-charm"]
    first = [*"ABCDEFGHIJ", "A-whole", "G-whole", *baselines]
    names = config_names()
    assert [name for name in names if name in first] == first
    assert [name_group(name) for name in names] == sorted(map(name_group, names))


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
        ('kind = "checkerboard"', 'kind = "chram"', "entropy.kind: .*checkerboard.*hyperprior.*charm"),
        ('kind = "light"', 'kind = "swim"', "analysis.kind: .*light.*conv.*elic.*swin"),
        ('kind = "checkerboard"', 'kid = "checkerboard"', "entropy.kind: "),
        ('kind = "light"', 'kind = "conv"', "unknown key analysis.stride8$"),
        ("latent_channels", "lmbda = 0\nlatent_channels", "lmbda: .*greater than 0"),
        ("latent_channels", "lmbda = 0.01\nlatent_channels", "one rate, but checkerboard and light parts follow"),
        ('name = "J"', 'name = "../J"', "name: .*pattern"),
        ('name = "J"', 'name = "J.1"', "name: .*pattern"),
        ("blocks = 3", "blocks = -1", "analysis.stride8.blocks: .*greater than"),
        ("hidden = 128", "hidden = 128\nhidden_each = [9, 129, 9, 9, 9]", "entropy: .*none of hidden_each may be more"),
        ("hidden = 128", "hidden = 128\nhidden_each = [9, 9]", "entropy: .*hidden_each has one number for pass 0"),
        ("passes = 3", "hidden_each = [9, 9, 9, 9, 9]", "entropy: .*one number for pass 0"),
        ("passes = 3", "passes = 4", "entropy.passes: .*should be 3"),
        ("blocks = 3", "blocks = 3, mixed = [9, 9]", "analysis.stride8: .*mixed has 2 widths for 3 blocks"),
        ("blocks = 3", "blocks = 3, mixed = [9, 9, 0]", "analysis.stride8.mixed.2: .*greater than 0"),
        ("blocks = 3", "blocks = 3, hidden = [9, -1, 0]", "analysis.stride8.hidden.1: .*greater than or equal to 0"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SOUND
    with pytest.raises(UsageError, match=message) as raised:
        load(tmp_path, SOUND.replace(old, new, 1))
    text = str(raised.value)
    assert text.startswith(str(tmp_path / "model.toml")) and "\n" not in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("norm", "nrom", "unknown key analysis.nrom; did you mean norm?"),
        ('norm = "gdn"', 'norm = "gnd"', "analysis.norm: .*'gdn' or 'gdn-sqrt'"),
        ("[128, 128, 128]", "[128, 128]", r"analysis.channels.2: .*required"),
        ("[128, 128, 128]", "[128, 128.0, 128]", r"analysis.channels.1: .*integer"),
        ("[128, 128, 128]", "[128, 128, 0]", r"analysis.channels.2: .*greater than 0"),
        (
            "strides = [1, 2, 2]",
            "stride = [1, 2, 2]",
            "entropy.hyper_analysis.stride; did you mean strides?",
        ),
        ("strides = [1, 2, 2]", "strides = [1, 2]", "entropy.hyper_analysis: .*one number per layer"),
        ("strides = [1, 2, 2]", "strides = [1, 1, 2]", "entropy.hyper_analysis: .*make up 4"),
        ("kernels = [3, 5, 5]", "kernels = [3, 5, 4]", "entropy.hyper_analysis.kernels.2: "),
        ("480, 640]", "480, 642]", "entropy.hyper_synthesis has to give twice latent_channels"),
        ('activation = "relu"', 'activation = "gelu"', "entropy.hyper_analysis.activation: .*relu"),
        (
            'hyper_analysis]\nkind = "conv"',
            'hyper_analysis]\nkind = "cnv"',
            "entropy.hyper_analysis.kind: .*conv.*swin",
        ),
        ("filters = [3, 3]", "filters = []", "entropy.filters: .*at least 1"),
        ("lmbda = 0.013", 'lmbda = "high"', "lmbda: .*number"),
    ],
)
def test_errors_of_the_papers_models(tmp_path: Path, old: str, new: str, message: str) -> None:
    sound = (CONFIGS / "G.toml").read_text(encoding="utf-8")
    assert old in sound
    with pytest.raises(UsageError, match=message) as raised:
        load(tmp_path, sound.replace(old, new, 1))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "old", "new", "message"),
    [
        ("B", "[128, 256, 256]", "[128, 255, 256]", "analysis.channels.1: .*multiple of 2"),
        (
            "B",
            "residual_blocks",
            "residual_block",
            "unknown key analysis.residual_block; did you mean residual_blocks?",
        ),
        ("B", "residual_blocks = 2", "residual_blocks = -1", "analysis.residual_blocks: .*greater than"),
        ("B", "[32, 32, ", "[32, ", "entropy.slices have to make up latent_channels"),
        ("B", "slices = [32", "slices = 10 # [32", "entropy.slices: .*tuple"),
        ("B", "kernel = 3", "kernel = 2", "entropy.reduction.kernel: .*1, 3, 5 or 7"),
        ("B", "kernels = [3, 3, 3]", "kernels = [3, 3]", "entropy: .*kernels need one number more than widths"),
        ("B", "merge_kernel", "merge_kernels", "unknown key entropy.merge_kernels; did you mean merge_kernel?"),
        ("B", "widths = [128, 128]", "widths = [128, 144]", "hyper_analysis: .*multiples of head_channels"),
        ("B", "widths = [128, 128]", "widths = [128]", r"hyper_analysis.widths.1: .*required"),
        ("B", "widths = [128, 128]", "widths = [128, 96]", "first of hyper_synthesis.widths has to be what"),
        ("B", "outputs", "output", "unknown key entropy.hyper_synthesis.output; did you mean outputs?"),
        ("B", "widths = [192, 128]", "widths = [192, 0]", r"entropy.widths.1.0: .*greater than 0"),
        ("B", "widths = [192, 128]", "widths = [192, 6.5]", r"entropy.widths.1.0: .*integer"),
        ("B", "widths = [192, 128]", "widths = [[192, 192], 128]", "entropy: .*one number, or one per slice"),
        ("B", "merge_kernel", "lrp = false\nmerge_kernel", "entropy: .*merge_kernel is for a predicted residual"),
        ("B", "merge_kernel", "own_channels = true\nmerge_kernel", "entropy: .*reduction goes with neither"),
        ("swint-charm", "[64, 64, 85", "[64, -1, 85", r"entropy.widths.0.1: .*greater than 0"),
        ("swint-charm", "outputs = 640", "outputs = 576", "entropy: .*two channels for each of the slices"),
        ("swint-charm", "lrp = false", "lrp = 0", "entropy.lrp: .*boolean"),
        ("charm2020", "192, 256, 320]", "192, 256, 322]", "entropy: .*as many channels as hyper_synthesis"),
        (
            "charm2020",
            "ends_active",
            "end_active",
            "unknown key entropy.hyper_synthesis.end_active; did you mean ends",
        ),
        ("elic", "[16, 16,", "[16, 8,", "entropy.groups have to make up latent_channels"),
        ("elic", "kernels = [5, 5, 5]", "kernels = [5, 5]", "entropy: .*kernels need one number more than widths"),
        ("elic", "context_kernel = 5", "context_kernel = 4", "entropy.context_kernel: .*1, 3, 5 or 7"),
        ("elic", "aggregation", "agregation", "unknown key entropy.agregation; did you mean aggregation?"),
        ("E", "[128, 192, 256, 320]", "[128, 192, 256, 288]", "last of analysis.widths has to be latent_channels"),
        ("E", "[320, 256, 192, 128]", "[288, 256, 192, 128]", "first of synthesis.widths has to be latent_channels"),
        ("E", "[1, 1, 1, 1]", "[1, 1, 1]", "analysis: .*one number per stage"),
        ("E", "[1, 1, 1, 1]", "[1, 1, 1, 0]", "analysis.depths.3: .*greater than 0"),
        ("E", "window = 8", "window = 0", "analysis.window: .*greater than 0"),
    ],
)
def test_errors_of_the_family(tmp_path: Path, model: str, old: str, new: str, message: str) -> None:
    sound = (CONFIGS / f"{model}.toml").read_text(encoding="utf-8")
    assert old in sound
    with pytest.raises(UsageError, match=message) as raised:
        load(tmp_path, sound.replace(old, new, 1))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", [*CONFIGS.glob("*.toml"), *BENCHMARKS.glob("*.toml")], ids=lambda path: path.stem)
def test_every_configuration_survives_json(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    for data in (
        config.model_dump(),
        json.loads(json.dumps(config.model_dump())),
        json.loads(config.model_dump_json()),
    ):
        assert parse_record(ModelConfig, data, "here") == config


def test_a_configuration_without_lmbda_is_of_all_rates(tiny_config: ModelConfig) -> None:
    data = tiny_config.model_dump()
    del data["lmbda"]
    assert parse_record(ModelConfig, data, "older weights") == tiny_config


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
