# SPDX-License-Identifier: Apache-2.0
"""Makes the demo's data set: real English and Chinese text with noise of known kinds mixed in.

It exists so that the demo can say how much noise its recipe caught: every row carries the label of what it is. It is
not a benchmark: kinds and shares are chosen to look like a small crawl of documentation. Only the standard library is
used, and the same seed on the same sources gives the same bytes.

A row is `{"text": str, "meta": {"source": str, "lang": "en" | "zh" | "", "noise": str | null}}`; `noise` is null for a
clean row. Copies always come after the row they copy, as in a crawl, so a deduplicator that keeps the first one keeps
the clean one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data import topics
from random import Random
from typing import Any

Row = dict[str, Any]

CHUNK = {"en": (80, 200), "zh": (45, 150)}
"""Characters a clean row has, at least and about at most, per language."""

CLEAN_ROWS = {"en": 1250, "zh": 3150}

NOISE_ROWS = {
    "duplicate": 200,
    "near_duplicate": 80,
    "edited_copy": 40,
    "short": 100,
    "markup": 70,
    "symbols": 50,
    "digits": 50,
    "repetition": 70,
    "long": 50,
    "mojibake": 50,
    "foreign": 80,
    "shuffled": 60,
}
"""Rows of each kind of noise, about one row in six."""

CJK = r"\u3400-\u9fff\uff01-\uff5e\u3000-\u303f\u201c\u201d"
FOREIGN = {
    "fr": [
        "La bibliothèque municipale ouvre ses portes chaque matin à neuf heures.",
        "Nous avons traversé la vallée avant que la pluie ne commence à tomber.",
        "Le boulanger du village prépare encore son pain comme autrefois.",
        "Il faudra attendre la fin du mois pour connaître les résultats.",
        "Les enfants jouaient dans la cour pendant que leurs parents discutaient.",
        "Cette recette demande de la patience et des légumes bien frais.",
        "Le train de nuit relie les deux villes depuis plus d'un siècle.",
    ],
    "de": [
        "Der Wanderweg führt an einem kleinen See vorbei und endet im Wald.",
        "Am Wochenende treffen sich die Nachbarn auf dem alten Marktplatz.",
        "Die Werkstatt hat gestern drei Fahrräder und einen Roller repariert.",
        "Ohne gültige Fahrkarte darf man in diesem Zug nicht mitfahren.",
        "Im Herbst werden die Äpfel geerntet und zu Saft gepresst.",
        "Seine Großmutter erzählte gern Geschichten aus ihrer Jugend.",
        "Das Museum zeigt Werke von Künstlern aus der ganzen Region.",
    ],
    "es": [
        "El mercado del barrio cierra los domingos por la tarde.",
        "Mi hermano aprendió a tocar la guitarra cuando era niño.",
        "La carretera hacia la costa estuvo cortada por la nieve.",
        "Antes de cenar solemos dar un paseo por la orilla del río.",
        "Los vecinos organizaron una fiesta para celebrar la cosecha.",
        "Hace años que nadie vive en aquella casa de piedra.",
        "El profesor pidió a los alumnos que leyeran el primer capítulo.",
    ],
    "ru": [
        "Утром над рекой долго стоял густой туман.",
        "Библиотека на нашей улице работает до позднего вечера.",
        "Дети построили во дворе большую снежную крепость.",
        "Поезд прибыл на станцию с небольшим опозданием.",
        "Бабушка каждое лето варит варенье из чёрной смородины.",
        "Художник оставил эскизы на столе и вышел из мастерской.",
        "После дождя в лесу появилось много грибов.",
    ],
    "ja": [
        "駅前の小さな喫茶店で友だちと待ち合わせをしました。",
        "今年の夏はとても暑くて、毎日のように海で泳ぎました。",
        "祖父は庭で野菜を育てるのが何よりの楽しみです。",
        "昨日から降り続いた雨がようやく上がりました。",
        "この道をまっすぐ進むと、右側に郵便局が見えます。",
        "彼女は子どものころからピアノを習っています。",
        "週末には家族みんなで山に登る予定です。",
    ],
}
SHORT = [
    "Next", "Previous", "Home", "Read more...", "See also:", "1.2.3", "(top)", "Contents", "OK", "Page 3 of 7", "Edit",
    "目录", "下一页", "返回顶部", "更多...", "参见", "描述", "选项", "上一章", "登录", "首页", "打印本页", "作者",
]  # fmt: skip
SPAM = [
    "buy now", "best price", "click here", "free gift", "limited offer", "cheap watches", "win big", "call today",
    "点击 领取", "免费 下载", "特价 优惠", "立即 注册", "加 微信",
]  # fmt: skip
NOTICES = [
    "This site uses cookies to remember your choices and to count visits; by going on you agree to their use.",
    "All product names and trade marks belong to their owners and are used here only to identify the products.",
    "The information on this page comes without any warranty and may change at any time without notice.",
    "No part of this page may be copied, stored or passed on in any form without written permission.",
    "Links to other sites are given as a service; we are not responsible for what those sites contain.",
    "To stop receiving this letter, follow the link at its end or write to the address given above.",
    "本网站使用的商标和产品名称归其各自所有者所有，仅用于识别相关产品。",
    "本页面所载信息仅供参考，如有更改恕不另行通知，亦不构成任何形式的保证。",
    "未经书面许可，任何人不得以任何形式复制、存储或传播本页面的任何部分。",
    "继续浏览即表示您同意我们使用统计信息来改进本网站的服务。",
]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--manpages", type=Path, required=True, help="where the package manpages-zh was unpacked (make_data.sh does it)"
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write, .jsonl or .jsonl.gz")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(argv)
    chinese = chinese_rows(options.manpages)
    if not chinese:
        print(
            f"--manpages: no Chinese manual pages under {options.manpages}; make_data.sh fetches them", file=sys.stderr
        )
        return 2
    rows = mix(english_rows(), chinese, raw_roff(options.manpages), Random(options.seed))
    write(rows, options.output)
    noise = sum(row["meta"]["noise"] is not None for row in rows)
    print(f"{options.output}: {len(rows)} rows, {noise} of them noise, {options.output.stat().st_size} bytes")
    return 0


def write(rows: list[Row], path: Path) -> None:
    """Write rows as JSON lines, through gzip (without name and time, for equal bytes) where the name ends in `.gz`."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())


