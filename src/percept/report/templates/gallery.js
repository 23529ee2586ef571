"use strict";
(() => {
  const form = document.querySelector("form.filters");
  const wall = document.querySelector(".wall");
  if (!form || !wall) return;
  const fields = form.elements;
  const output = form.querySelector("output");
  const number = (text) => (text === "" ? NaN : Number(text));

  const cards = [...wall.children].map((item) => ({
    item,
    subject: item.dataset.subject,
    kinds: JSON.parse(item.dataset.kinds),
    tiles: [...item.querySelectorAll("figure[data-method]")].map((figure) => ({
      figure,
      label: figure.querySelector(".score"),
      method: figure.dataset.method,
      rank: number(figure.dataset.rank),
      values: figure.dataset.values.split(",").map(number),
    })),
  }));

  const mean = (values) => {
    const known = values.filter((value) => !Number.isNaN(value));
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
  };

  const within = (rank, low, high) => Number.isNaN(rank) || (rank >= low && rank <= high);

  const update = () => {
    const chosen = fields.metric.selectedOptions[0];
    const at = chosen.value === "rank" ? -1 : Number(chosen.value);
    const wanted = { subject: fields.subject.value, method: fields.method.value, kind: fields.kind ? fields.kind.value : "" };
    const low = number(fields.low.value) || 1;
    const high = number(fields.high.value) || Infinity;
    for (const card of cards) {
      const fits = (!wanted.subject || card.subject === wanted.subject) && (!wanted.kind || card.kinds.includes(wanted.kind));
      const shown = card.tiles.filter((tile) => {
        tile.figure.hidden = !((!wanted.method || tile.method === wanted.method) && within(tile.rank, low, high));
        const value = at < 0 ? tile.rank : tile.values[at];
        if (tile.label) tile.label.textContent = at < 0 ? `rank ${tile.rank}` : Number.isNaN(value) ? "–" : value.toFixed(3);
        return !tile.figure.hidden;
      });
      card.item.hidden = !(fits && shown.length);
      card.key = mean(shown.map((tile) => (at < 0 ? tile.rank : tile.values[at])));
    }
    const lower = at < 0 || chosen.dataset.better === "lower";
    const direction = Number(fields.order.value) * (lower ? 1 : -1);
    const missing = (card) => Number.isNaN(card.key);
    const sorted = [...cards].sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : direction * (a.key - b.key)));
    wall.append(...sorted.map((card) => card.item));
    const kept = cards.filter((card) => !card.item.hidden).length;
    output.textContent = `${kept} of ${cards.length} images`;
  };

  form.addEventListener("input", update);
  form.addEventListener("change", update);
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
})();
