"""A path -> a hyperstack; a hyperstack or a table -> a path.

May import graph, hyperstack, units, errors; never operators or run.

    opening      open, describe            finding: what is there, and who reads it
    zarr_source  Zarr arrays as sources    chunks, places
    multiscale   what an OME-Zarr group says
    tiff         TIFF, OME-TIFF, ImageJ TIFF
    ome_zarr     a new OME-Zarr, block by block    pyramid
    tables       Parquet and CSV
    synthetic    volumes of any size with their exact answer
"""
