// The page of wproxy. It listens to /events and keeps the document up to date. Whatever
// is shown is put in as text (textContent and attributes), never as markup: paths, hosts
// and log lines are written by strangers.
"use strict";

const $ = id => document.getElementById(id);
const state = { live: null, points: [], marks: [], requests: [], sort: { by: "name", down: false }, at: -1 };
const PER_KIND = 40, MARKS = 128;

// el makes an element: el("td", {class: "n"}, "text", node...).
function el(name, attributes, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes || {})) if (v !== undefined && v !== null) e.setAttribute(k, v);
  e.append(...children.filter(c => c !== undefined && c !== null).map(c => typeof c === "string" ? plain(c) : c));
  return e;
}
function svg(name, attributes, text) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = plain(text);
  return e;
}
// plain shows what could move, hide or break other text (controls, marks of direction,
// invisible ones) as what it is: whoever writes paths and log lines should not lay out the page.
const plain = text => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu,
  c => "\\u{" + c.codePointAt(0).toString(16) + "}");
// put changes an element only if it has to: selections and focus stay.
function put(e, text, cls) {
  text = plain(String(text));
  if (e.textContent !== text) e.textContent = text;
  if (cls !== undefined && e.className !== cls) e.className = cls;
}

// keyed makes the children of parent those of list, in order, and keeps elements by key. Numbers
// begin anew with the next process: what is never changed again needs a time in its key.
function keyed(parent, list, key, make, update) {
  const have = parent.keyed || (parent.keyed = new Map());
  const seen = new Set();
  let at = parent.firstChild;
  for (const item of list) {
    const k = key(item);
    if (seen.has(k)) continue;
    seen.add(k);
    let e = have.get(k);
    if (!e) have.set(k, e = make(item));
    update(e, item);
    if (e === at) at = at.nextSibling;
    else parent.insertBefore(e, at);
  }
  for (const [k, e] of have) if (!seen.has(k)) { e.remove(); have.delete(k); }
}
// row makes a table row whose cells have the names of the table's columns.
function row(table) {
  const tr = el("tr", { role: "row" });
  for (const th of table.tHead.rows[0].cells) tr.append(el("td", { role: "cell", class: th.className || undefined, "data-name": th.textContent }, el("span")));
  return tr;
}
const cell = (tr, i) => tr.cells[i].firstChild;
function more(tr, i, text) {
  let m = tr.cells[i].querySelector(".more");
  if (!text) { if (m) m.remove(); return; }
  if (!m) tr.cells[i].append(m = el("span", { class: "more" }));
  put(m, text);
}

// Numbers for people.
function num(n) {
  if (!isFinite(n)) return "–";
  if (n === 0) return "0";
  const a = Math.abs(n);
  return a >= 1e9 ? (n / 1e9).toFixed(1) + "G" : a >= 1e6 ? (n / 1e6).toFixed(1) + "M" : a >= 1e4 ? (n / 1e3).toFixed(1) + "k" :
    a >= 100 ? n.toFixed(0) : a >= 10 ? String(+n.toFixed(1)) : a >= 0.01 ? String(+n.toFixed(2)) : "<0.01";
}
function dur(s) {
  if (!s) return "–";
  return s < 0.001 ? num(s * 1e6) + " µs" : s < 1 ? num(s * 1e3) + " ms" : s < 120 ? num(s) + " s" : age(s);
}
function age(s) {
  s = Math.max(0, Math.round(s));
  if (s < 60) return s + "s";
  if (s < 3600) return Math.floor(s / 60) + "m " + s % 60 + "s";
  if (s < 86400) return Math.floor(s / 3600) + "h " + Math.floor(s % 3600 / 60) + "m";
  return Math.floor(s / 86400) + "d " + Math.floor(s % 86400 / 3600) + "h";
}
const bytes = n => n < 1024 ? n + " B" : n < 1 << 20 ? num(n / 1024) + " KiB" : n < 2 ** 30 ? num(n / (1 << 20)) + " MiB" : num(n / 2 ** 30) + " GiB";
const clock = t => new Date(t).toLocaleTimeString("en-GB");
const when = t => { const d = new Date(t); return Date.now() - d < 8e7 ? clock(d) : d.toLocaleDateString("en-CA") + " " + clock(d); };
const since = t => age((new Date(state.live.now) - new Date(t)) / 1000);
const plural = (n, one, many) => n + " " + (n === 1 ? one : many || one + "s");

