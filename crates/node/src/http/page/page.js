"use strict";
// Draws /api/status. Data become text nodes and attributes, never markup.
{
const STATUS_MS = 3000, HISTORY_MS = 10000, NARROW = matchMedia("(max-width: 640px)");
const byId = (id) => document.getElementById(id);
let status = null, failed = null, seenAt = 0, rounds = [], roundsMax = 360, everyMs = 10000;
const opened = new Set();

// State of a task: how it is to be taken, and what it means.
const STATES = {
  "not-configured": ["off", "not started", "applied, and waits to be started"],
  "prechecking": ["busy", "checking", "looks whether everything is ready"],
  "precheck-failed": ["bad", "check failed", "did not begin: something must be put right first"],
  "initializing": ["busy", "first read", "reads the tables as they are"],
  "synchronizing": ["good", "following", "follows the database closely"],
  "catching-up": ["busy", "catching up", "follows the database, some way behind"],
  "retrying": ["warn", "trying again", "tries again by itself"],
  "suspended": ["off", "suspended", "stopped by a person; its slot holds back WAL"],
  "modifying": ["busy", "changing", "a changed spec is about to take force"],
  "parked": ["bad", "waits for you", "stopped, so that nothing is lost, until a person decides"],
  "failed": ["bad", "gave up", "has given up trying"],
  "completed": ["off", "completed", "has done all that it was to do"],
  "releasing": ["busy", "releasing", "slot, publication and internal topics are being removed"],
  "release-failed": ["bad", "not released", "could not be removed wholly: put the cause right, then release it again"],
  "released": ["off", "released", "stopped for good"],
};
const LANES = { running: "good", opening: "busy", waiting: "warn", retrying: "warn", draining: "busy", stopped: "off" };
const NODES = { alive: "good", leader: "good", suspect: "warn", draining: "busy", drained: "off", dead: "bad" };

const stateOf = (task) => own(STATES, task.state) || ["off", task.state || "elsewhere", ""];
const laneOf = (lane) => (lane.node === "" ? "warn" : own(LANES, lane.state) || "off");
const own = (map, key) => (Object.hasOwn(map, key) ? map[key] : undefined);

function h(tag, attributes, ...children) { return fill(document.createElement(tag), attributes, children); }
function s(tag, attributes, ...children) { return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children); }
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) if (value !== undefined) element.setAttribute(name, value);
  element.append(...children.flat().filter((it) => it !== null && it !== undefined && it !== ""));
  return element;
}

