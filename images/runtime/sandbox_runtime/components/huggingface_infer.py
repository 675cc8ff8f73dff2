# SPDX-License-Identifier: Apache-2.0
"""Text by a transformers model in this pod."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sandbox_api.text_infer import HuggingfaceInferConfig

from ..errors import ConfigError
from .text_infer import Answer, Question, TextInferExecutor


class HuggingfaceInferExecutor(TextInferExecutor):
    """type: huggingface. Deterministic unless `sampling_params` say `do_sample: true`; then the seed decides."""

    settings = HuggingfaceInferConfig

    async def answers(  # type: ignore[override]  # an async generator is one once it is called
        self, config: HuggingfaceInferConfig, questions: Sequence[Question]
    ) -> AsyncIterator[tuple[Question, Answer]]:
        if not questions:
            return
        assert self.context is not None
        tokenizer, model = loaded(config)
        sampled = bool(config.sampling_params.get("do_sample"))
        size = 1 if sampled else config.batch_size  # what a row samples must not hang on its neighbours
        for start in range(0, len(questions), size):
            batch = questions[start : start + size]
            if sampled:
                torch.manual_seed(int(batch[0].key[:15], 16) ^ self.context.seed)
            texts = generated(tokenizer, model, batch, config)
            for question, text in zip(batch, texts, strict=True):
                yield question, Answer(text)


def loaded(config: HuggingfaceInferConfig) -> tuple[Any, Any]:
    """Tokenizer and model, on the GPU where there is one. Raises ConfigError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model)
        model = AutoModelForCausalLM.from_pretrained(config.model, **config.model_params)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = " ".join(str(error).split())[:300]
        raise ConfigError(f"extraConfigs.model: {config.model} can't be loaded: {first}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "left"
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


@torch.inference_mode()
def generated(tokenizer: Any, model: Any, batch: Sequence[Question], config: HuggingfaceInferConfig) -> list[str]:
    """What the model adds to each prompt. A model without a chat template gets the messages as plain text."""
    if tokenizer.chat_template:
        prompts = [
            tokenizer.apply_chat_template(question.messages, tokenize=False, add_generation_prompt=True)
            for question in batch
        ]
    else:
        prompts = ["\n".join(message["content"] for message in question.messages) for question in batch]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=not tokenizer.chat_template)
    inputs.pop("token_type_ids", None)
    inputs = inputs.to(model.device)
    settings = {"do_sample": False, "pad_token_id": tokenizer.pad_token_id, **config.sampling_params}
    made = model.generate(**inputs, **settings)
    new = made[:, inputs["input_ids"].shape[1] :]
    texts: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts
