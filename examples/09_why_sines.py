"""Why are positions sines and cosines, and not simply the numbers 0, 1, 2, ...?

A pair (sin tω, cos tω) is the hand of a clock: it turns by the angle ω from each position to the next. A fast hand
tells neighbours apart, but it soon points in the same direction again. A slow hand tells distant positions apart. With
many hands, a move by n positions is a rotation, and the product of two position vectors depends on their distance
alone. `--plot` draws this as 09_why_sines.png.
"""

# %% The vectors of npgpt: T positions, C channels, C/2 pairs
import math
import sys

import numpy as np

from npgpt.layers import SinusoidalPositions

T, C = 1024, 64
P = SinusoidalPositions(C).table(np.zeros((1, T, C)))  # (T, C): sine, cosine, sine, cosine, ...
omega = 10000 ** (-np.arange(0, C, 2) / C)  # radians that each pair turns from one position to the next
wavelength = 2 * np.pi / omega  # positions in a full turn

print(f"{C} channels are {C // 2} hands. The fastest needs {wavelength[0]:.1f} positions for a turn, and the slowest")
print(f"{wavelength[-1]:,.0f}. These are its first positions, and those of hands 5 and 10:\n")
print("position      " + "".join(f"{t:>15}" for t in range(4)))
for pair in (0, 5, 10):
    print(f"hand {pair:<9}" + "".join(f"   {P[t, 2 * pair]:+.2f}, {P[t, 2 * pair + 1]:+.2f}" for t in range(4)))

# %% 1. A move is a rotation: one matrix leads from P_t to P_(t+n), whatever t is
n = 7
R = np.zeros((C, C))
for pair, angle in enumerate(n * omega):
    s, c = math.sin(angle), math.cos(angle)
    R[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = [[c, s], [-s, c]]  # sin(a + b), cos(a + b) of school
off = np.abs(P[:-n] @ R.T - P[n:]).max()
print(f"\n1. One matrix moves every position by {n}: the largest difference of {T - n:,} positions is {off:.0e}.")
print(f"   So a layer can learn to look {n} tokens back, and the same weights serve every position.")
assert off < 1e-12

# %% 2. The product of two position vectors depends on their distance alone
products = P @ P.T
print("\n2. Products of two position vectors, at different places of the text:\n")
print("distance" + "".join(f"{d:>9}" for d in (0, 1, 2, 4, 8, 16, 64, 256)))
for t in (0, 100, 700):
    print(f"from {t:<5}" + "".join(f"{products[t, t + d]:9.3f}" for d in (0, 1, 2, 4, 8, 16, 64, 256))[1:])
distance = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
by_distance = np.cos(np.outer(np.arange(T), omega)).sum(1)  # sin a·sin b + cos a·cos b = cos(a − b)
assert np.abs(products - by_distance[distance]).max() < 1e-10  # the angles reach 1,023, so 1e-13 of each is rounding
assert by_distance[0] == C // 2 and all(by_distance[d] < by_distance[0] for d in range(1, T))
print(f"   The rows are equal. Each of the {C // 2} hands adds the cosine of the angle between its two directions.")

# %% 3. What each wavelength sees
print("\n3. What does one hand see? It mistakes two positions for one if they are closer than a hundredth.\n")
print("hand   positions in a turn   length of one step   mistaken for position 0, of the next 1,023")
mistaken = {}
for pair in (0, 5, 10, 20, 31):
    hand = P[:, 2 * pair : 2 * pair + 2]
    from_start = np.linalg.norm(hand - hand[0], axis=1)
    mistaken[pair] = np.flatnonzero(from_start[1:] < 0.01) + 1
    few = ", ".join(map(str, mistaken[pair][:4])) + (", ..." if len(mistaken[pair]) > 4 else "")
    print(f"{pair:>4}{wavelength[pair]:>22,.1f}{from_start[1]:>21.4f}{len(mistaken[pair]):>10}: {few or 'none'}")
step = np.linalg.norm(P[1] - P[0])
gaps = np.sqrt(2 * (C // 2 - products[~np.eye(T, dtype=bool)]))  # |a − b|² = |a|² + |b|² − 2 a·b
print(f"   All hands together mistake nothing: the two nearest of {T:,} positions have a distance of {gaps.min():.2f},")
print("   and every step has the same length. Fast hands see the order of neighbours, slow ones the part of the text.")
assert len(mistaken[0]) and len(mistaken[31]) and not {*mistaken[0]} & {*mistaken[31]}
assert gaps.min() > 0.99 * step and np.allclose(np.linalg.norm(np.diff(P, axis=0), axis=1), step)

# %% 4. The simple number has none of this
number = np.arange(T)[:, None] / T  # scaled to the context: 0 ... 1
double = np.arange(2 * T)[:, None] / (2 * T)
start, end = float(number[1, 0] * number[2, 0]), float(number[-2, 0] * number[-1, 0])
print(f"\n4. The number t/{T:,} in place of the vector: a step has the length {number[1, 0]:.4f}, and only")
print(f"   {double[1, 0]:.4f} if the context is {2 * T:,}. A product grows with the place: neighbours give {start:.1e}")
print(f"   at the start and {end:.3f} at the end. Sinusoids give {by_distance[1]:.3f} at both.")
assert end > 1e5 * start

# %% 5. Rotary positions turn queries and keys by the same hands
q, k = np.random.default_rng(0).normal(size=(2, C))


def turned(x: np.ndarray, t: int) -> np.ndarray:
    """Return a vector with its pairs rotated by the angles of position t."""
    z = (x[0::2] + 1j * x[1::2]) * np.exp(1j * t * omega)
    return np.stack([z.real, z.imag], -1).ravel()


early, late = (float(turned(q, t) @ turned(k, t - 5)) for t in (5, 905))
print(f"\n5. Rotary positions turn the query and the key. A key 5 tokens back has the score {early:.6f} at position 5")
print(f"   and {late:.6f} at position 905; without the turn, {q @ k:.6f} everywhere. Again only the distance counts.")
assert abs(early - late) < 1e-11 and abs(early - q @ k) > 1e-3

# %% The picture
if "--plot" in sys.argv:  # in a notebook: if True
    from npgpt.support.pictures import pyplot

    plt = pyplot()
    figure, (circle, line, table) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for pair, color in ((0, "C0"), (5, "C1"), (10, "C2")):
        radius = 1 - 0.04 * pair
        x, y = radius * P[:12, 2 * pair + 1], radius * P[:12, 2 * pair]
        circle.plot(
            x, y, "o-", color=color, alpha=0.6, label=f"hand {pair}: {wavelength[pair]:.0f} positions in a turn"
        )
        for t in range(4 if pair < 10 else 0):
            circle.annotate(str(t), (x[t], y[t]), textcoords="offset points", xytext=(4, 4), color=color)
    circle.set(aspect="equal", title="twelve positions on three hands", xlim=(-1.2, 1.2), ylim=(-1.2, 1.9))
    circle.legend(loc="upper center", fontsize=8)
    for t, style in ((0, "-"), (700, "--")):
        line.plot(products[t, t : t + 200], style, label=f"from position {t}")
    line.set(title="product of two position vectors", xlabel="distance", ylim=(0, C // 2 + 1))
    line.legend()
    shown = table.imshow(P[:128].T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
    table.set(title="the vectors: fast hands above, slow ones below", xlabel="position", ylabel="channel")
    figure.colorbar(shown, ax=table)
    figure.savefig("09_why_sines.png", dpi=110)
    print("\nThe picture is in 09_why_sines.png.")
