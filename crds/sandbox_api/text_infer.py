# SPDX-License-Identifier: Apache-2.0
"""Settings of InferModelHook's components that write text: Data-Juicer's sandbox's keys, and what they lacked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .extra import ComponentConfig, ExtraConfig


class RowKeys(ExtraConfig):
    """Where a row has what is said to the model."""

    system_key: str = "system"
    """The system's message; a row without it has none."""
    query_key: str = "query"
    """The user's message."""
    response_key: str = "response"
    """An answer that stands in the row already; with build_messages_for_math_qa."""


class TextInferConfig(ComponentConfig):
    dataset_path: str | Annotated[list[str], Field(min_length=1, max_length=256)]
    """One data set of JSON lines, or several."""
    export_path: str | None = None
    """Folder under which the results are published."""
    model: str
    """A folder, a hub's id, or what the endpoint calls it."""
    infer_res_key: str = "response"
    """Where a row gets the answer."""
    build_messages_func: Literal["build_messages", "build_messages_for_math_qa"] = "build_messages"
    """How a row becomes messages: one of the system where it has one, one of the user, which for_math_qa is its
    query and the answer that stands in it, to be graded."""
    parse_output_func: Literal["parse_output"] = "parse_output"
    """How an answer is read: as it is."""
    func_kwargs: RowKeys = RowKeys()
    """Where a row has what."""
    sampling_params: dict[str, Any] = {}
    """Given to the model with each row, e.g. temperature, max_tokens (api), max_new_tokens (huggingface)."""
    max_failures: Annotated[int, Field(ge=0)] = 0
    """Rows that may stay without an answer; one more fails the job."""


class HuggingfaceInferConfig(TextInferConfig):
    """Answers of a transformers model that runs in the pod."""

    model_params: dict[str, Any] = {}
    """Given to the model when it is loaded."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Rows at a time."""


class ApiInferConfig(TextInferConfig):
    """Answers of an OpenAI-style endpoint: vLLM's, or a provider's."""

    api_endpoint: Annotated[str, Field(pattern=r"^https?://")]
    """URL of an OpenAI-style chat endpoint, e.g. http://vllm.models:8000/v1/chat/completions."""
    response_path: str = "choices.0.message.content"
    """Where the answer stands in the response."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the key: the job's `secrets` set it. Not set: no key is sent."""
    max_retry_num: Annotated[int, Field(ge=0, le=100)] = 5
    """Further tries of a row after 408, 409, 429, 5xx and cut connections."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rows asked about at a time."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Rate limit; default: none."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 300
    """For one answer."""
