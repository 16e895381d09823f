"use strict";
// Shows what the parties' processes say. Text is always put in as text, never as markup.

let state = null;
const shown = {};
const $ = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") node.className = value;
    else if (name === "click") node.addEventListener("click", value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child != null) node.append(child);
  }
  return node;
}

// Put children into a place, unless what they are made from has not changed: focus and selections stay.
function put(id, from, make) {
  const key = JSON.stringify(from);
  if (shown[id] === key) return;
  shown[id] = key;
  const place = $(id);
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...[make()].flat());
  if (focused) place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

const titleOf = (name) => state.cast.find((part) => part.name === name)?.title || name;
const time = (at) => `${at.toFixed(1)} s`;
const badge = (kind, text) => el("span", { class: `badge ${kind}` }, text);
const last = (list) => list[list.length - 1];
const trim = (text) => text.replace(/[0-9a-f]{24,}/g, (hex) => `${hex.slice(0, 16)}…`);
const short = (hex) => (hex && hex.length > 20 ? `${hex.slice(0, 16)}…` : hex || "none");

function cast() {
  return state.cast.map((part) => {
    const mine = state.events.filter((event) => event.party === part.name);
    const facts = mine.filter((event) => ["key", "sealed", "signed", "policy", "broker", "reference", "started"].includes(event.event));
    return el("article", { class: "card" },
      el("h3", {}, part.title),
      el("p", { class: "role" }, part.role),
      el("dl", {},
        el("dt", {}, "holds"), el("dd", {}, el("ul", {}, part.holds.map((item) => el("li", {}, item)))),
        el("dt", {}, "must never learn"), el("dd", {}, part.never)),
      facts.length ? el("ul", { class: "small quiet" }, facts.map((event) => el("li", {}, event.text))) : null);
  });
}

function asking() {
  const free = state.step === "ready" && !state.busy;
  return state.questions.map((question) =>
    el("button", { type: "button", disabled: !free, "data-key": `${question.hospital}${question.number}`,
      click: () => post("ask", { hospital: question.hospital, number: question.number }) },
      `${titleOf(question.hospital)}: ${question.ask}`));
}

function views() {
  const exchange = last(state.events.filter((event) => event.event === "exchange"))?.exchange;
  if (!exchange) return [el("p", { class: "quiet" }, "Nobody has asked yet.")];
  const of = state.events.filter((event) => event.exchange === exchange);
  const who = of.find((event) => event.event === "exchange").party;
  const order = (part) => [who, "operator", "auditor"].indexOf(part.name) + 1 || 9;
  return state.cast.slice().sort((a, b) => order(a) - order(b)).map((part) => {
    const seen = of.filter((event) => event.party === part.name);
    return el("article", { class: part.name === who ? "card asks" : "card" },
      el("h3", {}, part.title), view(part.name, seen));
  });
}

function view(name, seen) {
  const said = seen.find((event) => event.event === "exchange");
  if (said) return plaintext(said.facts);
  const wire = seen.filter((event) => event.event === "wire" && event.facts.line.includes("/ohttp"));
  if (wire.length) {
    return [el("p", { class: "role" }, "ciphertext, sizes and times"), ...wire.map((event) => el("div", {},
      el("div", { class: "small" }, `${event.facts.line}: ${event.facts.sent} bytes there, ${event.facts.received} back`),
      el("div", { class: "hex" }, `${event.facts.sent_hex}…`),
      el("div", { class: "hex" }, `${event.facts.received_hex}…`))),
      seen.filter((event) => event.event === "bus").map((event) => el("div", {},
        el("div", { class: "small" }, `bus between CPU and GPU: ${event.facts.records} records`),
        el("div", { class: "hex" }, `${event.facts.hex}…`)))];
  }
  const audited = seen.find((event) => event.event === "audited");
  if (audited) {
    const receipt = last(state.events.filter((event) => event.event === "receipt" && event.exchange === audited.exchange));
    return [el("p", { class: "role" }, "a receipt, and whether it holds"),
      el("dl", {},
        el("dt", {}, "verdict"), el("dd", {}, wordBadge(audited.facts.word, audited.facts.accepted)),
        el("dt", {}, "model, tokens"), el("dd", {}, receipt ? models(receipt.facts.receipt) : ""),
        el("dt", {}, "question, under a salt it does not have"), el("dd", { class: "hex" }, receipt?.facts.receipt.request || ""),
        el("dt", {}, "answer, likewise"), el("dd", { class: "hex" }, receipt?.facts.receipt.response || ""))];
  }
  const others = seen.filter((event) => event.event !== "wire");
  return others.length
    ? el("ul", {}, others.map((event) => el("li", {}, event.text)))
    : el("p", { class: "quiet" }, "Nothing of this exchange reached this process.");
}

