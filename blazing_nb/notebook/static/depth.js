// Live segment depths. The ring buffer is here; Python sends the newest state and one history point a time.
const LIMIT = 600;
const PARTS = ["waiting", "parked", "claimed"];
const SVG = "http://www.w3.org/2000/svg";

function element(parent, tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}

function paintBars(body, segments) {
  const top = Math.max(1, ...segments.map((s) => s[1] + s[2] + s[3]));
  while (body.children.length > segments.length) body.lastChild.remove();
  segments.forEach((segment, i) => {
    let row = body.children[i];
    if (!row) {
      row = element(body, "div", "bz-row");
      element(row, "span", "bz-name");
      const track = element(row, "span", "bz-track");
      PARTS.forEach((part) => element(track, "span", "bz-bar bz-" + part));
      element(row, "span", "bz-count");
    }
    row.children[0].textContent = segment[0];
    PARTS.forEach((part, k) => {
      const bar = row.children[1].children[k];
      bar.style.width = (100 * segment[k + 1]) / top + "%";
      bar.title = part + " " + segment[k + 1];
    });
    row.children[2].textContent = (segment[1] + segment[2] + segment[3]).toLocaleString();
  });
}

function paintHistory(svg, points) {
  const end = points[points.length - 1][0];
  const start = Math.min(points[0][0], end - 1000);
  const top = Math.max(1, ...points.map((p) => p[1] + p[2] + p[3]));
  const x = (t) => (600 * (t - start)) / (end - start);
  let below = points.map(() => 0);
  PARTS.forEach((part, k) => {
    const above = points.map((p, i) => below[i] + p[k + 1]);
    const line = points.map((p, i) => x(p[0]).toFixed(1) + "," + (96 - (90 * above[i]) / top).toFixed(1));
    const back = points.map((p, i) => x(p[0]).toFixed(1) + "," + (96 - (90 * below[i]) / top).toFixed(1)).reverse();
    svg.children[k].setAttribute("points", line.concat(back).join(" "));
    below = above;
  });
}

function render({ model, el }) {
  const root = element(el, "div", "bz-depth");
  root.dataset.testid = "bz-depth";
  root.setAttribute("role", "img");
  const head = element(root, "div", "bz-head");
  const title = element(head, "b");
  const summary = element(head, "span", "bz-summary");
  const legend = element(root, "div", "bz-legend");
  PARTS.forEach((part) => {
    element(legend, "i", "bz-bar bz-" + part);
    element(legend, "span", "", part);
  });
  const body = element(root, "div");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 600 98");
  svg.setAttribute("preserveAspectRatio", "none");
  PARTS.forEach((part) => {
    const area = document.createElementNS(SVG, "polygon");
    area.setAttribute("class", "bz-" + part);
    svg.appendChild(area);
  });
  root.appendChild(svg);

  const points = [];
  let latest = null;
  let scheduled = false;
  let frames = 0;

  function paint() {
    scheduled = false;
    title.textContent = "Segment depths of " + latest.app;
    summary.textContent = latest.summary;
    root.setAttribute("aria-label", title.textContent + ": " + latest.summary);
    paintBars(body, latest.segments);
    paintHistory(svg, points);
    frames += 1;
    root.dataset.seq = latest.seq;
    root.dataset.ts = latest.ts;
    root.dataset.depth = latest.depth;
    root.dataset.frames = frames;
  }

  function receive(message) {
    if (message.type === "snapshot") points.splice(0, points.length, ...message.history);
    else if (message.type === "state") points.push(message.point);
    else return;
    if (points.length > LIMIT) points.splice(0, points.length - LIMIT);
    latest = message;
    if (scheduled) return;
    scheduled = true;
    if (document.hidden) setTimeout(paint, 1000);
    else requestAnimationFrame(paint);
  }

  model.on("msg:custom", receive);
  model.send({ type: "hello" });
  return () => model.off("msg:custom", receive);
}

export default { render };
