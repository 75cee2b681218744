// How each piece of an answer came to be: kinds, and runs of pieces of one kind over the text.
// Runs are pairs [end, kind], ends in UTF-16 units, so that they can be stored beside the text.

export const ACCEPTED = 0;
export const REJECTION = 1;
export const BONUS = 2;
export const ALONE = 3;
export const OWN = 4; // the target's own, and nothing more is known
export const FORCED = 5;

// One line for each kind, in the order of the legend. Marks differ in form, not in colour alone.
export const KINDS = [
  { kind: ACCEPTED, name: "accepted", words: "drafted on this board, accepted by the target" },
  { kind: REJECTION, name: "rejection", words: "the target’s own, in place of a draft token" },
  { kind: BONUS, name: "bonus", words: "the target’s own, after a draft accepted whole" },
  { kind: ALONE, name: "alone", words: "the target’s own, no draft was there in time" },
  { kind: OWN, name: "own", words: "the target’s own" },
  { kind: FORCED, name: "forced", words: "the only text that the grammar asked for leaves" },
];

const OF_REASON = { rejection: REJECTION, bonus: BONUS, alone: ALONE, forced: FORCED };

// The kind of a `text` message of the chat socket.
export function kindOf(message) {
  return message.origin === "accepted" ? ACCEPTED : (OF_REASON[message.reason] ?? OWN);
}

export function appendRun(runs, length, kind) {
  const last = runs.at(-1);
  const end = (last?.[0] ?? 0) + length;
  if (last?.[1] === kind) last[0] = end;
  else runs.push([end, kind]);
}

// The parts [start, end, kind] of a range; kind is null where no run reaches.
export function cutRuns(runs, start, end) {
  const parts = [];
  for (let i = firstRunBeyond(runs, start); start < end; i++) {
    const [runEnd, kind] = runs[i] ?? [end, null];
    const partEnd = Math.min(runEnd, end);
    parts.push([start, partEnd, kind]);
    start = partEnd;
  }
  return parts;
}

function firstRunBeyond(runs, position) {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[middle][0] > position) high = middle;
    else low = middle + 1;
  }
  return low;
}

// "12 pieces: 9 drafted on this board, accepted …", from the number of pieces by kind.
export function describeCounts(counts) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const parts = KINDS.filter(({ kind }) => counts[kind]).map(
    ({ kind, words }) => `${counts[kind]} ${words}`,
  );
  return total ? `${total} pieces of text: ${parts.join("; ")}` : "";
}