function plaintext(facts) {
  return [
    el("p", { class: "role" }, "everything, in the clear"),
    el("dl", {},
      el("dt", {}, "looked for in its own documents"), el("dd", {}, facts.looked_for),
      el("dt", {}, "passage, found by its words and quoted"),
      el("dd", {}, facts.passages.length
        ? facts.passages.map((passage) => el("blockquote", {}, passage.text,
            el("cite", {}, `${passage.path}, lines ${passage.lines}`)))
        : "no passage shares a word with it"),
      el("dt", {}, `question to ${facts.model}`), el("dd", {}, facts.question),
      el("dt", {}, "answer"), el("dd", {}, facts.answer))];
}

const models = (receipt) =>
  `${receipt.model.name}${receipt.adapter ? ` with ${receipt.adapter.name}` : ""}, ${receipt.prompt_tokens} read, ${receipt.completion_tokens} written`;

const wordBadge = (word, accepted) =>
  badge(accepted ? (word === "SIMULATED" ? "warn" : "good") : "bad", word === "SIMULATED" ? "ACCEPTED, SIMULATED" : word);

function trials() {
  const free = state.step === "ready" && !state.busy;
  return Object.entries(state.described).map(([name, trial]) => {
    const outcome = state.trials[name];
    const running = outcome?.running;
    return el("li", { id: `trial-${name}` },
      el("div", { class: "top" },
        el("div", {}, el("h3", {}, trial.title), el("p", { class: "quiet" }, trial.what)),
        el("button", { type: "button", disabled: !free, "data-key": name, "aria-label": `Try: ${trial.title}`,
          click: () => post("attack", { trial: name }) }, running ? "Trying…" : outcome ? "Try again" : "Try")),
      running && trial.slow ? el("p", { class: "outcome quiet" }, "A second machine boots; this takes a while.") : null,
      outcome && !running ? el("div", { class: "outcome" },
        el("p", {}, badge(!outcome.clear ? "warn" : outcome.stopped ? "good" : "bad", !outcome.clear ? "Unclear" : outcome.stopped ? "Stopped" : "SUCCEEDED"),
          outcome.clear ? ` by ${outcome.by}` : ` ${outcome.by}, but not for the reason that counts`),
        el("p", { class: "small" }, el("strong", {}, "He: "), outcome.did),
        outcome.said ? el("p", { class: "small" }, el("strong", {}, "Answer: "), trim(outcome.said)) : null) : null);
  });
}

function consent() {
  const agreed = state.consent;
  if (!agreed.digest) return el("p", { class: "quiet" }, "Not signed yet.");
  return [
    el("p", {}, "The worker starts only if every signature holds and exactly what is named is loaded; every policy names this digest."),
    el("dl", {},
      el("dt", {}, "digest"), el("dd", { class: "hex" }, agreed.digest),
      el("dt", {}, "signed by"), el("dd", {}, agreed.parties.map(titleOf).join(", ")),
      el("dt", {}, "names"), el("dd", {}, el("ul", {}, agreed.names.map((item) => el("li", {}, trim(item))))),
      el("dt", {}, "may come out"), el("dd", {}, `at most ${agreed.output.max_tokens} tokens an answer; log-probabilities ${agreed.output.logprobs ? "allowed" : "refused"}`))];
}

