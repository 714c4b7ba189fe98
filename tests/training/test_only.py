"""rdc train --only: the entropy model learns alone, or with the synthesis, from latents as files have them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_start import convolutional
from tiny_runs import MUON, RECIPE, assemble, learned, log, make_quick, resume, same, start, toml

from rdcodec.cli.main import main
from rdcodec.errors import BadInput, UsageError
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.gaussian import gaussian_bits
from rdcodec.models.weights import FILE_NAME, Weights, read_weights
from rdcodec.training.as_coded import AsCoded, chosen
from rdcodec.training.data import BatchMaker, Crops, load_photos
from rdcodec.training.latents import OnLatents
from rdcodec.training.plan import RUN_FILE, Only, Plan, plan_of
from rdcodec.training.recipe import Recipe
from rdcodec.training.release import release
from rdcodec.training.stepper import Losses, rate_alone, rate_distortion

STEPS = 12


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]) -> None:
    """On one thread, for which bit-equal resumption is promised."""
    make_quick(monkeypatch.setattr)
    threads(1)


@pytest.fixture(params=["all rates", "one rate"])
def plan(request: pytest.FixtureRequest, tiny_config: ModelConfig, picture_folder: Path, tmp_path: Path) -> Plan:
    """Of a run that goes on with the entropy model of tmp_path / "first"."""
    one = request.param == "one rate"
    config = convolutional().model_copy(update={"name": "Small"}) if one else tiny_config
    return begun(config, RECIPE if one else MUON, picture_folder, tmp_path)


@pytest.fixture
def light(tiny_config: ModelConfig, picture_folder: Path, tmp_path: Path) -> Plan:
    return begun(tiny_config, MUON, picture_folder, tmp_path)


def begun(config: ModelConfig, recipe: Recipe, pictures: Path, folder: Path) -> Plan:
    start(Plan(config, recipe, (str(pictures),), seed=0), folder / "first", 2, anchors=False)
    weights = folder / "first" / FILE_NAME
    eflop = read_weights(weights).eflop
    return Plan(config, recipe, (str(pictures),), 0, str(weights), earlier_eflop=eflop, only="entropy")


def bpp(weights: Path, plan: Plan) -> float:
    """Of the first batch that the run trains on."""
    state = assemble(plan, weights.parent, STEPS)
    read_weights(weights).fill(state.model)
    state.prepare()
    (batch,) = state.feed.take(0, plan.recipe.stages[0])
    with torch.no_grad():
        return rate_alone(OnLatents(state.model), batch, state.model.lmbda(batch.quality), 0.0).bpp.item()


def test_only_the_entropy_model_learns(plan: Plan, tmp_path: Path) -> None:
    """The transforms stay bit for bit, all of the entropy model moves, and the rate on a training batch falls."""
    start(plan, tmp_path / "new", STEPS, anchors=False)
    paths = [tmp_path / name / FILE_NAME for name in ("first", "new")]
    old, new = map(read_weights, paths)
    for name, tensor in old.state.items():
        assert torch.equal(tensor, new.state[name]) != name.startswith("entropy."), name
    assert old.synthesis_hash == new.synthesis_hash and old.entropy_hash != new.entropy_hash
    before, after = (bpp(path, plan) for path in paths)
    assert after < 0.98 * before
    assert log(tmp_path / "new")[-1]["bpp"] != log(tmp_path / "new")[0]["bpp"]
    assert not any("psnr_db" in record for record in log(tmp_path / "new") if record["kind"] == "train")


def test_nothing_else_has_a_gradient(plan: Plan, tmp_path: Path) -> None:
    """Nor a place in an optimiser; and the gradient is that of the rate of the whole model, which runs its analysis."""
    state = assemble(plan, tmp_path, STEPS)
    model = state.model
    trained = {id(p) for p in model.entropy.parameters()}
    assert {id(p) for o in state.optimizers for group in o.param_groups for p in group["params"]} == trained
    crops = Crops(load_photos([Path(plan.sources[0])]).train)
    maker = BatchMaker(crops, 0, plan.config.latent_channels, plan.config.entropy.hyper_channels)
    batch = maker.batch(0, 64, range(2), 2)
    with torch.no_grad():
        latents = batch._replace(x=model.analysis(batch.x))

    def gradients(losses: Losses) -> dict[str, torch.Tensor]:
        model.zero_grad(set_to_none=True)
        losses.loss.backward()  # type: ignore[no-untyped-call]
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    lmbda = model.lmbda(batch.quality)
    rate = gradients(rate_alone(OnLatents(model), latents, lmbda, -0.5))
    assert rate and all(name.startswith("entropy.") for name in rate)
    for name, whole in gradients(rate_distortion(model, batch, lmbda, -0.5)).items():
        torch.testing.assert_close(rate[name], whole)


def test_only_what_a_decoder_runs_learns(light: Plan, tmp_path: Path) -> None:
    """Analysis and gains stay bit for bit, and latents as files have them cost less in rate and error."""
    plan = replace(light, only="decoder")
    start(plan, tmp_path / "new", STEPS, anchors=False)
    old, new = (read_weights(tmp_path / name / FILE_NAME) for name in ("first", "new"))
    for name, tensor in old.state.items():
        assert torch.equal(tensor, new.state[name]) == name.startswith(("analysis.", "log_gain.")), name
    before, after = (as_coded(weights, plan, tmp_path) for weights in (old, new))
    assert after < 0.99 * before


def as_coded(weights: Weights, plan: Plan, folder: Path) -> float:
    """Loss of the first batch that the run trains on."""
    (batch,) = assemble(plan, folder, STEPS).feed.take(0, plan.recipe.stages[0])
    seen = AsCoded(weights.build())
    with torch.no_grad():
        return rate_distortion(seen, batch, seen.lmbda(batch.quality), -0.5).loss.item()


def test_its_latents_are_those_that_cost_least() -> None:
    """Of the nearest integer and the next towards 0; z is rounded, and gradients pass straight through."""
    generator = torch.Generator().manual_seed(0)
    value = (6 * torch.randn(2, 3, 8, 8, generator=generator)).requires_grad_()
    log_scale, worth = torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([0.2, 2.0, 20.0])[None, :, None, None]
    symbols = chosen(worth)(value, log_scale)
    nearest = value.detach().round()
    lower = nearest - nearest.sign()
    costs = [gaussian_bits(s, log_scale) + worth * (value.detach() - s).square() for s in (nearest, lower)]
    assert torch.equal(symbols.detach(), torch.where(costs[1] < costs[0], lower, nearest))
    taken = (symbols.detach() != nearest).float().mean((0, 2, 3)).tolist()
    assert taken == sorted(taken, reverse=True) and taken[0] > taken[2] > 0
    symbols.sum().backward()
    assert value.grad is not None and (value.grad == 1).all()
    assert torch.equal(chosen(worth)(value, None).detach(), nearest)


@pytest.mark.parametrize("only", ["entropy", "decoder"])
def test_its_steps_count_what_they_compute(light: Plan, only: Only, tmp_path: Path) -> None:
    """Forward through all, but on latents made before; backward, as two forwards, through what learns."""
    light = replace(light, only=only)
    state = assemble(light, tmp_path, STEPS)
    trained, forward = state.trained_macs_per_px, state.forward_macs_per_px
    assert 0 < trained == forward if only == "entropy" else 0 < trained < forward
    start(light, tmp_path / "new", 2, anchors=False)
    network = 2 * (state.forward_macs_per_px + 2 * state.trained_macs_per_px) * 2 * 64**2
    assert log(tmp_path / "new")[-1]["eflop"] * 1e18 == pytest.approx(2 * (network + state.optimizer_flops))


def test_it_goes_on_bit_for_bit(light: Plan, tmp_path: Path) -> None:
    start(light, tmp_path / "whole", 4, anchors=False)
    start(light, tmp_path / "parts", 4, pause_after=0.0, anchors=False)
    assert not (tmp_path / "parts" / FILE_NAME).exists()
    resume(tmp_path / "parts", anchors=False)
    assert same(learned(tmp_path / "parts"), learned(tmp_path / "whole"))
    one, other = (read_weights(tmp_path / name / FILE_NAME) for name in ("parts", "whole"))
    assert same(one.state, other.state)


def test_a_part_of_the_picture_cannot_learn_from_the_rate_alone(tmp_path: Path) -> None:
    """CHARM's predicted residuals are one."""
    with pytest.raises(UsageError, match="D cannot learn so: its entropy model predicts residuals"):
        plan_of("D", None, [], 0, tmp_path / "D.safetensors", only="entropy")


