"""Readers and writers of data sets: NSD, its twin, the Algonauts challenge, and a lab's own arrays."""
