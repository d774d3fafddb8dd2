// Lines or stacked areas over time, and a heat map of log-scaled histograms over time.
function legend(box, names, colors) {
  const list = add(box, "div", "bz-legend");
  return names.map((name, i) => {
    const item = add(list, "span", "bz-key");
    const dot = add(item, "i");
    dot.style.background = "var(--" + colors[i] + ")";
    item.append(name + " ");
    return add(item, "output");
  });
}

KINDS.series = (panel, box) => {
  const values = legend(box, panel.names, panel.colors);
  const on = surface(box, panel.height, panel.title);
  on.canvas.dataset.time = "1";
  const data = ring(), count = panel.names.length;

  function binned(rows, x) { // one row a pixel: the last wins, as it does on the screen
    const kept = [];
    let column = -1;
    for (const row of rows) {
      const c = Math.round(x(row[0]));
      if (c === column) kept[kept.length - 1] = row;
      else kept.push(row);
      column = c;
    }
    return kept;
  }

  return {
    put(news, whole) { data.put(news, whole); },
    first: () => data.first,
    draw(view) {
      const { g, height } = Object.assign(on, on.begin());
      const top = 8, bottom = height - 20;
      const { x, left, right, start, end } = axes(on, view, bottom);
      const rows = binned(data.within(start, end), x);
      const shown = view.cursor === null ? data.rows[data.rows.length - 1] : data.at(view.cursor);
      values.forEach((output, i) => (output.textContent = number(shown?.[i + 1])));
      const peak = Math.max(...rows.map((r) => panel.stacked ? r.slice(1).reduce((a, b) => a + b, 0) : Math.max(...r.slice(1))), 0);
      const low = panel.log ? 0.1 : 0;
      const tick = round(Math.max(peak, panel.log ? 1 : 0.5) / 4);
      const high = panel.log ? Math.max(10, 10 ** Math.ceil(Math.log10(peak || 1))) : tick * Math.ceil(Math.max(peak, 0.5) / tick);
      const y = panel.log
        ? (v) => bottom - ((bottom - top) * Math.log10(Math.max(v ?? low, low) / low)) / Math.log10(high / low)
        : (v) => bottom - ((bottom - top) * v) / high;
      if (panel.log) for (let v = low; v <= high * 1.001; v *= 10) level(on, y(v), left, right, short(v));
      else for (let v = 0; v <= high * 1.001; v += tick) level(on, y(v), left, right, short(v));
      g.save();
      g.beginPath();
      g.rect(left, 0, right - left, height);
      g.clip();
      let below = rows.map(() => 0);
      for (let k = 0; k < count; k += 1) {
        const above = rows.map((r, i) => (panel.stacked ? below[i] : 0) + (r[k + 1] ?? 0));
        g.beginPath();
        let pen = false;
        rows.forEach((r, i) => {
          if (r[k + 1] === null) { pen = false; return; }
          pen ? g.lineTo(x(r[0]), y(above[i])) : g.moveTo(x(r[0]), y(above[i]));
          pen = true;
        });
        if (panel.stacked) {
          for (let i = rows.length - 1; i >= 0; i -= 1) g.lineTo(x(rows[i][0]), y(below[i]));
          g.fillStyle = on.css(panel.colors[k]);
          g.globalAlpha = 0.85;
          g.fill();
          g.globalAlpha = 1;
          below = above;
        } else {
          g.strokeStyle = on.css(panel.colors[k]);
          g.lineWidth = 1.6;
          g.setLineDash(panel.dashes?.[k] ?? []);
          g.stroke();
          g.setLineDash([]);
          g.lineWidth = 1;
        }
      }
      cursor(on, view, x, top, bottom);
      g.restore();
    },
  };
};

// Rows [moment, span in ms, [[bucket, n], ...] for each name]; bucket b begins at 2^(b/4) microseconds.
KINDS.heat = (panel, box, view) => {
  const bar = add(box, "div", "bz-legend");
  const choice = add(bar, "select", "bz-select");
  choice.setAttribute("aria-label", "which time the heat map shows");
  panel.names.forEach((name) => (add(choice, "option", "", name).value = name));
  choice.value = panel.names[panel.names.length - 1];
  choice.onchange = () => view.schedule();
  const said = add(bar, "output", "bz-muted");
  const on = surface(box, panel.height, panel.title);
  on.canvas.dataset.time = "1";
  const data = ring();
  return {
    put(news, whole) { data.put(news, whole); },
    first: () => data.first,
    draw(view) {
      const { g, height } = Object.assign(on, on.begin());
      const top = 8, bottom = height - 20, size = 4;
      const { x, left, right, start, end } = axes(on, view, bottom);
      const which = panel.names.indexOf(choice.value);
      const cells = new Map();
      let low = 40, high = 60, most = 1, all = 0;
      for (const row of data.within(start, end)) {
        const first = Math.floor(Math.max(left, x(row[0] - row[1])) / size), last = Math.max(first, Math.floor((x(row[0]) - 0.01) / size));
        for (const [bucket, n] of row[2][which]) {
          all += n;
          low = Math.min(low, bucket);
          high = Math.max(high, bucket + 1);
          for (let c = first; c <= last; c += 1) {
            const sum = (cells.get(c * 1000 + bucket) ?? 0) + n / (last - first + 1);
            cells.set(c * 1000 + bucket, sum);
            most = Math.max(most, sum);
          }
        }
      }
      const y = (b) => bottom - ((bottom - top) * (b - low)) / (high - low);
      for (let us = 1; us <= 1e10; us *= 10) {
        const b = 4 * Math.log2(us);
        if (b >= low && b <= high) level(on, y(b), left, right, us < 1000 ? us + " µs" : us < 1e6 ? us / 1000 + " ms" : us / 1e6 + " s");
      }
      const rgb = on.css("heat");
      for (const [key, n] of cells) {
        const bucket = key % 1000;
        g.fillStyle = "rgba(" + rgb + "," + (0.12 + 0.88 * Math.sqrt(n / most)).toFixed(2) + ")";
        g.fillRect(((key - bucket) / 1000) * size, y(bucket + 1), size, Math.max(1, y(bucket) - y(bucket + 1)));
      }
      said.textContent = all.toLocaleString() + " in this range";
      cursor(on, view, x, top, bottom);
    },
  };
};
