# SPDX-License-Identifier: Apache-2.0
"""VBench without its command line: which videos count, which weights are there, one dimension after the other.

VBench's own code computes the scores. What is done around it is what it does badly on a cluster: it downloads what it
misses, takes the kind of the first file it finds for that of all, passes over missing videos, and dies of a broken one
without naming it.
"""
