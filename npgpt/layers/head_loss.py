# B batch, T time, C channels, V vocabulary
from npgpt.core import Array, Cache, Layer
from npgpt.layers.head import VocabularyHead
from npgpt.layers.loss import CrossEntropy


class HeadLoss(Layer):
    """The vocabulary head followed by cross-entropy, as one layer.

    One layer, because its compiled twin then need not store both the logits and their gradient, which are large.

    Forward   logits = VocabularyHead(x),  L = CrossEntropy(logits, targets)
    Backward  given dloss, the gradient of L (1 if L itself is minimised): a chain without branches
      1. L = CrossEntropy(logits, targets)    ⇒ dlogits = CrossEntropy.backward(dloss)
      2. logits = VocabularyHead(x)           ⇒ dx = VocabularyHead.backward(dlogits), which also adds to dW
    Shapes    x, dx (..., C); targets (...) of integers; L a scalar
    Keeps     logits
    Raises    as the two layers do

    Args
        lm_head, cross_entropy: the two layers, which belong to the model. It also passes its own cache, so the arrays
            that they keep have the same paths with and without this layer.
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
