"""How a table is written: `find` finds it, `load` cuts a file into columns by it, `cells` and `times` read numbers and times, `formats`
finds the format of a time column.
"""
