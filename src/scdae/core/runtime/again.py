"""Errors that are over once there is room, or nobody else is in the way: a job that ends with one may be started again."""

from __future__ import annotations

__all__ = ["Passing"]


class Passing(Exception):
    """Beside the class of an error: another try may do."""
