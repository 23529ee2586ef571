"""From voxels to targets: each kind of decoder is one module, found by its `DecoderConfig`."""