// Events. silence is after how long without one the page says that it is old, again after
// how long it gives the connection up and makes another: the other machine, or a tunnel to
// it, may be gone without a word, and a connection that only reads never finds out.
const patience = { silence: 4000, again: 8000 };
let lostAt = null, last = 0, began = 0, source = null;
function listen() {
  if (source) source.close();
  began = performance.now();
  source = new EventSource("events");
  source.addEventListener("all", e => {
    state.points = []; state.marks = []; state.requests = [];
    take(JSON.parse(e.data));
  });
  source.addEventListener("tick", e => take(JSON.parse(e.data)));
  source.onerror = lost; // the browser asks again by itself, or if it was refused, watch does
}
function watch() {
  const now = performance.now();
  if (last && now - last > patience.silence) lost();
  if (now - Math.max(last, began) > patience.again) listen();
}
function lost() {
  lostAt = lostAt || new Date();
  document.body.className = "stale";
  put($("state"), "no connection since " + clock(lostAt) + (state.live ? "; what is below is old" : ""), "pill bad");
  document.title = "? wproxy";
}
function take(live) {
  if (!live.status) return;
  last = performance.now();
  lostAt = null;
  document.body.className = "";
  state.live = live;
  const at = state.points[state.at]?.t; // that is being read: it moves
  for (const p of live.points) {
    const i = state.points.findIndex(q => q.t === p.t);
    if (i >= 0) state.points[i] = p; else state.points.push(p);
  }
  state.points.sort((a, b) => a.t - b.t);
  state.points = state.points.slice(-POINTS);
  if (at !== undefined) state.at = state.points.findIndex(p => p.t === at);
  for (const m of live.marks) if (!state.marks.some(o => o.seq === m.seq)) state.marks.push(m);
  state.marks = state.marks.slice(-MARKS);
  for (const r of live.requests) if (!state.requests.some(o => o.seq === r.seq)) state.requests.unshift(r);
  const n = {};
  state.requests = state.requests.filter(r => (n[r.kind] = (n[r.kind] || 0) + 1) <= PER_KIND);
  draw();
}
function draw() {
  header(); // the title, too, which is seen of a tab that is not
  if (document.hidden) return;
  charts(); servers(); routes(); limits(); plugins(); requests();
}

