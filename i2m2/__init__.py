"""I2M2: jointly modelling inter- and intra-modality dependencies (Madaan et al., NeurIPS 2024), for
any number of modalities.

The method: `i2m2.model` (experts and their product) and `i2m2.fusion`. Around it: `losses`,
`metrics`, `data`, `train`, `evaluate`, `robustness`, `run`, `sweep`, `results`. The core knows no
data set; each has a folder of its own beside this one.
"""

__version__ = "0.1.0"
