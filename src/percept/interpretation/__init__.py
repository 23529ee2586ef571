"""From trained decoders to what they use: perturbations of voxels, regions and blocks, with their null."""
