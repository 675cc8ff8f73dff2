# SPDX-License-Identifier: Apache-2.0
"""The exporter: from what an experiment's pods wrote on the volume to one run of Weights & Biases.

`export` keeps one session alive at a time, a process of its own; a `session` replays rows; the `journal` says which row
is which line, so that a run, which knows how many rows it has, says what it lacks; `sources` finds what is new.
"""
