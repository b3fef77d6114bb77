"""The camera kind of line: `line.CameraLine` takes pictures of good parts to a detector, `bundle` judges the bundle that holds it.

`pictures` and `judging` read the line's pictures and rank extractors on them; `adaptation`, `transfer` and `few_labels` make the extractor
file; `variants` adds graphs in less precise arithmetic; `curve` and `rank_source` help to choose a source of transfer.
"""
