"""Generators: predicted targets become images. One module per kind, registered by its config section."""
