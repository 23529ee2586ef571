"""The engine that trains decoders by gradient descent; it knows no particular decoder."""
