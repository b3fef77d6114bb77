"""From scores to decisions: conformal p-values (`conformal`), serial dependence of scores (`dependence`), alarm budgets (`budget`)."""