const many = (n, one, more) => `${n} ${n === 1 ? one : more || one + "s"}`;
function count(n) {
  if (n < 10000) return n < 10 && n % 1 ? n.toFixed(1) : Math.round(n).toLocaleString("en");
  for (const [unit, of] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) if (of <= n) return `${(n / of).toPrecision(3)} ${unit}`;
}
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (1024 <= n && at < units.length - 1) { n /= 1024; at++; }
  return `${at && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}
function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
function since(at) {
  const ms = status.seen_unix_ms - at;
  return !at ? "" : ms < 1000 ? "just now" : `for ${span(ms)}`;
}

function sum() {
  const { tasks, members } = status, here = status.role === "worker";
  const kind = (of) => tasks.filter((it) => stateOf(it)[0] === of);
  const [bad, warn] = [kind("bad"), kind("warn")];
  const lost = members.filter((it) => it.state === "dead" || it.state === "suspect");
  const workers = members.filter((it) => it.role === "worker").length;
  let mood = "good", text = "All is well.";
  if (bad.length) [mood, text] = ["bad", bad.length === 1 ? `Task ${bad[0].name} waits for a person.` : `${bad.length} tasks wait for a person.`];
  else if (warn.length) [mood, text] = ["warn", warn.length === 1 ? `Task ${warn[0].name} tries again by itself.` : `${warn.length} tasks try again by themselves.`];
  else if (!status.leader) [mood, text] = ["warn", "No coordinator that leads is known here. What runs goes on."];
  else if (lost.length) [mood, text] = ["warn", lost.length === 1 ? `Node ${lost[0].name} does not answer.` : `${lost.length} nodes do not answer.`];
  else if (!tasks.length) [mood, text] = ["off", here ? "Nothing runs here at the moment." : "There are no tasks yet."];
  else if (kind("busy").length) mood = "busy", text = "All is well, and busy.";
  const parts = [many(tasks.length, here ? "task has" : "task", here ? "tasks have" : "tasks") + (here ? " a part here" : "")];
  if (!here) parts.push(many(workers, "worker"));
  if (status.leader) parts.push(`${status.leader} leads`);
  document.title = `${bad.length ? `(${bad.length}) ` : ""}Distributary · ${status.node}`;
  const hint = !tasks.length && !here ? h("p", {}, "Begin with ", h("code", {}, "distributary task apply TASK.yaml")) : "";
  return [h("h1", { class: mood }, text), h("p", {}, parts.join(" · ")), hint, status.note ? h("p", {}, status.note) : ""];
}

function taskCard(task) {
  const [mood, word, meaning] = stateOf(task);
  const labels = Object.entries(task.labels).map(([name, value]) => `${name}=${value}`).join(" ");
  const why = task.cause || task.remedy
    ? h("div", { class: `why ${mood}` }, task.cause ? h("p", {}, task.cause) : "", task.remedy ? h("p", {}, h("b", {}, "What to do: "), task.remedy) : "")
    : "";
  return h("article", { class: "card" },
    h("div", { class: "head" }, h("h2", {}, task.name), h("span", { class: `chip ${mood}` }, word),
      h("span", { class: "quiet" }, [meaning, since(task.since_unix_ms)].filter(Boolean).join(", ")),
      labels ? h("span", { class: "quiet wide" }, labels) : ""),
    why, figures(task), picture(task), curves(task), laneTable(task));
}

function figures(task) {
  const it = task.measured;
  if (!it) return "";
  const figure = (name, value, small) => h("div", {}, h("dt", {}, name), h("dd", {}, value, small ? h("small", {}, ` ${small}`) : ""));
  const all = [];
  if (it.latency_ms !== null) all.push(figure("Latency", span(it.latency_ms)));
  if (it.rate !== null) all.push(figure("Rate", count(it.rate), "records/s"));
  all.push(figure("Behind", bytes(it.lag_bytes), "of WAL"), figure("Records", count(it.records)));
  if (task.phase === "snapshot" && it.snapshot_rows) {
    const [rows, estimated] = it.snapshot_rows;
    all.push(figure("First read", count(rows), estimated ? `of about ${count(estimated)} rows` : "rows"));
  }
  if (it.credit) all.push(figure("In flight", bytes(it.credit[0]), `of ${bytes(it.credit[1])}`));
  if (it.spool && it.spool[1]) all.push(figure("In progress", bytes(it.spool[0]), `of ${count(it.spool[1])} open transactions`));
  all.push(figure("Durable up to", it.watermark));
  return h("dl", { class: "figures" }, all);
}

function curves(task) {
  const points = rounds.filter((round) => own(round.tasks, task.name)).map((round) => [round.at_unix_ms, own(round.tasks, task.name)]);
  if (points.length < 2) return "";
  const now = points[points.length - 1][0];
  return h("div", { class: "curves" },
    curve("Latency", points.map(([at, it]) => [at, it[0]]), now, span),
    curve("Records per second", points.map(([at, it]) => [at, it[1]]), now, count));
}

function curve(name, points, now, words) {
  const hour = roundsMax * everyMs, known = points.filter((it) => it[1] !== null);
  const most = Math.max(...known.map((it) => it[1]), 0) || 1;
  const x = (at) => (100 * (1 - (now - at) / hour)).toFixed(2), y = (value) => (38 - 34 * value / most).toFixed(2);
  const runs = [];
  let last = -Infinity;
  for (const [at, value] of known) {
    // What was not seen is not drawn.
    if (2.5 * everyMs < at - last) runs.push([]);
    runs[runs.length - 1].push([x(at), y(value)]);
    last = at;
  }
  const shapes = runs.flatMap((run) => {
    const line = "M" + run.map((it) => it.join(" ")).join("L");
    if (run.length === 1) return [s("path", { class: "dot", d: line + "h0" })];
    return [s("path", { class: "area", d: `${line}V40H${run[0][0]}Z` }), s("path", { class: "line", d: line })];
  });
  const top = known.length ? `at most ${words(Math.max(...known.map((it) => it[1])))} in the last hour` : "";
  return h("div", { class: "curve" }, h("div", { class: "top" }, h("span", {}, name), h("span", {}, top)),
    s("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": `${name} over the last hour, ${top}` }, shapes));
}

// The way of a task: database, front, lanes by node, Kafka.
function picture(task) {
  // What stands still and is placed nowhere has no way to show.
  if (["bad", "off"].includes(stateOf(task)[0]) && !task.reader && !task.lanes.length) return "";
  const narrow = NARROW.matches, width = narrow ? 340 : 1120;
  const front = frontBoxes(task), groups = laneBoxes(task, narrow ? 312 : 360);
  const shapes = [], gap = 14, edges = [];
  const stack = (boxes) => boxes.reduce((sum, it) => sum + it.height, 0) + gap * (boxes.length - 1);
  const database = end("PostgreSQL", task.source, true), kafka = end("Kafka", task.sink, false);
  let height;
  if (narrow) {
    let y = 2;
    const place = (box, x, wide) => { Object.assign(box, { x, y, width: wide }); y += box.height + gap + 10; };
    place(database, 0, width);
    front.forEach((box) => place(box, 0, width));
    const rail = { x: 12, y: y - gap - 10 };
    groups.forEach((box) => { place(box, 28, 312); edges.push(s("path", { class: "edge", d: `M${rail.x} ${box.y + box.height / 2}h10` }), tip(28, box.y + box.height / 2, "right")); });
    place(kafka, 0, width);
    const down = [database, ...front];
    down.slice(1).forEach((box, at) => edges.push(...downward(170, down[at].y + down[at].height, box.y)));
    edges.push(...downward(rail.x, rail.y, kafka.y));
    height = kafka.y + kafka.height + 2;
  } else {
    height = Math.max(stack(front), stack(groups), database.height) + 4;
    const column = (boxes, x, wide) => {
      let y = (height - stack(boxes)) / 2;
      for (const box of boxes) { Object.assign(box, { x, y, width: wide }); y += box.height + gap; }
    };
    column([database], 1, 190); column(front, 262, 200); column(groups, 533, 360); column([kafka], 964, 155);
    const first = front[0], last = front[front.length - 1];
    edges.push(...across(database, first));
    front.slice(1).forEach((box, at) => edges.push(...downward(box.x + 100, front[at].y + front[at].height, box.y)));
    for (const box of groups) edges.push(...across(last, box), ...across(box, kafka));
  }
  const boxes = [database, ...front, ...groups, kafka];
  shapes.push(...edges, ...boxes.flatMap((box) => box.draw(box)));
  const words = [`${task.source.title || "PostgreSQL"}`, ...front.map((it) => it.words), ...groups.map((it) => it.words), "Kafka"].join(" → ");
  return s("svg", { class: "path", viewBox: `0 0 ${width} ${height}`, role: "img" }, s("title", {}, words), shapes);
}

const rect = (x, y, width, height, kind, radius) => s("rect", { x, y, width, height, rx: radius === undefined ? 9 : radius, class: kind });
function label(x, y, text, kind, px) {
  const most = Math.floor(px / 7.1), shown = text.length <= most ? text : text.slice(0, most - 1) + "…";
  return s("text", { x, y, class: kind }, shown, shown === text ? "" : s("title", {}, text));
}
function tip(x, y, to) {
  return s("path", { class: "tip", d: to === "right" ? `M${x} ${y}l-8 -4v8Z` : `M${x} ${y}l-4 -8h8Z` });
}
function across(from, to) {
  const [x, y, u, v] = [from.x + from.width, from.y + from.height / 2, to.x, to.y + to.height / 2], half = (x + u) / 2;
  return [s("path", { class: "edge", d: `M${x} ${y}C${half} ${y} ${half} ${v} ${u - 7} ${v}` }), tip(u, v, "right")];
}
const downward = (x, from, to) => [s("path", { class: "edge", d: `M${x} ${from}V${to - 7}` }), tip(x, to, "down")];

function end(kind, { title, at }, round) {
  return { height: 74, draw: ({ x, y, width, height }) => [
    rect(x, y, width, height, "box", round ? 20 : 9),
    label(x + 16, y + 22, kind, "small", width - 28),
    label(x + 16, y + 41, title || "—", "strong", width - 28),
    label(x + 16, y + 60, at, "small", width - 28)] };
}

function frontBoxes(task) {
  const boxes = [];
  for (const [stage, node] of [["Reader", task.reader], ["Decoder", task.decoder], ["Router", task.router]]) {
    const last = boxes[boxes.length - 1];
    if (last && last.node === node) last.stages.push(stage);
    else boxes.push({ node, stages: [stage] });
  }
  return boxes.map((box) => ({ ...box, height: 34 + 30 * box.stages.length, words: `${box.stages.join(", ")} on ${box.node || "no node"}`,
    draw: ({ x, y, width, height }) => [
      rect(x, y, width, height, box.node ? "box" : "box nowhere"),
      label(x + 14, y + 21, box.node || "no node yet", "strong", width - 24),
      ...box.stages.flatMap((stage, at) => [rect(x + 12, y + 30 + 30 * at, width - 24, 25, "stage", 6), label(x + 22, y + 47 + 30 * at, stage, "small", width - 40)])] }));
}

function laneBoxes(task, width) {
  const byNode = new Map();
  for (const lane of task.lanes) byNode.set(lane.node, [...(byNode.get(lane.node) || []), lane]);
  if (!byNode.size) byNode.set("", []);
  const row = Math.floor((width - 24) / 31);
  return [...byNode].sort(([a], [b]) => (b === "" || (a !== "" && a < b) ? -1 : 1)).map(([node, lanes]) => ({
    height: 34 + 31 * Math.max(1, Math.ceil(lanes.length / row)), words: `${many(lanes.length, "lane")} on ${node || "no node"}`,
    draw: ({ x, y, width, height }) => [
      rect(x, y, width, height, node ? "box" : "box nowhere"),
      label(x + 14, y + 21, node || "no node yet", "strong", width - 100),
      s("text", { x: x + width - 14, y: y + 21, class: "small", "text-anchor": "end" }, many(lanes.length, "lane")),
      ...lanes.flatMap((lane, at) => {
        const [u, v] = [x + 12 + 31 * (at % row), y + 30 + 31 * Math.floor(at / row)];
        return [s("g", {}, s("title", {}, `lane ${lane.lane}: ${lane.state || (node ? "not known here" : "waits for a node")}`),
          rect(u, v, 26, 26, `lane ${laneOf(lane)}`, 6), s("text", { x: u + 13, y: v + 17, class: "number" }, lane.lane))];
      })] }));
}

function fold(key, title, body) {
  const box = h("details", { id: `fold ${key}` }, h("summary", { id: `key ${key}` }, title), body);
  box.open = opened.has(key);
  box.addEventListener("toggle", () => (box.open ? opened.add(key) : opened.delete(key)));
  return box;
}
function table(heads, rows) {
  const cell = (tag, at, content) => h(tag, { class: heads[at][1] }, content);
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads.map(([name], at) => cell("th", at, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((content, at) => cell("td", at, content)))))));
}
const chip = (kind, text) => h("span", { class: `chip ${kind}` }, text);

function laneTable(task) {
  if (!task.lanes.length) return "";
  const rows = task.lanes.map((lane) => [lane.lane, lane.node || "—", chip(laneOf(lane), lane.state || "not known here"), lane.position || "—"]);
  return fold(`lanes ${task.name}`, `${many(task.lanes.length, "lane")}, owners and positions`,
    table([["Lane", "n"], ["Owner"], ["State"], ["Durable up to"]], rows));
}

function nodes() {
  if (!status.members.length) return [];
  const rows = status.members.map((it) => [
    it.name, it.role === "coordinator" && it.name === status.leader ? "coordinator, leads" : it.role,
    chip(own(NODES, it.state) || "off", it.state || "not known here"), since(it.since_unix_ms) || "—",
    it.role === "worker" ? many(it.fronts, "front") + ", " + many(it.lanes, "lane") : "—", it.address || "—", it.version || "—",
    Object.entries(it.labels).map(([name, value]) => `${name}=${value}`).join(" ") || "—"]);
  return [h("div", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Nodes")),
    table([["Name"], ["Role"], ["State"], ["Since", "wide"], ["Runs"], ["Address", "wide"], ["Version", "wide"], ["Labels", "wide"]], rows))];
}

function show() {
  const trouble = byId("trouble");
  trouble.hidden = failed === null;
  trouble.textContent = failed || "";
  if (!status) return;
  byId("seen").textContent = failed ? `as of ${new Date(seenAt).toLocaleTimeString()}` : "looked at just now";
  // Whoever is selecting text or reading by keyboard is not to lose it.
  if (!getSelection().isCollapsed) return;
  const focused = document.activeElement && document.activeElement.id;
  const order = { bad: 0, warn: 1, busy: 2, good: 2, off: 3 };
  const tasks = [...status.tasks].sort((a, b) => order[stateOf(a)[0]] - order[stateOf(b)[0]] || (a.name < b.name ? -1 : 1));
  byId("who").replaceChildren(chip("off", `${status.role} ${status.node}`));
  byId("sum").replaceChildren(...sum().filter(Boolean));
  byId("tasks").replaceChildren(...tasks.map(taskCard));
  byId("nodes").replaceChildren(...nodes());
  if (focused && byId(focused)) byId(focused).focus();
}

async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (!answer.headers.get("content-type")?.startsWith("application/json")) throw new Error(await answer.text());
  const body = await answer.json();
  if (!answer.ok) throw new Error([body.cause, body.remedy].filter(Boolean).join("; "));
  return body;
}
async function lookAtStatus() {
  try {
    status = await get("/api/status");
    [failed, seenAt] = [null, Date.now()];
  } catch (error) {
    failed = `This node does not tell how things are (${error.message.trim()}). ${status ? "Below is what was last known; data may well go on." : "The page goes on asking."}`;
  }
  show();
  setTimeout(lookAtStatus, STATUS_MS);
}
async function lookAtHistory() {
  try {
    const last = rounds.length ? rounds[rounds.length - 1].round : 0;
    const past = await get(`/api/history?since=${last}`);
    // Another life of the node counts anew.
    if (past.rounds.length && past.rounds[0].round <= last) rounds = [];
    rounds = [...rounds, ...past.rounds].slice(-past.rounds_max);
    [roundsMax, everyMs] = [past.rounds_max, past.every_ms];
  } catch { /* The status says it. */ }
  setTimeout(lookAtHistory, HISTORY_MS);
}
NARROW.addEventListener("change", show);
lookAtHistory().then(lookAtStatus);
}
