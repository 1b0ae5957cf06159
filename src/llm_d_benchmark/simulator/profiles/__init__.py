"""Profiles: how fast a model is on hardware and how much KV cache fits, from published figures or from measured runs.

``load_profile(config)`` is what the drivers call. ``models.yaml`` and ``hardware.yaml`` hold the figures, each row with
its source; any MODEL/HARDWARE of them is a profile, and so is a file that ``simulator calibrate`` wrote.
"""

from __future__ import annotations

from .profile import Profile, load_profile

__all__ = ["Profile", "load_profile"]
