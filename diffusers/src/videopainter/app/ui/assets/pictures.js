// Pictures to choose from; what the server says is shown as text, never as HTML.
const list = element.querySelector(".vp-pictures"), title = element.querySelector(".vp-title");

function made(tag, text, parent) {
  const one = document.createElement(tag);
  if (text) one.textContent = text;
  parent?.append(one);
  return one;
}

function noteOf(item) {
  const when = item.when ? new Date(item.when).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "";
  return [item.note, when].filter(Boolean).join(" · ");
}

function tileOf(item) {
  const tile = document.createElement("div"), button = made("button", "", tile), note = noteOf(item);
  tile.className = "vp-tile";
  button.type = "button";
  button.dataset.key = item.key;
  button.disabled = Boolean(item.off);
  button.title = item.off || note;
  if (item.chosen !== undefined) button.setAttribute("aria-pressed", String(Boolean(item.chosen)));
  if (item.src) Object.assign(made("img", "", button), { src: item.src, alt: "" });
  const text = made("span", "", button);
  made("b", item.label, text);
  if (note) made("small", note, text);
  if (item.drop) {
    const drop = made("button", item.drop, tile);
    drop.type = "button";
    drop.className = "vp-drop";
    drop.dataset.drop = item.key;
    drop.setAttribute("aria-label", `${item.drop}: ${item.label}`);
  }
  return tile;
}

function arrived() {
  const value = props.value || {}, items = value.items || [];
  list.setAttribute("aria-label", value.label || "Pictures");
  list.dataset.count = String(items.length);
  title.textContent = value.title || "";
  title.hidden = !value.title || !items.length;
  list.replaceChildren(...items.map(tileOf));
}

function asked(button) { // what is gone is gone: the first click asks, the second one does it
  if (button.dataset.sure) { trigger("drop", { key: button.dataset.drop }); return; }
  button.dataset.sure = "yes";
  button.dataset.says = button.textContent;
  button.textContent = "Really? Click again";
  button.addEventListener("blur", () => { delete button.dataset.sure; button.textContent = button.dataset.says; }, { once: true });
}

list.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || button.disabled) return;
  if (button.dataset.drop) asked(button);
  else trigger("pick", { key: button.dataset.key });
});
watch("value", arrived);
arrived();
