"""Fourier and polynomial features; layers that draw random numbers."""

import numpy as np
from strangers.given import given, random, right


class RandomFourierFeatures:
    def __init__(self, d, n):
        self.frequencies = np.random.default_rng(1).normal(size=(d, n))

    def forward(self, x):
        self.phase = 2 * np.pi * x @ self.frequencies
        return np.concatenate([np.cos(self.phase), np.sin(self.phase)], axis=-1)

    def backward(self, dy):
        dcos, dsin = np.split(dy, 2, axis=-1)
        dphase = dsin * np.cos(self.phase) - dcos * np.sin(self.phase)
        return 2 * np.pi * dphase @ self.frequencies.T


@right
def random_fourier_features_with_fixed_frequencies():
    return given(RandomFourierFeatures(3, 4), 0.3 * random(4, 3), constants=["frequencies"])


class OctaveFeatures:
    """sin and cos of x, 2x, 4x; nothing is kept on the object but a whole number."""

    def __init__(self, octaves):
        self.octaves = octaves

    def forward(self, x):
        waves = [wave(2**k * x) for k in range(self.octaves) for wave in (np.sin, np.cos)]
        return np.stack([x] + waves, axis=-1)

    def backward(self, x, dy):
        dx = dy[..., 0].copy()
        for k in range(self.octaves):
            f = 2**k
            dx += f * (dy[..., 1 + 2 * k] * np.cos(f * x) - dy[..., 2 + 2 * k] * np.sin(f * x))
        return dx


@right
def octaves_of_sines_and_cosines():
    return given(OctaveFeatures(3), random(2, 3))


class Polynomial:
    """A learned polynomial by the scheme of Horner."""

    def __init__(self, degree):
        self.coefficients = np.random.default_rng(2).normal(size=degree + 1)

    def forward(self, x):
        self.x = x
        y = np.zeros_like(x)
        for c in self.coefficients[::-1]:
            y = y * x + c
        return y

    def backward(self, dy):
        powers = np.array([self.x**k for k in range(len(self.coefficients))])
        self.coefficients_grad = (powers * dy).reshape(len(powers), -1).sum(axis=1)
        slope = sum(k * c * self.x ** (k - 1) for k, c in enumerate(self.coefficients) if k)
        return dy * slope


@right
def learned_polynomial():
    return given(Polynomial(4), random(3, 4))


class PairProducts:
    """All products x_i x_j with i <= j."""

    def forward(self, x):
        self.x = x
        self.i, self.j = np.triu_indices(x.shape[1])
        return x[:, self.i] * x[:, self.j]

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        for k, (i, j) in enumerate(zip(self.i, self.j)):
            dx[:, i] += dy[:, k] * self.x[:, j]
            dx[:, j] += dy[:, k] * self.x[:, i]
        return dx


@right
def products_of_all_pairs_of_features():
    return given(PairProducts(), random(3, 4))


class FactorisationMachine:
    def __init__(self, n, k):
        rng = np.random.default_rng(3)
        self.w0, self.w, self.V = np.zeros(1), rng.normal(size=n), rng.normal(size=(n, k))

    def forward(self, x):
        xv = x @ self.V
        pairs = 0.5 * (xv**2 - x**2 @ self.V**2).sum(axis=1)
        return self.w0 + x @ self.w + pairs, (x, xv)

    def backward(self, dy, cache):
        x, xv = cache
        d = dy[:, None]
        self.dw0 = dy.sum(keepdims=True)
        self.dw = x.T @ dy
        self.dV = x.T @ (d * xv) - (x**2).T @ d * self.V
        return d * (self.w + xv @ self.V.T - x * (self.V**2).sum(axis=1))


@right
def factorisation_machine():
    return given(FactorisationMachine(4, 2), random(5, 4))


