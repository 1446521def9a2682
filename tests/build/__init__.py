"""Recipes, locks, and images that are built: by sandboxes on this host, from a mirror of the tests own, and from Debian's."""
