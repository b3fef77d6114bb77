"""From features to a score: `build` makes the scorer that a spec names, of the packages `pictures` and `sensors`. `suspects` finds faults
among the normals, `boosted` adds a vote of labelled faults, `coreset` thins what a memory bank holds."""
