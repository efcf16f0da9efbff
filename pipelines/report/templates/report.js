"use strict";
// The gallery is complete without this script; the script adds filters.
(() => {
  const get = (id) => document.getElementById(id);
  const gallery = get("gallery");
  const cards = [...gallery.querySelectorAll(".card")];
  const filters = get("filters");

  function show() {
    const low = Number(get("low").value), high = Number(get("high").value);
    get("low-shown").value = low.toFixed(2);
    get("high-shown").value = high.toFixed(2);
    let shown = 0;
    for (const card of cards) {
      const { class: name, ignored, confidence } = card.dataset;
      const fits =
        (!get("class").value || get("class").value === name) &&
        (!get("decided").value || get("decided").value === ignored) &&
        Number(confidence) >= low && Number(confidence) <= high;
      card.hidden = !fits;
      shown += fits;
    }
    get("count").textContent = `${shown} of ${cards.length} shown`;
  }

  function order() {
    gallery.append(...(get("order").value === "1" ? cards : [...cards].reverse()));
  }

  filters.hidden = false;
  filters.addEventListener("input", show);
  filters.addEventListener("submit", (event) => event.preventDefault());
  get("order").addEventListener("input", order);
  filters.reset(); // browsers keep old choices over a reload
  show();
})();
