"""A path -> a hyperstack; a hyperstack or a table -> a path.

May import graph, hyperstack, units, errors; never operators or run.

    opening      open                      finding: what is there, and who reads it; found: what a reader fills in
    describing   what is in a file         problems: and what is wrong with it
    zarr_source  Zarr arrays as sources    chunks, places
    multiscale   what an OME-Zarr group says
    plates       wells and fields
    tiff         TIFF, OME-TIFF, ImageJ TIFF       series: many files that are one image
    formats      HDF5, Imaris, N5, CZI, ND2, LIF
    ome_zarr     a new OME-Zarr, block by block    pyramid, display: colours and contrast
    tiff_write   a new TIFF, block by block
    tables       Parquet and CSV, with units
    synthetic    volumes of any size with their exact answer
"""
