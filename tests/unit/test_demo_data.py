# SPDX-License-Identifier: Apache-2.0
"""The demo's data set as `make_data.sh` makes it, and the report over its labels.

What the recipe makes of them is in tests/runtime/test_demo_recipe.py.
"""

import gzip
import json
import subprocess
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from configs.demo import make_data, report

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo"
CONFIGMAP_LIMIT = 1 << 20  # bytes of one object in etcd; base64 does not count, the API server measures what it stores


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def make(path: Path, seed: int = 7) -> Path:
    made = subprocess.run([DEMO / "make_data.sh", path, str(seed)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("demo") / "demo.jsonl.gz")


@pytest.fixture(scope="module")
def rows(made: Path) -> list[dict[str, Any]]:
    return read(made)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(made: Path, tmp_path: Path) -> None:
    assert make(tmp_path / "again.jsonl.gz").read_bytes() == made.read_bytes()
    assert make(tmp_path / "other.jsonl.gz", seed=8).read_bytes() != made.read_bytes()


def test_there_are_enough_rows_of_both_languages_and_of_every_noise(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 5000
    clean = Counter(row["meta"]["lang"] for row in rows if row["meta"]["noise"] is None)
    assert set(clean) == {"en", "zh"}
    assert min(clean.values()) >= 1000
    noise = Counter(row["meta"]["noise"] for row in rows if row["meta"]["noise"])
    assert dict(noise) == make_data.NOISE_ROWS
    assert 0.1 <= noise.total() / len(rows) <= 0.2


def test_it_fits_into_a_configmap(made: Path) -> None:
    assert made.stat().st_size * 4 / 3 < CONFIGMAP_LIMIT


def test_clean_rows_are_prose_of_their_language_and_none_repeats(rows: list[dict[str, Any]]) -> None:
    clean = [row for row in rows if row["meta"]["noise"] is None]
    for row in clean:
        text, lang = row["text"], row["meta"]["lang"]
        chinese = sum("\u4e00" <= character <= "\u9fff" for character in text) / len(text)
        assert chinese > 0.4 if lang == "zh" else chinese < 0.05, text
        assert make_data.CHUNK[lang][0] <= len(text) <= 1.5 * make_data.CHUNK[lang][1]
        assert "\\f" not in text, f"a font change of the manual page is left in {text!r}"
    letters = Counter("".join(c for c in row["text"].lower() if c.isalpha()) for row in clean)
    assert letters.most_common(1)[0][1] == 1


def test_a_copy_comes_after_its_original(rows: list[dict[str, Any]]) -> None:
    first: dict[str, Any] = {}
    for row in rows:
        first.setdefault(row["text"], row["meta"]["noise"])
        if row["meta"]["noise"] == "duplicate":
            assert first[row["text"]] is None


def test_macros_of_a_manual_page_do_not_reach_its_paragraphs() -> None:
    page = '.TH A 1\n.SH 描述\n.B 文件\n是 \\fI文本\\fR。\n.nf\n代码\n.fi\n.TP\n下 一段\\-完。\n.\\" 注释\n'
    assert list(make_data._paragraphs(page)) == ["文件是文本。", "下一段-完。"]


def test_it_says_what_to_do_without_the_manual_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = make_data.main(["--manpages", str(tmp_path), "--output", str(tmp_path / "demo.jsonl")])
    assert code == 2
    assert "--manpages: no Chinese manual pages" in capsys.readouterr().err
    assert not (tmp_path / "demo.jsonl").exists()


def test_the_report_counts_by_label(rows: list[dict[str, Any]], made: Path, tmp_path: Path, capsys: Any) -> None:
    random = Random(1)
    kept = [row for row in rows if row["meta"]["noise"] not in ("digits", "symbols") and random.random() < 0.99]
    processed = tmp_path / "processed.jsonl"
    make_data.write(kept, processed)
    assert report.main([str(made), str(processed), "--json"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    before = Counter(row["meta"]["noise"] for row in rows)
    after = Counter(row["meta"]["noise"] for row in kept)
    assert figures["kinds"]["digits"] == {"rows": before["digits"], "caught": before["digits"], "recall": 1.0}
    assert figures["kinds"]["short"]["caught"] == before["short"] - after["short"]
    assert figures["clean_loss"] == (before[None] - after[None]) / before[None]
    noise = len(rows) - before[None]
    assert figures["noise_recall"] == (noise - (len(kept) - after[None])) / noise
    assert figures["rows_before"] == len(rows)
    assert figures["rows_after"] == len(kept)
    assert [line for line in table if line.startswith("near duplicate")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"text": "no label"}\n', "line 1: not a row of the demo's data set"),
        ('{"text": "cut', "line 1: not a row of the demo's data set"),
        ('{"text": "new", "meta": {"noise": "unheard_of"}}\n', "more rows after than before (unheard_of)"),
    ],
)
def test_the_report_refuses_what_is_not_the_demo(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, problem: str
) -> None:
    processed = tmp_path / "processed.jsonl"
    processed.write_text(content)
    assert report.main([str(made), str(processed)]) == 2
    assert problem in capsys.readouterr().err


def test_the_experiment_measures_what_was_processed_with_the_operators_it_was_refined_with() -> None:
    spec = yaml.safe_load((DEMO / "experiment.yaml").read_text())["spec"]
    probe, refine, evaluation = (spec[f"{stage}JobConfigs"][0] for stage in ("probe", "refineRecipe", "evaluation"))
    process = probe["djConfigs"]["process"]
    assert process == refine["djConfigs"]["process"] == evaluation["djConfigs"]["process"]
    assert [next(iter(operator)) for operator in process] == [
        "language_id_score_filter",
        "text_length_filter",
        "alphanumeric_filter",
        "special_characters_filter",
        "words_num_filter",
        "document_deduplicator",
    ]
    assert evaluation["input"] == {"djConfigs.dataset_path": "anonymous.process.processed"}
