"""Analysis and synthesis transforms, one file per family."""
