// Draws openapi.json and lets its operations be tried. No library, no network but this host.

const $ = (id) => document.getElementById(id);
let api = {};

function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const headers = (more = {}) => ($("key").value ? { ...more, authorization: `Bearer ${$("key").value}` } : more);
const anchor = (text) => text.replace(/[^a-z0-9]+/gi, "-").toLowerCase();
const schemaName = (ref) => ref.split("/").pop();
const resolve = (schema) => (schema?.$ref ? api.components.schemas[schemaName(schema.$ref)] : schema);

// The few marks that descriptions use: `code` and paragraphs.
function prose(text) {
  const block = element("div");
  for (const paragraph of (text || "").split(/\n\n+/)) {
    const p = element("p");
    paragraph.split(/(`[^`]+`)/).forEach((part) =>
      p.append(part.startsWith("`") && part.length > 2 ? element("code", { text: part.slice(1, -1) }) : part));
    if (paragraph.trim()) block.append(p);
  }
  return block;
}

// A schema in a line: its type, with links to named ones.
function typed(schema) {
  if (!schema || !Object.keys(schema).length) return [element("code", { text: "any" })];
  if (schema.$ref) {
    const name = schemaName(schema.$ref);
    return [element("a", { href: `#shape-${name}`, onclick: () => $(`shape-${name}`)?.setAttribute("open", ""), text: name })];
  }
  const choices = schema.oneOf || schema.anyOf || schema.allOf;
  if (choices) {
    const joint = schema.allOf ? " and " : " or ";
    return choices.flatMap((choice, at) => (at ? [joint, ...typed(choice)] : typed(choice)));
  }
  if (schema.enum) return [element("code", { text: schema.enum.map((value) => JSON.stringify(value)).join(" | ") })];
  const types = [schema.type].flat();
  if (types.includes("array")) return [...(types.includes("null") ? ["null or "] : []), "list of ", ...typed(schema.items)];
  if (types.includes("object") && typeof schema.additionalProperties === "object")
    return [...(types.includes("null") ? ["null or "] : []), "map to ", ...typed(schema.additionalProperties)];
  return [element("code", { text: types.filter(Boolean).join(" | ") + bounds(schema) })];
}

function bounds(schema) {
  const low = schema.minimum ?? schema.minLength ?? schema.minItems;
  const high = schema.maximum ?? schema.maxLength ?? schema.maxItems;
  if (low === undefined && high === undefined) return "";
  return ` ${low ?? ""}…${high ?? ""}`;
}

function properties(schema) {
  const whole = resolve(schema) || {};
  const rows = [];
  for (const part of whole.allOf || [whole]) {
    const object = resolve(part) || {};
    const required = new Set(object.required || []);
    for (const [name, value] of Object.entries(object.properties || {}))
      rows.push(element("tr", {}, element("td", {}, element("code", { text: name }), required.has(name) ? element("b", { text: " *", title: "required" }) : ""),
        element("td", {}, ...typed(value)), element("td", {}, prose(value.description || resolve(value)?.description))));
  }
  return rows;
}

function shape(schema) {
  const rows = properties(schema);
  if (rows.length) return element("table", {}, ...rows);
  return element("p", {}, ...typed(resolve(schema)));
}

function responsesTable(responses) {
  const rows = Object.entries(responses).map(([status, response]) => {
    const kinds = Object.entries(response.content || {}).map(([media, content]) =>
      element("div", {}, element("span", { class: "quiet", text: `${media} ` }), ...typed(content.schema)));
    const names = Object.keys(response.headers || {}).filter((name) => name !== "x-request-id");
    if (names.length) kinds.push(element("div", { class: "quiet", text: `headers: ${names.join(", ")}` }));
    return element("tr", {}, element("td", {}, element("b", { text: status, class: status < 300 ? "good" : "bad" })),
      element("td", {}, prose(response.description)), element("td", {}, ...kinds));
  });
  return element("table", {}, ...rows);
}

function exampleOf(schema) {
  const whole = resolve(schema);
  const found = whole?.example ?? whole?.examples?.[0];
  if (found !== undefined) return found;
  const first = (whole?.oneOf || whole?.anyOf || [])[0];
  return first ? exampleOf(first) : {};
}

function trial(method, path, operation) {
  const form = element("form");
  const fields = [];
  for (const parameter of operation.parameters || []) {
    const input = element("input", { size: 28, placeholder: parameter.required ? "" : "optional" });
    if (parameter.required && parameter.example !== undefined) input.value = parameter.example;
    fields.push([parameter, input]);
    form.append(element("div", { class: "row" }, element("label", {}, element("code", { text: parameter.name }), input),
      element("span", { class: "quiet", text: parameter.description || "" })));
  }
  const media = operation.requestBody?.content?.["application/json"];
  let body = null;
  if (media) {
    body = element("textarea", { spellcheck: "false", "aria-label": "request body" });
    body.value = JSON.stringify(exampleOf(media.schema), null, 2);
    form.append(body);
  }
  const send = element("button", { text: "Send" });
  const stop = element("button", { type: "button", class: "plain", text: "Stop", disabled: "" });
  const shell = element("button", { type: "button", class: "plain", text: "as curl" });
  const said = element("pre", { hidden: "", tabindex: "0" });
  form.append(element("div", { class: "row" }, send, stop, shell), said);

  const address = () => {
    let url = path;
    const query = new URLSearchParams();
    for (const [parameter, input] of fields) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, input.value.split("/").map(encodeURIComponent).join("/"));
      else if (input.value) query.set(parameter.name, input.value);
    }
    return url + (query.size ? `?${query}` : "");
  };
  const show = (text) => { said.hidden = false; said.textContent = text; };
  let running = null;
  stop.addEventListener("click", () => running?.abort());
  shell.addEventListener("click", () => {
    const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    const lines = [`curl ${quoted(location.origin + address())}`];
    if ($("key").value) lines.push("-H \"authorization: Bearer $MESSPLUS_API_KEY\"");
    if (body) lines.push("-H 'content-type: application/json'", `-d ${quoted(body.value)}`);
    show(lines.join(" \\\n  "));
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running = new AbortController();
    send.disabled = true;
    stop.disabled = false;
    const begun = performance.now();
    try {
      const response = await fetch(address(), {
        method: method.toUpperCase(), headers: headers(body ? { "content-type": "application/json" } : {}),
        body: body?.value, signal: running.signal,
      });
      const head = `${response.status} ${response.statusText}\n` +
        [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n") + "\n\n";
      await tell(response, head, show);
      said.textContent += `\n\n— ${(performance.now() - begun).toFixed(0)} ms`;
    } catch (problem) {
      if (problem.name === "AbortError") said.textContent += "\n\n— stopped";
      else show(String(problem));
    } finally {
      send.disabled = false;
      stop.disabled = true;
    }
  });
  return form;
}

