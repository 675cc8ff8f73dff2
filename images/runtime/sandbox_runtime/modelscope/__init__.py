# SPDX-License-Identifier: Apache-2.0
"""Training by ModelScope's own trainers, in a worker process. Needs the packages of the `modelscope` extra.

`folder` looks at a model before anything heavy is imported, `layout` makes a folder that ModelScope can load,
`data` reads rows, `follow` tells figures and keeps what a later attempt goes on from, `worker` puts them together.
"""
