# SPDX-License-Identifier: Apache-2.0
"""Videos: what decides them, how they divide, what is not made twice; and the LoRA that they are made with."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from trainings import PROMPTS, Figures, a_training, infer_config, never, train_config

from sandbox_runtime.easyanimate import infer, lora, models
from sandbox_runtime.easyanimate.check import check
from sandbox_runtime.easyanimate.prompts import Video, batches_of
from sandbox_runtime.easyanimate.render import Renderer, Turns, render
from sandbox_runtime.errors import ConfigError, InputError

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def adapter(base, prepared, cache, tmp_path_factory) -> Path:
    """A LoRA that was trained for some steps."""
    folder = tmp_path_factory.mktemp("adapter")
    training = a_training(train_config(base, steps=30, heldout=0), prepared, cache, folder)
    training.train(Figures(), never)
    return folder / "models" / "checkpoint-30.safetensors"


def test_what_is_there_is_not_made_again(base, tmp_path) -> None:
    config = infer_config(base)
    places = {"state": tmp_path / "state", "scratch": tmp_path / "scratch"}
    first = infer(config, out=tmp_path / "a", **places)
    kept = next((tmp_path / "state").iterdir())
    gone = kept / "a red square moves-1.mp4"
    gone.unlink()

    second = infer(config, out=tmp_path / "b", **places)
    third = infer(config, out=tmp_path / "c", **places)

    assert (first.made, second.made, third.made) == (4, 1, 0)
    for one, other in zip(first.rows, second.rows, strict=True):
        assert Path(one["videos"][0]).read_bytes() == Path(other["videos"][0]).read_bytes()


def made_by(config, batches, folder: Path) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    render(config, batches, folder, Turns(CPU), never, lambda _: None)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_video_is_the_same_however_the_work_is_divided(base, adapter, tmp_path, batch_size) -> None:
    config = infer_config(base, lora_path=str(adapter), batch_size=batch_size, video_num_per_prompt=3)
    batches = batches_of(PROMPTS, 3, batch_size)
    whole = made_by(config, batches, tmp_path / "whole")

    divided: dict[str, bytes] = {}
    for number in range(2):
        divided |= made_by(config, batches[number::2], tmp_path / f"half-{number}")
    backwards = made_by(config, batches[::-1], tmp_path / "backwards")

    assert len(whole) == 6
    assert len(set(whole.values())) == 6  # and no two are alike
    assert divided == whole
    assert backwards == whole


def test_a_video_depends_on_the_seed(base, tmp_path) -> None:
    videos = batches_of(PROMPTS[:1], 1, 1)

    one = made_by(infer_config(base), videos, tmp_path / "one")
    other = made_by(infer_config(base, seed=44), videos, tmp_path / "other")

    assert one != other


def test_scale_zero_is_the_base_bit_for_bit_and_the_lora_changes_the_video(base, adapter) -> None:
    videos = [Video(PROMPTS[0], 0), Video(PROMPTS[1], 0)]

    def latents(config) -> torch.Tensor:
        renderer = Renderer(config, CPU)
        kept = []
        decode = renderer._pipeline.vae.decode
        renderer._pipeline.vae.decode = lambda latents, **more: kept.append(latents.clone()) or decode(latents, **more)
        renderer.frames(videos)
        return kept[0]

    plain = latents(infer_config(base))
    zero = latents(infer_config(base, lora_path=str(adapter), lora_scale=0.0))
    half = latents(infer_config(base, lora_path=str(adapter)))
    full = latents(infer_config(base, lora_path=str(adapter), lora_scale=1.0))

    assert torch.equal(plain, zero)
    assert (plain - half).abs().max() > 1e-3
    assert (full - half).abs().max() > 1e-3


def test_a_reloaded_lora_computes_what_was_trained(base, prepared, cache, tmp_path) -> None:
    training = a_training(train_config(base, steps=5), prepared, cache, tmp_path)
    training.train(Figures(), never)
    training.transformer.eval()
    inputs = (torch.randn(1, 4, 3, 4, 4), torch.tensor([500.0]))
    text = torch.randn(1, 256, 32)

    fresh = models.load_transformer(base, "fp32", CPU)
    lora.load_lora(fresh, tmp_path / "models" / "checkpoint-5.safetensors", scale=1.0)

    with torch.no_grad():
        trained = training.transformer(*inputs, encoder_hidden_states=text, return_dict=False)[0]
        reloaded = fresh(*inputs, encoder_hidden_states=text, return_dict=False)[0]
    assert torch.equal(trained, reloaded)


def changed(path: Path, target: Path, change) -> Path:
    """A LoRA file with its tensors changed and its metadata kept."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, target, metadata=metadata)
    return target


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors: tensors.pop(next(iter(tensors))), "is missing"),
        (lambda tensors: tensors.update({"base_model.model.x": torch.zeros(1)}), "base_model.model.x is unknown"),
        (lambda tensors: tensors.update({next(iter(tensors)): torch.zeros(3, 3)}), r"is \(3, 3\), not"),
        (lambda tensors: tensors.clear(), "is missing"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(base, adapter, tmp_path, change, told) -> None:
    path = changed(adapter, tmp_path / "other.safetensors", change)

    with pytest.raises(ConfigError, match=rf"lora_path: other.safetensors does not fit.*{told}"):
        lora.load_lora(models.load_transformer(base, "fp32", CPU), path, 1.0)


def test_a_file_of_another_maker_is_refused(base, tmp_path) -> None:
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, tmp_path / "kohya.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")

    with pytest.raises(ConfigError, match=r"lora_path.*original EasyAnimate"):
        lora.read_provenance(tmp_path / "kohya.safetensors")
    with pytest.raises(InputError, match="lora_path"):
        lora.read_provenance(tmp_path / "torn.safetensors")
    with pytest.raises(InputError, match="lora_path: there is no file"):
        infer(infer_config(base, lora_path="gone"), out=tmp_path, state=tmp_path, scratch=tmp_path / "s")


def test_a_worker_s_error_comes_home_with_its_class(base, adapter, tmp_path) -> None:
    path = changed(adapter, tmp_path / "other.safetensors", lambda tensors: tensors.clear())

    with pytest.raises(ConfigError, match=r"lora_path: other.safetensors does not fit"):
        infer(
            infer_config(base, lora_path=str(path)), out=tmp_path / "o", state=tmp_path / "t", scratch=tmp_path / "s",
            processes=2,
        )  # fmt: skip


def test_guidance_and_its_absence_make_videos(base) -> None:
    video = [Video(PROMPTS[0], 0)]

    without = Renderer(infer_config(base, guidance_scale=1.0), CPU).frames(video)
    with_it = Renderer(infer_config(base), CPU).frames(video)

    assert without.shape == with_it.shape == (1, 5, 32, 48, 3)
    assert without.dtype == np.uint8
    assert not np.array_equal(without, with_it)


def test_the_image_checks_itself() -> None:
    told = check(processes=1)

    assert re.fullmatch(
        r"trained 2 steps and made 1 videos on 1 CPU processes \(no GPU was found\): loss \d\.\d+", told
    )
