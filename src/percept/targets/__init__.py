"""What decoders predict: features of the stimuli, cached once and shared by all subjects."""
