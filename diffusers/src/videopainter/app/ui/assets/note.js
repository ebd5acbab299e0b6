// A line, or a few facts; shown as text.
const box = element.firstElementChild;
function arrived() {
  const value = props.value || "";
  if (!Array.isArray(value)) { box.textContent = value; return; }
  box.replaceChildren(...value.map((fact) => {
    const one = document.createElement("span");
    one.textContent = fact.text ?? fact;
    if (fact.note) one.className = "vp-note";
    return one;
  }));
}
watch("value", arrived);
arrived();
