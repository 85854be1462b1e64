"""Compilers that are programs: run anew for each source, in a directory that is removed afterwards."""
