"""Readers and writers of data sets: NSD, its twin, and a lab's own arrays."""
