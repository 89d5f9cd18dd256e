"use strict";

// Keeps the jobs on a page up to date. Without this file the pages work too: that of a job
// then loads itself again, and its button sends a form.

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/** What the server says; null while it is away, which a job does not mind. */
async function ask(url, options) {
  try {
    const response = await fetch(url, options);
    return response.status < 500 ? response : null;
  } catch {
    return null;
  }
}

/** Follow one job: ask for it as often as the server wants, until it is done. */
async function follow(element) {
  for (;;) {
    const response = await ask(element.dataset.job);
    if (response && !response.ok) {
      return; // its time is over, and nobody knows it any more
    }
    const job = await response?.json();
    const { status, attempt } = element.dataset;
    if (job && (job.status !== status || String(job.attempt) !== attempt)) {
      element = await renew(element);
    } else if (job) {
      show(element, job.progress);
    }
    if (job?.done && job.status === element.dataset.status) {
      return;
    }
    await pause(Number(response?.headers.get("Retry-After") ?? 2));
  }
}

/** Let the server draw the job anew: how it looks stands in one place, the templates. */
async function renew(element) {
  const response = await ask(location.href);
  const page = new DOMParser().parseFromString((await response?.text()) ?? "", "text/html");
  const fresh = page.getElementById(element.id);
  if (!fresh) {
    return element;
  }
  element.replaceWith(fresh);
  return fresh;
}

function show(element, progress) {
  const bar = element.querySelector("progress");
  const doing = element.querySelector("[data-doing]");
  if (bar && progress?.fraction != null) {
    // Not to the first one: a bar that grew to it would look as if nothing were done yet.
    bar.classList.toggle("moving", bar.hasAttribute("value"));
    bar.value = progress.fraction;
  }
  if (doing && progress?.message) {
    doing.textContent = progress.message;
  }
}

for (const element of document.querySelectorAll("[data-job]")) {
  if (!["succeeded", "failed", "cancelled", "expired"].includes(element.dataset.status)) {
    follow(element);
  }
}

addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-cancel]")) {
    return;
  }
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  button.textContent = "Cancelling …";
  if (!(await ask(form.closest("[data-job]").dataset.job, { method: "DELETE" }))) {
    button.disabled = false;
    button.textContent = "Cancel";
  }
});

setInterval(() => {
  for (const element of document.querySelectorAll("[data-seconds]")) {
    element.textContent = Math.max(0, Number(element.textContent) - 1);
  }
}, 1000);
