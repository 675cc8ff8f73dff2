# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of language models by ms-swift, in worker processes. Needs the packages of the `swift` extra."""
