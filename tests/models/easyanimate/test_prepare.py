# SPDX-License-Identifier: Apache-2.0
"""The first phase: what stands in the cache, what is not made twice, what is left out, when it fails."""

import json

import pytest
import torch
from trainings import train_config

from sandbox_runtime.easyanimate import prepare, tiny
from sandbox_runtime.easyanimate.cache import Cache
from sandbox_runtime.errors import ConfigError, InputError, UserError

pytestmark = pytest.mark.usefixtures("warm")


def test_each_clip_and_caption_is_encoded_once_into_shards(prepared, cache, base) -> None:
    store = Cache(cache)
    samples = [*prepared.samples, *prepared.heldout]

    assert (prepared.rows, prepared.encoded, prepared.broken) == (16, 16, ())
    assert (len(prepared.samples), len(prepared.heldout)) == (15, 1)  # at most a tenth is held out
    assert len({sample.clip for sample in samples}) == 16
    assert len({sample.text for sample in samples}) == 16
    for sample in samples:
        bucket = train_config(base).buckets[sample.bucket]
        moments, text = store.read(sample.clip), store.read(sample.text)
        assert moments.shape == (8, (bucket.frames - 1) // 4 + 1, bucket.height // 8, bucket.width // 8)
        assert text.shape == (256, 32)
        assert torch.isfinite(moments).all()
        assert torch.isfinite(text).all()
    assert len(list(cache.glob("clips/*.safetensors"))) == 4  # 16 clips, by two processes, at most five in a file
    assert prepared.no_text in store


def test_what_is_in_the_cache_is_not_made_again(prepared, rows, cache, base, tmp_path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}

    again = prepare(train_config(base), rows, cache, scratch=tmp_path)

    assert again.encoded == 0
    assert again.data == prepared.data
    assert (again.samples, again.heldout) == (prepared.samples, prepared.heldout)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == before


@pytest.mark.usefixtures("prepared")
def test_a_torn_shard_is_made_again_and_the_rest_kept(rows, cache, base, tmp_path) -> None:
    copy = tmp_path / "cache"
    for path in cache.rglob("*.safetensors"):
        target = copy / path.relative_to(cache)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    torn = min(copy.glob("clips/*.safetensors"))
    held = len(json.loads(torn.read_bytes()[8 : 8 + int.from_bytes(torn.read_bytes()[:8], "little")]))
    torn.write_bytes(torn.read_bytes()[:-10])

    again = prepare(train_config(base), rows, copy, scratch=tmp_path / "scratch")

    assert again.encoded == held
    one, other = Cache(cache), Cache(copy)
    for sample in again.samples:
        assert torch.equal(one.read(sample.clip), other.read(sample.clip))


def test_broken_clips_are_counted_and_left_out_up_to_a_limit(rows, cache, base, tmp_path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    more = [*rows, {"videos": [str(broken)], "text": "x"}, {"videos": ["gone.mp4"], "text": "y"}, {"text": "z"}]

    left = prepare(train_config(base, broken_limit=0.2), more, cache, scratch=tmp_path)
    with pytest.raises(UserError, match=r"broken_limit: more than 0 of 19 clips can't be used: row 16: .*opened"):
        prepare(train_config(base), more, cache, scratch=tmp_path)

    assert left.rows == 19
    assert [sentence.split(":")[0] for sentence in left.broken] == ["row 16", "row 17", "row 18"]
    assert len(left.samples) + len(left.heldout) == 16


def test_a_base_model_that_does_not_fit_is_refused_before_anything_is_loaded(rows, base, tmp_path) -> None:
    other = tmp_path / "inpainting"
    other.mkdir()
    for path in base.rglob("*.json"):
        target = other / path.relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    config = json.loads((other / "transformer/config.json").read_text())
    (other / "transformer/config.json").write_text(json.dumps({**config, "in_channels": 9}))

    with pytest.raises(ConfigError, match=r"base_model.*inpainting"):
        prepare(train_config(other), rows, tmp_path / "cache", scratch=tmp_path)
    with pytest.raises(InputError, match=r"base_model.*no model_index.json"):
        prepare(train_config(tmp_path / "nothing"), rows, tmp_path / "cache", scratch=tmp_path)
    with pytest.raises(InputError, match="dataset_path"):
        prepare(train_config(base), [], tmp_path / "cache", scratch=tmp_path)
    assert not (tmp_path / "cache").exists()


def test_the_tiny_model_is_the_same_each_time(base, tmp_path) -> None:
    again = tiny.save_model(tmp_path / "again")

    for path in base.rglob("*.safetensors"):
        assert path.read_bytes() == (again / path.relative_to(base)).read_bytes()