def test_the_run_and_its_card_say_so(light: Plan, tmp_path: Path) -> None:
    folder, first = tmp_path / "new", str(light.warm_start)
    command = ["train", *toml(light, tmp_path), "--warm-start", first, "--only", "entropy", "--steps", "1"]
    assert main([*command, "-o", str(folder), "--no-anchors", "--no-progress"]) == 0
    assert json.loads((folder / RUN_FILE).read_text("utf-8"))["only"] == "entropy"
    assert Plan.read(folder) == light
    text = release(folder, "Tiny.1", tmp_path).with_suffix(".md").read_text("utf-8")
    assert "| trained | the entropy model alone; the transforms are those of the start |" in text


def test_a_run_from_before_there_was_a_choice(light: Plan, tmp_path: Path) -> None:
    record = json.loads((tmp_path / "first" / RUN_FILE).read_text("utf-8"))
    del record["only"]
    (tmp_path / "first" / RUN_FILE).write_text(json.dumps(record), "utf-8")
    assert Plan.read(tmp_path / "first").only is None
    (tmp_path / "first" / RUN_FILE).write_text(json.dumps(record | {"only": "synthesis"}), "utf-8")
    with pytest.raises(BadInput, match="only: synthesis"):
        Plan.read(tmp_path / "first")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["J", "--only", "synthesis", "-o", "new"], "synthesis"),
        (["J", "--only", "entropy", "-o", "new"], "--warm-start"),
        (["G", "--only", "decoder", "--warm-start", "x", "-o", "new"], "is for light models"),
        (["--resume", "run", "--only", "entropy"], "--resume goes on as the run began"),
    ],
)
def test_what_it_cannot_be_given_with(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *options, "--steps", "1"] if "--resume" not in options else ["train", *options]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
