# SPDX-License-Identifier: Apache-2.0
"""Pools through the real process, checked against what Data-Juicer's sandbox computes, done directly."""

import json
import sys
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl

from sandbox_runtime.data_juicer.dataset import ROW_ID, prepare

HOOKS = {
    "data_pool_ranking": ("GeneralProbeHook", "probe", "ranking"),
    "dj_to_easyanimate_video_dataset_conversion": ("GeneralDataExecutorHook", "execution", "convert"),
    "coco_caption_to_dj_conversion": ("GeneralDataExecutorHook", "execution", "convert"),
    "coco_caption_meta_generation": ("GeneralDataExecutorHook", "execution", "convert"),
}
STATS = "__dj__stats__"


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path, python=sys.executable)


def run(pod: HookPod, kind: str, extra: dict[str, Any], **more: Any) -> Ended:
    hook, stage, name = HOOKS.get(kind, ("DataPoolManipulationHook", "execution", "pools"))
    return pod.run(job_contract(hook, stage=stage, meta_name=name, type=kind, extra=extra, **more))


def done(pod: HookPod, kind: str, extra: dict[str, Any], **more: Any) -> Ended:
    ended = run(pod, kind, extra, **more)
    assert ended.code == 0, ended.log
    return ended


def said(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def made(ended: Ended) -> dict[str, list[dict[str, Any]]]:
    """Rows of each file that a job returned, by its name in the job's folder."""
    (output,) = ended.result.outputs.values()
    paths = output.value if output.kind == "list" else [output.path]
    return {str((ended.root / path).relative_to(ended.folder / "out")): lines(ended.root / path) for path in paths}


def lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return [row["number"] for row in rows]


def analysed(count: int) -> list[dict[str, Any]]:
    """Rows as an analysis leaves them, with ties, a list of numbers, an empty one, and a text."""
    random = Random(3)
    return [
        {
            "number": number,
            "text": f"row {number % 40}",
            STATS: {
                "text_len": random.randint(1, 20),
                "lang": "en",
                "ratios": [random.random() for _ in range(number % 3)],
                "score": random.random(),
            },
        }
        for number in range(count)
    ]


def test_pools_are_cut_by_each_statistic_as_upstream_cuts_them(pod: HookPod) -> None:
    rows = analysed(100)
    data = write_jsonl(pod.inputs / "demo.jsonl", rows)
    extra = {
        "dataset_path": "inputs/demo.jsonl",
        "export_path": "outputs/pools",
        "split_ratios": [0.333, "0.667"],
        "random_pool": True,
    }
    ended = done(pod, "data_pool_construction", extra)
    found = made(ended)
    ends = [0, int(100 * 0.333 + 0.5), int(100 * 0.667 + 0.5), 100]
    keys = {
        "text_len": lambda stats: stats["text_len"],
        "ratios": lambda stats: np.mean(stats["ratios"]) if stats["ratios"] else 0,
        "score": lambda stats: stats["score"],
    }
    wanted = {}
    for name, key in keys.items():
        ordered = sorted(rows, key=lambda row: key(row[STATS]))
        for i in range(3):
            wanted[f"{name}/demo_{name}_{i}.jsonl"] = numbers(ordered[ends[i] : ends[i + 1]])
    random = found.pop("demo_random.jsonl")
    assert {name: numbers(pool) for name, pool in found.items()} == wanted
    assert list(found) == list(wanted)
    assert numbers(random) == numbers(datasets.Dataset.from_list(rows).shuffle(seed=42).to_list()[:33])
    ids = {row["number"]: row[ROW_ID] for row in lines(prepare({"dataset_path": str(data)}, pod.base / "p").path)}
    assert all(row[ROW_ID] == ids[row["number"]] for pool in [*found.values(), random] for row in pool)
    without_ids = [
        {key: value for key, value in row.items() if key != ROW_ID} for row in found["score/demo_score_2.jsonl"]
    ]
    assert without_ids == [rows[row["number"]] for row in without_ids], "nothing of a row is lost"
    figures = ended.message.metrics
    assert (figures["pools.pools"], figures["pools.rows"], figures["pools.rows.demo_score_1"]) == (10, 333, 34)
    assert "not by lang, which are no numbers" in ended.result.message
    link = pod.experiment / "outputs" / "pools" / "score" / "demo_score_2.jsonl"
    assert link.is_symlink()
    assert lines(link) == found["score/demo_score_2.jsonl"]
    assert [element.rows for element in ended.result.outputs["paths"].elements or ()][:3] == [33, 34, 33]


def test_pools_may_have_a_number_of_rows_and_the_order_of_the_data(pod: HookPod) -> None:
    table = pyarrow.Table.from_pylist([{"number": number, "prompt": "x"} for number in range(10)])
    pyarrow.parquet.write_table(table, pod.inputs / "prompts.parquet")
    extra = {"dataset_path": ["inputs/prompts.parquet"], "split_num": 4, "ignore_stats": True}
    ended = done(pod, "data_pool_construction", extra)
    assert {name: numbers(pool) for name, pool in made(ended).items()} == {
        "prompts_ignore_stats_0.jsonl": [0, 1, 2, 3],
        "prompts_ignore_stats_1.jsonl": [4, 5, 6, 7],
        "prompts_ignore_stats_2.jsonl": [8, 9],
    }


def test_only_the_statistics_that_are_asked_for_cut(pod: HookPod) -> None:
    write_jsonl(pod.inputs / "demo.jsonl", analysed(9))
    extra = {"dataset_path": "inputs/demo.jsonl", "stats": ["score"]}
    assert [*made(done(pod, "data_pool_construction", extra))] == [f"score/demo_score_{i}.jsonl" for i in range(3)]
    ended = run(pod, "data_pool_construction", {**extra, "stats": ["scor"]})
    assert (
        said(ended)
        == "extraConfigs.stats: inputs/demo.jsonl, line 1: has no statistic 'scor'; it has: text_len, lang, ratios, score"
    )


def test_all_intersections_are_made_in_upstreams_order(pod: HookPod) -> None:
    members = [{0, 1, 2, 3, 4, 5}, {2, 3, 4, 6}, {4, 3, 7}, {8, 5}]
    for place, numbered in enumerate(members):
        rows = [
            {"number": number, "text": "same" if number in (2, 3) else "x"} for number in sorted(numbered, reverse=True)
        ]
        write_jsonl(pod.inputs / f"pool_{place}.jsonl", rows)
    ended = done(pod, "data_pool_combination", {"dataset_path": [f"inputs/pool_{place}.jsonl" for place in range(4)]})
    wanted = {}
    for size in range(1, 5):
        for places in sorted(combinations(range(4), size), key=lambda places: places[::-1]):
            rows = set.intersection(*(members[place] for place in places))
            if rows:
                name = f"pool__top_{'_'.join(map(str, places))}_num_{len(rows)}.jsonl"
                wanted[name] = sorted(rows, reverse=True)
    assert {name: numbers(pool) for name, pool in made(ended).items()} == wanted
    assert [*made(ended)] == [*wanted]
    assert ended.message.metrics["pools.empty"] == 15 - len(wanted) > 0
    assert "combinations without a row" in ended.result.message


def test_pools_of_one_data_set_meet_by_ids_and_copies_of_a_row_count_once(pod: HookPod) -> None:
    first = [{"text": "x", ROW_ID: "a"}, {"text": "x", ROW_ID: "b"}, {"text": "x", ROW_ID: "a"}]
    write_jsonl(pod.inputs / "first.jsonl", first)
    write_jsonl(pod.inputs / "second.jsonl", [{"text": "changed", ROW_ID: "a"}, {"text": "x", ROW_ID: "c"}])
    ended = done(pod, "data_pool_combination", {"dataset_path": ["inputs/first.jsonl", "inputs/second.jsonl"]})
    assert {name: [row[ROW_ID] for row in pool] for name, pool in made(ended).items()} == {
        "default_prefix_top_0_num_2.jsonl": ["a", "b"],
        "default_prefix_top_1_num_2.jsonl": ["a", "c"],
        "default_prefix_top_0_1_num_1.jsonl": ["a"],
    }


def test_rows_are_repeated_and_mixed_as_upstream_mixes_them(pod: HookPod) -> None:
    rows = [{"number": number} for number in range(7)]
    write_jsonl(pod.inputs / "pool.jsonl", rows)
    extra: dict[str, Any] = {"dataset_path": "inputs/pool.jsonl", "duplicating_times": [1, 3]}
    plain = made(done(pod, "data_pool_duplication", extra))
    assert {name: numbers(pool) for name, pool in plain.items()} == {
        "pool_x1.jsonl": [*range(7)],
        "pool_x3.jsonl": [*range(7)] * 3,
    }
    assert len({row[ROW_ID] for row in plain["pool_x3.jsonl"]}) == 7
    mixed = made(done(pod, "data_pool_duplication", {**extra, "shuffle": True, "shuffle_seed": 5}))
    whole = datasets.concatenate_datasets([datasets.Dataset.from_list(rows)] * 3)
    assert numbers(mixed["pool_x3.jsonl"]) == whole.shuffle(seed=5)["number"]


def test_rows_are_drawn_as_upstream_draws_them(pod: HookPod) -> None:
    sizes = {"a": 30, "b": 12, "c": 25}
    for name, size in sizes.items():
        write_jsonl(pod.inputs / f"{name}.jsonl", [{"number": number} for number in range(size)])
    extra = {"dataset_path": [f"inputs/{name}.jsonl" for name in sizes]}
    ended = done(pod, "data_pool_downsampling", extra)
    wanted = {
        f"{name}_12.jsonl": datasets.Dataset.from_dict({"number": range(size)}).shuffle(seed=42)["number"][:12]
        for name, size in sizes.items()
    }
    assert {name: numbers(pool) for name, pool in made(ended).items()} == wanted
    again = made(done(pod, "data_pool_downsampling", extra, index=1))
    assert again == made(ended)
    other = made(done(pod, "data_pool_downsampling", {**extra, "shuffle_seed": 43}))
    assert other.keys() == again.keys()
    assert other != again


def test_a_number_larger_than_the_data_is_said(pod: HookPod) -> None:
    write_jsonl(pod.inputs / "few.jsonl", [{"number": number} for number in range(6)])
    extra = {"dataset_path": "inputs/few.jsonl", "target_num_samples": 16, "seed": 1}
    ended = done(pod, "data_pool_downsampling", extra)
    output = ended.result.outputs["paths"]
    assert output.kind == "path", "as `dataset_path` is one"
    assert sorted(numbers(lines(ended.output("paths")))) == [*range(6)]
    assert ended.message.metrics["pools.short"] == 10
    assert ended.result.message == (
        "target_num_samples is 16; too few rows in 1 of 1 pool, taken whole: 10 rows missing"
    )
    assert "warning: inputs/few.jsonl holds 6 rows, 10 fewer than target_num_samples (16)" in ended.log
    assert "extraConfigs.seed is not used" in ended.log


def test_merging_keeps_every_row_and_its_id(pod: HookPod) -> None:
    write_jsonl(pod.inputs / "part_a.jsonl", [{"number": 1, ROW_ID: "one"}, {"number": 2}])
    (pod.inputs / "part_b.json").write_text(json.dumps([{"number": 3}, {"number": 2}]))
    extra = {"dataset_path": ["inputs/part_a.jsonl", "inputs/part_b.json"], "export_path": "outputs/merged/"}
    ended = done(pod, "data_pool_merging", extra)
    (rows,) = made(ended).values()
    assert numbers(rows) == [1, 2, 3, 2]
    assert rows[0][ROW_ID] == "one"
    assert rows[1][ROW_ID] == rows[3][ROW_ID], "equal rows of two data sets are the same row"
    assert ended.result.outputs["dataset"].rows == 4
    assert ended.result.outputs["dataset"].published == "outputs/merged/part__merged.jsonl"


def test_a_join_has_every_pair(pod: HookPod) -> None:
    for name, letters in {"p_0": "ABC", "p_1": "E"}.items():
        write_jsonl(pod.inputs / f"{name}.jsonl", [{"prompt": letter} for letter in letters])
    for name, values in {"q_0": [1], "q_1": [2, 3]}.items():
        write_jsonl(pod.inputs / f"{name}.jsonl", [{"question": value} for value in values])
    extra = {
        "dataset_path_1": ["inputs/p_0.jsonl", "inputs/p_1.jsonl"],
        "dataset_path_2": ["inputs/q_0.jsonl", "inputs/q_1.jsonl"],
    }
    ended = done(pod, "data_pool_cartesian_join", extra)
    found = made(ended)
    assert {name: [f"{row['prompt']}{row['question']}" for row in pool] for name, pool in found.items()} == {
        "p__q__cartesian_join_0_0.jsonl": ["A1", "B1", "C1"],
        "p__q__cartesian_join_0_1.jsonl": ["A2", "A3", "B2", "B3", "C2", "C3"],
        "p__q__cartesian_join_1_0.jsonl": ["E1"],
        "p__q__cartesian_join_1_1.jsonl": ["E2", "E3"],
    }
    assert len({row[ROW_ID] for pool in found.values() for row in pool}) == 12
    clash = run(pod, "data_pool_cartesian_join", {**extra, "dataset_path_2": "inputs/p_1.jsonl"})
    assert said(clash) == (
        "extraConfigs.dataset_path_2: row 1 of inputs/p_1.jsonl and row 1 of inputs/p_0.jsonl both have 'prompt'; rename"
        " it in one of them"
    )


def test_pools_are_ranked_by_what_was_found_for_them(pod: HookPod) -> None:
    for name in "abcd":
        write_jsonl(pod.inputs / f"{name}.jsonl", [{"x": 1}])
    paths = [f"inputs/{name}.jsonl" for name in "abcd"]
    metrics = [{"all": {"mse": 0.5}, "errors": 1}, {"all": {"mse": 0.1}, "errors": 3}, {"all": {"mse": 0.1}, "errors": 2}, {"all": {"mse": None}, "errors": 0}]  # fmt: skip
    extra = {"dataset_path": paths, "metrics": metrics, "ranking_keys": ["all.mse", "errors"], "descending": False}
    ended = done(pod, "data_pool_ranking", {**extra, "top_n": 3})
    assert ended.result.outputs["ranked"].value == [f"inputs/{name}.jsonl" for name in "cba"]
    figures = ended.message.metrics
    assert (figures["ranking.rank.1.all.mse"], figures["ranking.rank.2.errors"], figures["ranking.unranked"]) == (
        0.1,
        3,
        1,
    )
    assert "1 data set without it come last" in ended.result.message
    plain = done(pod, "data_pool_ranking", {"dataset_path": paths, "metrics": [2, 5, 5, 1], "top_n": 9})
    assert plain.result.outputs["ranked"].value == [f"inputs/{name}.jsonl" for name in "bcad"], (
        "equal ones in their order"
    )
    assert "top_n is 9, but there are only 4" in plain.result.message
    repeated = done(pod, "data_pool_ranking", {"dataset_path": paths, "metrics": [1, 2, 3, 4, 9, 2, None, 2]})
    assert repeated.result.outputs["ranked"].value == [f"inputs/{name}.jsonl" for name in "adbc"]
    assert repeated.message.metrics["ranking.rank.1"] == 5, "the mean of 1 and 9"
    assert repeated.result.message.startswith(
        "4 data sets, the highest figure first: a.jsonl; by the mean of 2 repeats"
    )


def test_of_each_statistic_the_best_pool_goes_on(pod: HookPod) -> None:
    write_jsonl(pod.inputs / "all.jsonl", analysed(30))
    cut = done(pod, "data_pool_construction", {"dataset_path": "inputs/all.jsonl", "random_pool": True})
    paths = cut.result.outputs["paths"].value
    figures = {"score_0": 5, "score_1": 7, "random": 9}
    metrics = [next((v for end, v in figures.items() if path.endswith(f"{end}.jsonl")), 1) for path in paths]
    inputs = {"extraConfigs.dataset_path": cut.reference("paths")}

    ended = done(pod, "data_pool_ranking", {"metrics": metrics, "by_statistic": True}, inputs=inputs)
    ranked = ended.result.outputs["ranked"].value
    statistics = [Path(path).parent.name for path in ranked]
    assert Path(ranked[0]).name == "all_score_1.jsonl"
    assert sorted(statistics) == sorted({Path(path).parent.name for path in paths if "random" not in path})
    assert len(paths) == 3 * len(statistics) + 1 > 4
    none = run(pod, "data_pool_ranking", {"dataset_path": ["inputs/all.jsonl"], "metrics": [1], "by_statistic": True})
    assert said(none).startswith("extraConfigs.by_statistic: none of the data sets is a pool that a statistic has cut")


def test_a_chain_hands_on_files_with_their_digests_and_names(pod: HookPod) -> None:
    write_jsonl(pod.inputs / "all.jsonl", analysed(30))
    first = done(pod, "data_pool_construction", {"dataset_path": "inputs/all.jsonl", "stats": ["score"]})
    inputs = {"extraConfigs.dataset_path": first.reference("paths")}
    ranked = done(pod, "data_pool_ranking", {"metrics": [1, 3, 2], "top_n": 2}, inputs=inputs)
    output = ranked.result.outputs["ranked"]
    pools = first.result.outputs["paths"]
    assert output.value == [pools.value[1], pools.value[2]]
    assert [element.sha256 for element in output.elements or ()] == [e.sha256 for e in (pools.elements or [])[1:]]
    inputs = {"extraConfigs.dataset_path": ranked.reference("ranked")}
    merged = done(pod, "data_pool_merging", {"export_path": "outputs/best"}, inputs=inputs)
    assert merged.result.outputs["dataset"].published == "outputs/best/all_score__merged.jsonl"
    inputs = {"extraConfigs.dataset_path": merged.reference("dataset")}
    sampled = done(pod, "data_pool_downsampling", {"target_num_samples": 5}, inputs=inputs)
    assert [*made(sampled)] == ["all_score__merged_5.jsonl"]


def test_videos_become_what_easyanimate_reads(pod: HookPod) -> None:
    rows = [
        {"videos": ["/clips/a.mp4", "/clips/b.mp4"], "text": "<__dj__video> a caption, ü <|__dj__eoc|>", ROW_ID: "1"},
        {"videos": [], "text": "no video", ROW_ID: "2"},
        {"videos": ["clips/c.mp4"], "text": " plain ", "meta": {"n": 1.5}, ROW_ID: "3"},
    ]
    (pod.inputs / "clips.json").write_text(json.dumps(rows))
    extra = {"dataset_path": "inputs/clips.json", "export_path": "outputs/train"}
    ended = done(pod, "dj_to_easyanimate_video_dataset_conversion", extra)
    beside = str(pod.experiment / "inputs" / "clips" / "c.mp4")
    wanted = [
        {**rows[0], "text": "a caption, ü <|__dj__eoc|>", "file_path": "/clips/a.mp4"},
        {**rows[2], "videos": [beside], "text": "plain", "file_path": beside},
    ]
    assert ended.output("paths").name == "clips_ea_fmt.json"
    assert ended.output("paths").read_text() == json.dumps(wanted), "as json.dump writes it"
    assert ended.message.metrics["convert.without_video"] == 1
    assert "1 row without a video left out" in ended.result.message
    assert (pod.experiment / "outputs" / "train" / "clips_ea_fmt.json").is_symlink()


def test_captions_become_rows_of_data_juicer_and_a_meta_file(pod: HookPod) -> None:
    turns = [{"from": "human", "value": "<image>\nDescribe it."}, {"from": "gpt", "value": "A cat."}]
    rows = [{"image": name, "conversations": turns, ROW_ID: name} for name in ("/coco/a.jpg", "train/b.jpg")]
    write_jsonl(pod.inputs / "coco" / "karpathy.jsonl", rows)
    ended = done(pod, "coco_caption_to_dj_conversion", {"dataset_path": ["inputs/coco/karpathy.jsonl"]})
    (converted,) = made(ended).values()
    beside = str(pod.experiment / "inputs" / "coco" / "train" / "b.jpg")
    assert converted == [
        {**row, "images": [image], "text": "<__dj__image> A cat."}
        for row, image in zip(rows, ("/coco/a.jpg", beside), strict=True)
    ]
    assert [*made(ended)] == ["karpathy_dj_fmt.jsonl"]
    inputs = {"extraConfigs.dataset_path": ended.reference("paths", 0)}
    meta = done(pod, "coco_caption_meta_generation", {"data_root_path": "inputs"}, inputs=inputs)
    assert meta.output("paths").name == "karpathy_dj_fmt_meta.json"
    (entry,) = json.loads(meta.output("paths").read_text()).items()
    name, value = entry
    assert name == "karpathy_dj_fmt"
    assert (pod.experiment / "inputs").is_symlink()
    assert value.pop("annotation").endswith("out/karpathy_dj_fmt.jsonl")
    assert value == {"root": "data/coco/", "data_augment": False, "repeat_time": 1, "length": 2}


def test_a_line_that_is_no_json_is_named(pod: HookPod) -> None:
    """Every mistake stands in test_pools.py."""
    path = write_jsonl(pod.inputs / "data.jsonl", [{"number": 1}])
    path.write_text(path.read_text() + '{"number": \n')
    ended = run(pod, "data_pool_merging", {"dataset_path": "inputs/data.jsonl"})
    assert ended.code == 2, ended.log
    assert said(ended).startswith("extraConfigs.dataset_path: inputs/data.jsonl, line 2: not JSON")


def test_data_juicers_selectors_say_when_there_are_too_few_rows(pod: HookPod) -> None:
    write_jsonl(pod.inputs / "few.jsonl", [{"text": f"row {number}"} for number in range(6)])
    recipe = [{"text_length_filter": {"min_len": 1}}, {"random_selector": {"select_num": 16}}]
    settings = {"dataset_path": "inputs/few.jsonl", "process": recipe}
    ended = pod.run(job_contract("ProcessDataHook", stage="execution", meta_name="process", dj=settings))
    assert ended.code == 0, ended.log
    assert len(lines(ended.output("dataset"))) == 16, "Data-Juicer repeats rows"
    assert ended.message.metrics["process.ops.1_random_selector.short"] == 10
    assert ended.result.message.endswith(
        "process[1].random_selector.select_num: 16 rows were asked for, of 6 rows that there were; 10 rows were taken again"
    )
    recipe[1] = {"random_selector": {"select_num": 4}}
    ended = pod.run(job_contract("ProcessDataHook", stage="execution", meta_name="process", dj=settings))
    assert ended.code == 0, ended.log
    assert "process.ops.1_random_selector.short" not in ended.message.metrics


def test_pools_of_a_real_analysis_are_the_thirds_of_the_rows(pod: HookPod) -> None:
    random = Random(11)
    rows = [{"text": "word " * random.randint(1, 400) + str(number)} for number in range(90)]
    write_jsonl(pod.inputs / "texts.jsonl", rows)
    settings = {
        "dataset_path": "inputs/texts.jsonl",
        "export_path": "outputs/texts.jsonl",
        "export_original_dataset": True,
        "percentiles": [0.333, 0.667],
        "process": [{"text_length_filter": {}}],
    }
    probe = pod.run(job_contract("ProbeViaAnalyzerHook", meta_name="look", dj=settings))
    assert probe.code == 0, probe.log
    inputs = {"extraConfigs.dataset_path": probe.reference("dataset")}
    ended = done(pod, "data_pool_construction", {"split_ratios": [0.333, 0.667]}, inputs=inputs)
    ordered = sorted((row["text"] for row in rows), key=len)
    pools = made(ended)
    assert [*pools] == [f"text_len/texts_text_len_{i}.jsonl" for i in range(3)]
    assert [[row["text"] for row in pool] for pool in pools.values()] == [ordered[:30], ordered[30:60], ordered[60:]]
    known = {row[ROW_ID] for row in lines(probe.output("stats"))}
    assert {row[ROW_ID] for pool in pools.values() for row in pool} == known, "ids are the analysis's"
    borders = [probe.result.metrics[f"look.text_len.{name}%"] for name in ("33.3", "66.7")]
    lengths = [[len(row["text"]) for row in pool] for pool in pools.values()]
    assert max(lengths[0]) <= borders[0] <= min(lengths[1])
    assert max(lengths[1]) <= borders[1] <= min(lengths[2])
