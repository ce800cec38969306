# B batch, T time, C channels, V vocabulary
from npgpt.core import Array, Cache, Layer
from npgpt.layers.head import VocabularyHead
from npgpt.layers.loss import CrossEntropy


class HeadLoss(Layer):
    """From a token's last vector to the loss of the token after it: the vocabulary head, then cross-entropy.

    One layer, because a compiled one need not hold logits and their gradient side by side: both are as large as
    everything before them together.

    Forward   logits = VocabularyHead(x),  L = CrossEntropy(logits, targets)
    Backward  given dloss = ∂L/∂L of what is minimised: a chain without a fork
      1. dlogits from the cross-entropy
      2. dx from the head, which adds its share to its weight's gradient
    Shapes    x, dx (..., C); targets (...) of integers; L a scalar
    Keeps     logits
    Raises    as the two layers do

    Args
        lm_head, cross_entropy: the two layers; the model that owns them hands them in, and its own cache, so that what
            they keep has the same path with this layer and without it.
    """

    def __init__(self, lm_head: VocabularyHead, cross_entropy: CrossEntropy) -> None:
        self.lm_head = lm_head
        self.cross_entropy = cross_entropy

    def forward(self, x: Array, targets: Array, count: int | None, cache: Cache) -> Array:
        logits = cache.keep("logits", self.lm_head.forward(x, cache.scope("lm_head")))  # (..., V)
        return self.cross_entropy.forward(logits, targets, count, cache.scope("cross_entropy"))

    def backward(self, dloss: Array | float, cache: Cache) -> Array:
        dlogits = cache.note("logits", self.cross_entropy.backward(dloss, cache.scope("cross_entropy")))  # 1.
        return self.lm_head.backward(dlogits, cache.scope("lm_head"))  # 2.
