# SPDX-License-Identifier: Apache-2.0
"""The Analyzer for real: figures checked against the rows themselves, stats aligned by row id, and what
happens when it can't.
"""

import json
import math
import statistics

import pytest
from dj_data import fetch_models, read_jsonl, rows, write_jsonl

from sandbox_runtime.data_juicer.analyze import analyze
from sandbox_runtime.data_juicer.dataset import ROW_ID, prepare
from sandbox_runtime.data_juicer.errors import ConfigurationError, OperatorError

PROCESS = [
    {"language_id_score_filter": {"lang": ["en", "zh"], "min_score": 0.5}},
    {"text_length_filter": {"min_len": 100000}},
    {"alphanumeric_filter": {}},
    {"document_deduplicator": {}},
]


def run(tmp_path, raw, content):
    source = write_jsonl(tmp_path / "data.jsonl", content)
    raw = {"dataset_path": str(source), **raw}
    prepared = prepare(raw, tmp_path / "in")
    return prepared, analyze(raw, prepared, work_dir=tmp_path / "work", out_dir=tmp_path / "out", job_id="job", np=2)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    fetch_models()
    content = rows()
    raw = {"process": PROCESS, "percentiles": [0.1, 0.333], "export_original_dataset": True}
    return content, *run(tmp_path_factory.mktemp("analysis"), raw, content)


def test_the_figures_are_those_of_the_rows(analysed):
    content, _, analysis = analysed
    lengths = [len(row["text"]) for row in content]
    figures = analysis.overall["text_len"]
    assert figures["count"] == len(content) == analysis.rows
    assert figures["mean"] == pytest.approx(statistics.mean(lengths))
    assert figures["std"] == pytest.approx(statistics.stdev(lengths))
    assert (figures["min"], figures["max"]) == (min(lengths), max(lengths))
    assert set(figures) == {"count", "mean", "std", "min", "10%", "25%", "33.3%", "50%", "75%", "max"}
    assert set(analysis.overall) == {"lang_score", "text_len", "alnum_ratio"}  # `lang` is text and has no mean


def test_the_stats_of_a_row_carry_its_id(analysed):
    content, prepared, analysis = analysed
    stats = read_jsonl(analysis.stats)
    assert [row[ROW_ID] for row in stats] == [row[ROW_ID] for row in read_jsonl(prepared.path)]
    assert [row["__dj__stats__"]["text_len"] for row in stats] == [len(row["text"]) for row in content]
    assert {row["__dj__stats__"]["lang"] for row in stats} >= {"en", "zh"}


def test_the_tables_and_pictures_are_there(analysed):
    content, _, analysis = analysed
    assert analysis.table.read_text().splitlines()[0].startswith(",lang,lang_score,text_len")
    pictures = {path.name for path in analysis.histograms.glob("*.png")}
    assert {"text_len-hist.png", "alnum_ratio-hist.png", "lang_score-hist.png"} <= pictures
    bins = json.loads((analysis.histograms / "bins.json").read_text())
    assert set(bins) == set(analysis.overall)
    for stat, found in bins.items():
        assert sum(found["counts"]) == len(content)
        assert len(found["edges"]) == len(found["counts"]) + 1
        assert found["edges"][0] == pytest.approx(analysis.overall[stat]["min"])


def test_the_exported_data_set_is_whole(analysed):
    content, _, analysis = analysed
    exported = read_jsonl(analysis.dataset)
    assert [(row["text"], row["meta"]) for row in exported] == [(row["text"], row["meta"]) for row in content]
    assert all(row["__dj__stats__"]["text_len"] == len(row["text"]) for row in exported)


def test_one_row_has_no_spread(tmp_path):
    _, analysis = run(tmp_path, {"process": [{"text_length_filter": {}}]}, [{"text": "a single row"}])
    assert analysis.overall["text_len"]["mean"] == 12
    assert "std" not in analysis.overall["text_len"]
    assert all(math.isfinite(value) for value in analysis.overall["text_len"].values())
    assert analysis.dataset is None


def test_a_recipe_without_statistics_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="process: no operator gives statistics"):
        run(tmp_path, {"process": [{"document_deduplicator": {}}]}, rows(20))


def test_an_operator_whose_package_is_missing_says_so(tmp_path):
    with pytest.raises(
        (OperatorError, ConfigurationError), match=r"text_action_filter: .*needs the Python package spacy"
    ):
        run(tmp_path, {"process": [{"text_length_filter": {}}, {"text_action_filter": {"lang": "en"}}]}, rows(20))


def test_list_statistics_are_counted_by_item(tmp_path):
    import av
    import numpy

    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shade in range(20):
            frame = av.VideoFrame.from_ndarray(numpy.full((48, 64, 3), shade * 10, dtype="uint8"), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = [{"text": "<__dj__video> grey", "videos": ["clip.mp4"] * (1 + number % 3)} for number in range(30)]
    process = [{"video_resolution_filter": {}}, {"video_duration_filter": {"video_backend": "av"}}]
    _, analysis = run(tmp_path, {"process": process}, content)
    assert analysis.overall["video_width"]["count"] == 60
    assert (analysis.overall["video_width"]["mean"], analysis.overall["video_height"]["mean"]) == (64, 48)
    assert analysis.overall["video_duration"]["mean"] == pytest.approx(2.0, abs=0.11)
    bins = json.loads((analysis.histograms / "bins.json").read_text())
    assert sum(bins["video_width"]["counts"]) == 60