def mix(english: list[Row], chinese: list[Row], roff: list[str], random: Random) -> list[Row]:
    """Draw the clean rows, make the noise from them, and shuffle so that every copy stays behind its original."""
    clean = _draw(english, CLEAN_ROWS["en"], random) + _draw(chinese, CLEAN_ROWS["zh"], random)
    placed = [(random.random(), row) for row in clean]
    for kind, count in NOISE_ROWS.items():
        for _ in range(count):
            if kind in COPIES:
                after, original = random.choice(placed[: len(clean)])
                text = COPIES[kind](original["text"], random)
                placed.append(
                    (random.uniform(after, 1), _row(text, original["meta"]["source"], original["meta"]["lang"], kind))
                )
            else:
                text = GARBAGE[kind](clean, roff, random)
                placed.append((random.random(), _row(text, "made", "", kind)))
    return [row for _, row in sorted(placed, key=lambda item: item[0])]


def _draw(rows: list[Row], count: int, random: Random) -> list[Row]:
    return random.sample(rows, min(count, len(rows)))


def _row(text: str, source: str, lang: str, noise: str | None = None) -> Row:
    return {"text": text, "meta": {"source": source, "lang": lang, "noise": noise}}


# Clean text


def english_rows() -> list[Row]:
    """Prose of Python's language reference in pieces of one to a few sentences."""
    return _unique(
        _row(piece, f"python/{name}", "en")
        for name, text in sorted(topics.topics.items())
        for paragraph in re.split(r"\n\s*\n", text)
        for piece in _pieces(" ".join(paragraph.split()), "en")
        if _is_english_prose(piece)
    )


def _is_english_prose(text: str) -> bool:
    letters = sum(c.isalpha() or c == " " for c in text)
    return letters > 0.85 * len(text) and text[0].isupper() and text[-1] in ".:" and ">>>" not in text


def chinese_rows(folder: Path) -> list[Row]:
    """Prose of the Chinese manual pages under `folder`, in pieces of one to a few sentences."""
    return _unique(
        _row(piece, f"manpages-zh/{page.name[:-3]}", "zh")
        for page in sorted(folder.rglob("zh_CN/man*/*.gz"))
        for paragraph in _paragraphs(_page(page))
        for piece in _pieces(paragraph, "zh")
        if _is_chinese_prose(piece)
    )


def _is_chinese_prose(text: str) -> bool:
    return len(re.findall(f"[{CJK}]", text)) > 0.6 * len(text) and text[-1] in "。：；！？"


