# SPDX-License-Identifier: Apache-2.0
"""What two processes compute together, run under torchrun by `test_parallel`; the first one writes what came out.

usage: two_processes.py FOLDER, with `job.json` in it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from trainings import Figures, a_training, differing, never, stop_before, weights_of

from sandbox_api.easyanimate import EasyAnimateTrainConfig
from sandbox_runtime.easyanimate import parallel
from sandbox_runtime.easyanimate.results import Prepared


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    prepared, cache, world = Prepared.of_json(job["prepared"]), Path(job["cache"]), parallel.join()
    told: dict[str, object] = {"size": world.size}
    for how in ("ddp", "fsdp2"):
        config = EasyAnimateTrainConfig.model_validate({**job["config"], "parallel": how})
        whole, log = a_training(config, prepared, cache, folder / how, world), Figures()
        if how == "fsdp2":
            told["divided"] = sum(type(part).__name__.startswith("FSDP") for part in whole.transformer.modules())
            told["local"] = sum(p.to_local().numel() for p in whole.transformer.parameters() if hasattr(p, "to_local"))
            told["global"] = sum(p.numel() for p in whole.transformer.parameters() if hasattr(p, "to_local"))
        assert whole.train(log, never)
        wrong = []
        for step in job["interruptions"]:
            here = folder / f"{how}-{step}"
            first = a_training(config, prepared, cache, here, world)
            # the last process alone is told to stop; all must stop at the same step
            finished = first.train(Figures(), stop_before(step) if world.rank == world.size - 1 else never)
            resumed = a_training(config, prepared, cache, here, world)
            if finished or resumed.progress.step != step:
                wrong.append(f"stopped at {resumed.progress.step}, not {step}")
            resumed.train(Figures(), never)
            wrong += differing(weights_of(whole), weights_of(resumed))
            if resumed.progress.heldout != whole.progress.heldout:
                wrong.append("held-out losses differ")
        told[how] = {"loss": log.of("loss"), "heldout": log.of("heldout_loss"), "wrong": wrong}
        if world.is_first:
            save_file(weights_of(whole), folder / f"{how}.safetensors")
        everywhere = torch.stack([tensor.double().sum() for tensor in weights_of(whole).values()])
        told[how]["apart"] = float((world.sum(everywhere.clone()) - world.size * everywhere).abs().max())
    if world.is_first:
        (folder / "told.json").write_text(json.dumps(told))
    parallel.leave()


if __name__ == "__main__":
    main()