// The header.
function verdict() {
  const { status: s, servers: n, failing } = state.live;
  if (!s.ready) return ["bad", "not ready: " + (s.not_ready || []).join("; ")];
  if (n.down) return ["bad", n.down + " of " + plural(n.total, "server") + " down"];
  const bad = Object.keys(failing).length;
  if (bad) return ["bad", "tries fail at " + plural(bad, "server")];
  if (s.upstreams.some(u => !u.servers.length)) return ["bad", "an upstream has no servers"];
  if (s.last_reload && !s.last_reload.ok) return ["warn", "ready, but the last reload was refused"];
  if (s.certificates.some(c => c.problem)) return ["warn", "ready, but a certificate has a problem"];
  const open = state.live.circuits.filter(c => c.state === "open").length;
  if (open) return ["warn", "ready, but " + plural(open, "circuit breaker is", "circuit breakers are") + " open"];
  if (n.drained) return ["", "ready, " + plural(n.drained, "server") + " drained"];
  if (s.upstreams.some(u => u.servers.some(e => !e.last_check))) return ["", "ready (not all servers are checked)"];
  return ["good", "ready"];
}
function header() {
  const { status: s } = state.live;
  const [cls, text] = verdict();
  put($("state"), text, ("pill " + cls).trim());
  document.title = (cls === "bad" ? "▲ " : "") + "wproxy: " + text;
  const all = [["Version", s.version + " (" + s.go + ")"], ["Up", since(s.started)],
    ["Configuration", s.config + ", generation " + s.generation + ", " + s.config_hash], ["Loaded", when(s.loaded) + ", " + since(s.loaded) + " ago"]];
  if (s.last_reload) all.push(["Last reload", (s.last_reload.ok ? "accepted" : "refused") + " at " + when(s.last_reload.at), s.last_reload.ok ? "" : "bad"]);
  else all.push(["Last reload", "none yet"]);
  const u = s.upgrade;
  if (u) all.push(["Upgrade", u.running ? "under way since " + when(u.at) + ": " + u.binary : u.ok ? "process " + u.pid + " has taken over" : "failed at " + when(u.at) + ": " + u.error, u.running || u.ok ? "" : "bad"]);
  const first = s.certificates.filter(c => c.expires).sort((a, b) => new Date(a.expires) - new Date(b.expires))[0];
  if (first) {
    const left = (new Date(first.expires) - new Date(state.live.now)) / 1000;
    all.push(["First certificate to expire", named(first) + ", " + (left > 0 ? "in " + age(left) : "expired"), left < 7 * 86400 ? "bad" : left < 20 * 86400 ? "warn" : ""]);
  } else all.push(["Certificates", s.certificates.length ? "none yet" : "none of its own"]);
  const open = s.listeners.reduce((n, l) => n + l.connections, 0);
  all.push(["Connections", num(open) + " on " + s.listeners.map(l => l.name + " " + l.address).join(", ")]);
  facts($("facts"), all);
  const problems = [];
  if (s.last_reload && !s.last_reload.ok) problems.push(["warn", "The configuration on disk was refused; the one before serves.\n" + s.last_reload.error]);
  for (const c of s.certificates) if (c.problem) problems.push(["warn", "Certificate of " + named(c) + ": " + c.problem]);
  keyed($("problems"), problems, p => p.join(" "), () => el("p"), (e, p) => put(e, p[1], p[0]));
}
// named says what a certificate is for; there may be a hundred names in one.
function named(c) {
  const names = (c.host || c.file || "").split(", ");
  return names.slice(0, 2).join(", ") + (names.length > 2 ? " and " + (names.length - 2) + " more" : "");
}
// facts fills a list of names and values.
function facts(dl, list) {
  keyed(dl, list, f => f[0], f => el("div", null, el("dt", null, f[0]), el("dd")), (e, f) => put(e.lastChild, f[1], f[2] || ""));
}

