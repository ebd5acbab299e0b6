// The picture that people draw on, and the time line below it. What comes from the server is shown by textContent and on
// canvases, never as HTML. `props.value` is what Python sets; the frame, the object and the view that people choose are
// written back into it, so that every other control knows them.
const find = (name) => element.querySelector(name);
const all = (name) => [...element.querySelectorAll(name)];
const root = find(".vp-stage"), frameBox = find(".vp-frame"), fit = find(".vp-fit");
const picture = find(".vp-picture"), after = find(".vp-after"), ink = find(".vp-ink-layer");
const scrub = find(".vp-scrub"), strip = find(".vp-strip canvas"), clock = find(".vp-clock"), wipe = find(".vp-wipe");
const DRAG = 6; // pixels that a finger may slip in a click

let state = {}; // what the server said last
let frame = 0, view = "mask", tool = "point", object = 1;
let corner = null, rubber = null, line = null, cross = null, pending = [];
let loading = false, wanted = null, playing = null, jumped = -1, shownVersion = null, shownProject = null, answered = null;

const video = () => state.video || null;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const colourOf = (id) => { const one = (state.objects || []).find((o) => o.id === id); return one ? `rgb(${one.colour.join(",")})` : "#3b82f6"; };

// ---- what is shown

function keep() { // tells Python which frame, object and view are chosen
  const before = props.value || {}, typing = isTyping();
  if (before.frame === frame && before.object === object && before.view === view && Boolean(before.typing) === typing) return;
  props.value = { ...before, frame, object, view, typing };
}
// Who is in the middle of a text is not led elsewhere by a job that ends.
const isTyping = () => document.activeElement?.matches?.("textarea, input:not([type]), input[type=text], input[type=number]") ?? false;
for (const name of ["focusin", "focusout"]) document.addEventListener(name, () => { if (video()) keepSoon(); });
let keeping = null;
function keepSoon() { clearTimeout(keeping); keeping = setTimeout(keep, 120); }

async function fetchFrame() {
  if (!video()) return;
  wanted = frame;
  if (loading) return;
  loading = true;
  while (wanted !== null) {
    const asked = { project: state.project, token: state.token, frame: wanted, view, result: state.result ?? null };
    wanted = null;
    try {
      const answer = await server.frame_picture(asked);
      if (answer.error) { failed(answer.error); continue; }
      failed("");
      picture.src = answer.src;
      if (answer.after) after.src = answer.after;
      seen = { frame: asked.frame, token: asked.token };
      root.dataset.shown = String(asked.frame);
    } catch (error) { failed("This frame's picture did not come: " + (error?.message || error)); }
  }
  loading = false;
  pending = [];
  root.dataset.busy = "no";
  paint();
}

let seen = null; // the frame that is on the screen, and of which video
function failed(text) {
  const line = find(".vp-late");
  line.hidden = !text;
  if (line.textContent !== text) line.textContent = text;
}

// People draw on what they see: nothing is placed while another frame, or another video's, is on its way.
const isSeen = () => seen !== null && seen.frame === frame && seen.token === state.token;

function go(number, quiet) {
  if (!video()) return;
  frame = clamp(Math.round(number), 0, video().frames - 1);
  scrub.value = String(frame);
  corner = rubber = null;
  tell();
  fetchFrame();
  paintStrip();
  if (!quiet) keepSoon();
}

