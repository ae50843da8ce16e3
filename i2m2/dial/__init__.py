"""`python -m i2m2.dial`: data whose intra- and inter-modality information is known exactly.

The generative model of Madaan et al. (NeurIPS 2024, section 3), p(y) prod_m p(x_m | y) p(v = 1 |
x, y) given v = 1, on finite alphabets. There are K classes and M modalities; modality m is a symbol
x_m = K b_m + c_m, with b_m and c_m in 0..K-1:

    p(c_m | y)      = exp(alpha_m [c_m = y]) / (exp(alpha_m) + K - 1)
    p(v = 1 | x, y) = exp(beta ([b_1 + .. + b_M mod K = y] - 1)),  b_m uniform without v

`alpha_m` sets what modality m knows by itself. `beta` sets what only all modalities together know
and nothing else; the less the single ones leave open, the fewer nats it is worth. Given v = 1, the
sum s of the b_m is distributed like a c of strength beta, and the b_m are uniform among those with
that sum. All information is in nats.

    dial = Dial(classes=4, alpha=(1, 2), beta=1.5)
    dial.exact()["inter"]                                 # 0.153457
    data = dial.sample(5000, seed=0)
    blocks = render(data.symbols, "onehot", classes=4)    # {"x1": [5000, 16], "x2": ..}

    distribution    `Dial`: the model, its examples and its exact values
    rendering       symbols as blocks; missing modalities; files
"""

from i2m2.dial.distribution import EXACT, Dial, DialData
from i2m2.dial.rendering import KINDS, drop_modalities, render, save, templates

__all__ = ["EXACT", "KINDS", "Dial", "DialData", "drop_modalities", "render", "save", "templates"]
