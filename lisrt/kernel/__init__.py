"""Linux words: namespaces, mounts, descriptors, the helper. What they are used for is said one floor up."""
