# SPDX-License-Identifier: Apache-2.0
"""What the data hooks need of Data-Juicer, as plain functions on plain data.

It knows the library and nothing of jobs, results or Kubernetes; the hooks around it do. Importing a module of
this package is cheap: Data-Juicer, datasets, pandas, torch and ray are imported inside the functions that use
them.
"""
