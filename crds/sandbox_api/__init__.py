# SPDX-License-Identifier: Apache-2.0
"""The language of Sandbox Operator: the custom resources, the job contract and the result contract, as pydantic models.

It imports nobody, so that the operator, the runtime in the pods and the command line can all speak it.
"""
