"""Frozen networks behind one small interface per role."""
