"use strict";

// Sends the form, then asks for the job until it is done. Without this file the form works
// too: the server then answers with a page that loads itself again.

const form = document.querySelector("form");
const status = form.querySelector(".status");

const TEXTS = {
  queued: "Waiting for a worker …",
  scheduled: "Waiting for a worker …",
  running: "A worker is reading the file …",
};
const NO_WORKER = "Still waiting. Is a worker running? flask --app example_app taskq worker";

/** How long the page waits, in milliseconds, until it doubts that there is a worker. */
const PATIENCE = 6000;

function show(kind, text) {
  status.hidden = !text;
  status.dataset.kind = kind;
  status.textContent = text;
  for (const button of form.querySelectorAll("button")) {
    button.disabled = kind === "busy";
  }
}

/** What the server says, as the job and the answer's headers; an error if it refuses. */
async function ask(url, options = {}) {
  const response = await fetch(url, { ...options, headers: { Accept: "application/json" } });
  const body = await response.json();
  if (!response.ok) {
    throw Object.assign(new Error(body.detail), { status: response.status });
  }
  return [body, response.headers];
}

/** As above, but patient: while a job runs, the server may be away for a moment. */
async function poll(url) {
  for (;;) {
    try {
      return await ask(url);
    } catch (error) {
      if (error.status < 500) {
        throw error;
      }
      show("busy", "The server does not answer. Trying again …");
      await pause(2);
    }
  }
}

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/** Send the form and wait for the job: 202 and a Location, then Retry-After until done. */
async function run(data) {
  const started = Date.now();
  let [job, headers] = await ask(form.action, { method: "POST", body: data });
  const url = headers.get("Location");
  while (!job.done) {
    const alone = job.status === "queued" && Date.now() - started > PATIENCE;
    show("busy", alone ? NO_WORKER : TEXTS[job.status] ?? job.status);
    await pause(Number(headers.get("Retry-After") ?? 1));
    [job, headers] = await poll(url);
  }
  return job;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = new FormData(form);
  if (event.submitter?.name) {
    data.set(event.submitter.name, event.submitter.value);
  }
  show("busy", "Sending the file …");
  try {
    const job = await run(data);
    if (job.status === "succeeded") {
      location.assign(`${form.action}/${job.id}`);
    } else {
      show("error", job.error.detail ?? job.error.title);
    }
  } catch (error) {
    show("error", error.status ? error.message : "The server cannot be reached.");
  }
});

// The browser may bring the page back as it was left: busy.
addEventListener("pageshow", (event) => event.persisted && show("", ""));
