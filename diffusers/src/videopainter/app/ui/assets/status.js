// What the app is doing, in one place: a line, its details, the progress, and what can be done about it.
const box = element.querySelector(".vp-status");
const part = (name) => box.querySelector(name);

function write(name, text) { // a live region that is written again is read again
  if (part(name).textContent !== text) part(name).textContent = text;
}

function arrived() {
  const value = props.value || {};
  box.dataset.kind = value.problem ? "error" : value.kind || "idle";
  write(".vp-say", value.say || "");
  write(".vp-more", value.more || "");
  write(".vp-problem", value.problem || "");
  const meter = part(".vp-meter"), share = value.share;
  meter.dataset.on = share == null ? "no" : "yes";
  meter.firstElementChild.style.width = `${Math.round(100 * (share || 0))}%`;
  if (share == null) meter.removeAttribute("aria-valuenow"); else meter.setAttribute("aria-valuenow", String(Math.round(100 * share)));
  const shot = part(".vp-shot");
  shot.hidden = !value.preview;
  if (value.preview && shot.src !== value.preview) shot.src = value.preview;
  for (const button of box.querySelectorAll("button")) button.hidden = !(value.can || []).includes(button.dataset.do);
}

box.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const events = { cancel: "cancel", go_on: "go_on", show: "show", next: "next" };
  trigger(events[button.dataset.do], { job: (props.value || {}).job });
});
watch("value", arrived);
arrived();
