"""pycnn beside other packages: their arrays as arguments and results, and its operations inside their programs."""
