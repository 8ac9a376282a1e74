"""Rows and columns of any matrix, whatever holds it: memory, a file, a dask graph."""
