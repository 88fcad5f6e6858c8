/** The entry point of the page. */

import { getIfThere } from "./api.js";
import { announce, h, replace } from "./dom.js";
import { currentKey, forgetKey } from "./key.js";
import { here, route, start } from "./router.js";
import { failure } from "./widgets.js";
import { apiView } from "./views/api.js";
import { batchView } from "./views/batch.js";
import { batchesView } from "./views/batches.js";
import { evaluationView } from "./views/evaluation.js";
import { evaluationsView } from "./views/evaluations.js";
import { jobView } from "./views/job.js";
import { jobsView } from "./views/jobs.js";
import { newBatchView } from "./views/new-batch.js";
import { newEvaluationView } from "./views/new-evaluation.js";
import { newView } from "./views/new.js";
import { planView } from "./views/plan.js";

const PLACES = [
  ["/compressions", "Compressions"],
  ["/batches", "Batches"],
  ["/evaluations", "Evaluations"],
  ["/new", "New"],
  ["/api", "API"],
];

const main = document.getElementById("main");

route("/compressions", jobsView);
route("/compressions/:id", jobView);
route("/batches", batchesView);
route("/batches/new", newBatchView);
route("/batches/:id", batchView);
route("/evaluations", evaluationsView);
route("/evaluations/new", newEvaluationView);
route("/evaluations/:id", evaluationView);
route("/plans/:id", planView);
route("/new", newView);
route("/api", apiView);

function missing() {
  return { title: "Not found", node: h("p", { class: "empty" }, "There is nothing at this address. ", h("a", { href: "#/compressions" }, "All compressions")) };
}

function navigation() {
  const { path } = here();
  replace(
    document.getElementById("nav"),
    PLACES.map(([place, name]) =>
      h("a", { href: `#${place}`, "aria-current": path === place || path.startsWith(`${place}/`) ? "page" : null }, name),
    ),
  );
}

let first = true;
let lastPath = null;

/** A view returns its title and its node at once, and fills the node as answers arrive. */
function show(path, view) {
  navigation();
  let made;
  try {
    made = view();
  } catch (error) {
    made = { title: "Something went wrong", node: failure(error) };
  }
  document.title = `${made.title} – stillroom`;
  replace(main, h("h1", {}, made.title), made.node);
  if (!first && path !== lastPath) {
    main.focus();
    scrollTo(0, 0);
    announce(made.title);
  }
  first = false;
  lastPath = path;
}

async function caller() {
  const place = document.getElementById("caller");
  if (!currentKey()) return replace(place);
  let me = null;
  try {
    me = await getIfThere("/v1/me");
  } catch {
    // The views show the problem.
  }
  const forget = () => {
    forgetKey();
    location.reload();
  };
  return replace(
    place,
    me && h("span", { class: "small", title: (me.scopes ?? []).join(", ") }, me.tenant),
    h("button", { type: "button", class: "quiet", onclick: forget }, "Forget key"),
  );
}

start(show, missing);
addEventListener("stillroom:key", caller);
caller();
