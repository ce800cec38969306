"""Wrong normalisation layers and softmaxes."""

import numpy as np
from strangers.given import given, random, wrong


class LayerNorm:
    """forward of layer norm; the wrong backward passes are below."""

    def __init__(self, n, eps=1e-5):
        self.gamma = 1 + 0.3 * random(n, seed=1)
        self.beta = random(n, seed=2)
        self.eps = eps

    def forward(self, x):
        self.x = x
        self.mean = np.mean(x, axis=-1, keepdims=True)
        self.var = np.var(x, axis=-1, keepdims=True)
        self.xhat = (x - self.mean) / np.sqrt(self.var + self.eps)
        return self.gamma * self.xhat + self.beta

    def parameter_gradients(self, dy):
        axes = tuple(range(dy.ndim - 1))
        self.dgamma = np.sum(dy * self.xhat, axis=axes)
        self.dbeta = np.sum(dy, axis=axes)
        return dy * self.gamma


@wrong
def layer_norm_without_mean_term():
    """dx lacks the term of the mean."""

    class Norm(LayerNorm):
        def backward(self, dy):
            d = self.parameter_gradients(dy)
            return (d - self.xhat * np.mean(d * self.xhat, axis=-1, keepdims=True)) / np.sqrt(self.var + self.eps)

    return given(Norm(5), random(3, 5))


@wrong
def layer_norm_without_variance_term():
    """dx treats the variance as a constant."""

    class Norm(LayerNorm):
        def backward(self, dy):
            d = self.parameter_gradients(dy)
            return (d - d.mean(-1, keepdims=True)) / np.sqrt(self.var + self.eps)

    return given(Norm(4), random(2, 3, 4))


@wrong
def layer_norm_epsilon_forgotten_in_backward():
    """backward divides by sqrt(var), without epsilon (0.1)."""

    class Norm(LayerNorm):
        def backward(self, dy):
            d = self.parameter_gradients(dy)
            xhat = self.xhat
            return (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True)) / np.sqrt(self.var)

    return given(Norm(6, eps=0.1), random(4, 6))


@wrong
def layer_norm_gain_gradient_from_raw_input():
    """dgamma uses x where the normalised x belongs."""

    class Norm(LayerNorm):
        def backward(self, dy):
            d, xhat = self.parameter_gradients(dy), self.xhat
            self.dgamma = (dy * self.x).sum(0)
            return (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True)) / np.sqrt(
                self.var + self.eps
            )

    return given(Norm(5), 1 + 2 * random(3, 5))


@wrong
def batch_norm_epsilon_forgotten_in_backward():
    """Epsilon (1e-3) is forgotten in backward, where the variance is small."""

    def forward(x, gamma, beta):
        mu, var = x.mean(0), x.var(0)
        xhat = (x - mu) / np.sqrt(var + 1e-3)
        return gamma * xhat + beta, (xhat, gamma, var)

    def backward(dout, cache):
        xhat, gamma, var = cache
        n = len(dout)
        dxhat = dout * gamma
        dx = (n * dxhat - dxhat.sum(0) - xhat * (dxhat * xhat).sum(0)) / n / np.sqrt(var)
        return dx, (dout * xhat).sum(0), dout.sum(0)

    return given(forward, 0.05 * random(6, 3), 1 + 0.1 * random(3, seed=1), random(3, seed=2), backward=backward)


@wrong
def rms_norm_with_wrong_power():
    """The second term divides by rms^2, not by rms^3."""

    class RMSNorm:
        def __init__(self, n):
            self.g = random(n, seed=1)

        def __call__(self, x):
            self.x = x
            self.rms = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)
            return self.g * x / self.rms

        def backward(self, dy):
            self.dg = (dy * self.x / self.rms).sum(0)
            d = dy * self.g
            return d / self.rms - self.x * np.mean(d * self.x, axis=-1, keepdims=True) / self.rms**2

    return given(RMSNorm(4), 2 * random(3, 4))


@wrong
def group_norm_with_means_over_all_channels():
    """backward averages over all channels, not over those of the group."""

    class GroupNorm:
        def __init__(self, groups):
            self.groups = groups

        def forward(self, x):
            n, c, length = x.shape
            g = x.reshape(n, self.groups, -1)
            self.std = np.sqrt(g.var(axis=2, keepdims=True) + 1e-5)
            self.xhat = (g - g.mean(axis=2, keepdims=True)) / self.std
            return self.xhat.reshape(x.shape)

        def backward(self, dy):
            d = dy.reshape(self.xhat.shape)
            m1 = d.mean(axis=(1, 2), keepdims=True)
            m2 = (d * self.xhat).mean(axis=(1, 2), keepdims=True)
            return ((d - m1 - self.xhat * m2) / self.std).reshape(dy.shape)

    return given(GroupNorm(2), random(2, 4, 3))


