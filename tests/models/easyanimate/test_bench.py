# SPDX-License-Identifier: Apache-2.0
"""What `make bench-models` says of a training: operations that are counted right, and parts of the time that add up."""

from math import prod

import pytest
import torch
from tests.bench import models as bench
from trainings import train_config

from sandbox_api.easyanimate import Bucket
from sandbox_runtime.easyanimate.loss import Batch, clip_losses
from sandbox_runtime.easyanimate.models import load_transformer

BUCKET = Bucket(frames=9, height=32, width=32)


def forward_by_hand(base) -> int:
    """Of one clip: two operations for each weight and row of a linear layer, and attention's two products."""
    transformer, found = load_transformer(base, "fp32", torch.device("cpu")), []

    def linear(layer, inputs, _output) -> None:
        found.append(2 * prod(inputs[0].shape) * layer.out_features)

    for layer in transformer.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(linear)
    latents, text = bench.shapes(base, BUCKET)
    batch = Batch(torch.zeros(1, *latents), torch.zeros(1, *latents), torch.zeros(1, *text), *torch.zeros(2, 1))
    with torch.no_grad():
        clip_losses(transformer, batch, torch.float32)
    tokens, width = prod(latents[1:]) // 4 + text[0], 2 * 16
    return sum(found) + len(transformer.transformer_blocks) * 2 * 2 * tokens**2 * width


def test_operations_of_a_step_are_counted(base) -> None:
    config = train_config(base, rank=1)
    one, two = (bench.flops_of_a_step(config, BUCKET, clips) for clips in (1, 2))

    assert two == 2 * one
    forward = forward_by_hand(base)
    assert 2 * forward < one < 3 * forward, "backward costs up to twice as much, less where weights are frozen"


def test_the_parts_of_a_step_add_up(base, tmp_path) -> None:
    found = bench.steps(base, tmp_path, BUCKET, batch_size=2, count=2)

    assert found["clips a second"] == pytest.approx(2 / found["seconds a step"])
    assert 0 < found["share outside forward and backward"] < 1
    assert found["FLOPs a second"] == pytest.approx(found["FLOPs a step"] / found["seconds a step"])
    assert found["parameters trained"] < found["parameters"]
