# SPDX-License-Identifier: Apache-2.0
"""What the hooks on whole data sets are made of, in this process: every mistake, any sizes, bounded memory."""

import json
import random
import tracemalloc
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.hook_pod import job_contract, write_jsonl

from sandbox_api.hooks import HOOKS
from sandbox_runtime.components import FACTORIES, BaseDataPoolManipulator, Factory
from sandbox_runtime.data_juicer import rows as rows_module
from sandbox_runtime.data_juicer.errors import DatasetError
from sandbox_runtime.data_juicer.rows import read_json
from sandbox_runtime.errors import ConfigError
from sandbox_runtime.hooks import load_hook
from sandbox_runtime.hooks.base import HookContext, HookResult
from sandbox_runtime.metrics import MetricsLog
from sandbox_runtime.pools import pool as pool_module
from sandbox_runtime.pools.combine import combined
from sandbox_runtime.pools.pool import drawn, read_pool, stems, write_lines
from sandbox_runtime.pools.statistics import borders
from sandbox_runtime.workspace import Workspace

STATS = "__dj__stats__"
Work = Callable[..., HookResult]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Runs a component in this process; inputs lie in `inputs`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inputs").mkdir()

    def run(kind: str, extra: dict[str, Any], name: str | None = None) -> HookResult:
        """name: of the hook, for a type that the catalogue has not."""
        name = name or next(hook.name for hook in HOOKS.values() if kind in hook.components)
        contract, component = job_contract(name, type=kind, extra=extra), HOOKS[name].components.get(kind)
        checked = component.extra.model_validate(extra) if component else extra
        workspace = Workspace(tmp_path / "workspace", tmp_path / "inputs", contract, f"pod-{random.random()}")
        workspace.enter()
        log = MetricsLog(workspace.metrics, "pools")
        return load_hook(name)().run(HookContext(contract, {}, checked, {}, workspace, log))

    return run


class Halves(BaseDataPoolManipulator):
    """As the sandbox has them: settings by key and by attribute, files below `export_path`, their paths returned."""

    def run(self) -> list[str]:
        rows = Path(self.data_pool_cfg["dataset_path"]).read_text().splitlines()
        folder, middle = Path(self.data_pool_cfg.export_path), len(rows) // 2
        folder.mkdir()
        for name, part in (("first", rows[:middle]), ("second", rows[middle:])):
            (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in part))
        return [str(folder / "first.jsonl"), str(folder / "second.jsonl"), "no file"]


