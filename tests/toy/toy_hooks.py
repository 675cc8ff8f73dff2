# SPDX-License-Identifier: Apache-2.0
"""Hooks of a third party, found by their entry points as any other's: they do what `extraConfigs.do` says.

They exist so that the runtime's own promises are tested without Data-Juicer, through the real process.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sandbox_runtime import errors, report, run
from sandbox_runtime.components import BaseHook
from sandbox_runtime.errors import UserError
from sandbox_runtime.hooks.base import Artifact, HookContext, HookResult
from sandbox_runtime.pieces import Piece

# ruff: noqa: ARG002

TRAINER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
print("up", flush=True)
time.sleep(600)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""
GREEDY = """
taken = []
while True:
    taken.append(bytearray(b"x" * 2**22))
"""
STARTER = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {DEAF!r}], stdout=subprocess.PIPE, start_new_session=True)
print(child.stdout.readline().decode().strip(), flush=True)
"""


class ToyHook:
    def run(self, context: HookContext) -> HookResult:
        return getattr(self, context.extra.get("do", "write"))(context)

    def write(self, context: HookContext) -> HookResult:
        """An artifact, a folder, and the configurations as they arrived."""
        file = context.out / str(context.extra.get("name", "text.txt"))
        file.write_text(str(context.extra.get("text", "")) * context.extra.get("times", 1))
        folder = context.out / "folder"
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "a.txt").write_text("a")
        seen = {
            "dj": context.dj,
            "extra": dict(context.extra),
            "inputs": {target: found.value for target, found in context.inputs.items()},
            "cwd": str(Path.cwd()),
            "home": os.environ["HOME"],
        }
        context.metrics.log({"loss": 0.5, "broken": float("nan")}, step=1)
        print("the hook speaks")
        subprocess.run(["sh", "-c", "echo a child speaks"], check=True)
        return HookResult(
            outputs=[
                Artifact(file, rows=1, publish=context.user_path("extraConfigs.export_path")),
                seen,
                Artifact(folder),
            ],
            metrics={"": 7, "rows": 3, "endless": float("inf"), **context.extra.get("figures", {})},
            message="1 text written",
        )

    def watch(self, context: HookContext) -> HookResult:
        """Use the watcher's verbs but `query`."""
        watcher = context.watcher
        name = context.contract.job.meta_name
        watcher.watch_cfgs([({"seed": context.seed}, "sandbox")])
        watcher.watch({"loss": context.extra["value"], "words": "some words"}, name)
        definition = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"a": {"values": [1]}}}
        watcher.setup_sweep(definition)
        file = context.out / "file.txt"
        file.write_text("x")
        return HookResult(outputs=[Artifact(file), [1, 2]], metrics={"rows": 3})

    def ask(self, context: HookContext) -> HookResult:
        """What the watcher knows."""
        found = [context.watcher.query(key) for key in context.extra["keys"]]
        return HookResult(outputs=[[str(value) if isinstance(value, Path) else value for value in found]])

    def train(self, context: HookContext) -> HookResult:
        """Log a loss a step. With `at`: after that step wait until the file `after` is there."""
        losses = context.extra["losses"]
        context.metrics.expect(len(losses))
        for step, loss in enumerate(losses, 1):
            context.metrics.log({"loss": loss}, step=step)
            if step == context.extra.get("at"):
                while not Path(context.extra["after"]).exists():
                    time.sleep(0.01)
        return HookResult(outputs=[len(losses)], metrics={"loss": losses[-1]})

    def weigh(self, context: HookContext) -> HookResult:
        """Write a file of so many mebibytes; the figure is a value that it is told."""
        (context.out / "ballast").write_bytes(bytes(context.extra["mebibytes"] * 2**20))
        figures = {"score": float(context.extra["value"])}
        return HookResult(outputs=[Artifact(context.out / "ballast")], metrics=figures)

    def share(self, context: HookContext) -> HookResult:
        """Do a piece of the job: every so-manyeth of some words. Pieces in `broken` fail in their first attempt, those in
        `waits` when they are told to end."""
        place = context.place
        if place.shard in context.extra.get("broken", []) and context.contract.attempt == 1:
            raise ValueError(f"piece {place.shard} can't be done yet")
        if place.shard in context.extra.get("waits", []):
            _began(context)
            threading.Event().wait()
        words = context.extra["words"][place.shard :: place.shards] if place.shard is not None else []
        file = context.out / "words.txt"
        file.write_text("".join(f"{word}\n" for word in words))
        outputs = [Artifact(file, publish=context.user_path("extraConfigs.export_path")), len(words)]
        return HookResult(outputs=outputs, metrics={"words": len(words)}, message=f"piece {place.shard}")

    def merge(self, context: HookContext, pieces: list[Piece]) -> HookResult:
        """All words in their order."""
        left = [piece.outputs[0].read_text().splitlines() for piece in pieces]
        words = [left[number % len(left)][number // len(left)] for number in range(sum(map(len, left)))]
        file = context.out / "words.txt"
        file.write_text("".join(f"{word}\n" for word in words))
        outputs = [Artifact(file, publish=context.user_path("extraConfigs.export_path")), len(words)]
        figures = {"words": sum(piece.metrics["words"] for piece in pieces)}
        return HookResult(outputs=outputs, metrics=figures, message="merged")

    def meet(self, context: HookContext) -> HookResult:
        """Work as one with the other pods of the job: each says its rank to rank 0."""
        place, (host, port) = context.place, context.place.address()
        if place.rank == context.extra.get("fails") and context.contract.attempt == 1:
            raise ValueError(f"rank {place.rank} can't go on")
        if place.rank == 0:
            with socket.create_server((host if host == "127.0.0.1" else "", port)) as server:
                met = [server.accept()[0].recv(16).decode() for _ in range(place.nodes - 1)]
            return HookResult(outputs=[sorted(met), context.contract.attempt], message="all have met")
        while True:
            try:
                with socket.create_connection((host, port)) as connection:
                    connection.sendall(str(place.rank).encode())
                return HookResult(outputs=[])
            except OSError:
                time.sleep(0.05)

    def list(self, context: HookContext) -> HookResult:
        """Make a list, for a forEach."""
        return HookResult(outputs=[[*context.extra["items"]]])

    def look(self, context: HookContext) -> HookResult:
        """Say what it was told."""
        return HookResult(outputs=[dict(context.extra)])

    def wait(self, context: HookContext) -> HookResult:
        """Say that it began, wait to be ended, save what is done."""
        try:
            _began(context)
            threading.Event().wait()
        finally:
            context.state.mkdir(parents=True, exist_ok=True)
            (context.state / f"saved-by-{context.contract.attempt}").write_text("half")
        return HookResult(outputs=[])

    def ignore(self, context: HookContext) -> HookResult:
        """Swallow the order to end and return as if nothing had been."""
        try:
            _began(context)
            threading.Event().wait()
        except BaseException:
            print("ignored")
        return HookResult(outputs=["half done"])

    def stubborn(self, context: HookContext) -> HookResult:
        """Swallow the order to end and go on for ever."""
        while True:
            try:
                _began(context)
                threading.Event().wait()
            except BaseException:
                print("never")

    def child(self, context: HookContext) -> HookResult:
        """Wait for a child that answers SIGTERM with exit code 1, as torchrun does."""
        process = subprocess.Popen([sys.executable, "-c", TRAINER], stdout=subprocess.PIPE)
        process.stdout.readline()
        _began(context, process.pid)
        try:
            process.wait()
        except BaseException:
            process.terminate()
            raise subprocess.CalledProcessError(process.wait(), "trainer") from None
        return HookResult(outputs=[])

    def orphan(self, context: HookContext) -> HookResult:
        """Leave a grandchild behind that holds the log open and ignores SIGTERM."""
        pid = int(subprocess.run([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, check=True).stdout)
        return HookResult(outputs=[pid])

    def hold(self, context: HookContext) -> HookResult:
        """Say that it began, then work until the test lets it go by a file in the experiment's folder.

        What it has done is in `state`: its result lists the attempts that worked on it, and who let it go.
        """
        context.state.mkdir(parents=True, exist_ok=True)
        (context.state / f"attempt-{context.contract.attempt}").touch()
        _began(context)
        while not Path(context.extra["until"]).exists():
            time.sleep(0.05)
        return HookResult(outputs=[sorted(path.name for path in context.state.glob("attempt-*"))])

    def hungry(self, context: HookContext) -> HookResult:
        """Take memory until the kernel ends this process, or with `child` one that it started.

        With `slowly`: no more than half of the limit before the runtime has told what it saw.
        """
        taken = []
        while context.extra.get("slowly") and not Path("/dev/termination-log").read_text():
            if len(taken) * 2**23 < context.contract.limits.memory_bytes:
                taken.append(bytearray(b"x" * 2**22))
            time.sleep(0.05)
        if context.extra.get("child"):
            subprocess.run([sys.executable, "-c", GREEDY], check=True)
        exec(GREEDY)
        raise AssertionError("there is memory without end")

    def exit(self, context: HookContext) -> HookResult:
        """End the process behind the runtime's back: with a code, by a read of address 0, or by a signal."""
        print(context.extra.get("say", "LAST WORDS"), flush=True)
        if context.extra.get("fault"):
            ctypes.string_at(0)
        if "signal" in context.extra:
            signal.raise_signal(signal.Signals[context.extra["signal"]])
        os._exit(context.extra.get("code", 0))

    def native(self, context: HookContext) -> HookResult:
        """Native code that keeps Python's lock: no thread of this process does anything meanwhile."""
        native = ctypes.PyDLL(None)
        _began(context)
        if "write" in context.extra:
            size = context.extra["write"]
            assert native.write(1, b"x" * (size - 1) + b"\n", size) == size
        native.sleep(context.extra.get("sleep", 0))
        return HookResult(outputs=["native"])

    def die_late(self, context: HookContext) -> HookResult:
        """Crash when the result is written already and only tidying is left."""
        type(context.workspace).clean_up = lambda _: os.abort()
        return HookResult(outputs=["done"])

    def mumble(self, context: HookContext) -> HookResult:
        """Print what is no text and no whole line, many times if asked to."""
        for _ in range(context.extra.get("times", 1)):
            os.write(1, bytes(range(256)) * context.extra.get("width", 1))
        return HookResult(outputs=["mumbled"])

    def bereave(self, context: HookContext) -> HookResult:
        """Start a process that leaves an orphan, which ends at once; wait until somebody has collected it."""
        orphan = subprocess.run(["sh", "-c", "sleep 0.1 >&2 & echo $!"], stdout=subprocess.PIPE, check=True)
        while Path(f"/proc/{int(orphan.stdout)}").exists():
            time.sleep(0.01)
        return HookResult(outputs=["collected"])

    def ended(self, context: HookContext) -> HookResult:
        """Get the order to end from nobody in particular."""
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait()
        raise AssertionError("unreachable")

    def raise_as(self, context: HookContext) -> HookResult:
        """Fail with one of the runtime's own classes of errors."""
        raise getattr(errors, context.extra["error"])(context.extra["say"])

    def noise(self, context: HookContext) -> HookResult:
        """A megabyte of what terminals obey: as the error, as the success's message, or only on stderr."""
        noise = "\x1b[31m\x00\x07\x08\u202e\x9b2J\r\udce9" * (2**20 // 13)
        match context.extra["as"]:
            case "error":
                raise ValueError(noise)
            case "message":
                return HookResult(outputs=["done"], message=noise)
            case _:
                os.write(2, noise.encode(errors="surrogateescape"))
                os._exit(9)

    def fill(self, context: HookContext) -> HookResult:
        """Write until the volume, or with `tmp` the node's disk, has had enough."""
        folder = Path("/tmp") if context.extra.get("tmp") else context.out
        with (folder / "ballast").open("wb") as file:
            for _ in range(context.extra["mebibytes"]):
                file.write(bytes(2**20))
                file.flush()
        if context.extra.get("tmp"):
            threading.Event().wait()
        return HookResult(outputs=["it fits"])

    def whisper(self, context: HookContext) -> HookResult:
        """Succeed, and let nobody hear of it: the termination message can't be written, with `lose` nor the result.

        It does so in its first attempt only, or in all with `always`.
        """

        def unheard(*_: object, **__: object) -> str:
            raise OSError("nobody listens")

        if context.contract.attempt == 1 or context.extra.get("always"):
            report.encode_message = unheard
            if context.extra.get("lose"):
                run.write_report = lambda result, *_: result
        return HookResult(outputs=["said to nobody"])

    def resume(self, context: HookContext) -> HookResult:
        return HookResult(outputs=[sorted(p.name for p in context.state.glob("*"))])

    def fail(self, context: HookContext) -> HookResult:
        if "partial" in context.extra:
            (context.out / "partial.txt").write_text(context.extra["partial"])
        raise ValueError(context.extra["say"])

    def fail_in_silence(self, context: HookContext) -> HookResult:
        raise UserError("\x1b[31m\x00\x07" * 100_000)

    def full(self, context: HookContext) -> HookResult:
        """What a library makes of a full volume."""
        try:
            Path("/dev/full").write_text("x")
        except OSError as error:
            raise RuntimeError("could not save the shard") from error
        raise AssertionError("/dev/full took it")

    def pools(self, context: HookContext) -> HookResult:
        """A list of files, a folder and a number."""
        items: list[Any] = []
        for number, text in enumerate(context.extra["texts"]):
            (context.out / f"pool_{number}.txt").write_text(text)
            items.append(context.out / f"pool_{number}.txt")
        (context.out / "last").mkdir()
        (context.out / "last" / "a.txt").write_text("a")
        return HookResult(outputs=[[*items, Artifact(context.out / "last"), 7]])

    def rewrite(self, context: HookContext) -> HookResult:
        """Change a file that is not this job's own."""
        Path(context.extra["path"]).write_text("changed meanwhile")
        return HookResult(outputs=["done"])

    def long_list(self, context: HookContext) -> HookResult:
        return HookResult(outputs=[context.extra["items"], "short"], metrics={"rows": 3})

    def strange(self, context: HookContext) -> HookResult:
        return HookResult(outputs=[{"score": float("nan")}])

    def surrogate(self, context: HookContext) -> HookResult:
        return HookResult(outputs=["done"], message="wrote caf\udce9.jsonl")

    def mute(self, context: HookContext) -> HookResult:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        raise Mute

    def memory(self, context: HookContext) -> HookResult:
        raise MemoryError("no more")

    def leave(self, context: HookContext) -> HookResult:
        sys.exit(0)

    def kill(self, context: HookContext) -> HookResult:
        """End the whole pod at once, as a machine's end does: the supervisor is killed, and this process with it."""
        (context.out / "partial.txt").write_text("half")
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
        raise AssertionError("unreachable")

    def block_result(self, context: HookContext) -> HookResult:
        """The volume refuses the result at the last moment."""
        context.workspace.result.mkdir()
        return HookResult(outputs=["done"])


class Settings(BaseModel, extra="forbid"):
    size: int


class StrictToyHook:
    extra = Settings

    def run(self, context: HookContext) -> HookResult:
        return HookResult(outputs=[context.extra.size])


def _began(context: HookContext, pid: int = 0) -> None:
    """Tell the test, which must not see half a file."""
    marker = context.workspace.attempt / "began"
    marker.with_suffix(".tmp").write_text(str(pid))
    marker.with_suffix(".tmp").rename(marker)


class PortedToyHook(BaseHook):
    """Written as hooks of Data-Juicer's sandbox are: `hook` returns paths and values."""

    def hook(self, **kwargs: Any) -> Any:
        words = self.extra_cfg["words"]
        table = self.context.out / "words.csv"
        table.write_text("\n".join(words))
        for number, _ in enumerate(words, 1):
            self.watcher.watch({"words": number, "told": {"twice": 2.0 * number}})
        return str(table), words, [self.meta_name], "outputs/words.csv"
