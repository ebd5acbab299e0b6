"use strict";

// Numbers as metrics.json has them: null for none, "inf" for infinity.
const number = (value) => (value === null ? NaN : value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);

function format(value, digits) {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  if (value === 0) return value.toFixed(digits);
  if (Math.abs(value) < 1e-4) return value.toExponential(1);
  return value.toFixed(Math.max(digits, 1 - Math.floor(Math.log10(Math.abs(value)))));
}

// The table: sorting and finding; the players follow its order.
const table = document.getElementById("all");
const cards = document.getElementById("cards");
const heads = [...table.tHead.rows[0].cells];

function sortKey(row, column) {
  const cell = row.cells[column];
  if ("text" in cell.dataset) return cell.dataset.text;
  return cell.dataset.sort === "" ? NaN : number(cell.dataset.sort === "inf" || cell.dataset.sort === "-inf" ? cell.dataset.sort : Number(cell.dataset.sort));
}

function compare(a, b) {
  if (typeof a === "string") return a.localeCompare(b, undefined, { numeric: true });
  return a === b ? 0 : a < b ? -1 : 1;
}

function sortBy(column) {
  const up = heads[column].getAttribute("aria-sort") !== "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: sortKey(row, column) }));
  rows.sort((a, b) => {
    // Videos without a number come last either way.
    const [noA, noB] = [Number.isNaN(a.key), Number.isNaN(b.key)];
    if (noA || noB) return noA - noB;
    return up ? compare(a.key, b.key) : compare(b.key, a.key);
  });
  for (const { row } of rows) {
    table.tBodies[0].append(row);
    if (row.dataset.card) cards.append(document.getElementById(row.dataset.card));
  }
}

heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => sortBy(column)));

document.getElementById("find").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    row.hidden = !row.cells[1].dataset.text.toLowerCase().includes(wanted);
    if (row.dataset.card) document.getElementById(row.dataset.card).hidden = row.hidden;
  }
  const left = rows.filter((row) => !row.hidden).length;
  document.getElementById("found").textContent = wanted ? `${left} of ${rows.length}` : "";
});

// Plots
const WIDTH = 300, HEIGHT = 84, EDGE = 8;

function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

class Plot {
  // One metric over the frames; `onPick(frame, kept)` is told where the pointer is, and where it was clicked.
  constructor(data, frames, borders, onPick) {
    this.values = data.values.map(number);
    this.digits = data.digits;
    this.unit = data.unit ? ` ${data.unit}` : "";
    this.pairs = data.pairs;
    this.frames = Math.max(frames, this.values.length);
    this.root = element("div", "plot");
    const head = element("div", "head");
    this.shown = element("b", "");
    head.append(element("span", "", data.label), this.shown);
    const area = element("div", "area"), ends = element("div", "ends");
    const finite = this.values.filter(Number.isFinite);
    const [low, high] = finite.length ? [finite.reduce((a, b) => Math.min(a, b)), finite.reduce((a, b) => Math.max(a, b))] : [0, 0];
    if (finite.length) ends.append(element("span", "", format(high, this.digits)));
    if (low < high) ends.append(element("span", "", format(low, this.digits)));
    area.append(ends, this.draw(low, high, borders, onPick));
    this.root.append(head, area);
    this.show(0);
  }

  x(frame) {
    return this.frames > 1 ? 3 + ((WIDTH - 6) * frame) / (this.frames - 1) : WIDTH / 2;
  }

  draw(low, high, borders, onPick) {
    const image = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const y = (value) => (high > low ? HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * (value - low)) / (high - low) : HEIGHT / 2);
    for (const frame of borders) image.append(svg("line", { class: "border", x1: this.x(frame), x2: this.x(frame), y1: 0, y2: HEIGHT }));
    let line = "", infinite = "", drawing = false;
    this.values.forEach((value, frame) => {
      const x = this.x(frame).toFixed(2);
      if (Number.isFinite(value)) {
        // A point alone is a line of no length with round ends.
        line += drawing ? `L${x} ${y(value).toFixed(2)}` : `M${x} ${y(value).toFixed(2)}h0`;
        drawing = true;
        return;
      }
      drawing = false;
      if (!Number.isNaN(value)) infinite += value > 0 ? `M${x} 0v4` : `M${x} ${HEIGHT}v-4`;
    });
    image.append(svg("path", { class: "values", d: line }), svg("path", { class: "infinite", d: infinite }));
    this.now = svg("line", { class: "now", y1: 0, y2: HEIGHT });
    image.append(this.now);
    const at = (event) => {
      const box = image.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width * WIDTH - 3) / (WIDTH - 6);
      return Math.min(this.frames - 1, Math.max(0, Math.round(share * (this.frames - 1))));
    };
    image.addEventListener("pointermove", (event) => onPick(at(event), false));
    image.addEventListener("pointerleave", () => onPick(null, false));
    image.addEventListener("click", (event) => onPick(at(event), true));
    return image;
  }

  show(frame) {
    const value = frame < this.values.length ? this.values[frame] : NaN;
    const where = this.pairs ? `${frame + 1}–${frame + 2}` : `${frame + 1}`;
    this.shown.textContent = `${format(value, this.digits)}${this.unit}`;
    this.root.title = `frame${this.pairs ? "s" : ""} ${where}`;
    this.now.setAttribute("x1", this.x(frame));
    this.now.setAttribute("x2", this.x(frame));
  }
}