// Upstreams.
function servers() {
  const { status: s, servers: n, failing, cut } = state.live;
  const all = [];
  for (const u of s.upstreams) {
    for (const e of u.servers) all.push({ u, e, failing: failing[u.name + "/" + e.address] || 0 });
    if (!u.servers.length) all.push({ u, e: null, failing: 0 });
  }
  const weight = r => !r.e ? 0 : r.e.state === "down" || r.e.state === "ejected" ? 0 : r.failing ? 1 : r.e.state === "drained" ? 2 : 3;
  const worst = new Map();
  for (const r of all) worst.set(r.u.name, Math.min(worst.get(r.u.name) ?? 9, weight(r)));
  all.sort((a, b) => worst.get(a.u.name) - worst.get(b.u.name) || (a.u.name < b.u.name ? -1 : a.u.name > b.u.name ? 1 : weight(a) - weight(b)));
  put($("upstreams-note"), (n.total ? plural(n.total, "server") + ": " + n.up + " up, " + n.down + " down, " + n.drained + " drained." : "There are no upstreams.") +
    (n.panic ? " " + plural(n.panic, "upstream") + " with too few servers up: all are tried." : "") + (cut && cut.servers ? " " + cut.servers + " more are not shown; all are in /status." : ""), n.down || n.panic ? "note bad" : "note");
  keyed($("servers").tBodies[0], all, r => r.u.name + " " + (r.e ? r.e.address : ""), () => row($("servers")), (tr, { u, e, failing }) => {
    put(cell(tr, 0), u.name);
    more(tr, 0, u.panic ? "too few are up: all are tried" : "");
    if (!e) { put(cell(tr, 1), "–"); put(cell(tr, 2), "▲ no servers found", "bad"); tr.dataset.state = "none"; return; }
    put(cell(tr, 1), e.address, "mono");
    let [sign, cls, text] = { up: ["●", "good", "up"], down: ["▲", "bad", "down"], ejected: ["▲", "bad", "ejected"], drained: ["■", "warn", "drained"] }[e.state] || ["?", "warn", e.state];
    if (e.state === "up" && !e.last_check) [sign, cls, text] = ["○", "", "in use, not checked"];
    if (e.state === "up" && failing) [sign, cls, text] = ["▲", "bad", "failing: " + plural(failing, "try failed", "tries failed") + " in " + age(state.live.window)];
    tr.dataset.state = e.state;
    put(cell(tr, 2), sign + " " + text + (e.since ? " " + since(e.since) : ""), cls);
    more(tr, 2, (e.reason && e.state !== "drained" ? (e.state === "up" ? "last check failed: " : "") + e.reason : "") + (e.until ? " until " + clock(e.until) : ""));
    put(cell(tr, 3), num(e.active));
    put(cell(tr, 4), num(e.failures), failing ? "bad" : "");
    put(cell(tr, 5), e.weight);
    put(cell(tr, 6), e.last_check ? since(e.last_check) + " ago, took " + dur(e.check_seconds) : "–");
  });
}

// Routes.
function routes() {
  const { routes: list, cut, window: w } = state.live, { by, down } = state.sort;
  for (const e of document.querySelectorAll(".window")) put(e, w ? "rates and quantiles over the last " + age(w) : "rates and quantiles in a moment");
  put($("routes-note"), cut && cut.routes ? cut.routes + " more are not shown; all are in /metrics." : "");
  const shown = list.filter(r => r.name || r.total);
  shown.sort((a, b) => (a[by] < b[by] ? -1 : a[by] > b[by] ? 1 : 0) * (down ? -1 : 1));
  keyed($("route-rows").tBodies[0], shown, r => r.name, () => row($("route-rows")), (tr, r) => {
    [r.name || "(no route matched)", num(r.rate), dur(r.p50), dur(r.p99), num(r.rate_4xx), num(r.rate_5xx), num(r.total), r.upstream || "–", r.plugins || "–"].forEach((t, i) => put(cell(tr, i), t));
    put(cell(tr, 5), num(r.rate_5xx), r.rate_5xx ? "bad" : "");
  });
  for (const th of $("route-rows").tHead.rows[0].cells) {
    const b = th.querySelector("button");
    if (b && b.dataset.sort === by) th.setAttribute("aria-sort", down ? "descending" : "ascending"); else th.removeAttribute("aria-sort");
  }
}
for (const b of document.querySelectorAll("[data-sort]")) b.addEventListener("click", () => {
  const by = b.dataset.sort;
  state.sort = { by, down: state.sort.by === by ? !state.sort.down : by !== "name" };
  if (state.live) routes();
});

