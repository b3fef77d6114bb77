"""Sensor tables: `files` finds them, `reader` reads one, `windows` cuts it, `faults` injects synthetic faults, `units` checks units, and
`conversion` makes a table of long exports, SQL, sound, vibration and MATLAB files.
"""
