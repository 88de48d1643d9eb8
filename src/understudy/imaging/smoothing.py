"""Makes a followed face steady: an offline Kalman smoother for similarities and landmarks, and the measure of jitter.

Film is offline, so the smoother looks both ways. A causal filter trades jitter for lag; this one has none, and it fills gaps.

Convention: rows are consecutive frames of one track; NaN (or `is_seen` False) marks a frame in which nothing was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.meanface import INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE, mean_face
from understudy.imaging.similarity import (
    Matrix,
    apply,
    compose,
    invert,
    scale_of,
    similarity_from_parameters,
    similarity_parameters,
)
from understudy.types import FloatArray

GATE_DEVIATIONS = 3.0
"""An observation further than this off its neighbours, in noise deviations, is an outlier; its weight falls with the square."""

COMMON_DEVIATIONS = 0.8
"""Where the median of neighbouring deviations exceeds this, the smoothed course is too stiff and not the frames wrong."""

WINDOW_FRAMES = 7
NUM_REFINEMENTS = 6
MOST_AGILITY = 30.0

CHANNELS_AT_ONCE = 188
"""Channels smoothed together, a fifth of a mesh with its irises: all at once a long take would need gigabytes, and a few at a
time are slow, because every frame is a step in Python."""

FAR_STRIDE = 4
"""Second differences over this many frames show motion, over one frame noise; nods last ten frames and more."""

AGILITY = 0.7
"""Process noise over the measured acceleration. On tracks with white noise 1.5 errs least; but a face mesh errs in slower waves
too, and on rendered heads with known truth 0.7 leaves a fifth less tremble and no more error."""

SCALE_STIFFNESS = 3.0
"""How many times longer the scale is averaged than the other parameters: heads rarely change their size fast."""

AGILITY_OF_SHAPE = 0.3
"""Least agility of landmarks within the face: a blink or a word is fast and rare, so a shot's usual motion does not show it."""

AGILITY_OF_FEATURES = 1.5
"""That of lids, lips and irises: on the rendered test clip a blink keeps 0.95 of its depth, with 0.3 it kept 0.72; what is
left of their tremble rises from a tenth to a fifth."""

LEAST_NOISE = 1e-4
"""Deviation below which a channel (pixels, radians, logarithms) counts as exact; a still track must not divide by zero."""

USUAL_AGILITY = 0.15
"""Acceleration in noise deviations per frame² of tracks too short to measure it: the best single value on known tracks."""

KNOW_NOTHING = 1e12
"""The variance (in noise variances) of a position and velocity before the first observation."""

MOST_TURN_RADIANS, MOST_ZOOM = np.radians(50), 1.6
"""No head turns on its side or changes its size by so much from one frame to the next; a mesh that locks on wrongly does."""

NUM_PAIRS = 4
"""Frames before and after by which a face is judged; about as many wrong ones in a row are found."""

FACE_POINTS = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
"""The corners and the centre of the mean face's box, in face units: jitter is measured on them."""

CENTRE = FACE_POINTS[4:]


@dataclass(frozen=True)
class Noise:
    """What a track is made of, per channel (D,): deviation of the measurement, and of the true acceleration per frame²."""

    measurement: FloatArray
    acceleration: FloatArray


# ---- whole tracks ---------------------------------------------------------------------------------------------------------


def smooth_similarities(face_from_frame: FloatArray, is_seen: NDArray[np.bool_]) -> FloatArray:
    """The steady course of a face alignment (T, 2, 3), gaps filled; zero lag, robust against single bad frames.

    Smooths where the face's centre lies in the frame, its roll and the logarithm of its size (more strongly), each by the
    noise measured on this very track. The position is the face's and not the frame origin's, so that errors of roll and size
    do not leak into it. First and last frame must be seen; unseen rows of the input are ignored.
    """
    parameters = np.full((len(face_from_frame), 4), np.nan)
    for row in np.flatnonzero(is_seen):
        frame_from_face = invert(face_from_frame[row])
        log_scale, angle_radians, _, _ = similarity_parameters(frame_from_face)
        parameters[row] = (log_scale, angle_radians, *apply(frame_from_face, CENTRE)[0])
    parameters[is_seen, 1] = np.unwrap(parameters[is_seen, 1])
    smooth = rts_smooth(parameters, stiffness=np.array([SCALE_STIFFNESS, 1.0, 1.0, 1.0]))
    return np.stack([_face_from_frame(*row) for row in smooth])


