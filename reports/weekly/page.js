// The weekly page: the theme, and the filter of the mix. All else is there without a script.
followTheme();
const search = $("#search"), status = $("#status");
if (search) {
  const rows = $$("#table tbody tr");
  search.hidden = false;
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
      if (!row.hidden) left += 1;
    }
    status.textContent = wanted.length ? `${left} of ${rows.length} rows` : "";
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
    if (event.key === "Escape" && document.activeElement === search) { search.value = ""; search.dispatchEvent(new Event("input")); search.blur(); }
  });
}
document.documentElement.dataset.ready = "yes";
