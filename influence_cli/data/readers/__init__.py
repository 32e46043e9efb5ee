"""Readers of files, with one module for each format."""
