"""The command `rdc`. Nothing here imports torch or Numba before a command needs them."""
