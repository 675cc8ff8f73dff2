# SPDX-License-Identifier: Apache-2.0
"""Distances between real and generated videos in what a detector sees in them: FVD, FID, KVD, KID, inception score,
precision and recall, written from the papers.

`samples` says which frames of which videos are taken, `features` has the detector look at them, `distances` compares.
What is fixed for each metric stands in `sandbox_api.inception`.
"""
