"""Success AUC of tracker options on every sequence, the sequences spread over processes.

Evaluation's own pool starts from the assumption that a tracker may hang or crash, so it builds a
tracker, compiles its network and decodes the frames anew for every sequence. A search tracks the
same sequences hundreds of times with one network: here each process compiles it once, always gets
the same sequences, and keeps their frames as far as memory allows.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import cv2
import torch

from siamtrack.api import options_for, read_source
from siamtrack.data.datasets import open_dataset
from siamtrack.data.sequence import VideoSequence as TargetSequence
from siamtrack.engines import make_engine
from siamtrack.errors import EvaluationError, SiamTrackError
from siamtrack.evaluation.runs import overlaps_of, success_auc, track_sequence
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import Image
from siamtrack.video.decode import Frames

CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Job:
    """What is judged, and with what.

    Attributes:
        weights: name or file.
        sequences: data set, `kind:root`.
        fixed: tracker options over those of the weights' card, the same in every trial.
        engine: see `siamtrack.engines.make_engine`.
        max_frames: frames of each sequence that are tracked; 0 for all.
        memory_mb: decoded frames that all processes together may keep. What does not fit is
            decoded again in every trial.
    """

    weights: str
    sequences: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "auto"
    max_frames: int = 0
    memory_mb: int = 3000


class KeptFrames:
    """Frames that are decoded once and kept; to be shared by readers that do not write to them."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._kept: dict[int, Image] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def path(self, index: int) -> Path:
        """See `Frames.path`."""
        return self._frames.path(index)

    def key(self, index: int) -> str:
        """See `Frames.key`."""
        return self._frames.key(index)

    def read(self, index: int) -> Image:
        """See `Frames.read`."""
        return next(self.iterate([index]))

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """See `Frames.iterate`."""
        wanted = list(indices)
        new = self._frames.iterate([index for index in wanted if index not in self._kept])
        for index in wanted:
            if index not in self._kept:
                self._kept[index] = next(new)
            yield self._kept[index]


class Judge:
    """Judges options on some of the sequences, in this process."""

    def __init__(self, job: Job, names: Sequence[str], memory_mb: float) -> None:
        """Compile the network and open the sequences.

        Raises:
            SiamTrackError: the weights, the engine or the data set cannot be used.
        """
        source, tuned = read_source(job.weights)
        self._source, self._present = source, {**tuned, **job.fixed}
        self._engine = make_engine(source, engine=job.engine, threads=1)
        self._max_frames = job.max_frames
        dataset = open_dataset(job.sequences)
        self._sequences = list(_kept((dataset[name] for name in names), job.max_frames, memory_mb))

    @property
    def engine(self) -> str:
        """What runs the network, and what it computes in."""
        return f"{self._engine.name} {self._engine.precision}"

    def judge(self, options: Mapping[str, Any]) -> dict[str, float]:
        """Track every sequence once.

        Args:
            options: over the present ones.

        Returns:
            Success AUC by name of the sequence.

        Raises:
            ConfigError: the options contradict themselves.
            DatasetError: a frame cannot be decoded.
        """
        tracker = Tracker(self._engine, options_for(self._source, {**self._present, **options}))
        return {
            sequence.name: success_auc(
                overlaps_of(sequence, *track_sequence(tracker, sequence, self._max_frames))
            )
            for sequence in self._sequences
        }


def _kept(
    sequences: Iterable[TargetSequence], max_frames: int, memory_mb: float
) -> Iterator[TargetSequence]:
    """The sequences, those that fit into memory with frames that are kept."""
    left = memory_mb * 1e6
    for sequence in sequences:
        size = sequence.read(0).nbytes * (max_frames or len(sequence))
        if size <= left:
            left -= size
            yield replace(sequence, frames=KeptFrames(sequence.frames))
        else:
            yield sequence


class JudgePool:
    """Judges in processes of their own, each with one thread and its share of the sequences.

    Example:
        >>> with JudgePool(job, {"walk": 120, "run": 80}, workers=2) as pool:  # doctest: +SKIP
        ...     pool.judge({"window_influence": 0.3})
        {'walk': 0.71, 'run': 0.64}
    """

    def __init__(self, job: Job, frames: Mapping[str, int], workers: int) -> None:
        """Start the processes and wait until all are ready.

        Args:
            job: what they judge.
            frames: how many frames each sequence has, which decides who gets it.
            workers: number of processes, at least 1; no more than sequences are started.

        Raises:
            EvaluationError: one of them cannot start.
        """
        self._names = tuple(frames)
        self._workers: list[tuple[BaseProcess, Connection]] = []
        shares = share_out(frames, workers)
        try:
            for names in shares:
                self._workers.append(_start(job, names, job.memory_mb / len(shares)))
            self.engine = str(self._answers()[0])
        except BaseException:
            self.close()
            raise

    def judge(self, options: Mapping[str, Any]) -> dict[str, float]:
        """See `Judge.judge`; in the order of the sequences.

        Raises:
            EvaluationError: whatever went wrong in a process.
        """
        for _, connection in self._workers:
            connection.send(dict(options))
        found: dict[str, float] = {}
        for part in self._answers():
            found.update(part)
        return {name: found[name] for name in self._names}

    def close(self) -> None:
        """End the processes at once; what they are at is lost."""
        for process, connection in self._workers:
            connection.close()
            process.terminate()
        for process, _ in self._workers:
            process.join(CLOSE_TIMEOUT_S)
        self._workers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> list[Any]:
        answers = []
        for process, connection in self._workers:
            try:
                kind, content = connection.recv()
            except (EOFError, OSError) as error:
                process.join(CLOSE_TIMEOUT_S)
                raise EvaluationError(
                    f"a worker process died (exit code {process.exitcode}); the same command goes "
                    "on from the last finished trial, with fewer --workers or less --memory-mb if "
                    "memory ran out"
                ) from error
            if kind == "error":
                raise EvaluationError(content)
            answers.append(content)
        return answers


def share_out(frames: Mapping[str, int], workers: int) -> list[list[str]]:
    """Names for each process, of about as many frames: the longest first, to who has least."""
    shares: list[list[str]] = [[] for _ in range(max(1, min(workers, len(frames))))]
    loads = [0] * len(shares)
    for name in sorted(frames, key=lambda n: (-frames[n], n)):
        least = loads.index(min(loads))
        shares[least].append(name)
        loads[least] += frames[name]
    return shares


def _start(job: Job, names: Sequence[str], memory_mb: float) -> tuple[BaseProcess, Connection]:
    # A forked process would inherit the other end of every pipe and outlive a parent that is
    # killed; torch's threads do not survive a fork either.
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, job, names, memory_mb), daemon=True)
    process.start()
    there.close()
    return process, here


def _serve(connection: Connection, job: Job, names: Sequence[str], memory_mb: float) -> None:
    """Body of a process: says what its engine is, then answers options until nobody asks."""
    # Ctrl-C is for the parent, which then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with contextlib.suppress(EOFError, OSError):
        try:
            judge = Judge(job, names, memory_mb)
            connection.send(("ready", judge.engine))
            while True:
                connection.send(("judged", judge.judge(connection.recv())))
        except SiamTrackError as error:
            connection.send(("error", str(error)))
