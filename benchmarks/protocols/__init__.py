"""Published protocols: ELPV cells in MVTec AD layout, and SKAB and NAB as their authors judge them."""
