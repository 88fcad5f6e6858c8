/** Numbers, times and shapes in words. */

const UNITS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** 9221856 as "9.22 M". */
export function short(value) {
  if (value === null || value === undefined) return "–";
  for (const [size, unit] of UNITS) if (Math.abs(value) >= size) return `${trimmed(value / size, 3)} ${unit}`;
  return trimmed(value, 3);
}

/** Format a number to `digits` significant digits, without trailing zeros. */
export function trimmed(value, digits) {
  return String(Number(value.toPrecision(digits)));
}

/** Format a ratio of two amounts; beyond a limit, only that it is larger. */
export function times(ratio, digits = 3) {
  return ratio >= 1000 ? "more than 1,000 times" : `${trimmed(ratio, digits)} times`;
}

export function whole(value) {
  return Math.round(value).toLocaleString("en-GB");
}

export function bytes(value) {
  for (const [size, unit] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= size) return `${trimmed(value / size, 3)} ${unit}`;
  }
  return `${value} B`;
}

/** A loss in four significant digits: 0.9256, 0.0003124, 3.124e-5. */
export function loss(value) {
  if (value === null || value === undefined) return "–";
  return value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential(3) : value.toPrecision(4);
}

/** Format distances to the best loss in percent: two significant digits, more where different ones would read the same. */
export function overBest(values) {
  const different = new Set(values);
  let digits = 2;
  while (digits < 10 && new Set([...different].map((one) => overBestIn(one, digits))).size < different.size) digits += 1;
  return values.map((one) => overBestIn(one, digits));
}

/** "+3.4 % over the best", or "the best". */
export function overBestText(text) {
  return text.startsWith("+") ? `${text} over the best` : text;
}

function overBestIn(value, digits) {
  if (value === null || value === undefined) return "–";
  return value > 0 ? `+${(100 * value).toLocaleString("en-GB", { maximumSignificantDigits: digits })} %` : "the best";
}

export function percent(fraction) {
  return `${Math.floor(100 * fraction)} %`;
}

/** 3725 as "1 h 2 min". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return "less than 1 s";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function when(time) {
  return time ? new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "–";
}

/** Run time of a job, up to now or to its end. */
export function taken(job) {
  if (!job.started_at) return "–";
  return duration((new Date(job.finished_at ?? Date.now()) - new Date(job.started_at)) / 1000);
}

/** "4 × 96, heads 3, ffn 288". */
export function shape(architecture) {
  const { layers, hidden_size: hidden, heads, intermediate_size: ffn } = architecture;
  return `${layers} × ${hidden}, heads ${[heads].flat().join("/")}, ffn ${[ffn].flat().join("/")}`;
}

/** The last parts of a teacher's path; a hub id as it is. */
export function teacherName(job) {
  const model = job.request?.teacher?.model ?? job.teacher;
  if (typeof model !== "string") return "–";
  const parts = model.split("/").filter(Boolean);
  return parts.length > 2 ? `…/${parts.slice(-2).join("/")}` : model;
}
