// One canvas kit for every live view. Python sends the newest state and only what is new of the charts; the ring
// buffers are here. A view asks {"type": "hello"} when it (re)connects, and gets everything.
const RING = 4000;
const RANGES = [[120, "2 min"], [600, "10 min"], [3600, "1 h"]];
const KINDS = {};

function add(parent, tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  if (["button", "input", "select"].includes(tag)) made.dataset.lmSuppressShortcuts = "true"; // its keys are no commands of the notebook's
  parent.appendChild(made);
  return made;
}

// A canvas as wide as its box, sharp on every screen. `css` resolves the theme's colours, once a second.
function surface(box, height, label) {
  const canvas = add(box, "canvas", "bz-canvas");
  canvas.style.height = height + "px";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const g = canvas.getContext("2d");
  let colors = {}, until = 0;
  return {
    canvas,
    begin(tall = height) {
      const ratio = window.devicePixelRatio || 1, width = Math.max(120, box.clientWidth);
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(tall * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(tall * ratio);
      }
      if (performance.now() > until) { colors = {}; until = performance.now() + 1000; }
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      g.clearRect(0, 0, width, tall);
      g.font = "11px system-ui, sans-serif";
      return { g, width, height: tall };
    },
    css(name) {
      return (colors[name] ??= getComputedStyle(canvas).getPropertyValue("--" + name).trim() || "#888");
    },
  };
}

const number = (v) => v === null || v === undefined ? "–" : v >= 100 || Number.isInteger(v) ? Math.round(v).toLocaleString() : v >= 1 ? v.toFixed(1) : v.toPrecision(2);
// At an axis there is little room.
const short = (v) => v >= 1e6 ? v / 1e6 + "M" : v >= 1e4 ? v / 1e3 + "k" : Number(v.toPrecision(3)).toLocaleString();
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((s) => s * power).find((s) => s >= value * 0.999);
}

// Time along x with its ticks; where y lies is the caller's.
function axes(on, view, bottom) {
  const { g, width } = on, left = 46, right = width - 6;
  const [start, end] = view.span();
  const x = (t) => left + ((right - left) * (t - start)) / (end - start);
  g.fillStyle = on.css("muted");
  g.textAlign = "center";
  const tick = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900].find((s) => (end - start) / 1000 / s <= width / 110) * 1000;
  for (let t = Math.ceil(start / tick) * tick; t < end; t += tick) if (x(t) < right - 20) g.fillText(clock(t), x(t), bottom + 14);
  g.textAlign = "right";
  return { x, left, right, start, end };
}

function level(on, at, left, right, text) {
  on.g.strokeStyle = on.css("grid");
  on.g.beginPath();
  on.g.moveTo(left, at);
  on.g.lineTo(right, at);
  on.g.stroke();
  on.g.fillText(text, left - 5, at + 4);
}

function cursor(on, view, x, top, bottom) {
  if (view.cursor === null) return;
  on.g.strokeStyle = on.css("fg");
  on.g.beginPath();
  on.g.moveTo(x(view.cursor), top);
  on.g.lineTo(x(view.cursor), bottom);
  on.g.stroke();
}

// Rows [moment, value...]; a ring that halves its older half when it is full.
function ring() {
  let rows = [];
  return {
    get rows() { return rows; },
    get first() { return rows.length ? rows[0][0] : Infinity; },
    put(news, whole) {
      if (whole) rows = [];
      const last = rows.length ? rows[rows.length - 1][0] : -Infinity;
      for (const row of news) if (row[0] > last) rows.push(row);
      if (rows.length > RING) rows = rows.filter((_, i) => i > RING / 2 || i % 2);
    },
    at(t) {
      let low = 0, high = rows.length;
      while (low < high) { const mid = (low + high) >> 1; if (rows[mid][0] <= t) low = mid + 1; else high = mid; }
      return rows[low - 1];
    },
    within(start, end) {
      let first = rows.length;
      while (first > 0 && rows[first - 1][0] >= start) first -= 1;
      return rows.slice(Math.max(0, first - 1)).filter((row) => row[0] <= end);
    },
  };
}

KINDS.markup = (panel, box) => {
  const body = add(box, "div", "bz-markup");
  return {
    put(news) {
      if (news === null) return;
      body.innerHTML = news; // Python has escaped what users wrote
      box.hidden = !news;
    },
    draw() {},
  };
};

