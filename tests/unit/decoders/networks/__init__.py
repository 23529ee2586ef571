"""Tests of the networks, losses and learners."""
