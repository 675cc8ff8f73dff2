# SPDX-License-Identifier: Apache-2.0
"""The whole table before and after, beside the later job's result."""

from pathlib import Path
from typing import Any

from tests.hook_pod import Ended, HookPod, job_contract

TABLE = """\
figure,before,after,difference,relative
rows,3.0,2.0,-1.0,-0.3333333333333333
lost,0.0,1.0,1.0,
"""


def ended(pod: HookPod, stage: str, figures: dict[str, float], **more: Any) -> Ended:
    return pod.run(job_contract(stage=stage, meta_name=stage, extra={"figures": figures}, **more))


def test_the_later_job_writes_all_figures_that_both_have(tmp_path: Path) -> None:
    pod = HookPod(tmp_path)
    before = ended(pod, "probe", {"lost": 0, "only_here": 1})
    after = ended(pod, "evaluation", {"rows": 2, "lost": 1, "only_there": 1}, compared=before.reference(""))

    assert after.code == 0, after.log
    (table,) = after.result.tables
    assert table.endswith("/out/comparison.csv")
    assert (pod.root / table).read_text() == TABLE


def test_without_the_earlier_result_the_later_job_succeeds_and_says_so(tmp_path: Path) -> None:
    pod = HookPod(tmp_path)
    before = ended(pod, "probe", {})
    reference = before.reference("")
    (before.folder / "result.json").unlink()
    after = ended(pod, "evaluation", {}, compared=reference)

    assert after.code == 0, after.log
    assert after.result.tables == []
    assert "nothing is compared: " in after.log
