"""The data sets that the toolkit knows: how we read them, and what it calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from siamtrack.evaluation import protocols
from siamtrack.evaluation.protocols import Protocol


@dataclass(frozen=True, slots=True)
class ToolkitSet:
    """One data set.

    Attributes:
        kind: of `siamtrack.data.open.open_dataset`, whose readers are the toolkit's, mended.
        options: for it.
        folder: what the toolkit calls its result folder.
        protocol: how it is scored.
        experiment: class name of the toolkit's experiment; empty where version 0.1.3 has none.
        arguments: of the experiment.
    """

    kind: str
    options: Mapping[str, str]
    folder: str
    protocol: Protocol
    experiment: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)


def _otb(version: int | str) -> ToolkitSet:
    options = {"version": str(version)}
    arguments = {"version": version}
    return ToolkitSet("otb", options, f"OTB{version}", protocols.OTB, "ExperimentOTB", arguments)


def _vot(version: int) -> ToolkitSet:
    arguments = {"version": version, "experiments": "supervised"}
    return ToolkitSet("vot", {}, f"VOT{version}", protocols.VOT, "ExperimentVOT", arguments)


def _nfs(fps: int) -> ToolkitSet:
    options, folder = {"fps": str(fps)}, f"NfS/{fps}"
    return ToolkitSet("nfs", options, folder, protocols.OTB, "ExperimentNfS", {"fps": fps})


def _uav(version: str) -> ToolkitSet:
    options, arguments = {"version": version}, {"version": version}
    return ToolkitSet("uav123", options, version, protocols.UAV, "ExperimentUAV123", arguments)


def _got10k(subset: str, protocol: Protocol) -> ToolkitSet:
    options, arguments = {"subset": subset}, {"subset": subset}
    return ToolkitSet("got10k", options, "GOT-10k", protocol, "ExperimentGOT10k", arguments)


SETS: dict[str, ToolkitSet] = {
    "got10k-val": _got10k("val", protocols.GOT10K),
    "got10k-test": _got10k("test", protocols.GOT10K_TEST),
    "otb2013": _otb(2013),
    "otb50": _otb("tb50"),
    "otb100": _otb(2015),
    **{f"vot{year}": _vot(year) for year in range(2013, 2020)},
    "nfs30": _nfs(30),
    "nfs240": _nfs(240),
    "uav123": _uav("UAV123"),
    "uav20l": _uav("UAV20L"),
    "dtb70": ToolkitSet("dtb70", {}, "DTB70", protocols.OTB, "ExperimentDTB70"),
    "tcolor128": ToolkitSet("tcolor128", {}, "TColor128", protocols.OTB, "ExperimentTColor128"),
    "lasot": ToolkitSet("lasot", {"subset": "test"}, "LaSOT", protocols.LASOT),
    "trackingnet": ToolkitSet(
        "trackingnet", {"subset": "test"}, "TrackingNet", protocols.TRACKINGNET_TEST
    ),
}
