# SPDX-License-Identifier: Apache-2.0
"""Two processes: they come to what one comes to, but for rounding, and an interrupted training to the very same."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.progress import DEEP, HOURS, long
from trainings import Figures, a_training, never, train_config, weights_of

pytestmark = long  # whichever test is first makes both trainings
STEPS = 12
INTERRUPTIONS = 10


@pytest.fixture(scope="module")
def together(base, prepared, cache, tmp_path_factory) -> tuple[Path, dict]:
    """Both kinds in one start of torchrun: most of the time goes into imports."""
    folder = tmp_path_factory.mktemp("together")
    chosen = random.Random(2).sample(range(STEPS), INTERRUPTIONS if DEEP else 2)
    config = train_config(base, steps=STEPS).model_dump(mode="json")
    job = {"config": config, "prepared": prepared.to_json(), "cache": str(cache), "interruptions": chosen}
    (folder / "job.json").write_text(json.dumps(job))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = Path(__file__).with_name("two_processes.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, str(script), str(folder)], env=environment, timeout=HOURS * 3600, check=False)
    assert done.returncode == 0
    return folder, json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def alone(base, prepared, cache, tmp_path_factory):
    training, log = (
        a_training(train_config(base, steps=STEPS), prepared, cache, tmp_path_factory.mktemp("alone")),
        Figures(),
    )
    training.train(log, never)
    return training, log


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_two_processes_come_to_what_one_comes_to(together, alone, how) -> None:
    folder, told = together
    training, log = alone

    losses = {int(step): loss for step, loss in told[how]["loss"].items()}
    assert told["size"] == 2
    assert losses.keys() == log.of("loss").keys()
    for step, loss in log.of("loss").items():
        assert losses[step] == pytest.approx(loss, abs=1e-5)
    for step, loss in log.of("heldout_loss").items():
        assert told[how]["heldout"][str(step)] == pytest.approx(loss, abs=1e-5)
    assert told[how]["apart"] == 0.0  # both processes have the same weights
    other = load_file(folder / f"{how}.safetensors")
    for name, tensor in weights_of(training).items():
        assert float((tensor - other[name]).abs().max()) < 1e-4


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_interrupted_together_they_come_to_the_very_same(together, how) -> None:
    assert together[1][how]["wrong"] == []


def test_fsdp2_divides_the_frozen_weights(together) -> None:
    told = together[1]

    assert told["divided"] == 3  # two blocks and the root
    assert told["global"] > 50_000
    assert told["local"] <= told["global"] * 0.55
