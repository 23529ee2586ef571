"""What a configuration will take, before anything runs: disk, memory, hours, weights, permissions.

Nothing here needs the data or a network. What is not known yet is an estimate, and `figures` says of every
number that enters one whether it was measured, published or assumed.
"""
