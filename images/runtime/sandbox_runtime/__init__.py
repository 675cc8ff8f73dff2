# SPDX-License-Identifier: Apache-2.0
"""What runs in a hook's pod: it reads the job contract, runs one hook, writes the result.

It never talks to the API server and never imports the operator.
"""
