"""`network="nat"`: a network namespace in the middle, one program that carries its traffic out, and a pair of interfaces for each
sandbox."""
