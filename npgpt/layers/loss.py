# B batch, T time, V vocabulary
import numpy as np

from npgpt.core import Array, Cache, Layer
from npgpt.core.shapes import check_array, check_ids
from npgpt.core.values import real, whole
from npgpt.errors import DataError, ShapeError

IGNORE_INDEX = -100  # a target that does not count


class CrossEntropy(Layer):
    """Mean cross-entropy in nats, over the targets that count.

    Forward   ℓ = logits − log Σ_v e^(logits_v), the log-probabilities (the maximum is subtracted first: it cancels);
              L = −(1/N) Σ ℓ_bt[target_bt] over the N targets that are not IGNORE_INDEX
    Backward  given dloss, the gradient of L (1 if L itself is minimised):
      1. L contains only the ℓ of targets that count                ⇒ dℓ_btv = −dloss/N if v = target_bt, else 0
      2. logits_v is in ℓ_v directly, and in every ℓ_u of its row through the log-sum, where ∂log-sum/∂logits_v
         = e^(logits_v)/Σ_u e^(logits_u) = e^(ℓ_v) = p_v, the probability:
         ∂ℓ_u/∂logits_v = (1 if u = v, else 0) − p_v                ⇒ dlogits_v = dℓ_v − p_v·Σ_u dℓ_u
         Both together: (p − onehot(target))·dloss/N where the target counts, else 0; each row sums to zero.
    Shapes    logits, dlogits (..., V); targets (...) of integers; L a scalar
    Keeps     log_probabilities (that is ℓ), targets, count
    Raises    ShapeError if targets do not fit the logits or are out of range; DataError if no target counts

    The count N can be passed in. If a batch is split into parts and each is divided by the N of the whole batch, losses
    and gradients add up to those of the whole batch, also if the parts ignore different numbers of targets.

    >>> loss, cache = CrossEntropy(), Cache()
    >>> logits = np.log(np.array([[1., 1., 2.], [5., 2., 1.]]))
    >>> print(loss.forward(logits, np.array([2, IGNORE_INDEX]), None, cache).round(6))     # log 2
    0.693147
    >>> loss.backward(1., cache).round(6)[0]                 # ¼, ¼, ½ − 1
    array([ 0.25,  0.25, -0.5 ])
    """

    def forward(self, logits: Array, targets: Array, count: int | None, cache: Cache) -> Array:
        check_array("CrossEntropy", "logits", logits, (..., "V"), like=logits)
        targets, count = keep_targets(targets, count, logits.shape, cache)
        counted = targets != IGNORE_INDEX
        shifted = logits - logits.real.max(-1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(-1, keepdims=True))
        log_probabilities = cache.keep("log_probabilities", shifted - log_sum)
        of_target = np.take_along_axis(log_probabilities, _column(targets, counted), axis=-1)[..., 0]
        loss: Array = -of_target[counted].sum() / count
        return loss

    def backward(self, dloss: Array | float, cache: Cache) -> Array:
        log_probabilities, targets, count = cache["log_probabilities"], cache["targets"], int(cache["count"])
        counted = targets != IGNORE_INDEX
        dloss = real("CrossEntropy", "dloss", dloss)
        dlog_probabilities = np.zeros_like(log_probabilities)
        share = -(dloss / count) * counted[..., None]
        np.put_along_axis(dlog_probabilities, _column(targets, counted), share, axis=-1)  # 1.
        cache.note("log_probabilities", dlog_probabilities)
        # 2.
        dlogits: Array = dlog_probabilities - np.exp(log_probabilities) * dlog_probabilities.sum(-1, keepdims=True)
        return dlogits


def keep_targets(targets: Array, count: int | None, logits: tuple[int, ...], cache: Cache) -> tuple[Array, int]:
    """Check targets against the shape of the logits, keep them and the count, and return both."""
    targets = check_ids("CrossEntropy", "targets", targets, logits[-1], "vocabulary", ignore=IGNORE_INDEX)
    if targets.shape != logits[:-1]:
        raise ShapeError(f"CrossEntropy: targets have shape {targets.shape}, expected {logits[:-1]}")
    count = int((targets != IGNORE_INDEX).sum()) if count is None else whole("CrossEntropy", "count", count, most=2**53)
    if count < 1:
        raise DataError("CrossEntropy: every target is ignored, so there is no mean; pass the count of the whole batch")
    cache.keep("targets", targets)
    return targets, int(cache.keep("count", np.asarray(count)))  # an int: a NumPy int64 would turn float32 into float64


def _column(targets: Array, counted: Array) -> Array:
    """Return the targets as indices along the last axis (..., 1), with 0 for those that do not count."""
    return np.where(counted, targets, 0)[..., None]
