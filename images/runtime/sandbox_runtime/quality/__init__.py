# SPDX-License-Identifier: Apache-2.0
"""Data-Juicer's quality classifiers without Spark and without a JVM: the same model folders, the same scores.

A classifier is a Spark pipeline: words, how often each occurs (hashed to a place in a long vector), a logistic
regression.
"""
