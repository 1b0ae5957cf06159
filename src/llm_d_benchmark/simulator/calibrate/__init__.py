"""Calibration: runs of a real server, measured by a client alone, become a profile for its simulation.

In: the runs' records and events. Out: a ``Calibration``: the fitted cost model, what it predicts of levels that it was
not fitted on, and the profile file.
"""

from __future__ import annotations

from .calibration import Calibration, Compared, calibrate
from .levels import Performance
from .served import Given

__all__ = ["Calibration", "Compared", "Given", "Performance", "calibrate"]
