"""Linux words: namespaces, mounts, descriptors, the helper. Nothing in here says "sandbox"."""
