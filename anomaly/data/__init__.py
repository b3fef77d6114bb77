"""Reading data: `files` (which files are data), `records` (what sources yield), and the packages `pictures`, `tables` and `samples`."""
