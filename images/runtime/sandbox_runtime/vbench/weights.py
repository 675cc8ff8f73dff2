# SPDX-License-Identifier: Apache-2.0
"""Which files each dimension needs, whether they are there, and under which licences; before any video is read.

The layout is that of VBench's cache. VBench downloads what it does not find; here that is an error.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sandbox_api.vbench import GRIT

from ..digests import digest_of
from ..errors import ConfigError
from ..files import link_atomic

SITE = "site-packages"
"""Folder among the weights for Python packages that no image may bring."""
MARK = "SYNTHETIC"
"""A file of this name among the weights says that they are not the published ones."""
SHOWN = 4
BERT = "bert-base-uncased"
VOCABULARY = "ViCLIP/bpe_simple_vocab_16e6.txt.gz"
DINO_REPOSITORY, DINO = "dino_model/facebookresearch_dino_main", "dino_model/dino_vitbase16_pretrain.pth"


@dataclass(frozen=True)
class Weights:
    """A file that a dimension needs."""

    file: str
    """Below the folder of weights."""
    what: str
    sha256: str | None = None
    """Of the published file, or its beginning, where its publisher says it."""
    licence: str | None = None
    """Where it is for non-commercial use only."""
    link: str | None = None
    """The folder around it that goes along."""


@dataclass(frozen=True)
class Package:
    """A Python package that a dimension needs and that the image does not bring."""

    name: str
    how: str
    licence: str | None = None


CLIP_B = Weights(
    "clip_model/ViT-B-32.pt", "CLIP ViT-B/32", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
)
CLIP_L = Weights(
    "clip_model/ViT-L-14.pt",
    "CLIP ViT-L/14",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
)
RAFT = Weights("raft_model/models/raft-things.pth", "RAFT")
VICLIP = Weights("ViCLIP/ViClip-InternVid-10M-FLT.pth", "ViCLIP")
BERT_FILES = (
    Weights(f"{BERT}/config.json", "BERT's configuration", link=BERT),
    Weights(f"{BERT}/vocab.txt", "BERT's vocabulary", link=BERT),
)
GRIT_FILES = (Weights("grit_model/grit_b_densecap_objectdet.pth", "GRiT"), *BERT_FILES)
FILES: dict[str, tuple[Weights, ...]] = {
    "subject_consistency": (
        Weights(f"{DINO_REPOSITORY}/hubconf.py", "the code of DINO, its repository's files", link=DINO_REPOSITORY),
        Weights(DINO, "DINO ViT-B/16"),
    ),
    "background_consistency": (CLIP_B,),
    "temporal_flickering": (),
    "motion_smoothness": (Weights("amt_model/amt-s.pth", "AMT-S", licence="CC BY-NC 4.0"),),
    "dynamic_degree": (RAFT,),
    "aesthetic_quality": (
        CLIP_L,
        Weights("aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth", "LAION's aesthetic predictor"),
    ),
    "imaging_quality": (Weights("pyiqa_model/musiq_spaq_ckpt-358bb6af.pth", "MUSIQ, trained on SPAQ", "358bb6af"),),
    **dict.fromkeys(GRIT, GRIT_FILES),
    "human_action": (Weights("umt_model/l16_ptk710_ftk710_ftk400_f16_res224.pth", "UMT ViT-L/16"),),
    "scene": (
        Weights("caption_model/tag2text_swin_14m.pth", "Tag2Text Swin-B"),
        *BERT_FILES,
        Weights(f"{BERT}/pytorch_model.bin", "BERT's weights", link=BERT),
    ),
    "appearance_style": (CLIP_B,),
    "temporal_style": (VICLIP,),
    "overall_consistency": (VICLIP,),
}  # fmt: skip
WHOLE = f"pip install --no-deps --target {SITE} vbench==0.1.5, beside the weights"
PACKAGES: dict[str, tuple[Package, ...]] = {
    "motion_smoothness": (Package("vbench.third_party.amt", WHOLE, "CC BY-NC 4.0"),),
    "imaging_quality": (
        Package(
            "pyiqa",
            f"pip install --target {SITE}, beside the weights",
            "PolyForm Noncommercial 1.0.0 in its newest versions",
        ),
    ),
    **dict.fromkeys(
        GRIT,
        (
            Package("detectron2", "the image is built with it, images/README.md"),
            Package("vbench.third_party.grit_src", WHOLE, "one file (bifpn_fcos.py) as AdelaiDet, academic use"),
        ),
    ),
}
"""Parts of VBench's own wheel among them, which the image has been built without."""


def needed(dimension: str, static_filter: bool = False) -> tuple[Weights, ...]:
    return FILES[dimension] + ((RAFT,) if static_filter and dimension == "temporal_flickering" else ())


