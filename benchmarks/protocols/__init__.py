"""Published protocols: ELPV cells in MVTec AD layout, sets that only judge, and SKAB and NAB as their authors judge them."""
