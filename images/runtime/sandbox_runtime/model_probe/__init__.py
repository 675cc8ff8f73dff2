# SPDX-License-Identifier: Apache-2.0
"""What models say of a data set, row by row: which rows are asked about, and what follows from the answers."""
