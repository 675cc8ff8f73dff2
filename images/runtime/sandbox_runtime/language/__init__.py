# SPDX-License-Identifier: Apache-2.0
"""How well causal language models of transformers foretell texts. Needs torch and transformers, and peft for adapters.

`windows` says which tokens are read together (no torch), `models` loads a checkpoint, `perplexity` adds up losses.
"""
