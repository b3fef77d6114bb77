"""What all commands share: where they print, options that many have, progress bars."""