def check_weights(folder: Path, named: str, dimensions: Iterable[str], *, static_filter: bool) -> None:
    """Raises ConfigError that names what is missing, for which dimension, and where to put it; `named`: the folder, as
    its user calls it."""
    files, packages = dict[str, list[str]](), dict[str, list[str]]()
    for dimension in dimensions:
        for package in PACKAGES.get(dimension, ()):
            if not (is_in_image(package.name) or _init(folder / SITE, package.name).is_file()):
                packages.setdefault(f"the package {package.name} ({package.how})", []).append(dimension)
        for each in needed(dimension, static_filter):
            if not (folder / each.file).is_file():
                files.setdefault(each.file, []).append(dimension)
    missing = [f"{what}, for {' and '.join(names)}" for what, names in [*packages.items(), *files.items()]]
    if not missing:
        return
    for each in missing:
        print(f"missing in {named}: {each}", flush=True)
    more = f"; and {len(missing) - SHOWN} more (see the log)" if len(missing) > SHOWN else ""
    raise ConfigError(
        f"extraConfigs.dimension_list: missing in {named}: {'; '.join(missing[:SHOWN])}{more}. Nothing is downloaded:"
        " put it there, or name another folder with weights_path or VBENCH_CACHE_DIR of the pod"
    )


def is_in_image(name: str) -> bool:
    """Nothing is imported to find out."""
    spec = find_spec(name.partition(".")[0])
    if spec is None or not spec.submodule_search_locations:
        return False
    return any(_init(Path(place).parent, name).is_file() for place in spec.submodule_search_locations)


def _init(root: Path, name: str) -> Path:
    return root.joinpath(*name.split("."), "__init__.py")


def use_packages(folder: Path) -> None:
    """Packages among the weights can be imported, those of the image first."""
    if (folder / SITE).is_dir():
        sys.path.append(str(folder / SITE))


def own_vbench(folder: Path, target: Path, dimensions: Iterable[str]) -> Path | None:
    """Where Python finds the VBench that lies among the weights, if the image's lacks a part that is needed."""
    needs = {package.name for name in dimensions for package in PACKAGES.get(name, ())}
    if all(is_in_image(name) for name in needs if name.startswith("vbench.")):
        return None
    link_atomic(target / "vbench", folder / SITE / "vbench", relative=False)
    return target


def licences(folder: Path, dimension: str) -> list[str]:
    """What a dimension uses that is for non-commercial use only, a sentence each."""
    told = [
        f"{each.what} ({each.file}): {each.licence}: for non-commercial use only"
        for each in FILES[dimension]
        if each.licence is not None
    ]
    told += [
        f"{each.name}{_version(folder, each.name)}: {each.licence}: for non-commercial use only"
        for each in PACKAGES.get(dimension, ())
        if each.licence is not None
    ]
    return told


def _version(folder: Path, name: str) -> str:
    found = importlib.metadata.distributions(name=name, path=[str(folder / SITE), *sys.path])
    return next((f" {each.version}" for each in found), "")


@dataclass(frozen=True)
class Used:
    """The weights that a dimension has been scored with."""

    files: dict[str, str]
    """sha256 by file; of a large one a digest of its size and of samples."""
    synthetic: bool


def used(folder: Path, dimension: str, *, static_filter: bool, memory: Path | None) -> Used:
    """Weights are synthetic where the folder says so, or where they are not what their publisher says they are."""
    files, synthetic = dict[str, str](), False
    for each in needed(dimension, static_filter):
        digest = digest_of(folder / each.file, memory=memory)
        files[each.file] = digest.sha256 or digest.content
        if each.sha256 is not None and not (digest.sha256 or each.sha256).startswith(each.sha256):
            synthetic = True
    return Used(files, bool(files) and (synthetic or (folder / MARK).exists()))


def lay_out(folder: Path, target: Path, dimensions: Sequence[str], *, static_filter: bool) -> Path:
    """A cache as VBench wants to find it, in a folder that may be written: links to what there is, and to what it
    would otherwise look for elsewhere. Returns it."""
    target.mkdir(parents=True, exist_ok=True)
    for name in {each.link or each.file for dim in dimensions for each in needed(dim, static_filter)}:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        link_atomic(target / name, folder / name, relative=False)
    if "subject_consistency" in dimensions:  # DINO's own code asks the hub for its weights, wherever they lie
        (hub := target / "hub" / "checkpoints").mkdir(parents=True, exist_ok=True)
        link_atomic(hub / Path(DINO).name, folder / DINO, relative=False)
    clip = find_spec("clip")
    if VICLIP.file in {each.file for dim in dimensions for each in FILES[dim]} and clip is not None and clip.origin:
        own = folder / VOCABULARY
        there = own if own.is_file() else Path(clip.origin).parent / Path(VOCABULARY).name
        link_atomic(target / VOCABULARY, there, relative=False)
    return target