def _page(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode("utf-8", "replace")


def _paragraphs(roff: str) -> Iterator[str]:
    """Running text of a manual page: macros end a paragraph, font changes vanish, examples (`.nf`) are left out."""
    lines: list[str] = []
    skipping = ""
    for line in [*roff.splitlines(), ".PP"]:
        if skipping:
            skipping = "" if line.startswith(skipping) else skipping
        elif re.match(r"\.(nf|EX|de|TS|ig)\b", line):
            skipping = {"n": ".fi", "E": ".EE", "T": ".TE"}.get(line[1], "..")
        elif match := re.match(r"\.(?:B|I|BR|BI|IR|RB|RI|IB|SM)\s+(.*)", line):
            lines.append(match[1].replace('"', ""))
            continue
        elif line.strip() and line[0] not in ".'":
            lines.append(line)
            continue
        if lines:
            yield _plain(" ".join(lines))
        lines = []


def _plain(text: str) -> str:
    text = re.sub(r"\\f(\(..|\[[^]]*\]|.)|\\s[-+]?\d|\\[&/,|^%c]", "", text)
    text = re.sub(r"\\\(..|\\\*(\(..|.)", "", text).replace("\\-", "-").replace("\\e", "\\").replace("\\ ", " ")
    return re.sub(f"(?<=[{CJK}])\\s+|\\s+(?=[{CJK}])", "", " ".join(text.split()))


def _pieces(paragraph: str, lang: str) -> Iterator[str]:
    """Cut a paragraph between sentences into pieces of the language's length; what does not fit is left out."""
    low, high = CHUNK[lang]
    piece = ""
    for sentence in re.findall(r".+?(?:[.:!?](?=\s|$)\s*|[。！？；：]|$)", paragraph):
        if piece and len(piece) + len(sentence) > high:
            yield from [piece.strip()] if low <= len(piece.strip()) <= 1.5 * high else []
            piece = ""
        piece += sentence
    yield from [piece.strip()] if low <= len(piece.strip()) <= 1.5 * high else []


def _unique(rows: Iterator[Row]) -> list[Row]:
    """Rows whose letters differ: real text repeats itself, and a repetition without its label would spoil the count."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault("".join(c for c in row["text"].lower() if c.isalpha()), row)
    return list(found.values())


# Noise made from a clean row


def _same(text: str, _: Random) -> str:
    return text


def _retyped(text: str, random: Random) -> str:
    """The same letters in other clothes: case, spaces, digits and punctuation differ."""
    words = [word.upper() if random.random() < 0.2 else word for word in text.split(" ")]
    return random.choice(["", "- ", "* ", "1. "]) + "  ".join(words) + random.choice(["", "!", " ..", " [1]"]) + " "


def _edited(text: str, random: Random) -> str:
    """One piece in the middle left out: too different for an exact deduplicator, and nothing else is wrong with it."""
    start = random.randrange(len(text) // 4, len(text) // 2)
    return text[:start] + text[start + random.randint(4, 9) :]


COPIES: dict[str, Callable[[str, Random], str]] = {
    "duplicate": _same,
    "near_duplicate": _retyped,
    "edited_copy": _edited,
}


# Noise of its own


def _short(clean: list[Row], _: list[str], random: Random) -> str:
    word = re.split(r"[\s，。、：]", random.choice(clean)["text"])[0][:12]
    label, other = random.choice(SHORT), random.choice(SHORT)
    return random.choice([f"{label} {word}", f"{word} {random.randint(1, 99)}", f"{label} | {other}"])


def _markup(clean: list[Row], roff: list[str], random: Random) -> str:
    if random.random() < 0.5:
        start = random.randrange(len(roff) - 12)
        return "\n".join(roff[start : start + random.randint(8, 12)])
    cells = [random.choice(clean)["text"][:8].strip() for _ in range(random.randint(3, 6))]
    tag = '<td class="c{}"><a href="#{}">{}</a></td>\n'
    return "".join(tag.format(random.randint(1, 9), random.randint(10, 99), cell) for cell in cells)


def _symbols(_: list[Row], __: list[str], random: Random) -> str:
    return " ".join(random.choice("=-*#~_+|/\\<>.") * random.randint(3, 30) for _ in range(random.randint(4, 14)))


def _digits(_: list[Row], __: list[str], random: Random) -> str:
    columns = random.randint(3, 6)
    lines = ("\t".join(f"{random.uniform(0, 9999):.2f}" for _ in range(columns)) for _ in range(random.randint(4, 9)))
    return "\n".join(lines)


def _repetition(_: list[Row], __: list[str], random: Random) -> str:
    phrases = random.sample(SPAM, 2)
    return " ".join(random.choice(phrases) for _ in range(random.randint(50, 110)))


def _long(_: list[Row], __: list[str], random: Random) -> str:
    return " ".join(random.choice(NOTICES) for _ in range(random.randint(12, 24)))


def _mojibake(clean: list[Row], _: list[str], random: Random) -> str:
    text: str = random.choice([row for row in clean if row["meta"]["lang"] == "zh"])["text"]
    return text.encode().decode("latin-1")


def _foreign(_: list[Row], __: list[str], random: Random) -> str:
    return " ".join(random.sample(random.choice(list(FOREIGN.values())), random.randint(3, 5)))


def _shuffled(clean: list[Row], _: list[str], random: Random) -> str:
    characters = list(random.choice(clean)["text"])
    random.shuffle(characters)
    return "".join(characters).strip()


GARBAGE: dict[str, Callable[[list[Row], list[str], Random], str]] = {
    "short": _short, "markup": _markup, "symbols": _symbols, "digits": _digits, "repetition": _repetition,
    "long": _long, "mojibake": _mojibake, "foreign": _foreign, "shuffled": _shuffled,
}  # fmt: skip


def raw_roff(folder: Path) -> list[str]:
    """Macro lines of the manual pages as they stand in the source: real markup that a careless crawl brings in."""
    pages = sorted(folder.rglob("zh_CN/man1/*.gz"))[:60]
    macro = re.compile(r"\.[A-Z]{2}|\.\\\"|.*\\f[BIR]")
    return [line for page in pages for line in _page(page).splitlines() if macro.match(line)]


if __name__ == "__main__":
    raise SystemExit(main())
