"""The standing bench as a static site: `data` has its rows, `pages` its templates, `assets` what browsers load."""
