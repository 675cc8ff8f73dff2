# SPDX-License-Identifier: Apache-2.0
"""Weights for VBench's own models, random and where possible tiny, in the layout of its cache: the code runs, the scores
mean nothing.
"""

from __future__ import annotations

from pathlib import Path

import clip.model
import timm.models.vision_transformer
import torch
import vbench.utils
from omegaconf import OmegaConf
from vbench.third_party import amt
from vbench.third_party.amt.utils.build_utils import build_from_cfg
from vbench.third_party.RAFT.core.raft import RAFT

from sandbox_runtime.vbench.scoring import RAFT_ARGUMENTS
from sandbox_runtime.vbench.weights import lay_out

HUB = """
import timm.models.vision_transformer, torch
dependencies = ["torch"]
def dino_vitb16(pretrained=True, **kwargs):  # asks the hub for its weights, as DINO's own does
    model = timm.models.vision_transformer.VisionTransformer(embed_dim=32, depth=1, num_heads=2, num_classes=0)
    if pretrained:
        url = "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"
        model.load_state_dict(torch.hub.load_state_dict_from_url(url, map_location="cpu"), strict=True)
    return model
"""
MUSIQ = """
import torch
class MUSIQ(torch.nn.Module):
    def __init__(self, pretrained_model_path):
        super().__init__()
        self.load_state_dict(torch.load(pretrained_model_path))
    def forward(self, images):
        return 100 * images.mean()
"""
"""As much of pyiqa as VBench asks for: no image has pyiqa, nor have these tests."""


def save_small(folder: Path) -> Path:
    """What six dimensions need."""
    torch.manual_seed(0)
    (dino := folder / "dino_model" / "facebookresearch_dino_main").mkdir(parents=True)
    (dino / "hubconf.py").write_text(HUB)
    vit = timm.models.vision_transformer.VisionTransformer(embed_dim=32, depth=1, num_heads=2, num_classes=0)
    torch.save(vit.state_dict(), folder / "dino_model" / "dino_vitbase16_pretrain.pth")
    (folder / "clip_model").mkdir()
    for name in ("ViT-B-32", "ViT-L-14"):
        save_clip(folder / "clip_model" / f"{name}.pt")
    (head := folder / "aesthetic_model" / "emb_reader").mkdir(parents=True)
    torch.save(torch.nn.Linear(768, 1).state_dict(), head / "sa_0_4_vit_l_14_linear.pth")
    (folder / "amt_model").mkdir()
    network = build_from_cfg(OmegaConf.load(Path(amt.__file__).parent / "cfgs" / "AMT-S.yaml").network)
    torch.save({"state_dict": network.state_dict()}, folder / "amt_model" / "amt-s.pth")
    save_raft(folder)
    (folder / "SYNTHETIC").touch()
    return folder


def save_clip(path: Path) -> None:
    """A TorchScript archive, as OpenAI's files are."""
    model = clip.model.CLIP(768, 224, 1, 64, 32, 77, 49408, 64, 1, 1).eval()
    torch.jit.trace(model, (torch.zeros(1, 3, 224, 224), torch.zeros(1, 77, dtype=torch.long))).save(str(path))


def save_raft(folder: Path, step: float = 0.0) -> None:
    """Of its real size; at each of its 20 steps it sees every point move by eight times `step` pixels."""
    from easydict import EasyDict

    (folder / "raft_model" / "models").mkdir(parents=True, exist_ok=True)
    raft = RAFT(EasyDict(RAFT_ARGUMENTS))
    torch.nn.init.zeros_(raft.update_block.flow_head.conv2.weight)
    torch.nn.init.constant_(raft.update_block.flow_head.conv2.bias, step)
    state = {f"module.{name}": value for name, value in raft.state_dict().items()}
    torch.save(state, folder / "raft_model" / "models" / "raft-things.pth")


def save_pyiqa(folder: Path) -> None:
    """A package that a user has mounted among the weights."""
    (package := folder / "site-packages" / "pyiqa" / "archs").mkdir(parents=True)
    for init in (package / "__init__.py", package.parent / "__init__.py"):
        init.touch()
    (package / "musiq_arch.py").write_text(MUSIQ)
    (folder / "pyiqa_model").mkdir(exist_ok=True)
    torch.save({}, folder / "pyiqa_model" / "musiq_spaq_ckpt-358bb6af.pth")


def rows(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same shapes, one random row repeated: files of a few kilobytes for models of gigabytes."""
    return {
        name: (torch.randn(value.shape[-1:]) * 0.02).expand(value.shape) if value.is_floating_point() else value
        for name, value in state.items()
    }


def save_viclip(folder: Path) -> None:
    """VBench's modules remember the cache they were imported with: call it in a process of its own."""
    vbench.utils.CACHE_DIR = str(lay_out(folder, folder / "imported", ["temporal_style"], static_filter=False))
    from vbench.third_party.ViCLIP.viclip import ViCLIP

    (folder / "ViCLIP").mkdir()
    model = ViCLIP(tokenizer=object(), pretrain=None)
    torch.save({"model": rows(model.state_dict())}, folder / "ViCLIP" / "ViClip-InternVid-10M-FLT.pth")


def save_umt(folder: Path) -> None:
    """Without any weight: VBench loads what is there, the rest stays random."""
    (folder / "umt_model").mkdir()
    torch.save({}, folder / "umt_model" / "l16_ptk710_ftk710_ftk400_f16_res224.pth")


def save_tag2text(folder: Path) -> None:
    """Likewise, and a BERT that knows few words."""
    for name in ("caption_model", "bert-base-uncased"):
        (folder / name).mkdir()
    torch.save({"model": {}}, folder / "caption_model" / "tag2text_swin_14m.pth")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", "of"]
    (folder / "bert-base-uncased" / "vocab.txt").write_text("\n".join(words))
    (folder / "bert-base-uncased" / "config.json").write_text('{"model_type": "bert"}')
    torch.save({}, folder / "bert-base-uncased" / "pytorch_model.bin")