function table(columns, rows) {
  if (!rows.length) return el("p", { class: "quiet" }, "None yet.");
  return el("table", {},
    el("thead", {}, el("tr", {}, columns.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((cells) => el("tr", {},
      cells.map((cell, i) => el("td", { "data-label": columns[i], class: i === 0 ? "time" : null }, el("div", {}, cell)))))));
}

function verdicts() {
  const rows = state.events.filter((event) => event.event === "verdict").slice(-12).reverse();
  return table(["when", "who", "verdict", "because"], rows.map(({ at, party, facts, text }) => [
    time(at), titleOf(party), wordBadge(facts.word, facts.accepted),
    facts.failed.length
      ? el("ul", { class: "small" }, facts.failed.map((item) => el("li", {}, el("code", {}, item.check), ` found ${short(item.found)}`)))
      : text]));
}

function releases() {
  const rows = state.events.filter((event) => event.event === "audit" && event.facts.decision).slice(-16).reverse();
  return table(["when", "owner", "decision", "what"], rows.map(({ at, party, facts }) => [
    time(at), titleOf(party), badge(facts.decision === "released" ? "good" : "bad", facts.decision), trim(facts.about)]));
}

function receipts() {
  const rows = state.events.filter((event) => event.event === "receipt").slice(-12).reverse();
  return table(["when", "whose", "model and tokens", "under consent", "auditor"], rows.map((event) => {
    const audited = state.events.find((other) => other.event === "audited" && other.exchange === event.exchange);
    return [time(event.at), titleOf(event.party), models(event.facts.receipt), el("code", {}, short(event.facts.receipt.consent.replace("sha256:", ""))),
      audited ? wordBadge(audited.facts.word, audited.facts.accepted) : "not yet"];
  }));
}

function log() {
  const who = $("who").value;
  return state.events.filter((event) => !who || event.party === who).slice().reverse().map((event) =>
    el("li", {}, el("span", {}, time(event.at)), el("span", {}, titleOf(event.party)), el("span", {}, trim(event.text))));
}

function render() {
  const busy = state.busy || (state.step !== "ready" && !state.failed);
  $("dot").className = `dot ${state.failed ? "failed" : busy ? "busy" : ""}`;
  $("step").textContent = state.failed || (state.busy ? `${state.busy}…` : state.step === "ready" ? "Running. Ask, or let the operator try." : `${state.step}…`);
  const free = [state.step, state.busy];
  put("cast", state.events.filter((event) => !["wire", "bus", "verdict", "audit"].includes(event.event)), cast);
  put("asking", [free, state.questions], asking);
  put("views", state.events.filter((event) => event.exchange), views);
  put("trials", [free, state.trials], trials);
  put("consent", state.consent, consent);
  put("verdicts", state.events.filter((event) => event.event === "verdict"), verdicts);
  put("releases", state.events.filter((event) => event.event === "audit"), releases);
  put("receipts", state.events.filter((event) => ["receipt", "audited"].includes(event.event)), receipts);
  put("log", [state.events.length, state.events[0]?.at, $("who").value], log);
}

async function post(what, body) {
  const answer = await fetch(what, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) $("step").textContent = `The demo refused: ${answer.status} ${await answer.text()}`;
}

const source = new EventSource("events");
source.addEventListener("state", (message) => {
  const first = !state;
  state = JSON.parse(message.data);
  if (first) $("who").append(...state.cast.map((part) => el("option", { value: part.name }, part.title)));
  render();
});
source.addEventListener("error", () => {
  $("dot").className = "dot failed";
  $("step").textContent = "The demo has ended, or cannot be reached.";
});
$("who").addEventListener("change", render);