class Dropout:
    """Draws from the global generator without a seed; off unless told to train."""

    def __init__(self, rate=0.5):
        self.rate = rate
        self.training = False

    def forward(self, x):
        if not self.training:
            self.mask = None
            return x
        self.mask = (np.random.rand(*x.shape) > self.rate) / (1 - self.rate)
        return x * self.mask

    def backward(self, dy):
        return dy if self.mask is None else dy * self.mask


@right
def dropout_from_the_global_generator_in_training():
    return given(Dropout(0.4), random(4, 6), training=True)


@right
def dropout_that_is_not_training():
    return given(Dropout(0.9), random(3, 3))


class FlaggedDropout:
    """Does not rescale while training, but at test time; the flag is an argument."""

    def __init__(self, dropout_ratio):
        self.dropout_ratio = dropout_ratio

    def forward(self, x, train_flg=True):
        if train_flg:
            self.mask = np.random.rand(*x.shape) > self.dropout_ratio
            return x * self.mask
        self.mask = 1.0 - self.dropout_ratio
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


@right
def dropout_that_rescales_at_test_time():
    return given(FlaggedDropout(0.3), random(3, 5))


@right
def dropout_with_its_flag_given_as_false():
    return given(FlaggedDropout(0.3), random(3, 5), train_flg=False)


class GeneratorDropout:
    def __init__(self, p, seed):
        self.p, self.rng, self.is_training = p, np.random.default_rng(seed), True

    def train(self):
        self.is_training = True

    def eval(self):
        self.is_training = False

    def __call__(self, x):
        self.keep = np.ones(x.shape, dtype=bool)
        if self.is_training:
            self.keep = self.rng.random(x.shape) >= self.p
        return np.where(self.keep, x / (1 - self.p if self.is_training else 1), 0.0)

    def backward(self, dy):
        dx = np.zeros_like(dy)
        dx[self.keep] = dy[self.keep] / (1 - self.p if self.is_training else 1)
        return dx


@right
def dropout_with_a_generator_of_its_own():
    return given(GeneratorDropout(0.5, 7), random(4, 4), training=True)


class SeededDropout:
    """Sets the seed of the global generator in every pass."""

    def __init__(self, keep_prob):
        self.keep_prob = keep_prob

    def forward(self, a):
        np.random.seed(1)
        self.d = np.random.rand(a.shape[0], a.shape[1]) < self.keep_prob
        a = a * self.d
        a /= self.keep_prob
        return a

    def backward(self, da):
        return da * self.d / self.keep_prob


@right
def dropout_that_seeds_the_global_generator():
    return given(SeededDropout(0.7), random(5, 3))


class PassedGeneratorDropout:
    """The generator is an argument of forward; whole channels are dropped."""

    def forward(self, x, rng):
        self.mask = rng.binomial(1, 0.5, size=x.shape[:2] + (1,)) * 2
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


@right
def channel_dropout_with_a_generator_as_argument():
    return given(PassedGeneratorDropout(), random(3, 4, 2), np.random.default_rng(5))


class Reparameterised:
    """A sample from a normal distribution with learned spread."""

    def __init__(self, n, seed=0):
        self.log_sigma = np.full(n, -1.0)
        self.generator = np.random.default_rng(seed)

    def forward(self, mean):
        self.noise = self.generator.standard_normal(mean.shape)
        return mean + np.exp(self.log_sigma) * self.noise

    def backward(self, dy):
        self.dlog_sigma = np.sum(dy * self.noise, axis=0) * np.exp(self.log_sigma)
        return dy


@right
def sample_with_a_learned_spread():
    return given(Reparameterised(4), random(3, 4))


class GaussianNoise:
    """Multiplies by noise around one while training, from the global generator."""

    training = True

    def forward(self, x):
        self.factor = 1 + 0.1 * np.random.randn(*x.shape) if self.training else np.ones_like(x)
        return x * self.factor

    def backward(self, dy):
        return [self.factor * dy]


@right
def multiplicative_noise_with_a_flag_on_the_class():
    return given(GaussianNoise(), random(3, 4), training=True)
