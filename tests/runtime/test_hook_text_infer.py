# SPDX-License-Identifier: Apache-2.0
"""InferModelHook on text: an endpoint on this machine that misbehaves, and a real transformers model made here."""

import asyncio
import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import web
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tests.progress import deep_only
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

ROWS = [{"query": f"row {number}", "system": "be brief" if number % 2 else "", "n": number} for number in range(12)]


@dataclass
class Endpoint:
    """Answers with the words in capitals; `faults` come first, for each question one after another."""

    url: str = ""
    faults: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        query = body["messages"][-1]["content"]
        self.bodies.append(body)
        self.keys.add(request.headers.get("Authorization"))
        fault = self.faults[self.asked[query]] if self.asked[query] < len(self.faults) else ""
        self.asked[query] += 1
        if fault == "cut":
            assert request.transport is not None
            request.transport.close()
            raise ConnectionResetError
        if fault:
            return web.Response(status=int(fault), text="not now", headers={"Retry-After": "0"})
        return web.json_response({"choices": [{"message": {"content": query.upper()}}]})


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", found.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/chat/completions"
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield found
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def infer(pod: HookPod, kind: str, attempt: int = 1, **extra: Any) -> Ended:
    write_jsonl(pod.experiment / "questions.jsonl", ROWS)
    contract = job_contract(
        "InferModelHook",
        stage="execution",
        meta_name="ask",
        type=kind,
        attempt=attempt,
        extra={"dataset_path": "questions.jsonl", **extra},
        outputs=["dir", "dataset"],
    )
    return pod.run(contract)


def answers(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.output("dataset").read_text().splitlines()]


