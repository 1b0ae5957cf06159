"""The performance model: from measured levels of load to latencies and throughput of loads that were not measured.

``fit(table)`` or ``fit_runs(results)`` give a ``PerformanceModel``; ``predict`` it. The model knows its own error from
configurations that were held out, and says where it extrapolates. ``memory`` sizes what a GPU must hold.
"""

from __future__ import annotations

from .model import PerformanceModel, Prediction, fit, fit_points, fit_runs
from .points import Point

__all__ = ["PerformanceModel", "Point", "Prediction", "fit", "fit_points", "fit_runs"]
