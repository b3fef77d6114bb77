"""Public picture sets that judge and never choose: no setting of the detector was looked for on them.

Each is laid out from a local copy of a public repository that holds the pictures:
`python -m benchmarks.protocols.judges NAME CHECKOUT --out FOLDER`. `benchmarks.camera.judges` fits and judges them; the figures are in
docs/results/pictures.md.
"""
