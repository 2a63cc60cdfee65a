"""The dense CRFs of the three passes: our engine against pydensecrf, both on one thread."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from comparison import Comparison, photograph, timed_in_turn
from numpy.typing import NDArray

from pfit_ray.ops.cam.cam import resize_maps
from pfit_ray.ops.crf.crf import DenseCrf, LabelCrf, SoftmaxCrf, label_unary, softmax_crf, softmax_unary
from pfit_ray.ops.crf.crf_torch import batched_crf
from pfit_ray.ops.regions.segmentation import drop_rare_labels

ENGINES = ("pydensecrf", "native")
PHOTOGRAPHS = ("coffee", "astronaut", "chelsea", "rocket")
LABELS = 21
SAME_LABELS = 0.999
AFFINITY_SECONDS, SEGMENTATION_SECONDS = 0.9, 0.6
FLOOR = 0.01
RANDOM_SEED = 0


def label_map(image: NDArray[np.uint8], level: float) -> NDArray[np.intp]:
    """Three labels with coarse borders, as thresholded CAMs have them; more of the first at a higher level."""
    return np.concatenate([np.full((1, *image.shape[:2]), level, np.float32), blobs(image, 2)]).argmax(axis=0)


def probabilities(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities like DeepLab's: background and two classes that are there, the others more or less improbable."""
    logits = np.concatenate([np.full((1, *image.shape[:2]), 12.0, np.float32), 24 * blobs(image, LABELS - 1)])
    logits[3:] -= np.linspace(6, 24, LABELS - 3, dtype=np.float32)[:, None, None]
    shares = np.exp(logits - logits.max(axis=0))
    result: NDArray[np.float32] = shares / shares.sum(axis=0)
    return result


def blobs(image: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """Smooth maps in [0, 1]: noise on a grid of 64 pixels."""
    generator = np.random.default_rng(RANDOM_SEED)
    height, width = image.shape[:2]
    return resize_maps(generator.random((count, height // 64 + 2, width // 64 + 2), np.float32), height, width)


def equality(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> tuple[str, bool]:
    """How far Q and its labels agree, in words, and whether that is enough."""
    far = np.abs(ours - theirs).max(axis=-3)
    labels = (ours.argmax(axis=-3) == theirs.argmax(axis=-3)).mean()
    text = f"Q within {far.max():.0e} ({(far > 1e-3).sum()} pixels beyond 1e-3), {labels:.3%} of labels"
    return text, bool(labels >= SAME_LABELS)


def compare(device: str) -> Iterator[Comparison]:
    """Yield the rows of the CRFs."""
    for name in PHOTOGRAPHS:
        image = photograph(name)
        yield against_pydensecrf(
            f"label CRF, 3 labels, t=10, {name}",
            lambda engine, image=image: DenseCrf(image, 3, LabelCrf(engine=engine)).infer(  # type: ignore[misc]
                label_unary(label_map(image, 0.6), 3, 0.7)
            ),
        )
    image = photograph()
    unaries = [label_unary(label_map(image, level), 3, 0.7) for level in (0.6, 0.4)]
    yield against_pydensecrf(
        "both CRFs of an affinity label, 3 labels, t=10",
        lambda engine: np.stack(DenseCrf(image, 3, LabelCrf(engine=engine)).infer_all(unaries)),
        AFFINITY_SECONDS,
    )
    seen = probabilities(image)
    yield against_pydensecrf(
        f"segmentation CRF, {LABELS} labels, t=10",
        lambda engine: softmax_crf(image, seen, SoftmaxCrf(engine=engine)),
        SEGMENTATION_SECONDS,
    )
    yield with_a_floor(image, seen)
    yield in_torch(image, seen, device)


def against_pydensecrf(
    stage: str, call: Callable[[str], NDArray[np.float32]], seconds: float | None = None
) -> Comparison:
    """One row: both engines in turn."""
    theirs, ours = timed_in_turn([lambda engine=engine: call(engine) for engine in ENGINES], repeat=3)  # type: ignore[misc]
    text, same = equality(ours.result, theirs.result)
    target = "<= 1.0 x" if seconds is None else f"<= {seconds} s"
    met = ours.seconds <= (theirs.seconds if seconds is None else seconds)
    return Comparison(
        stage,
        "pydensecrf",
        theirs.seconds,
        ours.seconds,
        None,
        text,
        f"{target}, {SAME_LABELS:.1%} of labels",
        met and same,
    )


def with_a_floor(image: NDArray[np.uint8], seen: NDArray[np.float32]) -> Comparison:
    """The row of `predict.label_floor`."""

    def floored() -> NDArray[np.float32]:
        kept, rest = drop_rare_labels(seen, FLOOR)
        q = np.zeros_like(seen)
        q[kept] = softmax_crf(image, rest, SoftmaxCrf())
        return q

    all_labels, ours = timed_in_turn([lambda: softmax_crf(image, seen, SoftmaxCrf()), floored], repeat=3)
    text, same = equality(ours.result, all_labels.result)
    kept = len(drop_rare_labels(seen, FLOOR)[0])
    return Comparison(
        f"segmentation CRF, label_floor {FLOOR}: {kept} of {LABELS} labels",
        "ours, all labels",
        all_labels.seconds,
        ours.seconds,
        None,
        text,
        f"{SAME_LABELS:.1%} of labels",
        same,
    )


def in_torch(image: NDArray[np.uint8], seen: NDArray[np.float32], device: str) -> Comparison:
    """The row of the form for GPUs."""
    options = SoftmaxCrf()
    images = torch.from_numpy(image.copy())[None].to(device)
    unaries = torch.from_numpy(softmax_unary(seen))[None].to(device)
    native, ours = timed_in_turn(
        [lambda: softmax_crf(image, seen, options), lambda: batched_crf(images, unaries, options)[0].cpu().numpy()],
        repeat=1,
        warm_up=1,
    )
    text, same = equality(ours.result, native.result)
    return Comparison(
        f"segmentation CRF in torch on {device}",
        "ours in numba",
        native.seconds,
        ours.seconds,
        None,
        text,
        f"{SAME_LABELS:.1%} of labels",
        same,
    )
