# SPDX-License-Identifier: Apache-2.0
"""The second phase in one process: the loss falls, it is measured fixedly, and resumed runs are the same bit for bit."""

import json
import random
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors import safe_open
from tests.progress import DEEP, long
from trainings import Figures, a_training, differing, never, stop_before, train_config, weights_of

from sandbox_runtime.easyanimate import draws, lora, schedule
from sandbox_runtime.easyanimate.checkpoint import KEPT
from sandbox_runtime.easyanimate.loss import Batch, NoiseLevels, clip_losses
from sandbox_runtime.errors import UserError

INTERRUPTIONS = 10


@pytest.fixture(scope="module")
def whole(base, prepared, cache, tmp_path_factory):
    """A training that nobody interrupted, and what it logged."""
    training = a_training(train_config(base), prepared, cache, tmp_path_factory.mktemp("whole"))
    log = Figures()
    assert training.train(log, never)
    return training, log


def test_the_held_out_loss_falls(base, prepared, cache, tmp_path) -> None:
    log = Figures()
    training = a_training(
        train_config(base, steps=60, heldout_every=20, checkpoint_every=100), prepared, cache, tmp_path
    )

    assert training.train(log, never)

    heldout = log.of("heldout_loss")
    assert list(heldout) == [0, 20, 40, 60]
    assert heldout[60] < heldout[40] < heldout[0]
    losses = log.of("loss")
    assert sum(losses[step] for step in range(51, 61)) < sum(losses[step] for step in range(1, 11))


def test_figures_are_logged_at_each_step(whole) -> None:
    training, log = whole

    assert list(log.of("loss")) == list(range(1, 13))
    assert log.of("lr")[1] == pytest.approx(5e-3 / 3)
    assert log.of("lr")[12] == pytest.approx(5e-3)
    assert list(log.of("heldout_loss")) == [0, 6, 12]
    assert training.heldout_loss() == log.of("heldout_loss")[12]  # fixed noise and levels: it can be measured again


@long
def test_an_interrupted_training_is_the_same_bit_for_bit(whole, base, prepared, cache, tmp_path) -> None:
    uninterrupted, log = whole
    chosen = random.Random(1).sample(range(12), INTERRUPTIONS)
    for step in chosen if DEEP else chosen[:4]:
        folder = tmp_path / str(step)
        first, second = Figures(), Figures()

        assert not a_training(train_config(base), prepared, cache, folder).train(first, stop_before(step))
        resumed = a_training(train_config(base), prepared, cache, folder)
        assert resumed.progress.step == step
        assert resumed.train(second, never)

        assert differing(weights_of(uninterrupted), weights_of(resumed)) == []
        for name in ("loss", "heldout_loss", "lr", "grad_norm"):
            assert {**first.of(name), **second.of(name)} == log.of(name)
        made = {path.name: path.read_bytes() for path in resumed.run.models.iterdir()}
        assert made == {path.name: path.read_bytes() for path in uninterrupted.run.models.iterdir()}


def test_a_checkpoint_of_another_training_or_a_torn_one_is_not_resumed(base, prepared, cache, tmp_path) -> None:
    a_training(train_config(base), prepared, cache, tmp_path).train(Figures(), stop_before(7))
    found = sorted((tmp_path / "state").iterdir())
    assert [path.name for path in found] == ["step-000000005.safetensors", "step-000000007.safetensors"]
    assert len(found) <= KEPT

    found[1].write_bytes(found[1].read_bytes()[:-100])
    assert a_training(train_config(base), prepared, cache, tmp_path).progress.step == 5

    content = found[0].read_bytes()
    found[0].write_bytes(content.replace(b"the-same-training", b"another--training"))
    assert a_training(train_config(base), prepared, cache, tmp_path).progress.step == 0


def test_the_file_says_where_it_comes_from(whole, base, prepared) -> None:
    training, _ = whole
    names = sorted(path.name for path in training.run.models.iterdir())
    assert names == ["checkpoint-10.safetensors", "checkpoint-12.safetensors", "checkpoint-5.safetensors"]

    told = lora.read_provenance(training.run.models / "checkpoint-12.safetensors")

    assert (told.base_model, told.data) == ("digest-of-the-base", prepared.data)
    assert (told.seed, told.steps, told.rank, told.alpha, told.targets) == (42, 12, 4, 4.0, "all")
    assert told.recipe == json.loads(train_config(base).model_dump_json())
    with safe_open(training.run.models / "checkpoint-12.safetensors", "pt") as file:
        assert set(file.keys()) == set(training.parameters)
        for name in file.keys():  # noqa: SIM118
            assert torch.equal(file.get_tensor(name), training.parameters[name])


def test_only_the_lora_is_trained(base, prepared, cache, tmp_path) -> None:
    training = a_training(train_config(base, steps=2), prepared, cache, tmp_path)
    frozen = {
        name: parameter.detach().clone()
        for name, parameter in training.transformer.named_parameters()
        if not parameter.requires_grad
    }
    start = weights_of(training)

    training.train(Figures(), never)

    after = dict(training.transformer.named_parameters())
    assert differing(frozen, {name: after[name].detach() for name in frozen}) == []
    changed = differing(start, weights_of(training))
    assert [name for name in start if ".lora_B." in name and "transformer_blocks.0" in name] == [
        name for name in changed if ".lora_B." in name and "transformer_blocks.0" in name
    ]


@pytest.mark.parametrize("which", ["every_block", "every_other_block", "off"])
def test_computing_blocks_twice_changes_nothing_but_memory(whole, base, prepared, cache, tmp_path, which) -> None:
    training = a_training(train_config(base, gradient_checkpointing=which, steps=3), prepared, cache, tmp_path)
    log = Figures()

    training.train(log, never)

    for step, loss in log.of("loss").items():
        assert loss == pytest.approx(whole[1].of("loss")[step], abs=1e-6)


def test_larger_groups_at_a_time_change_only_rounding(whole, base, prepared, cache, tmp_path) -> None:
    training = a_training(train_config(base, batch_size_per_gpu=4), prepared, cache, tmp_path)
    log = Figures()

    training.train(log, never)

    for step, loss in log.of("loss").items():
        assert loss == pytest.approx(whole[1].of("loss")[step], abs=1e-5)


def test_bf16_trains_too(base, prepared, cache, tmp_path) -> None:
    training = a_training(
        train_config(base, precision="bf16", steps=40, heldout_every=100, checkpoint_every=100),
        prepared,
        cache,
        tmp_path,
    )
    log = Figures()

    assert training.train(log, never)

    assert {parameter.dtype for parameter in training.parameters.values()} == {torch.float32}
    assert training.transformer.proj_out.weight.dtype == torch.bfloat16
    heldout = log.of("heldout_loss")
    assert heldout[40] < heldout[0]


