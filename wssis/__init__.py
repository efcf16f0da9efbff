"""wssis: instance segmentation from a few masks and many points (PointWSSIS, CVPR 2023)."""

__version__ = "0.2.0"
