// Pictures to choose from; what the server says is shown as text, never as HTML.
const list = element.querySelector(".vp-pictures");


function arrived() {
  const value = props.value || {}, items = value.items || [];
  list.setAttribute("aria-label", value.label || "Pictures");
  list.dataset.count = String(items.length);
  list.replaceChildren(...items.map((item) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.key = item.key;
    button.disabled = Boolean(item.off);
    button.title = item.off || item.note || "";
    if (item.chosen !== undefined) button.setAttribute("aria-pressed", String(Boolean(item.chosen)));
    if (item.src) {
      const picture = document.createElement("img");
      picture.src = item.src;
      picture.alt = "";
      button.append(picture);
    }
    const text = document.createElement("span"), name = document.createElement("b");
    name.textContent = item.label;
    text.append(name);
    if (item.note) {
      const note = document.createElement("small");
      note.textContent = item.note;
      text.append(note);
    }
    button.append(text);
    return button;
  }));
}

list.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && !button.disabled) trigger("pick", { key: button.dataset.key });
});
watch("value", arrived);
arrived();
