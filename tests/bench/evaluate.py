# SPDX-License-Identifier: Apache-2.0
"""How fast evaluators are: `make bench-evaluate`. Each runs as in a pod, its start included.

Texts are drawn from a vocabulary as languages use theirs (the n-th word 1/n as often), the classifier has random
coefficients: neither changes what is computed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import tempfile
from pathlib import Path

import numpy as np
from tests.hook_pod import HookPod, job_contract

from sandbox_api.contract import Limits
from sandbox_runtime.quality.folder import FEATURES, Classifier, write_classifier

VOCABULARY, ROW_WORDS = 50_000, (100, 500)


def write_texts(path: Path, words: int) -> None:
    chance = random.Random(0)
    lengths = [max(1, round(chance.gauss(5, 2.5))) for _ in range(VOCABULARY)]
    vocabulary = ["".join(chance.choices("etaoinshrdlu", k=length)) for length in lengths]
    weights = list(itertools.accumulate(1 / (number + 1) for number in range(VOCABULARY)))
    with path.open("w") as file:
        while words > 0:
            count = chance.randint(*ROW_WORDS)
            text = " ".join(chance.choices(vocabulary, cum_weights=weights, k=count))
            file.write(json.dumps({"text": text, "meta": {"number": words}}) + "\n")
            words -= count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--million", type=int, default=20, help="words of the larger data set, in millions; default: 20"
    )
    words = parser.parse_args().million * 1_000_000
    print("| words | processes | seconds | words/s | CPU seconds | words/s and core | largest process |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        pod = HookPod(Path(scratch), environ={"OMP_NUM_THREADS": "1"})
        coefficients = np.random.default_rng(0).normal(0, 0.1, FEATURES)
        write_classifier(Classifier(coefficients, 0.0), pod.inputs / "model", {"regParam": 0.0})
        for size in (words // 10, words):
            write_texts(pod.inputs / f"{size}.jsonl", size)
        runs = [(words // 10, 1), (words, 1), (words, len(os.sched_getaffinity(0)))]
        for number, (size, processes) in enumerate(dict.fromkeys(runs)):
            extra = {
                "type": "dj_text_quality_classifier",
                "dataset_path": f"inputs/{size}.jsonl",
                "model": "inputs/model",
            }
            contract = job_contract(
                "EvaluateDataHook", type=extra["type"], extra=extra, index=number, limits=Limits(cpus=processes)
            )
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            ended = pod.run(contract)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert ended.code == 0, ended.log
            found = ended.message.metrics["toy.tokens"]
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            seconds, peak = ended.result.runtime.hook_seconds or 0.0, ended.result.runtime.peak_memory_bytes or 0
            print(
                f"| {found:,.0f} | {processes} | {seconds:.1f} | {found / seconds:,.0f} | {cpu:.1f} |"
                f" {found / cpu:,.0f} | {peak / 2**20:.0f} MiB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
