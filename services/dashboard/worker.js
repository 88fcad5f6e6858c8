/** Adds the key to downloads, so that the browser streams an archive of any size to the disk by itself.
 *
 * The page registers a request here under an id and then follows a link to `/static/download/<id>`; the answer with its
 * `Content-Disposition` is passed through. A refusal is reported to the page, and the link gets a 204.
 */

const waiting = new Map();

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("message", ({ data, ports: [port] }) => {
  waiting.set(data.id, { ...data, port });
  setTimeout(() => waiting.delete(data.id), 60_000);
  port.postMessage("ready");
});

addEventListener("fetch", (event) => {
  const match = new URL(event.request.url).pathname.match(/^\/static\/download\/([0-9a-f]+)$/);
  if (match) event.respondWith(fetched(match[1]));
});

async function fetched(id) {
  const order = waiting.get(id);
  waiting.delete(id);
  if (!order) return new Response(null, { status: 204 });
  try {
    const answer = await fetch(order.path, { headers: order.headers, cache: "no-store" });
    if (answer.ok) {
      order.port.postMessage("begun");
      return answer;
    }
    order.port.postMessage({ status: answer.status, text: await answer.text() });
  } catch {
    order.port.postMessage({ status: 0, text: "" });
  }
  return new Response(null, { status: 204 });
}
