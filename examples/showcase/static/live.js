// Follows the server-sent events of a page that names them, and replaces what has changed. Everything
// works without this script: a page then changes when it is loaded again.
"use strict";

const page = document.querySelector("[data-changes]");

if (page) {
  const changes = new EventSource(page.dataset.changes);
  let isLoading = false;
  let isOutdated = false;

  const load = async () => {
    isOutdated = true;
    if (isLoading) return;
    isLoading = true;
    while (isOutdated) {
      isOutdated = false;
      // The header says that the user did not ask for it: see src/page.rs.
      const answer = await fetch(location.href, { headers: { "X-Refresh": "1" } }).catch(() => null);
      if (!answer?.ok || answer.redirected) break;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const next = fresh.getElementById(part.id);
        if (next) part.replaceWith(document.adoptNode(next));
      }
    }
    isLoading = false;
  };

  changes.addEventListener("change", load);
  // The server knows what a visitor sees here.
  changes.addEventListener("end", () => {
    changes.close();
    location.reload();
  });
  // What a form of this page does is shown by the page that follows it.
  document.addEventListener("submit", () => changes.close());
}