@wrong
def instance_norm_gain_gradient_of_one_image():
    """The gain's gradient lacks the sum over the batch."""

    class InstanceNorm:
        def __init__(self, c):
            self.params = [1 + 0.2 * random(c, seed=1)]
            self.grads = [np.zeros(c)]

        def forward(self, x):
            mu = x.mean(axis=(2, 3), keepdims=True)
            self.std = x.std(axis=(2, 3), keepdims=True)
            self.xhat = (x - mu) / self.std
            return self.xhat * self.params[0][:, None, None]

        def backward(self, dy):
            self.grads[0] = np.sum(dy * self.xhat, axis=(2, 3))[-1]
            d = dy * self.params[0][:, None, None]
            m = d.mean(axis=(2, 3), keepdims=True)
            return (d - m - self.xhat * (d * self.xhat).mean(axis=(2, 3), keepdims=True)) / self.std

    return given(InstanceNorm(2), random(3, 2, 2, 3))


@wrong
def unbiased_deviation_with_biased_gradient():
    """forward divides by n - 1, backward by n."""

    def forward(x):
        return x.std(axis=1, ddof=1)

    def backward(dy, x):
        centred = x - x.mean(axis=1, keepdims=True)
        return dy[:, None] * centred / (x.shape[1] * x.std(axis=1, ddof=1, keepdims=True))

    return given(forward, random(3, 5), backward=backward)


@wrong
def unit_length_without_projection():
    """x / |x| is differentiated as if |x| were a constant."""

    class UnitLength:
        def forward(self, x):
            self.norm = np.linalg.norm(x, axis=1, keepdims=True)
            return x / self.norm

        def backward(self, dy):
            return dy / self.norm

    return given(UnitLength(), random(4, 3))


@wrong
def softmax_without_coupling():
    """Only the diagonal of the Jacobian, s (1 - s), is used."""

    class Softmax:
        def forward(self, x):
            e = np.exp(x - np.max(x, axis=1, keepdims=True))
            self.out = e / np.sum(e, axis=1, keepdims=True)
            return self.out

        def backward(self, dout):
            return dout * self.out * (1 - self.out)

    return given(Softmax(), random(3, 4))


@wrong
def log_softmax_without_sum():
    """dy - softmax, where dy - softmax * sum(dy) belongs."""

    def forward(x):
        m = x.max(-1, keepdims=True)
        y = x - m - np.log(np.exp(x - m).sum(-1, keepdims=True))
        return y, y

    return given(forward, random(2, 5), backward=lambda dy, y: dy - np.exp(y))


@wrong
def softmax_along_wrong_axis_in_backward():
    """backward sums over the other axis; the matrix is square."""

    class ColumnSoftmax:
        def forward(self, x):
            e = np.exp(x)
            self.s = e / e.sum(axis=0)
            return self.s

        def backward(self, dy):
            return self.s * (dy - (dy * self.s).sum(axis=1, keepdims=True))

    return given(ColumnSoftmax(), random(4, 4))


@wrong
def softmax_temperature_forgotten():
    """The temperature is missing in backward."""

    def forward(x, temperature=0.5):
        e = np.exp(x / temperature)
        return e / e.sum()

    def backward(dy, x, temperature=0.5):
        s = forward(x, temperature)
        return s * (dy - np.dot(dy, s))

    return given(forward, random(4), backward=backward)


@wrong
def batch_norm_at_inference_with_batch_statistics():
    """At inference the statistics are constants, but backward takes them to depend on x."""

    class FrozenNorm:
        def __init__(self, mean, var):
            self.running_mean, self.running_var = mean, var

        def forward(self, x):
            self.xhat = (x - self.running_mean) / np.sqrt(self.running_var)
            return self.xhat

        def backward(self, dy):
            return (dy - dy.mean(0) - self.xhat * (dy * self.xhat).mean(0)) / np.sqrt(self.running_var)

    return given(
        FrozenNorm(random(3, seed=1), 1 + random(3, seed=2) ** 2),
        random(5, 3),
        constants=["running_mean", "running_var"],
    )
