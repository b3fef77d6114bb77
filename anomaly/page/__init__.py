"""The page of a monitor or a box: what a technician, an engineer and a wall screen look at. Imported only where somebody listens."""
