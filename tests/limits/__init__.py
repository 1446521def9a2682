"""Limits that hold: every one is broken on purpose, in every way of enforcement that this host has."""