def has_jumped(face_from_frame: Matrix, past: Matrix) -> bool:
    """Whether a face turned or changed its size since the alignment `past` as no head does from one frame to the next."""
    log_zoom, turn_radians, _, _ = similarity_parameters(compose(face_from_frame, invert(past)))
    return abs(turn_radians) > MOST_TURN_RADIANS or abs(log_zoom) > np.log(MOST_ZOOM)


def out_of_course(face_from_frame: FloatArray) -> NDArray[np.bool_]:
    """Which alignments (T, 2, 3) of a face in its frames are another way up, or of another size, than before and after (T,).

    Each is compared with the middle between the frame k before and the one k after, which a steady turn of any speed passes; it
    is out where most of those pairs say so that agree with each other. The first and the last are never judged.
    """
    num_frames = len(face_from_frame)
    log_scale, angle = np.array([similarity_parameters(matrix)[:2] for matrix in face_from_frame]).reshape(-1, 2).T
    num_for, num_against = np.zeros(num_frames), np.zeros(num_frames)
    for k in range(1, min(NUM_PAIRS, (num_frames - 1) // 2) + 1):
        middle, before, after = slice(k, -k), slice(None, -2 * k), slice(2 * k, None)
        turn, zoom = _wrapped(angle[after] - angle[before]), log_scale[after] - log_scale[before]
        is_pair = (np.abs(turn) < 2 * MOST_TURN_RADIANS) & (np.abs(zoom) < np.log(MOST_ZOOM))
        off = np.abs(_wrapped(angle[middle] - angle[before] - turn / 2)) > MOST_TURN_RADIANS
        off |= np.abs(log_scale[middle] - log_scale[before] - zoom / 2) > np.log(MOST_ZOOM)
        num_against[middle] += is_pair & off
        num_for[middle] += is_pair & ~off
    return num_against > num_for


def strides_off_course(face_from_frame: FloatArray, frames: Sequence[int]) -> FloatArray:
    """How far (T - 2,), in face units, each alignment but the first and last lies off the line between those around it.

    It is the farthest of five points of the face. face_from_frame: (T, 2, 3), seen in these frames, which may have gaps.
    """
    points = np.stack([apply(invert(matrix), FACE_POINTS) for matrix in face_from_frame])
    place = np.asarray(frames, np.float64)
    share = ((place[1:-1] - place[:-2]) / (place[2:] - place[:-2]))[:, None, None]
    off_px = np.linalg.norm(points[1:-1] - (1 - share) * points[:-2] - share * points[2:], axis=2).max(axis=1)
    return np.asarray(off_px * [scale_of(matrix) for matrix in face_from_frame[1:-1]])


def _wrapped(angle_radians: FloatArray) -> FloatArray:
    return (angle_radians + np.pi) % (2 * np.pi) - np.pi


def _face_from_frame(log_scale: float, angle_radians: float, centre_x: float, centre_y: float) -> FloatArray:
    """The alignment that puts the face's centre at that place of the frame (pixels)."""
    turned = similarity_from_parameters(log_scale, angle_radians, 0.0, 0.0)
    offset = np.array([centre_x, centre_y]) - apply(turned, CENTRE)[0]
    return invert(similarity_from_parameters(log_scale, angle_radians, *offset))


def smooth_landmarks(
    landmarks: FloatArray, raw_face_from_frame: FloatArray, face_from_frame: FloatArray, is_seen: NDArray[np.bool_]
) -> FloatArray:
    """Landmarks (T, N, 2) in frame pixels that move with the smoothed alignment, their motion within the face smoothed lightly.

    N is 468 for a mesh, 470 for a mesh and its irises. The landmarks are taken to face units by the measured alignment,
    smoothed there and put back by the smoothed alignment.
    """
    num_frames, num_points, _ = landmarks.shape
    shape = np.full((num_frames, num_points * 2), np.nan)
    for row in np.flatnonzero(is_seen):
        shape[row] = apply(raw_face_from_frame[row], landmarks[row]).ravel()
    smooth = rts_smooth(shape, least_agility=_agility_of_points(num_points)).reshape(landmarks.shape)
    return np.stack([apply(invert(matrix), points) for matrix, points in zip(face_from_frame, smooth, strict=True)])


def _agility_of_points(num_points: int) -> FloatArray:
    """The least agility of x and y of each point, (2 N,); what comes after the mesh's points are irises."""
    agility = np.full((num_points, 2), AGILITY_OF_SHAPE)
    num_of_mesh = len(mean_face())
    if num_points >= num_of_mesh:
        agility[num_of_mesh:] = AGILITY_OF_FEATURES
        agility[[*LEFT_EYE, *RIGHT_EYE, *OUTER_LIPS, *INNER_LIPS]] = AGILITY_OF_FEATURES
    return agility.ravel()


def squared_jitter_px(face_from_frame: FloatArray, is_seen: NDArray[np.bool_]) -> tuple[float, int]:
    """How far a face trembles about a smooth course in the frame: (sum of squared distances in px², number of frames).

    The corners and the centre of the mean face's box are mapped into the frame, and their fourth difference in time is taken
    wherever five consecutive frames are seen; its square over 70 is the square of the random displacement that causes it, were
    that independent from frame to frame. (The second difference would not do: it is mostly the head's true acceleration.)
    Tracks can be pooled: the jitter in pixels is the root of the summed squares over the summed numbers.
    """
    points = np.stack([apply(invert(matrix), FACE_POINTS) for matrix in face_from_frame])
    if len(points) < 5:
        return 0.0, 0
    squares = np.sum(np.diff(points, 4, axis=0) ** 2, axis=-1).mean(axis=-1) / 70
    is_complete = np.convolve(is_seen, np.ones(5), "valid") == 5
    return float(squares[is_complete].sum()), int(is_complete.sum())


# ---- the smoother ---------------------------------------------------------------------------------------------------------


def rts_smooth(
    observations: FloatArray, *, stiffness: FloatArray | float = 1.0, least_agility: FloatArray | float = 0.02
) -> FloatArray:
    """The likeliest course of D independent channels observed with noise and gaps: (T, D) in, (T, D) without gaps out.

    Each channel is a point with velocity, pushed by random accelerations (Rauch, Tung and Striebel 1965). Measurement noise
    and acceleration are estimated from the observations themselves. Then, a few times over: a frame that lies far off its
    neighbours loses weight, and where several in a row lie off on the same side the head moved faster than it usually does
    in this shot, so more acceleration is allowed there. `stiffness` multiplies the averaging time; `least_agility` is the
    least acceleration in noise deviations per frame². Every channel needs at least one observation.
    """
    stiffness, least_agility = (np.broadcast_to(each, observations.shape[1:]) for each in (stiffness, least_agility))
    smooth = np.empty(observations.shape)
    for start in range(0, observations.shape[1], CHANNELS_AT_ONCE):
        some = slice(start, start + CHANNELS_AT_ONCE)
        smooth[:, some] = _smooth_channels(observations[:, some], stiffness[some], least_agility[some])
    return smooth


def _smooth_channels(observations: FloatArray, stiffness: FloatArray, least_agility: FloatArray) -> FloatArray:
    """`rts_smooth` of so few channels (T, D) that some fifteen numbers for each observation fit into memory."""
    noise = estimate_noise(observations)
    measurement = np.maximum(noise.measurement, LEAST_NOISE)
    usual_agility = np.clip(AGILITY * noise.acceleration / measurement, least_agility, MOST_AGILITY)
    agility = np.broadcast_to(usual_agility / np.square(stiffness), observations.shape)  # averaging time ~ its root
    normalised = observations / measurement
    smooth = _kalman_rts(normalised, np.ones_like(normalised), agility)
    for _ in range(NUM_REFINEMENTS):
        residual = np.nan_to_num(normalised - smooth)
        common = _running_median(residual)
        agility = np.minimum(agility * _spread(np.clip(np.abs(common) / COMMON_DEVIATIONS, 1.0, 4.0)), MOST_AGILITY)
        weights = np.square(GATE_DEVIATIONS / np.maximum(np.abs(residual - common), GATE_DEVIATIONS))
        smooth = _kalman_rts(normalised, weights, agility)
    return smooth * measurement


def _running_median(values: FloatArray) -> FloatArray:
    """Median over WINDOW_FRAMES frames (T, D), the ends repeated."""
    middle = WINDOW_FRAMES // 2
    return np.partition(_windows(values), middle, axis=-1)[..., middle].copy()  # np.median is four times as slow


def _spread(values: FloatArray) -> FloatArray:
    """Maximum over WINDOW_FRAMES frames (T, D)."""
    return np.asarray(_windows(values).max(axis=-1))


def _windows(values: FloatArray) -> FloatArray:
    reach = WINDOW_FRAMES // 2
    return np.lib.stride_tricks.sliding_window_view(np.pad(values, ((reach, reach), (0, 0)), "edge"), WINDOW_FRAMES, axis=0)


def estimate_noise(observations: FloatArray) -> Noise:
    """Tells noise from motion in observations (T, D) by robust second differences over near and far frames.

    White noise of variance r adds 6 r to the variance of a second difference at every stride; an acceleration of variance a
    adds a stride⁴. Two strides therefore give both. On tracks too short to tell, the usual proportion is assumed.
    """
    near = np.nan_to_num(_second_difference_variance(observations, 1))
    far = _second_difference_variance(observations, FAR_STRIDE)
    acceleration = np.clip((far - near) / (FAR_STRIDE**4 - 1), 0.0, near)
    if len(observations) < 4 * FAR_STRIDE:
        acceleration = np.full_like(near, np.nan)
    acceleration = np.where(np.isnan(acceleration), near * USUAL_AGILITY**2 / (6 + USUAL_AGILITY**2), acceleration)
    return Noise(measurement=np.sqrt((near - acceleration) / 6), acceleration=np.sqrt(acceleration))


def _second_difference_variance(observations: FloatArray, stride: int) -> FloatArray:
    """Variance per channel, values clipped at three robust deviations (median absolute value); NaN where there is none."""
    variance = np.full(observations.shape[1], np.nan)
    if len(observations) <= 2 * stride:
        return variance
    difference = np.abs(observations[2 * stride :] - 2 * observations[stride:-stride] + observations[: -2 * stride])
    has_any = ~np.all(np.isnan(difference), axis=0)
    limit = 3 * 1.4826 * np.nanmedian(difference[:, has_any], axis=0)
    variance[has_any] = np.nanmean(np.square(np.minimum(difference[:, has_any], limit)), axis=0)
    return variance


@dataclass(frozen=True)
class _Steps:
    """What the backward pass needs of each frame and channel (T, D): the prediction, its variance, and what was learnt."""

    position: FloatArray
    variance: FloatArray
    covariance: FloatArray
    surprise: FloatArray
    velocity_gain: FloatArray
    kept_share: FloatArray


def _kalman_rts(observations: FloatArray, weights: FloatArray, agility: FloatArray) -> FloatArray:
    """Positions given all observations; the measurement variance is 1 / weight, the acceleration's deviation is agility.

    The backward pass is the form of Bryson and Frazier 1963, which inverts no covariance and so is exact from a state of
    knowing nothing.
    """
    steps = _forward(observations, weights, agility)
    position_adjoint, velocity_adjoint = np.zeros((2, observations.shape[1]))
    correction, drift = np.empty_like(steps.variance), np.empty_like(steps.variance)
    for frame in range(len(observations) - 1, -1, -1):
        velocity_adjoint = velocity_adjoint + position_adjoint
        learnt = steps.surprise[frame] + steps.kept_share[frame] * position_adjoint
        position_adjoint = learnt - steps.velocity_gain[frame] * velocity_adjoint
        correction[frame], drift[frame] = position_adjoint, velocity_adjoint
    return steps.position + steps.variance * correction + steps.covariance * drift


def _forward(observations: FloatArray, weights: FloatArray, agility: FloatArray) -> _Steps:
    """The Kalman filter for position and velocity, one step a frame, from the first observation and no idea of the velocity.

    A frame in which nothing was measured counts as measured with an infinite variance, from which nothing is learnt.
    """
    is_seen = ~np.isnan(observations)
    position = observations[np.argmax(is_seen, axis=0), np.arange(observations.shape[1])]
    velocity, covariance = np.zeros_like(position), np.zeros_like(position)
    variance, velocity_variance = np.full_like(position, KNOW_NOTHING), np.full_like(position, KNOW_NOTHING)
    measured, noise, pushed = np.where(is_seen, observations, 0.0), np.where(is_seen, 1 / weights, np.inf), np.square(agility)
    steps = _Steps(*np.ones((6, *observations.shape)))
    for frame, kept_share in enumerate(steps.kept_share):
        if frame:
            position = position + velocity
            variance = variance + 2 * covariance + velocity_variance + pushed[frame] / 4
            covariance = covariance + velocity_variance + pushed[frame] / 2
            velocity_variance = velocity_variance + pushed[frame]
        steps.position[frame], steps.variance[frame], steps.covariance[frame] = position, variance, covariance
        certainty = 1 / (variance + noise[frame])
        innovation = measured[frame] - position
        velocity_gain = np.multiply(covariance, certainty, out=steps.velocity_gain[frame])
        np.multiply(certainty, innovation, out=steps.surprise[frame])
        np.divide(certainty, weights[frame], out=kept_share, where=is_seen[frame])
        position = position + variance * certainty * innovation
        velocity = velocity + velocity_gain * innovation
        velocity_variance = velocity_variance - velocity_gain * covariance
        covariance = covariance * kept_share
        variance = variance * kept_share
    return steps
