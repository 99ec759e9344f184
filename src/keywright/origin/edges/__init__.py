"""Edges: who follows, how far each has got, and waiting until they have applied a change."""
