// The filter over the examples: a kind of change, and words to find.
(() => {
  const rows = [...document.querySelectorAll(".example")].map((el) => ({ el, text: el.textContent.toLowerCase() }));
  const buttons = [...document.querySelectorAll(".filters button")];
  const find = document.querySelector(".filters input");
  const none = document.querySelector(".none");
  let kind = "";
  const show = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const { el, text } of rows) {
      el.hidden = !((!kind || el.dataset.change === kind) && words.every((word) => text.includes(word)));
      left += !el.hidden;
    }
    none.hidden = left > 0 || rows.length === 0;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      kind = button.dataset.show;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      show();
    });
  }
  find.addEventListener("input", show);
})();
