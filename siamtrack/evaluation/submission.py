"""Archives for the servers that keep a test set's truth."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from siamtrack.errors import EvaluationError
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.files import write_atomically
from siamtrack.evaluation.plan import Entrant

FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every member, so that the same results give the same archive."""


def write_submission(evaluation: Evaluation, entrant: Entrant) -> Path:
    """Write `OUT/submission-KEY.zip` for the server of a data set whose truth is withheld.

    GOT-10k's holds a folder per sequence with boxes and times, as the toolkit's `report` packs it;
    TrackingNet's holds a file of boxes per sequence.

    Args:
        evaluation: of that data set.
        entrant: the tracker.

    Returns:
        The archive.

    Raises:
        EvaluationError: a sequence has no result; servers refuse incomplete archives.
        OutputError: the archive cannot be written.
    """
    store, key = evaluation.store, entrant.key
    absent = [name for name in evaluation.benchmark.names if not store.has("ope", key, name)]
    if absent:
        raise EvaluationError(
            f"{entrant.label} has no result for {len(absent)} of "
            f"{len(evaluation.benchmark.names)} sequences, first {absent[0]}; a submission needs "
            "all of them"
        )
    folder = store.tracker_folder("ope", key)
    files = []
    for name in evaluation.benchmark.names:
        files.append(store.boxes_path("ope", key, name))
        if evaluation.benchmark.protocol.layout == "got10k":
            files.append(store.times_path("ope", key, name))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), FIXED_TIME)
            archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)
    target = evaluation.out / f"submission-{key}.zip"
    write_atomically(target, packed.getvalue())
    return target
