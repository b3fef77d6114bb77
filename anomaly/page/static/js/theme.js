// Before the first paint: the theme that was chosen, else that of the system.
try {
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  // storage may be switched off: the system's theme is used
}