def test_a_manipulator_of_the_sandbox_runs(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = {**FACTORIES["data_pool_manipulator"].built_in, "halves": f"{__name__}:Halves"}
    monkeypatch.setitem(FACTORIES, "data_pool_manipulator", Factory("data_pool_manipulator", built_in))
    write_jsonl(tmp_path / "inputs" / "data.jsonl", [{"number": number} for number in range(5)])
    extra = {"dataset_path": "inputs/data.jsonl", "export_path": "outputs/halves"}
    (paths,) = work("halves", extra, "DataPoolManipulationHook").outputs
    first, second, other = paths
    assert [row["number"] for row in lines(first.path)] == [0, 1]
    assert second.publish.parts[-3:] == ("outputs", "halves", "second.jsonl")
    assert other == "no file"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def made(done: HookResult) -> dict[str, list[dict[str, Any]]]:
    (output,) = done.outputs
    return {artifact.path.name: lines(artifact.path) for artifact in (output if isinstance(output, list) else [output])}


GOOD = {"number": 1, STATS: {"score": 1.0}}


@pytest.mark.parametrize(
    ("kind", "rows", "extra", "words"),
    [
        ("data_pool_construction", [], {}, "extraConfigs.dataset_path: inputs/data.jsonl holds no rows"),
        ("data_pool_construction", [GOOD, {"number": 2}], {}, "extraConfigs.dataset_path: inputs/data.jsonl, line 2: has no statistics (__dj__stats__); take the `dataset` of a ProbeViaAnalyzerHook"),
        ("data_pool_construction", [GOOD, {STATS: {"other": 1}}], {}, "extraConfigs.dataset_path: inputs/data.jsonl, line 2: has a statistic 'other', which rows before it have not"),
        ("data_pool_construction", [GOOD, {STATS: {"score": None}}], {}, "extraConfigs.dataset_path: inputs/data.jsonl, line 2: has no statistic 'score'; every row needs it"),
        ("data_pool_construction", [GOOD, {STATS: {"score": "high"}}], {}, "extraConfigs.dataset_path: inputs/data.jsonl, line 2: the statistic 'score' is no number here"),
        ("data_pool_construction", [{STATS: {"lang": "en"}}] * 3, {}, "extraConfigs.dataset_path: none of the statistics is a number: lang"),
        ("data_pool_construction", [GOOD, GOOD], {}, "extraConfigs.split_ratios: inputs/data.jsonl holds 2 rows, too few for 3 pools: number 1 would be empty"),
        ("data_pool_merging", [GOOD], {"dataset_path": ["inputs/data.jsonl", "outputs/none.jsonl"]}, "extraConfigs.dataset_path: there is no file or folder outputs/none.jsonl"),
        ("data_pool_ranking", [GOOD], {"dataset_path": ["inputs/data.jsonl", "inputs/data.jsonl"], "metrics": [1, 2, 3]}, "extraConfigs.metrics: 3 figures can't rank 2 data sets"),
        ("data_pool_ranking", [GOOD], {"dataset_path": ["inputs/data.jsonl"], "metrics": [{"a": 1}]}, "extraConfigs.ranking_keys: name what to rank by; metrics have: a"),
        ("data_pool_ranking", [GOOD], {"dataset_path": ["inputs/data.jsonl"], "metrics": [{"a": 1}], "ranking_keys": ["b"]}, "extraConfigs.ranking_keys: extraConfigs.metrics[0] has no figure 'b'; it has: a"),
        ("data_pool_ranking", [GOOD], {"dataset_path": ["inputs/data.jsonl"], "metrics": [{"a": "x"}], "ranking_keys": ["a"]}, "extraConfigs.metrics[0].a: 'x' is no number"),
        ("dj_to_easyanimate_video_dataset_conversion", [{"videos": ["a"], "text": ""}, {"text": ""}], {}, "extraConfigs.dataset_path: inputs/data.jsonl, line 2: has no list of `videos`; its fields are text"),
        ("dj_to_easyanimate_video_dataset_conversion", [{"videos": [], "text": ""}], {}, "extraConfigs.dataset_path: no row of inputs/data.jsonl names a video"),
        ("coco_caption_to_dj_conversion", [{"image": "a", "conversations": [{}]}], {}, "extraConfigs.dataset_path: inputs/data.jsonl, line 1: has no caption"),
        ("coco_caption_meta_generation", [], {}, "extraConfigs.dataset_path: inputs/data.jsonl holds no rows"),
        ("data_pool_construction", [{STATS: {"a": []}}, {STATS: {"a": [1]}}, {STATS: {"a": ["x"]}}], {}, "extraConfigs.dataset_path: inputs/data.jsonl, line 3: the statistic 'a' is no number here, as it is in rows before"),
        ("data_pool_construction", [{STATS: {"a": "x"}}], {"stats": ["a"]}, "extraConfigs.stats: inputs/data.jsonl, line 1: the statistic 'a' is no number; no pools can be cut by it"),
        ("data_pool_merging", [GOOD], {"dataset_path": "inputs"}, "extraConfigs.dataset_path: inputs holds neither JSON nor Parquet"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    work: Work, tmp_path: Path, kind: str, rows: list[dict[str, Any]], extra: dict[str, Any], words: str
) -> None:
    write_jsonl(tmp_path / "inputs" / "data.jsonl", rows)
    if extra.get("dataset_path") == "inputs":
        (tmp_path / "inputs" / "data.jsonl").rename(tmp_path / "inputs" / "data.csv")
    with pytest.raises(ConfigError) as caught:
        work(kind, {"dataset_path": "inputs/data.jsonl", **extra})
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("content", [b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"a": "\xff"}', b"[1]", b'{"a":'])
def test_no_row_that_cannot_be_read_or_written_is_left_out(work: Work, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "inputs" / "data.jsonl").write_bytes(b'{"a": 1}\n' + content + b"\n")
    with pytest.raises(ConfigError, match=r"^extraConfigs\.dataset_path: inputs/data\.jsonl, line 2: "):
        work("data_pool_merging", {"dataset_path": "inputs/data.jsonl"})


@pytest.mark.parametrize("seed", range(8))
def test_pools_of_any_size_are_upstreams(work: Work, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(7, 60)
    rows = [{"number": number, STATS: {"score": draw.choice([draw.random(), 0.5])}} for number in range(count)]
    shares = {0.2: 0.2, 0.333: 0.333, "1/2": 0.5, "2/3": 2 / 3, 0.9: 0.9}
    ratios = sorted(draw.sample([*shares], draw.randint(1, 3)), key=lambda ratio: shares[ratio])
    write_jsonl(tmp_path / "inputs" / "data.jsonl", rows)
    found = made(work("data_pool_construction", {"dataset_path": "inputs/data.jsonl", "split_ratios": ratios}))
    ends = [0, *(int(count * shares[ratio] + 0.5) for ratio in ratios), count]
    ordered = sorted(rows, key=lambda row: row[STATS]["score"])
    wanted = [[row["number"] for row in ordered[begin:end]] for begin, end in pairwise(ends)]
    assert [[row["number"] for row in pool] for pool in found.values()] == wanted


@pytest.mark.parametrize("seed", range(8))
def test_intersections_of_any_pools_are_those_of_sets(work: Work, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    members = [draw.sample(range(12), draw.randint(1, 12)) for _ in range(draw.randint(1, 6))]
    names = [f"inputs/p{place}.jsonl" for place in range(len(members))]
    for name, numbers in zip(names, members, strict=True):
        write_jsonl(tmp_path / name, [{"number": number} for number in numbers])
    found = made(work("data_pool_combination", {"dataset_path": names}))
    wanted = {}
    for places in combined(len(members)):
        common = set.intersection(*(set(members[place]) for place in places))
        rows = [number for number in members[places[0]] if number in common]
        prefix = "p0" if len(members) == 1 else "p"
        wanted |= {f"{prefix}_top_{'_'.join(map(str, places))}_num_{len(rows)}.jsonl": rows} if rows else {}
    assert {name: [row["number"] for row in pool] for name, pool in found.items()} == wanted


def test_pools_are_combined_in_upstreams_order() -> None:
    assert combined(3) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert combined(4)[4:10] == [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    assert {*combined(5)} == {places for size in range(1, 6) for places in combinations(range(5), size)}


def test_borders_are_upstreams() -> None:
    assert borders(10, ["1/3", "2/3"], None) == [0, 3, 7, 10]
    assert borders(10, [0.333, 0.667], None) == [0, 3, 7, 10]
    assert borders(10, ["1/3"], 4) == [0, 4, 8, 10]
    assert borders(8, ["1/3"], 4) == [0, 4, 8]
    assert borders(3, ["1/3"], 4) == [0, 3]


def test_names_differ() -> None:
    names = ["a/x.jsonl", "b/x.jsonl.gz", "c/x.v2.parquet", "x_2.json", "folder.d"]
    assert stems(names) == ["x", "x_2", "x.v2", "x_2_2", "folder.d"]


def test_rows_in_any_order_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "BLOCK", 200)
    rows = [{"number": number, "text": "x" * (number * 37 % 150)} for number in range(40)]
    pool = read_pool(str(write_jsonl(tmp_path / "data.jsonl", rows)), tmp_path)
    order = np.concatenate([drawn(40, 3), drawn(40, 4)])
    assert [json.loads(line)["number"] for line in pool.lines(order)] == order.tolist()
    assert list(pool.lines(order[:0])) == []
    assert [row["number"] for row in pool.rows()] == [*range(40)]


def test_memory_does_not_grow_with_the_rows_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read, mixed and written with blocks of a mebibyte; a row has 64 KiB."""
    monkeypatch.setattr(pool_module, "BLOCK", 2**20)
    monkeypatch.setattr(rows_module, "CHUNK", 2**18)

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        source = folder / "data.json"
        with source.open("w") as out:  # an array, as EasyAnimate has them
            for number in range(count):
                out.write("[" if number == 0 else ",\n")
                out.write(json.dumps({"number": number, "text": "x" * 2**16}))
            out.write("]")
        tracemalloc.start()
        pool = read_pool(str(source), folder)
        assert write_lines(folder / "mixed.jsonl", pool.lines(drawn(count, 1))) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(50), peak(800)
    assert many < 12 * 2**20, "the data are 50 MiB"
    assert many < few + 4 * 2**20


@pytest.mark.parametrize("chunk", [4, 5, 17, 1000])
def test_arrays_are_read_item_by_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(rows_module, "CHUNK", chunk)
    draw = random.Random(chunk)
    rows = [
        {
            "n": number,
            "t": draw.choice(["ü€𝄞 ", '"', "\\", "\n"]) * draw.randint(0, 30),
            "l": [[], {}, None, 1.5e-3, True],
        }
        for number in range(30)
    ]
    path = tmp_path / "data.json"
    for indent in (None, 3):
        for ascii_only in (True, False):
            path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii_only) + "\n ", encoding="utf-8")
            assert list(read_json(path)) == rows
    path.write_text(" [ ] ")
    assert list(read_json(path)) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"a": 1},\n {"a": }]', "line 2: not JSON (Expecting value at column 8)"),
        (b'[{"a": 1}\n\n {"a": 2}]', "line 3: not JSON (Expecting ',' delimiter at column 2)"),
        (b'[{"a": 1}, ', "line 1: not JSON (Expecting value at column 12)"),
        (b'[{"a": 1}', "line 1: not JSON (Expecting ',' delimiter at column 10)"),
        (b'[{"a": 1}]\n[', "line 2: not JSON (Extra data at column 1)"),
        (b'[{"a": 1}, 2]', "item 2: a row must be an object with fields, not int"),
        (b'[{"a": NaN}]', "not JSON (NaN is not a JSON value)"),
        (b'[{"a": "\xff"}]', "not JSON ('utf-8' codec can't decode"),
    ],
)
@pytest.mark.parametrize("chunk", [4, 1000])
def test_what_is_wrong_in_an_array_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str, chunk: int
) -> None:
    monkeypatch.setattr(rows_module, "CHUNK", chunk)
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        list(read_json(path))
    assert words in str(caught.value)
