# SPDX-License-Identifier: Apache-2.0
"""The LoRA of a transformer: put in, saved with where it comes from, loaded without anything missing or left over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..errors import ConfigError, InputError
from ..files import write_atomic
from .draws import generator

ADAPTER = "default"
FORMAT = "sandbox-operator/easyanimate-lora/1"
METADATA = "sandbox-operator"
"""Key of the file's metadata under which the provenance stands."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
FEED_FORWARD = ("net.0.proj", "net.2")
TARGETS = {"attention": ATTENTION, "all": ATTENTION + FEED_FORWARD}


@dataclass(frozen=True)
class Provenance:
    """Where a LoRA comes from; it stands in the file's metadata."""

    base_model: str
    """Digest of the base model's transformer."""
    data: str
    """Digest of the clips and captions that it was trained on."""
    recipe: dict[str, Any]
    """The training's settings."""
    seed: int
    steps: int
    rank: int
    alpha: float
    targets: str


def inject(transformer: torch.nn.Module, rank: int, alpha: float, targets: str, seed: int) -> dict[str, torch.Tensor]:
    """Put a LoRA in that changes nothing yet: A by the seed, B zero, both fp32.

    Returns: its parameters by name, in a fixed order; they alone require gradients.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS[targets]), init_lora_weights=False)
    inject_adapter_in_model(config, transformer, adapter_name=ADAPTER)
    parameters = parameters_of(transformer)
    for name, parameter in parameters.items():
        parameter.data = parameter.data.float()
        if ".lora_A." in name:  # as peft does it: Kaiming's uniform with a = sqrt(5)
            bound = parameter.shape[1] ** -0.5
            fresh = torch.rand(parameter.shape, generator=generator("lora", seed, name))
            parameter.data.copy_((fresh * 2 - 1) * bound)
        else:
            parameter.data.zero_()
    transformer.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return parameters


def parameters_of(transformer: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The LoRA's parameters by their names in files, which are peft's: without the adapter's."""
    found = {
        name.replace(f".{ADAPTER}.", "."): parameter
        for name, parameter in transformer.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }
    return dict(sorted(found.items()))


def set_scale(transformer: torch.nn.Module, scale: float) -> None:
    """Weight of the LoRA: 1 as it was trained, 0 as if it was not there."""
    for module in transformer.modules():
        if isinstance(module, LoraLayer):
            module.set_scale(ADAPTER, scale)


def keep_input_dtype(transformer: torch.nn.Module) -> None:
    """Leave casting to autocast; peft would cast each layer's input to the LoRA's fp32 first."""
    for module in transformer.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False


def save_lora(path: Path, parameters: Mapping[str, torch.Tensor], provenance: Provenance) -> None:
    """Write it as safetensors, whole or not at all."""
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in parameters.items()}
    # one entry: safetensors writes several in random order, and equal trainings should give equal files
    told = json.dumps({"format": FORMAT, **asdict(provenance)}, sort_keys=True)
    write_atomic(path, save(tensors, metadata={METADATA: told}))


def read_provenance(path: Path) -> Provenance:
    """Where a LoRA comes from. Raises InputError when there is none, ConfigError when it is not one of ours."""
    if not path.is_file():
        raise InputError(f"lora_path: there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {}).get(METADATA, "{}"))
    except (SafetensorError, OSError) as error:
        raise InputError(f"lora_path: {path.name} is not a whole safetensors file: {error}") from error
    if told.pop("format", None) != FORMAT:
        raise ConfigError(
            f"lora_path: {path.name} was not made by TrainModelHook of this version; LoRA files of the original"
            " EasyAnimate repository don't fit"
        )
    return Provenance(**told)


def remove_lora(transformer: torch.nn.Module) -> None:
    """As if none had been put in."""
    for name, layer in [*transformer.named_modules()]:
        if isinstance(layer, LoraLayer):
            transformer.set_submodule(name, layer.get_base_layer())


def load_lora(transformer: torch.nn.Module, path: Path, scale: float) -> Provenance:
    """Put a LoRA in at that scale. Raises ConfigError when it doesn't fit, and nothing of it is left out silently."""
    provenance = read_provenance(path)
    device = next(transformer.parameters()).device
    inject(transformer, provenance.rank, provenance.alpha, provenance.targets, seed=0)
    with safe_open(path, framework="pt", device=str(device)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    own = parameters_of(transformer)
    wrong = [
        *(f"{name} is missing" for name in own if name not in tensors),
        *(f"{name} is unknown" for name in tensors if name not in own),
        *(
            f"{name} is {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
            for name in own
            if name in tensors and tensors[name].shape != own[name].shape
        ),
    ]
    if wrong or not tensors:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ConfigError(
            f"lora_path: {path.name} does not fit the base model: {'; '.join(wrong[:3]) or 'it is empty'}{more};"
            " was it trained on another base_model?"
        )
    dtype = next(transformer.parameters()).dtype
    for name, parameter in own.items():
        parameter.data = tensors[name].to(dtype)
    set_scale(transformer, scale)
    transformer.requires_grad_(False)
    return provenance
