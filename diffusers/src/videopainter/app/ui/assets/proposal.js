// A text that was proposed for a box in which somebody wrote meanwhile: shown as text, taken or left.
const box = element.querySelector(".vp-proposal");
const part = (name) => box.querySelector(name);
let left = null; // the job whose proposal was not wanted

function arrived() {
  const value = props.value || {};
  box.hidden = !(value.text && value.settled && !value.taken && value.job !== left);
  part(".vp-for").textContent = value.label ? `Proposed for “${value.label}”:` : "";
  part(".vp-text").textContent = value.text || "";
  if (value.text && !value.settled) trigger("settle");
}

box.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.do === "leave") { left = (props.value || {}).job; arrived(); return; }
  props.value = { ...props.value, wanted: true };
  trigger("settle");
});
watch("value", arrived);
arrived();
