"""Sensors, from tables to the parts of a bundle: `line` walks, `tables` reads, `held_out` and `record` score held-out normals,
`lending` and `transfer` start from another machine, `stream` exports, `bundle` is what a finished bundle can be asked."""
