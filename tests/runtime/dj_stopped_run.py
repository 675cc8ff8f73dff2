# SPDX-License-Identifier: Apache-2.0
"""A processing run as the hook makes it, in a process of its own that can be told to end: `dj_stopped_run.py
INPUT FOLDER ATTEMPT`.

It writes READY into FOLDER when its slow operator has begun. Exit code 143 when SIGTERM ended it.
"""

import sys
from pathlib import Path

import dj_data

from sandbox_runtime.data_juicer.dataset import prepare
from sandbox_runtime.data_juicer.process import process
from sandbox_runtime.signals import Stop, Stopped

# It tells the test that it is at work by the file READY, and waits as long as the file SLOW is there.
WAIT = """
import time
from pathlib import Path


def wait(sample):
    folder = Path({folder!r})
    (folder / "READY").touch()
    while (folder / "SLOW").exists():
        time.sleep(0.01)
    return sample
"""


def recipe(folder: Path) -> list[dj_data.Row]:
    mapper = folder / "wait.py"
    mapper.write_text(WAIT.format(folder=str(folder)))
    return [
        {"text_length_filter": {"min_len": 10}},
        {"document_deduplicator": {}},
        {"python_file_mapper": {"file_path": str(mapper), "function_name": "wait"}},
        {"alphanumeric_filter": {"min_ratio": 0.5}},
    ]


def main() -> None:
    source, folder, attempt = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    stop = Stop()
    stop.install()
    raw = {"dataset_path": str(source), "process": recipe(folder)}
    here = folder / f"attempt-{attempt}"
    try:
        with stop.armed():
            prepared = prepare(raw, here / "in")
            done = process(
                raw,
                prepared,
                work_dir=here / "work",
                export_path=here / "out.jsonl",
                job_id="job",
                np=2,
                state_dir=folder / "state",
                attempt=attempt,
            )
            print(f"resumed={done.resumed} rows={done.rows_out}")
    except Stopped:
        raise SystemExit(143) from None


if __name__ == "__main__":
    main()
