"""Time: what shakes, pumps, flickers or comes late in a swap, measured against the truth frame by frame.

Convention: series have one row a frame, (T, ...), NaN where nothing was measured, and a figure that spans neighbouring frames
stands at the last of them. Second differences are noted Δ².
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.colour import luma
from understudy.imaging.metrics import mean_in
from understudy.imaging.metrics_geometry import eye_distance
from understudy.imaging.similarity import fit_similarity, similarity_parameters
from understudy.types import FloatArray

MAX_LAG_FRAMES = 5

_BROAD_SIGMA_PX = 6.0

_LEAST_CORRELATION = 0.3
"""Below this a swap follows the truth at no lag at all; the best one is chance."""

# ---- landmarks ------------------------------------------------------------------------------------------------------------


def second_difference(series: FloatArray) -> NDArray[np.float64]:
    """Δ² of a series (T, ...) in the same shape; the first two rows are NaN."""
    result = np.full(series.shape, np.nan)
    result[2:] = np.diff(np.asarray(series, np.float64), n=2, axis=0)
    return result


def accelerations_percent(points: FloatArray) -> NDArray[np.float64]:
    """RMS over the landmarks (T, N, 2), in face units, of |Δ²|, in percent of the eye distance: (T,)."""
    squared = (second_difference(points) ** 2).sum(axis=-1)
    return np.asarray(100 * np.sqrt(squared.mean(axis=-1)) / eye_distance())


def similarity_accelerations(points: FloatArray, true_points: FloatArray) -> NDArray[np.float64]:
    """Δ² of the similarity that takes the truth's rigid landmarks to the swap's: (T, 4).

    Columns: scale in percent, rotation in degrees, x and y in percent of the eye distance, about the landmarks' centre.
    Scale shows pumping, the others shake; all are 0 for a swap that sits fast, wherever it sits.
    """
    parameters = np.full((len(points), 4), np.nan)
    for frame in np.flatnonzero(np.isfinite(points).all(axis=(1, 2)) & np.isfinite(true_points).all(axis=(1, 2))):
        centre = true_points[frame].mean(0)
        swap_from_truth = fit_similarity(true_points[frame] - centre, points[frame] - centre)
        parameters[frame] = similarity_parameters(swap_from_truth)
    unit = np.array([100.0, 180 / np.pi, 100 / eye_distance(), 100 / eye_distance()])
    return second_difference(parameters) * unit


def lag_frames(pairs: FloatArray, true_lags: FloatArray) -> float:
    """How many frames late the swap is: the lag whose correlation with the truth is highest.

    pairs: (T, K), the swap's measures; true_lags: (T, K, 2 * MAX_LAG_FRAMES + 1), the truth's measures at each lag, as made by
    `lagged`. Correlations of the K measures are averaged. NaN when nothing moves or follows. Ties go to the smaller lag.
    """
    correlations = np.array([_mean_correlation(pairs, true_lags[:, :, k]) for k in range(true_lags.shape[2])])
    if not (correlations >= _LEAST_CORRELATION).any():
        return float("nan")
    lags = np.arange(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1)
    best = np.flatnonzero(correlations >= np.nanmax(correlations) - 1e-9)
    return float(min(lags[best], key=abs))


def lagged(series: FloatArray) -> NDArray[np.float64]:
    """`series` (T, K) as it was 5 frames later ... 5 frames earlier: (T, K, 11), NaN beyond the ends."""
    padded = np.pad(np.asarray(series, np.float64), ((MAX_LAG_FRAMES, MAX_LAG_FRAMES), (0, 0)), constant_values=np.nan)
    windows = [padded[2 * MAX_LAG_FRAMES - k : 2 * MAX_LAG_FRAMES - k + len(series)] for k in range(2 * MAX_LAG_FRAMES + 1)]
    return np.stack(windows, axis=-1)


def _mean_correlation(series: FloatArray, other: FloatArray) -> float:
    correlations = []
    for first, second in zip(series.T, other.T, strict=True):
        known = np.isfinite(first) & np.isfinite(second)
        if known.sum() >= 3 and first[known].std() > 0 and second[known].std() > 0:
            correlations.append(float(np.corrcoef(first[known], second[known])[0, 1]))
    return float(np.mean(correlations)) if correlations else float("nan")


# ---- pictures -------------------------------------------------------------------------------------------------------------


def optical_flow(picture: FloatArray, earlier: FloatArray) -> NDArray[np.float32]:
    """Where each pixel of `picture` was in `earlier`: (H, W, 2) pixels (x, y) to add; pictures are sRGB 0 to 1.

    Source: Farnebäck 2003, with the parameters of TecoGAN's tOF (Chu et al. 2020).
    """
    now, before = (np.clip(255 * luma(each) + 0.5, 0, 255).astype(np.uint8) for each in (picture, earlier))
    initial = np.zeros((*now.shape, 2), np.float32)
    return np.asarray(cv2.calcOpticalFlowFarneback(now, before, initial, 0.5, 3, 15, 3, 5, 1.2, 0))


def flow_error_px(flow: FloatArray, true_flow: FloatArray, mask: FloatArray) -> float:
    """tOF: mean length of the difference of two optical flows in the mask, in pixels of the crop per frame.

    Source: Chu et al. 2020, "Learning temporal coherence via self-supervision for GAN-based video generation", eq. 8.
    """
    return mean_in(np.linalg.norm(flow - true_flow, axis=-1), mask)


def flicker(residual: FloatArray, earlier_residual: FloatArray, true_flow: FloatArray, mask: FloatArray) -> float:
    """Mean |r_t − W(r_{t−1})| in 8-bit levels: how much the error r = swap − truth changes while it moves with the face.

    residuals: (H, W, 3), of sRGB 0 to 1; true_flow: `optical_flow(truth_t, truth_{t−1})`, along which the earlier one is moved.
    """
    return 255 * mean_in(np.abs(residual - _moved(earlier_residual, true_flow)), mask)


def pulsing(
    residual: FloatArray, beside: tuple[FloatArray, FloatArray], flows: tuple[FloatArray, FloatArray], mask: FloatArray
) -> float:
    """Mean |G(r_t − (W(r_{t−1}) + W(r_{t+1})) / 2)| in 8-bit levels: how far the broad error jumps off its own course.

    An eye sees flicker in broad features that go to and fro. `flicker` also counts errors that come and go with a turn or a
    shadow, and fine texture that an optical flow puts beside its place; this does not. G is a Gaussian of 6 px. A brightness
    that differs at random by 1 % from frame to frame, which is about what can just be seen, scores 0.9.

    beside: the residuals before and after, as in `flicker`; flows: `optical_flow` from the truth's picture to those two.
    """
    course = np.mean([_moved(each, flow) for each, flow in zip(beside, flows, strict=True)], axis=0)
    return 255 * mean_in(np.abs(cv2.GaussianBlur(np.asarray(residual - course, np.float32), (0, 0), _BROAD_SIGMA_PX)), mask)


def _moved(residual: FloatArray, flow: FloatArray) -> NDArray[np.float32]:
    """A picture (H, W, 3) taken to where a flow (H, W, 2) comes from."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    there = x + flow[..., 0].astype(np.float32), y + flow[..., 1].astype(np.float32)
    return np.asarray(
        cv2.remap(np.asarray(residual, np.float32), *there, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )
