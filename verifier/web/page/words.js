// Numbers as people read them; "–" where nothing is known. Pure.

const UNKNOWN = "–";

export function number(value, digits = 0) {
  if (value === null || value === undefined) return UNKNOWN;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function milliseconds(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  const value = seconds * 1000;
  return `${number(value, value >= 10 || value === 0 ? 0 : value < 1 ? 2 : 1)} ms`;
}

export function percent(share) {
  if (share === null || share === undefined) return UNKNOWN;
  return share > 0 && share < 0.01 ? "<1 %" : `${number(share * 100)} %`;
}

export function seconds(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value < 100 ? `${number(value, 1)} s` : `${number(value / 60)} min`;
}