// Limits and caches.
function limits() {
  const { doors, refusals, decisions, circuits, stores, cut } = state.live;
  put($("limits-note"), cut && cut.decisions ? cut.decisions + " more routes are not shown; all are in /metrics." : "");
  keyed($("doors").tBodies[0], doors, d => d.name, () => row($("doors")), (tr, d) => {
    [d.name, d.address, num(d.open), num(d.limit), num(d.refused)].forEach((t, i) => put(cell(tr, i), t));
    cell(tr, 2).className = d.open >= d.limit ? "bad" : d.open >= 0.9 * d.limit ? "warn" : "";
    more(tr, 3, d.per_client ? d.per_client + " a client" : "");
  });
  put($("refusals-note"), refusals.length ? "" : "Nothing yet.");
  $("refusals").hidden = !refusals.length;
  keyed($("refusals").tBodies[0], refusals, r => r.reason, () => row($("refusals")), (tr, r) => {
    [r.reason, num(r.rate), num(r.total)].forEach((t, i) => put(cell(tr, i), t));
  });
  $("circuits-box").hidden = !circuits.length;
  const signs = { closed: ["● closed", "good"], open: ["▲ open", "bad"], "half-open": ["■ half-open", "warn"] };
  keyed($("circuits").tBodies[0], circuits, c => c.plugin + " " + c.route + " " + c.upstream, () => row($("circuits")), (tr, c) => {
    [c.plugin, c.route || "–", c.upstream || "–"].forEach((t, i) => put(cell(tr, i), t));
    const [text, cls] = signs[c.state] || [c.state, "warn"];
    put(cell(tr, 3), text + " for " + since(c.since), cls);
  });
  $("decisions-box").hidden = !decisions.length;
  const kinds = { limit: "rate limit", cache: "cache", breaker: "breaker" };
  keyed($("decisions").tBodies[0], decisions, d => d.what + " " + d.plugin + " " + d.route, () => row($("decisions")), (tr, d) => {
    const list = key => d.counts.filter(c => c[key]).map(c => num(c[key]) + " " + c.name).join(", ") || "–";
    [d.plugin, d.route || "–", kinds[d.what] || d.what, list("rate"), list("total")].forEach((t, i) => put(cell(tr, i), t));
    more(tr, 4, d.what === "cache" ? hits(d.counts) : "");
  });
  $("stores-box").hidden = !stores.length;
  keyed($("stores").tBodies[0], stores, s => s.name, () => row($("stores")), (tr, s) => {
    [s.name, num(s.objects), bytes(s.used_bytes), bytes(s.limit_bytes)].forEach((t, i) => put(cell(tr, i), t));
  });
}
// hits says how many requests a cache kept from the upstream.
function hits(counts) {
  let saved = 0, all = 0;
  for (const c of counts) {
    all += c.total;
    if (["hit", "stale", "collapsed"].includes(c.name)) saved += c.total;
  }
  return all ? num(saved / all * 100) + "% without the upstream" : "";
}

// Plugins.
function plugins() {
  const { plugins: list, cut } = state.live;
  put($("plugins-note"), list.length ? (cut && cut.plugins ? cut.plugins + " more are not shown." : "") : "There are no plugins.");
  keyed($("plugin-cards"), list, p => p.name, p => {
    const table = el("table", { class: "cards", role: "table" }, el("thead", null, el("tr", null,
      ...["Callback", "Calls", "p50", "p99", "Fuel per call"].map((t, i) => el("th", { scope: "col", class: i ? "n" : "" }, t)))), el("tbody"));
    return el("article", { class: "plugin", "data-plugin": p.name }, el("h3", null, p.name), el("dl", { class: "facts" }), el("div", { class: "trapped" }), table);
  }, (e, p) => {
    const [, dl, trap, table] = e.children;
    const calls = Object.entries(p.callouts || {}).map(([k, n]) => num(n) + " " + k).join(", ");
    facts(dl, [
      ["Version", p.version || "not said"], ["Digest", p.digest.slice(0, 12)], ["Instances", p.instances, p.instances ? "" : "bad"],
      ["Memory", bytes(p.memory_bytes) + " now, " + bytes(p.memory_high_bytes) + " of " + bytes(p.memory_limit_bytes) + " in one"],
      ["Share of request time", p.share ? num(p.share * 100) + "%" : "–"], ["Traps", num(p.traps), p.traps ? "bad" : ""],
      ["HTTP calls", calls || "none"], ["Grants", p.grants.join(", ") || "none"], ["When it fails", p.on_error === "open" ? "open: the request goes on" : "close: 503"]]);
    const t = p.last_trap;
    keyed(trap, t ? [t] : [], t => t.time, t => el("div", { class: "trap" },
      el("p", null, "Last trap: " + t.callback + ": " + t.cause + (t.detail && t.detail !== t.cause ? " (" + t.detail + ")" : "") + ", " + when(t.time) + (t.route ? ", route " + t.route : "") + (t.request_id ? ", request " + t.request_id : "")),
      el("pre", { class: "stack" }, (t.stack || []).map(f => "  in " + f).join("\n") || "  (no stack)"),
      t.log && t.log.length ? el("details", null, el("summary", null, "Its last lines in the log"), el("pre", null, t.log.join("\n"))) : null), () => {});
    table.hidden = !p.callbacks.length;
    keyed(table.tBodies[0], p.callbacks, c => c.name, () => row(table), (tr, c) => {
      [c.name, num(c.calls), dur(c.p50), dur(c.p99), num(c.fuel)].forEach((t, i) => put(cell(tr, i), t));
    });
  });
}

