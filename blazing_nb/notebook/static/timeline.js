// Attempts as bars in lanes; a slider and a clock that go back in time, and replay.
const ROWS_A_LANE = 8, ROW = 9, LANE = 18, SPANS = 3000;

KINDS.timeline = (panel, box, view) => {
  const bar = add(box, "div", "bz-scrub");
  const play = add(bar, "button", "bz-button", "▶ replay");
  play.type = "button";
  play.setAttribute("aria-label", "replay from the chosen moment");
  const speed = add(bar, "select", "bz-select");
  speed.setAttribute("aria-label", "speed of the replay");
  [1, 5, 10, 60].forEach((n) => (add(speed, "option", "", n + "×").value = n));
  const slider = add(bar, "input");
  slider.type = "range";
  slider.min = 0;
  slider.max = 1000;
  slider.value = 1000;
  slider.setAttribute("aria-label", "moment to look at");
  const at = add(bar, "input", "bz-field");
  at.type = "time";
  at.step = 1;
  at.style.width = "auto";
  at.setAttribute("aria-label", "time of day to look at");
  const now = add(bar, "button", "bz-button", "live");
  now.type = "button";
  now.setAttribute("aria-label", "go back to now");
  const said = add(box, "output", "bz-muted");
  const on = surface(box, 60, panel.title);
  on.canvas.dataset.time = "1";
  const spans = new Map();
  let playing = 0, last = 0, height = 60, from = 0, to = 0;

  function hold(t) {
    view.held = t !== null;
    view.cursor = t;
    if (t === null) { view.end = undefined; playing = 0; }
    play.textContent = playing ? "❚❚ pause" : "▶ replay";
    view.schedule();
  }
  // The slider reaches over what was there when it was taken.
  function freezeRange() {
    if (!view.held) { to = view.now; from = Math.max(view.now - view.range * 1000, Math.min(...[...spans.values()].map((s) => s[4]), view.now - 1000)); }
  }
  slider.oninput = () => { freezeRange(); playing = 0; hold(from + ((to - from) * slider.value) / 1000); };
  at.onchange = () => {
    const [h, m, s = 0] = at.value.split(":").map(Number);
    const then = new Date(view.now);
    then.setHours(h, m, s, 0);
    freezeRange();
    playing = 0;
    hold(then.getTime() > view.now ? then.getTime() - 86400e3 : then.getTime());
  };
  now.onclick = () => { slider.value = 1000; hold(null); };
  play.onclick = () => {
    if (playing) { playing = 0; hold(view.cursor); return; }
    freezeRange();
    const begin = view.held && view.cursor < to ? view.cursor : from;
    last = performance.now();
    playing = setInterval(() => {
      const t = performance.now(), next = view.cursor + (t - last) * Number(speed.value);
      last = t;
      if (next >= to) { clearInterval(playing); now.onclick(); } else { slider.value = (1000 * (next - from)) / (to - from); view.end = next; hold(next); }
      if (!playing) clearInterval(playing);
    }, 50);
    hold(begin);
  };

  function lanes(shown) { // overlapping attempts of a worker lie in rows of its lane
    const made = new Map();
    for (const span of shown.sort((a, b) => a[4] - b[4])) {
      const rows = made.get(span[1]) ?? made.set(span[1], { ends: [], spans: [] }).get(span[1]);
      let row = rows.ends.findIndex((end) => end <= span[4]);
      if (row < 0) row = rows.ends.length < ROWS_A_LANE ? rows.ends.length : rows.spans.length % ROWS_A_LANE;
      rows.ends[row] = span[5];
      rows.spans.push([row, span]);
    }
    return [...made].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  return {
    put(news, whole) {
      if (whole) spans.clear();
      for (const span of news) spans.set(span[0] + "#" + span[7], span);
      while (spans.size > SPANS) spans.delete(spans.keys().next().value);
    },
    first: () => Math.min(...[...spans.values()].map((span) => span[4])),
    end() { clearInterval(playing); },
    draw(view) {
      const [start, end] = view.span(), then = view.held ? view.cursor : null;
      const shown = [...spans.values()].filter((s) => s[5] >= start && s[4] <= end);
      const rows = lanes(shown);
      const wanted = 24 + rows.reduce((sum, [, lane]) => sum + LANE + ROW * Math.max(1, lane.ends.length), 0);
      if (wanted !== height) {
        height = wanted;
        on.canvas.style.height = height + "px";
      }
      Object.assign(on, on.begin(height));
      const { g } = on, { x, left, right } = axes(on, view, height - 20);
      let y = 0, running = [];
      for (const [name, lane] of rows) {
        g.fillStyle = on.css("muted");
        g.textAlign = "left";
        g.fillText(name, left, y + 12);
        for (const [row, span] of lane.spans) {
          const late = then !== null && span[5] > then;
          if (then !== null && span[4] > then) continue;
          if (late || span[3] === "RUNNING") running.push(span[0]);
          const x0 = Math.max(left, x(span[4])), x1 = Math.min(right, x(late ? then : span[5]));
          g.fillStyle = on.css(late ? "running" : span[3].toLowerCase());
          g.fillRect(x0, y + LANE + row * ROW, Math.max(1.5, x1 - x0), ROW - 1);
          if (span[2] > 1 && x1 - x0 > 10) { g.fillStyle = on.css("card"); g.fillText(String(span[2]), x0 + 2, y + LANE + row * ROW + 8); }
        }
        y += LANE + ROW * Math.max(1, lane.ends.length);
      }
      cursor(on, view, x, 0, height - 20);
      const where = view.cursor ?? view.now;
      const near = view.cursor === null ? [] : shown.filter((s) => s[4] <= where && s[5] >= where).slice(0, 3);
      said.textContent = view.cursor === null
        ? shown.length.toLocaleString("en-US") + " attempts; move over them, or choose a moment"
        : clock(where) + ": " + (then !== null ? running.length + " running" : near.length + " here") + (near.length ? ": " + near.map((s) => s[0] + " " + s[3] + (s[2] > 1 ? " (attempt " + s[2] + ")" : "") + (s[6] ? " " + s[6] : "")).join("; ") : "");
      if (!view.held && document.activeElement !== at) at.value = new Date(view.now).toTimeString().slice(0, 8);
      else if (view.held && document.activeElement !== at) at.value = new Date(view.cursor).toTimeString().slice(0, 8);
      view.root.dataset.moment = view.held ? Math.round(view.cursor) : "";
      view.root.dataset.spans = shown.length;
    },
  };
};
