"""Slow, obvious twins of the fast code, for tests to compare with."""