function live({ model, el }) {
  const root = add(el, "div", "bz bz-live");
  root.setAttribute("role", "group");
  const head = add(root, "div", "bz-head");
  const title = add(head, "b"), summary = add(head, "span", "bz-summary bz-muted");
  const ranges = add(head, "span", "bz-ranges");
  const body = add(root, "div", "bz-panels");
  const view = {
    root, model, cursor: null, held: false, range: 3600, now: Date.now(), panels: [],
    ask: (message) => model.send(message),
    span() { // the range, but no longer than there is something to show, and no less than a minute
      const end = this.end ?? this.now, first = Math.min(...this.panels.map((panel) => panel.first?.() ?? Infinity));
      return [Math.max(end - this.range * 1000, Math.min(first, end - 60e3)), end];
    },
    schedule,
  };
  let latest = null, scheduled = false, frames = 0, lags = [];

  RANGES.forEach(([seconds, text]) => {
    const button = add(ranges, "button", "bz-button", text);
    button.type = "button";
    button.setAttribute("aria-label", "show the last " + text);
    button.onclick = () => { view.range = seconds; mark(); schedule(); };
    button.dataset.seconds = seconds;
  });
  const mark = () => [...ranges.children].forEach((b) => b.setAttribute("aria-pressed", String(Number(b.dataset.seconds) === view.range)));

  body.onpointermove = (event) => {
    const canvas = event.target.closest("canvas[data-time]");
    if (!canvas || view.held) return;
    const [start, end] = view.span(), box = canvas.getBoundingClientRect();
    view.cursor = Math.min(end, Math.max(start, start + ((end - start) * (event.clientX - box.left - 46)) / (box.width - 52)));
    schedule();
  };
  body.onpointerleave = () => { if (!view.held) { view.cursor = null; schedule(); } };

  function build(message) {
    body.replaceChildren();
    root.dataset.testid = "bz-" + message.name;
    ranges.hidden = !message.panels.some((panel) => panel.timed);
    view.range = message.range;
    view.panels = message.panels.map((panel) => {
      const box = add(body, "section", "bz-panel" + (panel.wide ? " bz-wide" : ""));
      box.setAttribute("aria-label", panel.title);
      if (panel.title) add(box, "h4", "", panel.title);
      const made = KINDS[panel.kind](panel, box, view);
      made.put(panel.data, true);
      return made;
    });
    mark();
  }

  function paint() {
    scheduled = false;
    if (!latest) return;
    title.textContent = latest.title;
    summary.textContent = latest.summary;
    root.setAttribute("aria-label", latest.title + ": " + latest.summary);
    view.panels.forEach((panel) => panel.draw(view));
    const data = root.dataset;
    if (data.seq !== String(latest.seq)) {
      frames += 1;
      if (frames === 1) data.painted = Date.now() - model.get("shown_ms"); // since show(), for tests
      lags.push(Date.now() - latest.ts);
      if (lags.length > 400) lags.shift();
      data.lag95 = [...lags].sort((a, b) => a - b)[Math.floor(0.95 * (lags.length - 1))].toFixed(0);
      data.lag50 = [...lags].sort((a, b) => a - b)[Math.floor(0.5 * (lags.length - 1))].toFixed(0);
    }
    Object.assign(data, { seq: latest.seq, ts: latest.ts, frames, ...latest.facts });
  }

  function schedule() {
    if (scheduled) return;
    scheduled = true;
    if (document.hidden) setTimeout(paint, 1000);
    else requestAnimationFrame(paint);
  }

  function receive(message) {
    if (message.type === "snapshot") build(message);
    else if (message.type === "state" && view.panels.length) view.panels.forEach((panel, i) => panel.put(message.news[i], false));
    else if (message.type === "answer") return view.panels.forEach((panel) => panel.answer?.(message));
    else return;
    latest = message;
    view.now = message.at;
    schedule();
  }

  model.on("msg:custom", receive);
  const resized = new ResizeObserver(schedule);
  resized.observe(root);
  model.send({ type: "hello" });
  return () => { model.off("msg:custom", receive); resized.disconnect(); view.panels.forEach((panel) => panel.end?.()); };
}
