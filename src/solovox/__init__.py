"""Generative separation of the singing voice."""
