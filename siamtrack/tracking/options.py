"""Options of a tracker, each with what raising and lowering it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from siamtrack.errors import ConfigError, shown
from siamtrack.utils.config import check_ranges, plain_number, ranged

INF = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """Options of every tracker.

    Attributes:
        window_influence: weight of the cosine window against the response. Raising it assumes
            slower motion: fewer jumps to distractors, more targets lost at fast motion.
        score_gain: slope of the score over the peak logit. `siamtrack calibrate` fits the four
            `score_` options to the weights; the formula is that of `decode.calibrated_score`.
        score_offset: peak logit at which the score is 1/2 if the next two are 0.
        score_similarity: weight of the similarity to the exemplar. Raising it lowers the score of
            objects that respond strongly but look different; 0 ignores the similarity.
        score_margin: weight of the peak's margin over the rest of the window. Raising it lowers the
            score of ambiguous peaks; 0 ignores the margin.
        tracked_above: lowest score of status "tracked". Raising it reports "uncertain" more often.
        lost_below: scores below count towards "lost". Raising it reports losses sooner, and more
            often wrongly. At most `tracked_above`.
        lost_after: consecutive frames below `lost_below` until the status is "lost".
        found_after: consecutive frames at `tracked_above` until a lost target is "tracked" again.
        budget_ms: time limit for one frame of all targets, ms; 0 for none. Lowering it visits fewer
            re-detection windows per frame; results then depend on the machine's speed.
    """

    window_influence: float = ranged(0.4, 0.0, 1.0)
    score_gain: float = ranged(1.0, 1e-6, below=INF)
    score_offset: float = ranged(0.0, above=-INF, below=INF)
    score_similarity: float = ranged(0.0, 0.0, below=INF)
    score_margin: float = ranged(0.0, 0.0, below=INF)
    tracked_above: float = ranged(0.5, 0.0, 1.0)
    lost_below: float = ranged(0.2, 0.0, 1.0)
    lost_after: int = ranged(8, 1, below=INF)
    found_after: int = ranged(2, 1, below=INF)
    budget_ms: float = ranged(0.0, 0.0, below=INF)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.lost_below > self.tracked_above:
            raise ConfigError(
                f"lost_below is {self.lost_below}; give a value from 0 to {self.tracked_above:g}, "
                "which is tracked_above"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Make options from values by name; options left out keep their defaults.

        Raises:
            ConfigError: an unknown option (with the nearest spelling), or a bad value.
        """
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigError.unknown("tracker option", name, known)
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxHeadOptions(TrackerOptions):
    """Options for networks with a box head.

    Attributes:
        shape_penalty: penalty on changes of size and aspect between frames (k in SiamRPN). Raising
            it steadies the box and delays real changes of shape.
        size_lr: learning rate of the size, before penalty and a low score reduce it. Raising it
            follows changes of size faster, with more jitter.
        box_correction: fraction of the first-frame box bias that is removed from later boxes. 1
            follows the drawn box exactly, including its errors; 0 disables the correction.
        min_peak: lowest response, after the sigmoid, that moves the box. Raising it makes the box
            wait at its last place instead of following a weak peak.
        redetect_windows: search windows elsewhere in the frame per frame while the target is lost;
            0 disables re-detection. Raising it recovers targets sooner, at the cost of one forward
            pass per window.
        redetect_score: lowest score at which a lost target's box moves to another place. Raising it
            avoids distractors and recovers fewer targets.
        redetect_similarity: lowest similarity at such a place, as a fraction of that while the
            target was tracked: to the exemplar, or the response of the filter's first weights.
            Raising it avoids look-alikes, and misses targets that have changed.
        verify_frames: frames after a recovery in which re-detection goes on, because the recovered
            object may be a distractor. Raising it corrects more false recoveries, at the cost of
            the forward passes; 0 disables verification.
        switch_score: lowest score at which verification switches to another object. Raising it
            switches less often, to the target and away from it.
        online_filter: learn the target's appearance while tracking, and let that rank the places.
            Turning it off leaves the ranking to the network, saves about a sixth of the time and
            loses the target about twice as often.
        filter_lr: learning rate of the filter. Raising it follows changes of appearance faster, and
            learns an occluder faster.
        filter_min_peak: lowest response of the filter, about 1 at the target, at which it is
            updated, and its peak moves the box. Raising it learns fewer wrong frames, and fewer
            right ones.
        filter_min_score: lowest score of the network at which the filter is updated.
        filter_center: share of the filter's peak in the center of the box; the rest is the
            network's. The mean of both is nearer to the target than either.
        filter_score_gain: slope of the score over the peak logit with the filter on; `siamtrack
            calibrate` fits the three `filter_score_` options.
        filter_score_offset: peak logit at which the score is 1/2 if the margin is 0.
        filter_score_margin: weight of the margin: how much more the filter's first weights respond
            at the target than anywhere else in the window.
        whole_window_every: frames from one look at the whole search window to the next while the
            target is steady; the others look at its middle alone. Raising it saves time and learns
            less of what is around; 1 always looks at the whole window.
        look_around_below: filter peak below which the places around the search window are looked at
            in the same frame; 0 never looks. Raising it loses fewer fast targets, at the cost of
            four more forward passes in such a frame.
        look_around_accept: lowest filter peak there at which the box moves. Raising it avoids jumps
            while the target is hidden, and loses more fast targets.
    """

    shape_penalty: float = ranged(0.05, 0.0, below=INF)
    size_lr: float = ranged(0.35, 0.0, 1.0)
    box_correction: float = ranged(0.7, 0.0, 1.0)
    min_peak: float = ranged(0.0, 0.0, 1.0)
    redetect_windows: int = ranged(3, 0, 64)
    redetect_score: float = ranged(0.6, 0.0, 1.0)
    redetect_similarity: float = ranged(0.8, 0.0, 1.0)
    verify_frames: int = ranged(60, 0, below=INF)
    switch_score: float = ranged(0.9, 0.0, 1.0)
    online_filter: bool = True
    filter_lr: float = ranged(0.026, 0.0, 1.0)
    filter_min_peak: float = ranged(0.3, above=-INF, below=INF)
    filter_min_score: float = ranged(0.5, 0.0, 1.0)
    filter_center: float = ranged(0.5, 0.0, 1.0)
    filter_score_gain: float = ranged(0.4, 1e-6, below=INF)
    filter_score_offset: float = ranged(-0.7, above=-INF, below=INF)
    filter_score_margin: float = ranged(6.1, 0.0, below=INF)
    whole_window_every: int = ranged(12, 1, below=INF)
    look_around_below: float = ranged(0.3, 0.0, 1.0)
    look_around_accept: float = ranged(0.5, 0.0, 1.0)

    def __post_init__(self) -> None:
        TrackerOptions.__post_init__(self)  # super() fails in a dataclass with slots
        online_filter = plain_number(self.online_filter)
        if not isinstance(online_filter, bool):
            raise ConfigError(f"online_filter is {shown(online_filter)}; give true or false")
        object.__setattr__(self, "online_filter", online_filter)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePyramidOptions(TrackerOptions):
    """Options for networks without a box head; the defaults are SiamFC's three-scale tracker.

    Attributes:
        window_influence: 0.176 in the authors' code.
        scale_num: number of scales, odd. Raising it to 5 gains little for two thirds more time.
        scale_step: ratio of neighboring scales. Raising it follows faster changes, more coarsely.
        scale_penalty: factor on the response of all scales except the current one. Lowering it
            steadies the size.
        scale_lr: learning rate of the scale. Raising it follows changes of size faster.
        response_up: factor of the bicubic upsampling of the response before the peak is taken; 16
            makes a step half a pixel of the search crop.
    """

    window_influence: float = ranged(0.176, 0.0, 1.0)
    scale_num: int = ranged(3, 1, 15)
    scale_step: float = ranged(1.0375, 1.0, 2.0)
    scale_penalty: float = ranged(0.9745, 0.0, 1.0)
    scale_lr: float = ranged(0.59, 0.0, 1.0)
    response_up: int = ranged(16, 1, 64)

    def __post_init__(self) -> None:
        TrackerOptions.__post_init__(self)  # super() fails in a dataclass with slots
        if self.scale_num % 2 == 0:
            raise ConfigError(f"scale_num is {self.scale_num}; give an odd number")
