"""Batches of which something is killed at a random moment, here and on a Dask cluster.

    python tests/batch_kills.py [KILLS] [SEED]

Half of the kills are in batches on this machine, half on a cluster of two workers. In turn the
command itself, a worker of the cluster and a process that tracks get SIGKILL. A command that was
killed is given again. Afterwards the folder must hold what an undisturbed run writes, byte for
byte; the first that does not ends the program with exit code 1.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from distributed import Client, LocalCluster

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.batch.common import BOX, tables, write_clip  # noqa: E402

CLIPS = 30
FOLDER = ROOT / "build" / "batch-kills"
TRACKING = "siamtrack.utils.workers"


def main(kills: int, seed: int) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    rows = ["clip,boxes"]
    for number in range(CLIPS):
        write_clip(FOLDER / f"clip-{number:02d}.mp4", number)
        rows.append(f'clip-{number:02d}.mp4,"{",".join(map(str, BOX))}"')
    (FOLDER / "clips.csv").write_text("\n".join([*rows, ""]))
    begun_s = time.monotonic()
    if start("whole").wait():
        sys.exit("batch-kills: the undisturbed run failed")
    whole_s, whole = time.monotonic() - begun_s, tables(FOLDER / "whole")
    print(f"batch-kills: {CLIPS} clips, undisturbed {whole_s:.1f} s", flush=True)
    chance = random.Random(seed)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        for number in range(kills):
            address = cluster.scheduler_address if number % 2 else ""
            victims = ["command", "tracking", *(["worker"] if address else [])]
            victim, delay_s = victims[number // 2 % len(victims)], chance.uniform(0, whole_s)
            done, restarts = disturb(f"out-{number}", address, victim, delay_s, chance)
            same = tables(FOLDER / f"out-{number}") == whole
            print(
                f"batch-kills: {number + 1}: {'cluster' if address else 'here'}, {victim} killed "
                f"after {delay_s:.1f} s with {done} clips done, command given again {restarts} "
                f"times: {'the same bytes' if same else 'ANOTHER RESULT'}",
                flush=True,
            )
            if not same:
                sys.exit(1)


def start(out: str, address: str = "") -> subprocess.Popen[bytes]:
    """Begin a batch over all clips into `out`."""
    command = [sys.executable, "-m", "siamtrack", "batch", "clips.csv", "--out", out]
    model = ["--weights", "siamtrack-nano", "--engine", "onnx:int8"]
    where = ["--scheduler", address] if address else ["--workers", "2"]
    with (FOLDER / "log.txt").open("ab") as log:
        return subprocess.Popen([*command, *model, *where], cwd=FOLDER, stderr=log)


def disturb(
    out: str, address: str, victim: str, delay_s: float, chance: random.Random
) -> tuple[int, int]:
    """Run a batch, kill something; returns the clips done then, and how often it was restarted."""
    running, begun_s, restarts = start(out, address), time.monotonic(), 0
    while time.monotonic() - begun_s < delay_s and running.poll() is None:
        time.sleep(0.01)
    records = FOLDER / out / "batch.jsonl"
    done = len(records.read_bytes().splitlines()) if records.exists() else 0
    if victim == "command":
        running.kill()
    else:
        # At first there may be none yet; after the end there is none left.
        while not (pids := victims_of(victim, running.pid, address)) and running.poll() is None:
            time.sleep(0.01)
        if pids:
            os.kill(chance.choice(pids), signal.SIGKILL)
    while running.wait():
        restarts += 1
        if restarts > 3:
            sys.exit(f"batch-kills: {out} does not finish; see {FOLDER / 'log.txt'}")
        running = start(out, address)
    return done, restarts


def victims_of(victim: str, command_pid: int, address: str) -> list[int]:
    """Processes that track, or those of the cluster's workers."""
    if not address:
        parents = [command_pid]
    else:
        with Client(address) as client:
            parents = list(client.run(os.getpid).values())
    if victim == "worker":
        return parents
    found = []
    for parent in parents:
        for child in psutil.Process(parent).children():
            if TRACKING in child.cmdline():
                found.append(child.pid)
    return found


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*(given + [20, 1][len(given) :]))