@long
def test_compiled_blocks_compute_the_same(whole, base, prepared, cache, tmp_path, monkeypatch) -> None:
    """A sample captures the graphs and runs them as they are; in full, C++ is generated and compiled: minutes."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    if not DEEP:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    training = a_training(
        train_config(base, compile_blocks=True, steps=1), replace(prepared, heldout=()), cache, tmp_path
    )
    log = Figures()

    assert training.train(log, never)

    for step, loss in log.of("loss").items():
        assert loss == pytest.approx(whole[1].of("loss")[step], abs=1e-4)
    assert set(training.parameters) == set(whole[0].parameters)


def test_a_loss_that_is_not_finite_ends_the_training(base, prepared, cache, tmp_path) -> None:
    training = a_training(train_config(base), prepared, cache, tmp_path)
    next(iter(training.parameters.values())).data.fill_(float("nan"))

    with pytest.raises(UserError, match="not finite at step 1"):
        training.train(Figures(), never)


def test_clips_that_can_t_be_divided_are_refused(base) -> None:
    with pytest.raises(ValueError, match="batch_size: 4 can't be divided among 3 processes"):
        train_config(base).clips_a_step(3)


def test_each_epoch_takes_every_clip(prepared) -> None:
    buckets = [sample.bucket for sample in prepared.samples]
    plan = schedule.Schedule(buckets, 4, seed=1)

    for epoch in range(3):
        batches = [plan.batch(epoch * plan.steps_per_epoch + step) for step in range(plan.steps_per_epoch)]
        assert {clip for batch in batches for clip in batch} == set(range(len(buckets)))
        for batch in batches:
            assert len(batch) == 4
            assert len({buckets[clip] for clip in batch}) == 1
    assert [plan.batch(step) for step in range(4)] != [plan.batch(4 + step) for step in range(4)]


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("at_a_time", [1, 3])
def test_processes_share_a_batch_evenly(processes, at_a_time) -> None:
    shares = [schedule.share(range(100, 112), rank, processes, at_a_time) for rank in range(processes)]

    assert sorted(pair for mine in shares for group in mine for pair in group) == list(enumerate(range(100, 112)))
    assert len({tuple(map(len, mine)) for mine in shares}) == 1
    assert max(len(group) for mine in shares for group in mine) <= at_a_time


def test_a_draw_depends_on_its_name_alone() -> None:
    one = draws.noise((3, 4), "noise", 1, 2, 3)
    torch.manual_seed(5)
    torch.randn(10)

    assert torch.equal(one, draws.noise((3, 4), "noise", 1, 2, 3))
    assert not torch.equal(one, draws.noise((3, 4), "noise", 1, 2, 4))
    assert draws.uniform("a", 1, 23) != draws.uniform("a", 12, 3)
    many = draws.noise((100_000,), "noise", 0)
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1) < 0.02


def test_the_loss_is_the_flow_from_a_clip_to_noise() -> None:
    """A model that knows the answer has none, whatever the level; an outlier does not count."""
    latents, noise = draws.noise((2, 4, 3, 4, 4), "a"), draws.noise((2, 4, 3, 4, 4), "b")
    batch = Batch(latents, noise, torch.zeros(2, 1, 1), torch.tensor([0.25, 0.75]), torch.tensor([250.0, 750.0]))

    class Knowing(torch.nn.Module):
        def forward(self, noisy, *_, **__):
            sigmas = batch.sigmas.view(-1, 1, 1, 1, 1)
            assert torch.allclose(noisy, (1 - sigmas) * latents + sigmas * noise)
            found = noise - latents
            found[1, 0, 0, 0, 0] += 51.0
            found[0, 0, 0, 0, 0] += 2.0
            return (found,)

    losses = clip_losses(Knowing(), batch, torch.float32)

    assert losses[1] == 0
    assert float(losses[0]) == pytest.approx(4.0 / (4 * 3 * 4 * 4))


def test_noise_levels_are_most_often_in_the_middle() -> None:
    levels = NoiseLevels(torch.linspace(1, 0.001, 1000), torch.linspace(1000, 1, 1000))
    drawn = [levels.place(draws.normal("level", number)) for number in range(4000)]

    assert levels.place(-40.0) == 0
    assert levels.place(40.0) == 999
    assert sum(250 <= level < 750 for level in drawn) / 4000 == pytest.approx(0.728, abs=0.03)  # P(|z| < ln 3)


def test_rates_and_norms_follow_their_shapes(base) -> None:
    config = train_config(base, learning_rate=1.0, lr_warmup_steps=4, lr_scheduler="cosine", max_grad_norm=0.05)

    rates = [schedule.learning_rate(config, step, 14) for step in range(14)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[9] == pytest.approx(0.5)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert [schedule.clip_norm(config, step) for step in (0, 500, 1000, 5000)] == pytest.approx(
        [0.25, 0.15, 0.05, 0.05]
    )
