"use strict";
(() => {
  const table = document.querySelector("table.results");
  const form = document.querySelector("form.filters");
  if (!table || !form) return;
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const selects = [...form.querySelectorAll("select")];
  const output = form.querySelector("output");
  const collator = new Intl.Collator("en", { numeric: true });

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : parseFloat(cell.dataset.v);
  };

  const compare = (a, b) => {
    const missing = Number.isNaN(a) - Number.isNaN(b); // missing numbers go last, whichever way is sorted
    if (missing || Number.isNaN(a)) return { order: missing, fixed: true };
    return { order: typeof a === "number" ? a - b : collator.compare(a, b), fixed: false };
  };

  const sort = (column, direction) => {
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const { order, fixed } = compare(value(a, column), value(b, column));
      return fixed ? order : direction * order;
    });
    body.append(...rows);
    headers.forEach((header, at) => {
      if (at === column) header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else header.removeAttribute("aria-sort");
    });
  };

  const filter = () => {
    const wanted = selects.filter((one) => one.value).map((one) => [Number(one.dataset.column), one.value]);
    let shown = 0;
    for (const row of body.rows) {
      const keep = wanted.every(([column, text]) => row.cells[column].textContent.trim() === text);
      row.hidden = !keep;
      shown += keep;
    }
    output.textContent = `${shown} of ${body.rows.length} rows`;
  };

  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const numeric = header.classList.contains("number"); // numbers are wanted from the top
      const last = header.getAttribute("aria-sort");
      sort(column, last ? (last === "ascending" ? -1 : 1) : numeric ? -1 : 1);
    });
  });
  selects.forEach((one) => one.addEventListener("change", filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();

  // collapsed records belong on paper too
  const details = [...document.querySelectorAll("details")];
  window.addEventListener("beforeprint", () => details.forEach((one) => (one.open = true)));
})();