const WORDS = { s: "tracked", u: "unsure", a: "not seen", n: "no mask" };
function tell() {
  if (!video()) { clock.textContent = "–"; return; }
  const seconds = frame / (video().fps || 1);
  const minutes = Math.floor(seconds / 60);
  clock.textContent = `${frame + 1} / ${video().frames} · ${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
  const place = (state.timeline?.states || "")[frame - (state.range?.[0] ?? 0)];
  scrub.setAttribute("aria-valuetext", `Frame ${frame + 1} of ${video().frames}${place ? ", " + WORDS[place] : ""}`);
}

// ---- drawing on the picture

function size() { // the canvas has the pixels of the screen
  const box = picture.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (ink.width !== width || ink.height !== height) { ink.width = width; ink.height = height; }
  return ratio;
}

function paint() {
  const ratio = size(), g = ink.getContext("2d");
  g.setTransform(1, 0, 0, 1, 0, 0);
  g.clearRect(0, 0, ink.width, ink.height);
  if (!video() || view !== "mask") return;
  const sx = ink.width / video().width, sy = ink.height / video().height;
  for (const one of state.objects || [])
    for (const prompt of one.prompts || [])
      if (prompt.frame === frame || prompt.frame === null) drawPrompt(g, prompt, `rgb(${one.colour.join(",")})`, sx, sy, ratio, one.id === object ? 1 : 0.55);
  for (const prompt of pending) drawPrompt(g, prompt, colourOf(prompt.object), sx, sy, ratio, 0.7);
  if (line) drawPrompt(g, { kind: "stroke", places: line, positive: tool === "brush" }, colourOf(object), sx, sy, ratio, 1);
  const box = rubber || (corner && cross ? [corner, cross] : null);
  if (box) drawPrompt(g, { kind: "box", x0: Math.min(box[0][0], box[1][0]), y0: Math.min(box[0][1], box[1][1]), x1: Math.max(box[0][0], box[1][0]), y1: Math.max(box[0][1], box[1][1]) }, colourOf(object), sx, sy, ratio, 1, true);
  else if (corner) drawPrompt(g, { kind: "point", x: corner[0], y: corner[1], positive: true }, colourOf(object), sx, sy, ratio, 1);
  if (cross && document.activeElement === frameBox) drawCross(g, cross[0] * sx, cross[1] * sy, ratio);
}

function drawPrompt(g, prompt, colour, sx, sy, ratio, alpha, dashed) {
  g.save();
  g.globalAlpha = alpha;
  g.lineJoin = g.lineCap = "round";
  const twice = (width, path) => { // a dark rim, so that it is seen on any picture
    g.lineWidth = (width + 2) * ratio; g.strokeStyle = "rgba(0,0,0,.65)"; path(); g.stroke();
    g.lineWidth = width * ratio; g.strokeStyle = prompt.positive === false ? "#fff" : colour; path(); g.stroke();
  };
  if (prompt.kind === "point") {
    const x = prompt.x * sx, y = prompt.y * sy, r = 8 * ratio;
    g.beginPath(); g.arc(x, y, r, 0, 7); g.fillStyle = prompt.positive === false ? "#1f2937" : colour; g.fill();
    g.lineWidth = 2 * ratio; g.strokeStyle = "#fff"; g.stroke();
    g.beginPath(); g.moveTo(x - r / 2, y); g.lineTo(x + r / 2, y);
    if (prompt.positive !== false) { g.moveTo(x, y - r / 2); g.lineTo(x, y + r / 2); }
    g.stroke();
  } else if (prompt.kind === "box") {
    if (dashed) g.setLineDash([6 * ratio, 4 * ratio]);
    twice(2, () => { g.beginPath(); g.rect(prompt.x0 * sx, prompt.y0 * sy, (prompt.x1 - prompt.x0) * sx, (prompt.y1 - prompt.y0) * sy); });
  } else if (prompt.kind === "stroke") {
    twice(4, () => { g.beginPath(); prompt.places.forEach(([x, y], k) => (k ? g.lineTo(x * sx, y * sy) : g.moveTo(x * sx, y * sy))); });
  }
  g.restore();
}

function drawCross(g, x, y, ratio) {
  for (const [width, colour] of [[4, "rgba(0,0,0,.6)"], [1.5, "#fff"]]) {
    g.lineWidth = width * ratio; g.strokeStyle = colour;
    g.beginPath(); g.moveTo(x - 14 * ratio, y); g.lineTo(x + 14 * ratio, y); g.moveTo(x, y - 14 * ratio); g.lineTo(x, y + 14 * ratio); g.stroke();
  }
}

// ---- pointer and keys

function placeOf(event) {
  const box = picture.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  const { width, height } = video();
  return [clamp(x * width, 0, width - 0.01), clamp(y * height, 0, height - 0.01)].map((v) => Math.round(v * 100) / 100);
}

function place(prompt) {
  if (!isSeen()) { paint(); return; }
  const whole = { ...prompt, object, frame, token: seen.token };
  pending.push(whole);
  root.dataset.busy = "yes";
  paint();
  keep();
  trigger("place", whole);
}

function placeBox(a, b) {
  corner = rubber = null;
  const [x0, x1] = [a[0], b[0]].sort((p, q) => p - q), [y0, y1] = [a[1], b[1]].sort((p, q) => p - q);
  if (x1 - x0 >= 1 && y1 - y0 >= 1) place({ kind: "box", x0, y0, x1, y1 });
  else paint();
}

let down = null; // where a press began: [x, y of the screen, place]
fit.addEventListener("pointerdown", (event) => {
  if (!video() || view !== "mask" || event.button !== 0) return;
  if (playing) play();
  if (!isSeen()) return;
  frameBox.focus({ preventScroll: true });
  down = { x: event.clientX, y: event.clientY, place: placeOf(event), moved: false };
  if (tool === "box" || tool === "brush" || tool === "erase") {
    event.preventDefault();
    fit.setPointerCapture(event.pointerId);
  }
  if (tool === "brush" || tool === "erase") { line = [down.place]; paint(); }
});
fit.addEventListener("pointermove", (event) => {
  if (!video() || view !== "mask") return;
  if (corner && !down) { rubber = [corner, placeOf(event)]; paint(); return; }
  if (!down) return;
  if (Math.hypot(event.clientX - down.x, event.clientY - down.y) > DRAG) down.moved = true;
  if (tool === "box" && down.moved) { rubber = [corner || down.place, placeOf(event)]; paint(); }
  if (line) {
    const here = placeOf(event), last = line[line.length - 1];
    if (Math.hypot(here[0] - last[0], here[1] - last[1]) >= 1 && line.length < 2000) line.push(here);
    paint();
  }
});
fit.addEventListener("pointerup", (event) => {
  if (!down) return;
  const start = down, here = placeOf(event);
  down = null;
  if (line) {
    const places = line.length > 1 ? line : [line[0], [line[0][0] + 0.01, line[0][1]]];
    line = null;
    place({ kind: "stroke", places, positive: tool === "brush" });
  } else if (tool === "box") {
    if (start.moved) placeBox(corner || start.place, here);
    else if (corner) placeBox(corner, here);
    else { corner = here; paint(); }
  } else if (!start.moved) place({ kind: "point", x: here[0], y: here[1], positive: tool === "point" });
});
fit.addEventListener("pointercancel", () => { down = line = rubber = null; paint(); });

frameBox.addEventListener("keydown", (event) => {
  if (!video() || event.target !== frameBox) return;
  const { width, height } = video(), step = (event.shiftKey ? 0.05 : 0.01) * Math.max(width, height);
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key in moves && view === "mask") {
    cross = cross || [width / 2, height / 2];
    cross = [clamp(cross[0] + moves[event.key][0], 0, width - 1), clamp(cross[1] + moves[event.key][1], 0, height - 1)];
    paint();
  } else if (event.key === "Enter" && view === "mask") {
    cross = cross || [width / 2, height / 2];
    if (tool === "box") { if (corner) placeBox(corner, cross); else { corner = cross; paint(); } }
    else if (tool === "point" || tool === "not") place({ kind: "point", x: cross[0], y: cross[1], positive: tool === "point" });
    else place({ kind: "stroke", places: [cross, [cross[0] + 0.01, cross[1]]], positive: tool === "brush" });
  } else if (event.key === "Escape") { corner = rubber = line = null; paint(); }
  else if (event.key === " ") play();
  else if ((event.ctrlKey || event.metaKey) && event.key === "z") act("undo");
  else {
    const letter = { p: "point", n: "not", b: "box", r: "brush", e: "erase" }[event.key];
    if (letter && !event.ctrlKey && !event.metaKey) choose(letter); else if (event.key === "u") nextUnsure(); else return;
  }
  event.preventDefault();
});
frameBox.addEventListener("focus", paint);
frameBox.addEventListener("blur", paint);

// ---- buttons

function choose(name) {
  tool = name; corner = rubber = line = null;
  mark("button[data-tool]", (button) => button.dataset.tool === name);
  root.dataset.tool = name;
  if (view !== "mask") look("mask");
  paint();
}

function look(name) {
  view = name;
  root.dataset.view = name;
  mark("button[data-view]", (button) => button.dataset.view === name);
  for (const one of [after, find(".vp-divider"), wipe, ...all(".vp-tag")]) one.hidden = name !== "result";
  keepSoon();
  if (video()) fetchFrame();
}

function mark(selector, isChosen) { // one of a group can be reached by Tab, the others by the arrow keys
  for (const button of all(selector)) {
    const chosen = isChosen(button);
    button.setAttribute("aria-checked", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
  }
}

for (const group of all('[role="radiogroup"]')) group.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const buttons = [...group.querySelectorAll("button:not([disabled])")], k = buttons.indexOf(document.activeElement);
  const next = buttons[(k + step + buttons.length) % buttons.length];
  if (next) { next.focus(); next.click(); }
  event.preventDefault();
});

function act(what, more) {
  if (!video()) return;
  keep();
  trigger(what, { object, frame, token: state.token, ...more });
}

const nameBox = find(".vp-name");
function rename() {
  const one = (state.objects || []).find((o) => o.id === object);
  if (!one) return;
  nameBox.value = one.name;
  nameBox.hidden = false;
  nameBox.select();
  nameBox.focus();
}
function named(keeps) {
  if (nameBox.hidden) return;
  nameBox.hidden = true;
  if (keeps && nameBox.value.trim()) act("rename", { name: nameBox.value });
}
nameBox.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== "Escape") return;
  named(event.key === "Enter");
  find('[data-do="rename"]').focus();
  event.preventDefault();
});
nameBox.addEventListener("blur", () => named(true));

function nextUnsure() {
  const states = state.timeline?.states || "", start = state.range?.[0] ?? 0;
  if (!states.includes("u")) return;
  let k = frame - start;
  while (k < states.length && states[k] === "u") k++; // out of the place where one is
  let found = states.indexOf("u", Math.max(0, k));
  if (found < 0) found = states.indexOf("u");
  go(start + found);
}

function play() {
  const button = find('[data-do="play"]');
  if (playing) { clearInterval(playing); playing = null; }
  else if (video()) {
    const [start, stop] = state.range || [0, video().frames];
    if (frame >= stop - 1) go(start, true);
    playing = setInterval(() => {
      if (loading) return;
      if (frame >= stop - 1) return play();
      go(frame + 1, true);
    }, 1000 / clamp(video().fps || 8, 1, 30));
  }
  button.setAttribute("aria-label", playing ? "Stop" : "Play");
  button.firstElementChild.textContent = playing ? "❚❚" : "▶";
  if (!playing) keepSoon();
}

root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || button.disabled) return;
  if (button.dataset.tool) choose(button.dataset.tool);
  else if (button.dataset.view) look(button.dataset.view);
  else if (button.dataset.object) pick(Number(button.dataset.object));
  else if (button.dataset.do === "play") play();
  else if (button.dataset.do === "unsure") nextUnsure();
  else if (button.dataset.do === "add") {
    const used = (state.objects || []).map((one) => one.id);
    pick(Math.max(0, ...used) + 1);
  } else if (button.dataset.do === "undo") act("undo");
  else if (button.dataset.do === "rename") rename();
  else if (button.dataset.do === "forget") act("forget");
});

scrub.addEventListener("input", () => { if (playing) play(); go(Number(scrub.value)); });
scrub.addEventListener("change", keep);
wipe.addEventListener("input", wiped);
function wiped() {
  const part = Number(wipe.value) / 10;
  after.style.clipPath = `inset(0 0 0 ${part}%)`;
  find(".vp-divider").style.left = `${part}%`;
}

// ---- objects

function pick(id) {
  object = id;
  listObjects();
  keep();
  paint();
}

function listObjects() {
  const box = find(".vp-objects"), known = state.objects || [];
  find(".vp-own-mask").hidden = !state.own_mask;
  box.hidden = find('[data-do="add"]').hidden = Boolean(state.own_mask);
  const list = known.some((one) => one.id === object) ? known : [...known, { id: object, name: `Object ${object}`, colour: state.colours?.[(object - 1) % (state.colours?.length || 1)] || [59, 130, 246], note: "not marked yet" }];
  box.replaceChildren(...list.map((one) => {
    const button = document.createElement("button"), dot = document.createElement("i");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.dataset.object = one.id;
    button.title = one.note || "";
    dot.className = "vp-dot";
    dot.style.background = `rgb(${one.colour.join(",")})`;
    button.append(dot, document.createTextNode(one.name || `Object ${one.id}`));
    return button;
  }));
  mark("[data-object]", (button) => Number(button.dataset.object) === object);
  find('[data-do="rename"]').hidden = Boolean(state.own_mask);
  find('[data-do="rename"]').disabled = !known.some((one) => one.id === object);
}

// ---- the time line

function paintStrip() {
  const ratio = window.devicePixelRatio || 1, box = strip.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (strip.width !== width || strip.height !== height) { strip.width = width; strip.height = height; }
  const g = strip.getContext("2d"), style = getComputedStyle(root);
  const ink = (name) => style.getPropertyValue(name).trim();
  g.clearRect(0, 0, width, height);
  if (!video()) return;
  const count = video().frames, each = width / count, [start, stop] = state.range || [0, count];
  g.fillStyle = ink("--vp-track"); g.fillRect(0, 0, width, height);
  g.fillStyle = ink("--vp-range"); g.fillRect(start * each, 0, (stop - start) * each, height);
  const states = state.timeline?.states || "", confidence = state.timeline?.confidence || "";
  const colours = { s: ink("--vp-sure"), u: ink("--vp-unsure"), a: ink("--vp-absent") };
  const room = height - 10 * ratio; // the foot has the marks
  for (let k = 0; k < states.length; k++) {
    const colour = colours[states[k]];
    if (!colour) continue;
    const tall = states[k] === "a" ? 2 * ratio : room * (0.2 + (0.8 * Number(confidence[k] || 0)) / 9);
    g.fillStyle = colour;
    const left = Math.floor((start + k) * each), wide = Math.max(1, Math.floor((start + k + 1) * each) - left);
    g.fillRect(left, room - tall, wide, tall);
    if (states[k] === "u") g.fillRect(left, height - 4 * ratio, Math.max(wide, 2), 4 * ratio);
  }
  for (const one of state.objects || []) for (const at of new Set((one.prompts || []).map((prompt) => prompt.frame))) {
    if (at === null) continue;
    g.beginPath(); g.arc((at + 0.5) * each, height - 6 * ratio, 3.5 * ratio, 0, 7);
    g.fillStyle = `rgb(${one.colour.join(",")})`; g.fill(); g.lineWidth = ratio; g.strokeStyle = ink("--vp-paper"); g.stroke();
  }
  const x = (frame + 0.5) * each;
  g.fillStyle = ink("--vp-now"); g.fillRect(x - ratio, 0, 2 * ratio, height);
}

// ---- what the server says

let current = null; // the page's project; null before the first answer
function arrived() {
  const value = props.value || {}, project = value.project || "";
  if (current !== null && project !== current && !value.switched) { // an answer that another one has overtaken
    props.value = state;
    trigger("refresh");
    return;
  }
  if ("project" in value) current = project;
  state = value;
  const has = video();
  root.dataset.empty = has ? "no" : "yes";
  root.dataset.project = state.project || "";
  frameBox.setAttribute("aria-label", has ? "Video frame: draw here" : "Video frame: no video yet");
  for (const button of all("button")) if (!button.dataset.view) button.disabled = !has;
  for (const button of all("button[data-view]")) button.disabled = !has || (button.dataset.view === "result" && state.result == null);
  find('button[data-view="result"]').title = state.result == null ? "There is no result yet" : "The original and the result, with a slider";
  scrub.disabled = !has;
  if (!has) { picture.removeAttribute("src"); after.removeAttribute("src"); frame = 0; scrub.value = "0"; shownVersion = null; shownProject = state.project; seen = null; failed(""); object = 1; look("mask"); tell(); listObjects(); for (const button of all("[data-object]")) button.disabled = true; paint(); paintStrip(); return; }
  scrub.max = String(has.frames - 1);
  fit.style.setProperty("--vp-ratio", String(has.width / has.height));
  fit.style.aspectRatio = `${has.width} / ${has.height}`;
  if (state.project !== shownProject) { object = state.object || 1; frame = state.frame || 0; jumped = state.jump ?? -1; shownProject = state.project; }
  const moved = state.jump != null && state.jump !== jumped;
  if (moved) { jumped = state.jump; if (state.frame != null) frame = state.frame; if (state.object != null) object = state.object; }
  if (moved && state.view && state.view !== view) look(state.view);
  if (view === "result" && state.result == null) look("mask");
  frame = clamp(frame, 0, has.frames - 1);
  scrub.value = String(frame);
  listObjects();
  const found = state.timeline?.states || "";
  find(".vp-legend").hidden = !/[sua]/.test(found);
  find(".vp-next").hidden = !found.includes("u");
  tell();
  if (state.version !== shownVersion || moved) { shownVersion = state.version; answered = state.answer; fetchFrame(); }
  else if (state.answer !== answered) { answered = state.answer; pending = []; root.dataset.busy = "no"; }
  paint();
  paintStrip();
  keepSoon();
}

watch("value", arrived);
new ResizeObserver(() => { paint(); paintStrip(); }).observe(frameBox);
picture.addEventListener("load", paint);
new MutationObserver(paintStrip).observe(document.body, { attributes: true, attributeFilter: ["class"] });
root.dataset.tool = tool;
root.dataset.view = view;
mark("button[data-tool]", (button) => button.dataset.tool === tool);
mark("button[data-view]", (button) => button.dataset.view === view);
wiped();
arrived();
