/** One compression: its state, its training curves, its search and its students. */

import { get, getIfThere, path } from "../api.js";
import { announce, h, replace, whenChanged } from "../dom.js";
import { pictures } from "../pictures.js";
import { poll } from "../poll.js";
import { EventFollower } from "../stream.js";
import { copyable, hasEnded, opens, section } from "../widgets.js";
import { events } from "./events.js";
import { head } from "./job-head.js";
import { logPart } from "./log.js";
import { SearchPart } from "./search.js";
import { Steps } from "./steps.js";
import { infeasibleTable, studentCards } from "./students.js";

export function jobView({ id }, _query, signal) {
  const place = {
    head: h("div", {}, h("p", { class: "empty" }, "Loading …")),
    students: h("div"),
    search: h("div"),
    pictures: h("div"),
    request: h("div"),
  };
  const steps = new Steps();
  const log = events();
  const search = new SearchPart(id, signal);
  const node = h("div", { class: "job" }, place.head, steps.node, place.students, place.search, place.pictures, log.node, logPart("compressions", id, signal), place.request);

  const follower = new EventFollower(id, (event) => {
    if (event.type === "metrics") steps.point(event.data);
    else log.add(event);
  }, signal);

  let status = null;
  const drawHead = whenChanged((job) => replace(place.head, head(job, wake)));
  const drawStudents = whenChanged(({ job, evaluations }) => replace(place.students, results(job, evaluations)));
  const drawPictures = whenChanged((job) => {
    const found = pictures(job, signal);
    replace(place.pictures, found.length > 0 && opens("The frontier as a picture, to save", found));
  });
  const drawRequest = whenChanged((request) =>
    replace(place.request, opens("The request", copyable("the request as JSON", JSON.stringify(request, null, 2)))),
  );

  const look = async () => {
    const job = await get(path("compressions", id), signal);
    if (status && status !== job.status) announce(`${id} is ${job.status}.`);
    status = job.status;
    const ended = hasEnded(job.status);
    drawHead({ ...job, steps: undefined });
    steps.show(job.steps, ended);
    if (ended) {
      const known = job.students.length ? await getIfThere(`/v1/evaluations?compression=${encodeURIComponent(id)}`, signal) : null;
      drawStudents({ job: { ...job, steps: undefined, ray: undefined }, evaluations: known?.evaluations ?? [] });
      drawPictures({ id: job.id, pictures: job.pictures });
      if (job.status === "succeeded" && job.artifacts?.scores?.length) {
        if (!place.search.firstChild) place.search.append(search.node);
        search.show(job);
      }
    } else {
      replace(place.students);
    }
    drawRequest(job.request);
    follower.start().catch(() => {}); // its requests report their own errors
    return ended ? 0 : 1000;
  };

  let busy = null;
  function wake() {
    busy ??= poll(look, signal, place.head, drawHead).finally(() => {
      busy = null;
    });
  }
  wake();
  return { title: id, node };
}

function results(job, evaluations) {
  if (!job.students.length && !job.infeasible.length) return [];
  return [
    job.students.length > 0 && section("Students", studentCards(job.id, job.students, job.teacher, evaluations)),
    job.infeasible.length > 0 && section("Budgets that nothing meets", infeasibleTable(job.infeasible)),
  ];
}
