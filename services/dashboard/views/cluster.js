/** A line on the Ray cluster: whether it is ready, and what is free. */

import { getIfThere } from "../api.js";
import { h, replace, whenChanged } from "../dom.js";
import { poll } from "../poll.js";

const LOOK_MS = 10000;

export function clusterLine(signal) {
  const line = h("p", { class: "small", id: "cluster" });
  const draw = whenChanged((cluster) => replace(line, cluster && said(cluster)));
  poll(
    async () => {
      try {
        draw(await getIfThere("/v1/cluster", signal));
      } catch (error) {
        if (signal.aborted) throw error;
        draw(null); // the list below says what is wrong
      }
      return LOOK_MS;
    },
    signal,
    line,
  );
  return line;
}

function said({ ray, nodes, cpus, gpus }) {
  if (!nodes.length) return h("span", { title: ray.note }, `Ray is ${ray.state}`);
  const parts = [`${nodes.length} ${nodes.length === 1 ? "node" : "nodes"}`, free(cpus, "CPUs"), gpus.total > 0 && free(gpus, "GPUs")];
  return `Ray is ${ray.state}: ${parts.filter(Boolean).join(", ")}`;
}

function free(amount, name) {
  return amount.free === null ? `${number(amount.total)} ${name}` : `${number(amount.free)} of ${number(amount.total)} ${name} free`;
}

function number(value) {
  return String(Math.round(value * 100) / 100);
}
