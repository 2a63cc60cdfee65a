"use strict";

const byId = (name) => document.getElementById(name);

function remembered(name, fallback) {
  try { return localStorage.getItem("pfit_ray." + name) ?? fallback; } catch { return fallback; }
}

function remember(name, value) {
  try { localStorage.setItem("pfit_ray." + name, value); } catch { /* a browser that stores nothing */ }
}

function showOpacity(value) {
  byId("opacity").value = value;
  byId("percent").textContent = byId("opacity").value + " %";
  byId("overlay").style.opacity = byId("opacity").value / 100;
  remember("opacity", byId("opacity").value);
}

function showStage(link) {
  const overlay = byId("overlay");
  for (const other of document.querySelectorAll(".stage[aria-current]")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  overlay.hidden = !link.dataset.layer;
  if (link.dataset.layer) overlay.src = link.dataset.layer;
  overlay.alt = link.dataset.layer ? link.dataset.caption : "";
  byId("caption").textContent = link.dataset.caption;
  history.replaceState(null, "", link.href);
  const { stage, key } = link.dataset;
  for (const name of ["previous", "next"]) {
    const there = byId(name);
    if (!there) continue;
    const address = new URL(there.href);
    address.searchParams.set("stage", stage);
    if (key) address.searchParams.set("key", key); else address.searchParams.delete("key");
    there.href = address;
  }
}

function stepStage(step) {
  const links = [...document.querySelectorAll(".stage")];
  const now = links.findIndex((link) => link.hasAttribute("aria-current"));
  const link = links[(now + step + links.length) % links.length];
  showStage(link);
  link.scrollIntoView({ block: "nearest" });
}

async function mark(value) {
  const form = byId("marks"), said = byId("said");
  const body = new URLSearchParams({ id: form.elements.id.value, mark: value });
  const headers = { Accept: "application/json", "X-CSRF-Token": document.body.dataset.csrf };
  said.textContent = "saving";
  try {
    const answer = await fetch("/mark", { method: "POST", body, headers });
    if (!answer.ok) throw new Error(answer.statusText);
    said.textContent = (await answer.json()).name;
  } catch (error) {
    said.textContent = `The mark is not saved: ${error.message}`;
    return;
  }
  for (const button of form.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.value === value));
  if (byId("onwards").checked && value !== "none" && byId("next")) location.href = byId("next").href;
}

function handleKey(event) {
  const field = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (!byId("keys").checked || field || event.ctrlKey || event.metaKey || event.altKey) return;
  const marks = { a: "accept", w: "needs_work", r: "reject", u: "none" };
  const opacity = Number(byId("opacity").value);
  if (marks[event.key]) mark(marks[event.key]);
  else if (event.key === "ArrowLeft") byId("previous")?.click();
  else if (event.key === "ArrowRight") byId("next")?.click();
  else if (event.key === "[" || event.key === "]") stepStage(event.key === "]" ? 1 : -1);
  else if (event.key === "-" || event.key === "+") showOpacity(opacity + (event.key === "+" ? 10 : -10));
  else return;
  event.preventDefault();
}

function startImagePage() {
  showOpacity(remembered("opacity", byId("opacity").value));
  byId("opacity").addEventListener("input", (event) => showOpacity(event.target.value));
  for (const link of document.querySelectorAll(".stage")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      showStage(link);
    });
  }
  byId("marks").addEventListener("submit", (event) => {
    event.preventDefault();
    mark(event.submitter.value);
  });
  for (const [name, fallback] of [["onwards", "false"], ["keys", "true"]]) {
    byId(name).checked = remembered(name, fallback) === "true";
    byId(name).addEventListener("change", (event) => remember(name, String(event.target.checked)));
  }
  document.addEventListener("keydown", handleKey);
}

async function followReading(note) {
  const state = await (await fetch("/state")).json();
  note.querySelector("span").textContent = `${state.done} of ${state.todo}`;
  if (state.reading) setTimeout(followReading, 1000, note);
  else location.reload();
}

if (byId("marks")) startImagePage();
if (byId("reading")) setTimeout(followReading, 500, byId("reading"));
const filters = document.querySelector(".filters");
if (filters && matchMedia("(max-width: 760px)").matches) filters.open = false;
