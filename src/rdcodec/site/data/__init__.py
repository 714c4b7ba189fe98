"""What the site shows, from results alone: codecs, their standings on sets of pictures, machines and speeds."""
