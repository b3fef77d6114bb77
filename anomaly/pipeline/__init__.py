"""From data to bundle: `steps` walks, `line` says what it needs of a kind of input, `kinds` has one row a kind.

`assess` asks a finished bundle; `rank_sources` compares other lines as sources of transfer.
"""
