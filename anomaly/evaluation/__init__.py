"""How good a detector is: figures of merit (`metrics`, `ranges`, `vus`; put together in `figures`), judging by synthetic faults
(`injected`), the guard against negative transfer (`transfer`), transferability of sources (`domains`), HTML reports (`report`)."""