// Streams are shown as they come, JSON with its lines.
async function tell(response, head, show) {
  if ((response.headers.get("content-type") || "").startsWith("application/json")) {
    const text = await response.text();
    try { show(head + JSON.stringify(JSON.parse(text), null, 2)); } catch { show(head + text); }
    return;
  }
  let text = head;
  show(text);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    text = (text + piece.value).slice(-200000);
    show(text);
  }
}

function card(method, path, operation) {
  const id = anchor(`${method}-${path}`);
  const inside = element("div");
  const details = element("details", { class: "card", id }, element("summary", {},
    element("span", { class: `method ${method}`, text: method }), element("code", { text: path }),
    element("span", { class: "quiet", text: operation.summary || "" })), inside);
  // Drawn when it is opened.
  details.addEventListener("toggle", () => {
    if (!details.open || inside.childElementCount) return;
    inside.append(prose(operation.description), element("h3", { text: "Try it" }), trial(method, path, operation));
    const media = operation.requestBody?.content?.["application/json"];
    if (media) inside.append(element("h3", { text: "Request" }), shape(media.schema));
    inside.append(element("h3", { text: "Responses" }), responsesTable(operation.responses));
  });
  return details;
}

function draw() {
  document.title = `${api.info.title} API`;
  $("version").textContent = api.info.version;
  $("about").append(prose(api.info.description));
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    ["get", "post", "put", "delete"].filter((method) => item[method]).map((method) => ({ method, path, operation: item[method] })));
  for (const tag of api.tags || []) {
    const mine = operations.filter(({ operation }) => (operation.tags || []).includes(tag.name));
    if (!mine.length) continue;
    $("contents").append(element("strong", { text: tag.name }));
    $("operations").append(element("h2", { text: tag.name }), element("p", { class: "quiet", text: tag.description || "" }));
    for (const { method, path, operation } of mine) {
      const made = card(method, path, operation);
      $("contents").append(element("a", { href: `#${made.id}`, onclick: () => made.setAttribute("open", "") },
        element("span", { class: `method ${method}`, text: `${method} ` }), path));
      $("operations").append(made);
    }
  }
  for (const [name, schema] of Object.entries(api.components.schemas).sort()) {
    const inside = element("div");
    const details = element("details", { class: "card", id: `shape-${name}` }, element("summary", {}, element("code", { text: name })), inside);
    details.addEventListener("toggle", () => {
      if (!details.open || inside.childElementCount) return;
      inside.append(prose(schema.description), shape(schema));
      const example = schema.example ?? schema.examples?.[0];
      if (example !== undefined) inside.append(element("h3", { text: "Example" }), element("pre", { text: JSON.stringify(example, null, 2) }));
    });
    $("schemas").append(details);
  }
  $("contents").append(element("strong", {}, element("a", { href: "#shapes", text: "shapes" })));
  const aim = location.hash && document.getElementById(location.hash.slice(1));
  if (aim?.tagName === "DETAILS") { aim.open = true; aim.scrollIntoView(); }
}

async function start() {
  const response = await fetch("openapi.json", { headers: headers() });
  if (response.status === 401) {
    $("problem").textContent = $("key").value ? "That key is not known here." : "This server wants an API key: write it above.";
    return;
  }
  $("problem").textContent = "";
  api = await response.json();
  draw();
}

$("key").value = sessionStorage.getItem("messplus-key") || "";
$("key").addEventListener("change", () => {
  sessionStorage.setItem("messplus-key", $("key").value);
  if (!api.paths) start().catch((problem) => { $("problem").textContent = String(problem); });
});
start().catch((problem) => { $("problem").textContent = String(problem); });