// Players: the first leads, the others follow.
class Card {
  constructor(root) {
    this.root = root;
    this.data = JSON.parse(root.querySelector(".data").textContent);
    this.videos = [...root.querySelectorAll("video")];
    this.leader = this.videos[0];
    this.outlines = [...root.querySelectorAll(".outline path")];
    this.plots = [];
    this.frame = 0;
    this.playing = false;
    if (this.leader) this.connect();
  }

  connect() {
    for (const name of ["play", "scrub", "frame", "speed", "loop"]) this[`${name}Control`] = this.root.querySelector(`.${name}`);
    this.playControl.addEventListener("click", () => this.toggle());
    this.scrubControl.addEventListener("input", () => this.seek(Number(this.scrubControl.value)));
    this.speedControl.addEventListener("change", () => this.videos.forEach((video) => { video.playbackRate = Number(this.speedControl.value); }));
    this.leader.addEventListener("loadedmetadata", () => {
      if (!this.data.frames) this.data.frames = Math.max(1, Math.round(this.leader.duration * this.data.fps));
      this.scrubControl.max = this.data.frames - 1;
      this.show();
    });
    this.root.querySelector(".outlined")?.addEventListener("change", (event) => this.root.classList.toggle("plain", !event.target.checked));
    this.leader.addEventListener("ended", () => this.ended());
    for (const video of this.videos) {
      video.addEventListener("click", () => this.toggle());
      video.addEventListener("dblclick", () => video.requestFullscreen?.());
      video.addEventListener("error", () => video.parentElement.querySelector("figcaption").append(" (cannot be played here)"), { once: true });
    }
  }

  // Near the screen: ask for the videos' first frames and draw the plots.
  open() {
    if (this.opened) return;
    this.opened = true;
    for (const video of this.videos) {
      // A seek makes the browser show the frame; metadata alone leaves the player black.
      video.addEventListener("loadedmetadata", () => { video.currentTime = this.time(this.frame); }, { once: true });
      video.preload = "metadata";
      video.src = video.dataset.src;
    }
    const pick = (frame, kept) => {
      if (kept && this.leader) this.seek(frame);
      else this.plots.forEach((plot) => plot.show(frame ?? this.frame));
    };
    this.plots = this.data.plots.map((plot) => new Plot(plot, this.data.frames, this.data.borders, pick));
    this.root.querySelector(".plots").append(...this.plots.map((plot) => plot.root));
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    all.forEach((card) => card !== this && card.pause());
    if (this.leader.ended || this.frame >= this.data.frames - 1) this.seek(0);
    this.setPlaying(true);
    for (const video of this.videos) video.play().catch(() => video === this.leader && this.pause());
    requestAnimationFrame(() => this.follow());
  }

  pause() {
    if (!this.playing) return;
    this.setPlaying(false);
    this.videos.forEach((video) => video.pause());
    this.seek(this.frame);
  }

  setPlaying(playing) {
    this.playing = playing;
    this.playControl.textContent = playing ? "❚❚" : "▶";
    this.playControl.setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  ended() {
    if (!this.playing) return;
    if (!this.loopControl.checked) return this.pause();
    for (const video of this.videos) {
      video.currentTime = 0;
      video.play().catch(() => {});
    }
  }

  // While playing: keep the others within a frame or so of the leader.
  follow() {
    if (!this.playing) return;
    const time = this.leader.currentTime;
    for (const video of this.videos.slice(1)) {
      if (!video.seeking && time < video.duration && Math.abs(video.currentTime - time) > Math.max(0.06, 1 / this.data.fps)) video.currentTime = time;
    }
    this.frame = Math.min(this.data.frames - 1, Math.max(0, Math.floor(time * this.data.fps + 0.01)));
    this.show();
    requestAnimationFrame(() => this.follow());
  }

  seek(frame) {
    this.frame = Math.min(Math.max(frame, 0), Math.max(this.data.frames - 1, 0));
    for (const video of this.videos) video.currentTime = this.time(this.frame);
    this.show();
  }

  // The middle of the frame: its beginning may round to the one before.
  time(frame) {
    return (frame + 0.5) / this.data.fps;
  }

  show() {
    this.scrubControl.value = this.frame;
    this.frameControl.textContent = `${this.frame + 1} / ${this.data.frames}`;
    this.plots.forEach((plot) => plot.show(this.frame));
    const outline = this.data.outlines[this.frame] ?? "";
    this.outlines.forEach((path) => path.setAttribute("d", outline));
  }
}

const all = [...document.querySelectorAll(".card")].map((root) => new Card(root));
const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((entry) => entry.isIntersecting)) {
      near.unobserve(entry.target);
      all.find((card) => card.root === entry.target).open();
    }
  },
  { rootMargin: "600px" },
);
all.forEach((card) => near.observe(card.root));
window.addEventListener("beforeprint", () => all.forEach((card) => card.open()));
