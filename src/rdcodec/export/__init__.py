"""From trained floats to what a decoder runs: integers, tables, the weights file. Nothing here decodes."""
