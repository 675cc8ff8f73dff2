# SPDX-License-Identifier: Apache-2.0
"""What the components that write text have in common: rows in, the same rows with answers out, in their order.

Answers are kept as they come, so that a later attempt asks only for those that are missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_api.text_infer import TextInferConfig

from ..data_juicer.rows import read_json
from ..errors import ConfigError, UserError
from ..hooks.base import Artifact, HookResult
from .base import BaseModelExecutor

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Question:
    key: str
    """Digest of what is asked, and which of equal ones it is: an answer is found by it again."""
    messages: Messages


@dataclass(frozen=True)
class Answer:
    text: str | None
    """None: there is none."""
    error: str | None = None


class TextInferExecutor(BaseModelExecutor):
    """A subclass implements `answers`."""

    settings: type[TextInferConfig]

    def answers(self, config: Any, questions: Sequence[Question]) -> AsyncIterator[tuple[Question, Answer]]:
        """Each question with its answer, in any order."""
        raise NotImplementedError

    async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> HookResult:
        assert self.context is not None
        config = self.settings.model_validate(
            {key: value for key, value in self.model_config.items() if key != "work_dir"}
        )
        paths = [config.dataset_path] if isinstance(config.dataset_path, str) else config.dataset_path
        rows = {path: list(self.data_connector(path)) for path in paths}
        questions = {path: list(questions_of(found, config)) for path, found in rows.items()}
        self.context.state.mkdir(parents=True, exist_ok=True)
        known = _Kept(self.context.state / f"answers-{digest([config.model_dump(mode='json')])[:16]}.jsonl")
        missing = [each for every in questions.values() for each in every if each.key not in known.answers]
        failed: dict[str, str] = {}
        total = sum(map(len, questions.values()))
        with known:
            async for question, answer in self.answers(config, missing):
                if answer.text is None:
                    failed[question.key] = answer.error or "no answer"
                    if len(failed) > config.max_failures:
                        raise UserError(
                            f"{len(failed)} rows have no answer, {config.max_failures} may (max_failures); the last"
                            f" one: {answer.error}"
                        )
                else:
                    known.add(question.key, answer.text)
                    self.watcher.watch(len(known.answers), "rows_done", step=len(known.answers))
        return self._written(config, rows, questions, known.answers, total, len(failed))

    def data_connector(self, input_data: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
        assert self.context is not None
        path = self.context.workspace.inside(str(input_data), "extraConfigs.dataset_path")
        if not path.is_file():
            raise ConfigError(f"extraConfigs.dataset_path: there is no file {input_data}")
        yield from read_json(path)

    def _written(
        self,
        config: TextInferConfig,
        rows: Mapping[str, list[dict[str, Any]]],
        questions: Mapping[str, list[Question]],
        answers: Mapping[str, str],
        total: int,
        failed: int,
    ) -> HookResult:
        assert self.context is not None
        folder = self.context.out / "answers"
        folder.mkdir()
        files = []
        for path, found in rows.items():
            stem = Path(path).name.split(".")[0]
            file = folder / f"{stem}_inference.jsonl"
            with file.open("a", encoding="utf-8") as lines:  # two data sets of one name share a file
                for row, question in zip(found, questions[path], strict=True):
                    answered = {**row, config.infer_res_key: answers.get(question.key)}
                    lines.write(json.dumps(answered, ensure_ascii=False) + "\n")
            files.append(file)
        dataset = files[0] if len(set(files)) == 1 else None
        return HookResult(
            outputs=[
                Artifact(folder, publish=self.context.user_path("extraConfigs.export_path")),
                Artifact(dataset, rows=total) if dataset else None,
            ],
            metrics={"rows": total, "failed": failed},
            message=f"{total - failed} of {total} rows answered by {config.model}",
        )


def questions_of(rows: Sequence[Mapping[str, Any]], config: TextInferConfig) -> Iterator[Question]:
    """Raises ConfigError for a row without a query."""
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        keys = config.func_kwargs
        system, query = row.get(keys.system_key), _text(row, "query_key", keys.query_key, number)
        if config.build_messages_func == "build_messages_for_math_qa":
            query = f"Question: {query}\nAnswer: {_text(row, 'response_key', keys.response_key, number)}"
        messages = [{"role": "system", "content": str(system)}] if system else []
        messages.append({"role": "user", "content": query})
        said = digest(messages)
        seen[said] = seen.get(said, -1) + 1
        yield Question(f"{said}-{seen[said]}", messages)


def _text(row: Mapping[str, Any], setting: str, key: str, number: int) -> str:
    if not isinstance(text := row.get(key), str):
        raise ConfigError(f"extraConfigs.func_kwargs.{setting}: row {number} has no text under {key!r}")
    return text


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class _Kept:
    """Answers by key, in a file that outlives the attempt. A line that was cut off is as good as none."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, str] = {}
        self._path = path
        if path.exists():
            for line in path.read_bytes().split(b"\n")[:-1]:
                found = json.loads(line)
                self.answers[found["key"]] = found["text"]

    def __enter__(self) -> None:
        whole = "".join(json.dumps({"key": key, "text": text}) + "\n" for key, text in self.answers.items())
        temporary = self._path.with_suffix(".new")
        temporary.write_text(whole, encoding="utf-8")
        temporary.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8")

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, key: str, text: str) -> None:
        self.answers[key] = text
        self._file.write(json.dumps({"key": key, "text": text}) + "\n")
        self._file.flush()
