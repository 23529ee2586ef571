"""Percept: from NSD's scanner files to reconstructed images and an honest results table."""

__version__ = "0.1.0"
