// The charts of the page; page.js, which is run after this, has what both use.
"use strict";

// The time line. A chart has the last 15 minutes from left to right.
const POINTS = 181, STEP = 5, LEFT = 46, RIGHT = 8, SPAN = POINTS * STEP;
const SIGNS = { reload: ["R", ""], refused: ["!", "warn"], plugin: ["P", "plugin"], up: ["↑", ""], returned: ["↑", ""], ready: ["↑", ""],
  down: ["↓", "bad"], ejected: ["↓", "bad"], drained: ["↓", "warn"], panic: ["!!", "bad"], panic_end: ["↑", ""],
  circuit_open: ["B", "bad"], "circuit_half-open": ["B", "warn"], circuit_closed: ["B", ""] };
const rate = (p, k) => p[k] / Math.max(p.s, 1);
function ceiling(v) {
  if (v <= 0) return 1;
  const e = 10 ** Math.floor(Math.log10(v));
  return [1, 2, 5, 10].find(m => m * e >= v) * e;
}
function charts() {
  const box = $("charts"), width = Math.max(box.clientWidth, 240);
  const ps = state.points, lastPoint = ps[ps.length - 1];
  if (!lastPoint) return;
  const end = lastPoint.t + STEP, x = t => LEFT + (t - (end - SPAN)) / SPAN * (width - LEFT - RIGHT);
  box.view = { x, end, width };
  const figures = [
    { id: "rate", unit: "requests/s", title: "Requests per second", keys: [["key c-accent", "requests"]], h: 110, max: Math.max(...ps.map(p => rate(p, "requests"))), format: num,
      paint: (g, y) => { g.append(svg("path", { class: "area", d: steps(ps, x, y, p => rate(p, "requests"), true) }), svg("path", { class: "stroke", d: steps(ps, x, y, p => rate(p, "requests")) })); } },
    { id: "latency", unit: "time", title: "Latency", keys: [["key line c-accent", "p99"], ["key dash c-soft", "p50"]], h: 96, max: Math.max(...ps.map(p => p.p99)), format: v => v ? dur(v) : "0",
      paint: (g, y) => { g.append(svg("path", { class: "stroke", d: line(ps, x, y, "p99") }), svg("path", { class: "stroke p50", d: line(ps, x, y, "p50") })); } },
    { id: "errors", unit: "errors/s", title: "Errors per second, by whose they are", keys: [["key c-proxy", "proxy"], ["key c-upstream", "upstream"], ["key c-client", "client"]], h: 96, last: true,
      max: Math.max(...ps.map(p => rate(p, "proxy") + rate(p, "upstream") + rate(p, "client"))), format: num,
      paint: (g, y) => {
        for (const p of ps) {
          let sum = 0;
          for (const k of ["proxy", "upstream", "client"]) {
            const v = rate(p, k);
            if (!v) continue;
            const left = x(p.t), top = y(sum + v);
            g.append(svg("rect", { class: "f-" + k, x: left, y: top, width: Math.max(x(p.t + STEP) - left - 0.5, 1), height: Math.max(y(sum) - top, 1) }));
            sum += v;
          }
        }
      } },
  ];
  keyed(box, figures, f => f.id, f => el("figure", { id: "chart-" + f.id }, el("figcaption", null, el("b", null, f.title), ...f.keys.map(k => el("span", { class: k[0] }, k[1])))),
    (e, f) => { const old = e.querySelector("svg"), next = chart(f, width, x, end); if (old) old.replaceWith(next); else e.append(next); });
  readout();
  points();
  put($("marks-n"), state.marks.length);
  keyed($("marks"), state.marks.slice().reverse(), m => m.seq + " " + m.time, m => el("li", null, el("time", { datetime: m.time }, when(m.time)), el("span", { class: (SIGNS[m.kind] || ["", ""])[1] }, m.text)), () => {});
}
function chart(f, width, x, end) {
  const top = f.id === "rate" ? 16 : 8, bottom = f.last ? 20 : 6, h = f.h + top + bottom, max = ceiling(f.max);
  const y = v => top + f.h - v / max * f.h;
  const s = svg("svg", { viewBox: `0 0 ${width} ${h}`, height: h, role: "img", "aria-label": f.title + ", at most " + f.format(f.max) + " in the last 15 minutes" });
  for (const v of [0, max / 2, max]) {
    s.append(svg("line", { class: v ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }));
    s.append(svg("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, f.format(v)));
  }
  const every = width < 500 ? 300 : 180;
  for (let t = Math.ceil((end - SPAN) / every) * every; t <= end; t += every) {
    s.append(svg("line", { class: "grid", x1: x(t), x2: x(t), y1: top, y2: top + f.h }));
    if (f.last) s.append(svg("text", { x: x(t), y: h - 4, "text-anchor": x(t) > width - 30 ? "end" : "middle" }, new Date(t * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })));
  }
  const g = svg("g");
  f.paint(g, y);
  s.append(g);
  let free = 0;
  for (const m of state.marks) {
    const at = x(new Date(m.time) / 1000), [sign, cls] = SIGNS[m.kind] || ["•", ""];
    if (at < LEFT) continue;
    const l = svg("line", { class: "mark " + cls, x1: at, x2: at, y1: top - 3, y2: top + f.h });
    l.append(svg("title", {}, m.text));
    s.append(l);
    if (f.id === "rate" && at >= free) { s.append(svg("text", { class: "sign " + cls, x: at, y: 10 }, sign)); free = at + 13; }
  }
  if (state.at >= 0 && state.points[state.at]) {
    const c = x(state.points[state.at].t + STEP / 2);
    s.append(svg("line", { class: "cursor", x1: c, x2: c, y1: top, y2: top + f.h }));
  }
  return s;
}
// steps is the path of a value that holds for the whole of a point; points that are
// missing leave a gap.
function steps(ps, x, y, value, closed) {
  let d = "", before = null;
  for (const p of ps) {
    const a = x(p.t).toFixed(1), b = x(p.t + STEP).toFixed(1), v = y(value(p)).toFixed(1);
    if (before === null || p.t - before > STEP) {
      if (before !== null && closed) d += `V${y(0)}Z`;
      d += closed ? `M${a} ${y(0)}V${v}` : `M${a} ${v}`;
    } else d += `V${v}`;
    d += `H${b}`;
    before = p.t;
  }
  return closed && d ? d + `V${y(0)}Z` : d;
}
// line leaves gaps where there were no requests.
function line(ps, x, y, key) {
  let d = "", on = false, before = 0;
  for (const p of ps) {
    if (!p.requests) { on = false; continue; }
    const joined = on && p.t - before <= STEP, v = y(p[key]).toFixed(1);
    d += (joined ? "V" + v : "M" + x(p.t).toFixed(1) + " " + v) + "H" + x(p.t + STEP).toFixed(1);
    on = true;
    before = p.t;
  }
  return d;
}
function describe(p) {
  return clock(p.t * 1000) + ": " + num(rate(p, "requests")) + " requests/s, p50 " + dur(p.p50) + ", p99 " + dur(p.p99) +
    ", errors/s: proxy " + num(rate(p, "proxy")) + ", upstream " + num(rate(p, "upstream")) + ", client " + num(rate(p, "client"));
}
function readout() {
  const i = state.at >= 0 ? state.at : state.points.length - 1, p = state.points[i];
  if (!p) return;
  const near = state.at < 0 ? [] : state.marks.filter(m => { const t = new Date(m.time) / 1000; return t >= p.t && t < p.t + STEP; });
  const out = $("readout");
  if (state.at < 0 && out.getAttribute("aria-live") !== "off") out.setAttribute("aria-live", "off"); // not each second
  if (state.at >= 0) out.setAttribute("aria-live", "polite");
  put(out, (state.at < 0 ? "Now, " : "") + describe(p) + (near.length ? ". " + near.map(m => m.text).join(". ") : ""));
}
function points() {
  if (!$("tabled").open) return;
  keyed($("points").tBodies[0], state.points.slice().reverse(), p => p.t, () => row($("points")), (tr, p) => {
    [clock(p.t * 1000), num(rate(p, "requests")), dur(p.p50), dur(p.p99), num(rate(p, "proxy")), num(rate(p, "upstream")), num(rate(p, "client"))].forEach((t, i) => put(cell(tr, i), t));
  });
}
function point(i) { state.at = i; charts(); }
function listenToCharts() {
  $("charts").addEventListener("pointermove", e => {
    const v = $("charts").view;
    if (!v) return;
    const t = v.end - SPAN + (e.clientX - $("charts").getBoundingClientRect().left - LEFT) / (v.width - LEFT - RIGHT) * SPAN;
    const i = state.points.findIndex(p => t >= p.t && t < p.t + STEP);
    if (i !== state.at) point(i);
  });
  $("charts").addEventListener("pointerleave", () => point(-1));
  $("charts").addEventListener("blur", () => point(-1));
  $("charts").addEventListener("keydown", e => {
    const n = state.points.length, at = state.at < 0 ? n : state.at;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 12, PageDown: at + 12, Home: 0, End: n - 1 }[e.key];
    if (e.key === "Escape") point(-1);
    if (to === undefined || !n) return;
    e.preventDefault();
    point(Math.min(Math.max(to, 0), n - 1));
  });
  $("tabled").addEventListener("toggle", points);
  new ResizeObserver(() => { if (state.live) charts(); }).observe($("charts"));
}