// Notable requests.
function chain(r) {
  const l = r.log, parts = [];
  if (!l.upstream && !l.reason) parts.push("answered without an upstream");
  (l.retried || []).forEach((why, i) => parts.push("try " + (i + 1) + " failed: " + why));
  if (l.upstream) parts.push((l.retried ? "try " + l.tries + " at " : "") + l.upstream + "/" + l.server + (l.t_first_byte ? ", first byte after " + dur(l.t_first_byte) : ""));
  for (const p of l.plugins || []) parts.push("plugin " + p.name + (p.verdict ? ": " + p.verdict : "") + " (" + dur(p.us / 1e6) + ")");
  if (l.reason) parts.push("reason " + l.reason);
  return parts.join(" → ");
}
function requests() {
  const kind = $("kind").value, shown = state.requests.filter(r => !kind || r.kind === kind);
  put($("requests-note"), state.requests.length ? "The last " + PER_KIND + " of each kind, newest first. " + shown.length + " shown." : "Nothing notable yet: no request was refused, retried, slow (1 s), failed or trapped.");
  $("request-rows").hidden = !shown.length;
  const cls = { trapped: "bad", failed: "bad", retried: "warn", slow: "warn", refused: "" };
  keyed($("request-rows").tBodies[0], shown, r => r.seq + " " + r.log.ts, r => {
    const tr = row($("request-rows")), l = r.log;
    put(cell(tr, 0), when(l.ts));
    put(cell(tr, 1), r.kind, cls[r.kind] || "");
    put(cell(tr, 2), l.status || "–");
    const tcp = l.protocol === "tcp"; // a connection, of which nobody knows what was said
    put(cell(tr, 3), tcp ? "TCP " + l.host : l.method + " " + l.host + l.path, "mono");
    more(tr, 3, "from " + l.client + " on " + l.listener + (l.route ? ", route " + l.route : "") + (l.request_id ? ", id " + l.request_id : ""));
    put(cell(tr, 4), chain(r));
    put(cell(tr, 5), dur(l.t_total));
    if (tcp) return tr;
    const b = el("button", { type: "button", class: "copy", "aria-label": "Copy " + l.method + " " + l.path.slice(0, 80) + " as a curl command" }, "Copy as curl");
    b.addEventListener("click", () => copy(r, tr));
    cell(tr, 6).append(b);
    return tr;
  }, () => {});
}
$("kind").addEventListener("change", () => { if (state.live) requests(); });
async function copy(r, tr) {
  const shown = tr.querySelector("input.curl");
  if (shown) { shown.select(); return; }
  try {
    await navigator.clipboard.writeText(r.curl); // not there without TLS, but on localhost
    put($("said"), "Copied: " + r.curl);
    const b = tr.querySelector("button");
    put(b, "Copied");
    setTimeout(() => put(b, "Copy as curl"), 1500);
  } catch {
    const i = el("input", { class: "curl", readonly: "", "aria-label": "The command" });
    i.value = r.curl;
    tr.cells[4].append(i);
    i.select();
  }
}

listenToCharts();
setInterval(watch, 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden && state.live) draw(); });
listen();
