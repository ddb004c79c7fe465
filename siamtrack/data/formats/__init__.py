"""Readers: one per layout on disk, each giving a `Dataset` in the one convention."""
