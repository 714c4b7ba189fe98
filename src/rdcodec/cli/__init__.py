"""The command `rdc`. Nothing here imports torch before a command needs them."""