def test_an_endpoint_that_misbehaves_answers_in_the_end(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.faults = ["429", "cut", "503"]
    pod = HookPod(tmp_path, environ={"OPENAI_API_KEY": "secret-of-the-test"})
    ended = infer(pod, "api", api_endpoint=endpoint.url, model="tiny", sampling_params={"temperature": 0.5})
    assert ended.code == 0, ended.log
    assert answers(ended) == [{**row, "response": f"ROW {row['n']}"} for row in ROWS]
    assert set(endpoint.asked.values()) == {4}
    assert endpoint.bodies[0]["temperature"] == 0.5
    assert endpoint.bodies[0]["model"] == "tiny"
    assert {len(body["messages"]) for body in endpoint.bodies} == {1, 2}, "a system's message only where a row has one"
    assert endpoint.keys == {"Bearer secret-of-the-test"}
    everything = [path.read_bytes() for path in pod.experiment.rglob("*") if path.is_file()]
    assert not any(b"secret-of-the-test" in content for content in everything)
    assert (ended.output("dir") / "questions_inference.jsonl").exists()
    assert ended.message.metrics == {"ask.rows": 12, "ask.failed": 0}


def test_a_later_attempt_asks_only_for_what_is_missing(tmp_path: Path, endpoint: Endpoint) -> None:
    pod = HookPod(tmp_path)
    extra = {"api_endpoint": endpoint.url, "model": "tiny", "concurrency": 1, "max_retry_num": 0}
    endpoint.faults = ["503"]
    failed = infer(pod, "api", **extra, max_failures=2)
    assert failed.code == 1, failed.log
    assert failed.message.error is not None
    assert "3 rows have no answer, 2 may (max_failures)" in failed.message.error.message
    assert set(endpoint.asked.values()) == {1}
    asked_first = set(endpoint.asked)
    ended = infer(pod, "api", attempt=2, **extra)
    assert ended.code == 1, "those that were never asked meet their first fault now"
    endpoint.faults = []
    ended = infer(pod, "api", attempt=3, **extra)
    assert ended.code == 0, ended.log
    assert answers(ended) == [{**row, "response": f"ROW {row['n']}"} for row in ROWS]
    assert max(endpoint.asked[query] for query in asked_first) == 2, "an answer is asked for once"


@pytest.mark.parametrize(
    ("fault", "field"), [("401", "extraConfigs.api_key_env"), ("404", "extraConfigs.api_endpoint")]
)
def test_what_no_further_try_can_mend_ends_at_once(tmp_path: Path, endpoint: Endpoint, fault: str, field: str) -> None:
    endpoint.faults = [fault] * 9
    ended = infer(HookPod(tmp_path), "api", api_endpoint=endpoint.url, model="tiny", concurrency=1)
    assert ended.code == 2, ended.log
    assert ended.message.error is not None
    assert ended.message.error.message.startswith(f"{field}: {endpoint.url} answered {fault}: not now")
    assert endpoint.asked.total() == 1


def test_an_answer_that_is_there_may_be_graded(tmp_path: Path, endpoint: Endpoint) -> None:
    settings = {"build_messages_func": "build_messages_for_math_qa", "func_kwargs": {"response_key": "system"}}
    ended = infer(HookPod(tmp_path), "api", api_endpoint=endpoint.url, model="tiny", **settings)
    assert ended.code == 0, ended.log
    assert answers(ended)[1]["response"] == "QUESTION: ROW 1\nANSWER: BE BRIEF"


def test_a_row_may_stay_without_an_answer(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.faults = ["400"]
    ended = infer(HookPod(tmp_path), "api", api_endpoint=endpoint.url, model="tiny", max_failures=12)
    assert ended.code == 0, ended.log
    assert [row["response"] for row in answers(ended)] == [None] * 12
    assert ended.message.metrics == {"ask.rows": 12, "ask.failed": 12}


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt")
    words = ["[PAD]", "[EOS]", "[UNK]", "row", "be", "brief", *map(str, range(12))]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=len(words), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@deep_only
def test_a_models_answers_do_not_hang_on_the_batch(tmp_path: Path, gpt: Path) -> None:
    found = {}
    for size in (1, 5):
        (tmp_path / str(size)).mkdir()
        pod = HookPod(tmp_path / str(size), environ={"OMP_NUM_THREADS": "1"})
        shutil.copytree(gpt, pod.experiment / "gpt")
        ended = infer(pod, "huggingface", model="gpt", batch_size=size, sampling_params={"max_new_tokens": 6})
        assert ended.code == 0, ended.log
        found[size] = [row["response"] for row in answers(ended)]
    assert found[1] == found[5]
    model, tokenizer = GPT2LMHeadModel.from_pretrained(gpt), PreTrainedTokenizerFast.from_pretrained(gpt)
    prompt = tokenizer("be brief\nrow 3", return_tensors="pt")
    made = model.generate(prompt["input_ids"], max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert found[1][3] == tokenizer.decode(made[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


OWN_CODE = """
from transformers import GPT2Config, GPT2LMHeadModel
open({marker!r}, "w").close()
class OwnConfig(GPT2Config):
    model_type = {kind!r}
class OwnModel(GPT2LMHeadModel):
    config_class = OwnConfig
"""


@pytest.mark.parametrize(
    ("kind", "trusted", "code"), [("gpt2", False, 0), ("own_kind", False, 2), ("own_kind", True, 0)]
)
def test_code_in_a_models_folder_runs_only_when_it_may(
    tmp_path: Path, gpt: Path, kind: str, trusted: bool, code: int
) -> None:
    """Where transformers has the model's class, that is taken instead; where it has none, the model is refused."""
    pod, marker = HookPod(tmp_path, environ={"OMP_NUM_THREADS": "1"}), tmp_path / "ran"
    folder = pod.experiment / "gpt"
    shutil.copytree(gpt, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": kind, "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(OWN_CODE.format(marker=str(marker), kind=kind))

    params = {"model_params": {"trust_remote_code": True}} if trusted else {}
    ended = infer(pod, "huggingface", model="gpt", sampling_params={"max_new_tokens": 2}, **params)

    assert ended.code == code, ended.log
    assert marker.exists() == trusted


def test_samples_are_those_of_the_row_and_the_seed(tmp_path: Path, gpt: Path) -> None:
    settings = {"max_new_tokens": 6, "do_sample": True, "temperature": 5.0}
    found = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        pod = HookPod(tmp_path / str(number), environ={"OMP_NUM_THREADS": "1"})
        shutil.copytree(gpt, pod.experiment / "gpt")
        ended = infer(pod, "huggingface", model="gpt", sampling_params=settings)
        assert ended.code == 0, ended.log
        found.append([row["response"] for row in answers(ended)])
    assert found[0] == found[1]
    assert len(set(found[0])) > 6
